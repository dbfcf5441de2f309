"""The report of a calibration: what it used and found, as one PNG, or as one HTML file with its pictures inside."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence

import cv2
import numpy as np

from irst_stream.calibrate.calibration import MIN_SNR, Calibration
from irst_stream.calibrate.noise import NoiseFigures
from irst_stream.calibrate.panels import Curve, Panel, chart, encode, grey, heat, image_panel, sheet, strip, text_panel
from irst_stream.calibrate.psf import ERROR_QUANTILE, PsfFigures, places_of, refined
from irst_stream.calibrate.spots import RADIUS_PX, SIDE, Spots
from irst_stream.point_spread import PointSpread
from irst_stream.types import Floats

__all__ = ["frame_panel", "html_page", "html_report", "noise_panels", "png_report", "spot_panels"]

SHOWN = 12  # spots
RESIDUAL_SHARE = 0.25  # of the peak: where a residual's colour is full
PSF_PX, PSF_STEP, PSF_SIDE = 5, 0.125, 380  # half side, distance of samples, and picture px, of the PSF
MASK_COLOUR, FOUND_COLOUR, SPOT_COLOUR, BAD_COLOUR = (40, 40, 220), (0, 106, 255), (0, 200, 0), (255, 0, 255)
MAP_CELL_PX = 4  # of the map of regions
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1640px;margin:2em auto;padding:0 1em;color:#222}"
    "pre{background:#f5f5f5;padding:1em;white-space:pre-wrap}main{columns:2;column-gap:2em}"
    "figure{margin:0 0 2em;break-inside:avoid}img{max-width:100%}@media(max-width:1000px){main{columns:1}}"
)


def html_report(c: Calibration, title: str, lines: Sequence[str]) -> bytes:
    """Return the report as one HTML file, which needs no other; lines: the summary."""
    return html_page(title, lines, _figure_panels(c))


def png_report(c: Calibration, title: str, lines: Sequence[str]) -> bytes:
    """Return the report as one PNG; lines: the summary."""
    return encode(sheet([text_panel(title, lines), *_figure_panels(c)]))


def html_page(title: str, lines: Sequence[str], panels: Sequence[Panel]) -> bytes:
    """Return panels below a title and lines of text as one HTML file."""
    name = html.escape(title.encode("utf-8", "replace").decode())
    text = html.escape("\n".join(lines).encode("utf-8", "replace").decode())
    pictures = "".join(
        f'<figure><img alt="" src="data:image/png;base64,{base64.b64encode(encode(panel)).decode()}"></figure>\n'
        for panel in panels
    )
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>'
    )
    return f"{head}\n<body><h1>{name}</h1>\n<pre>{text}</pre>\n<main>\n{pictures}</main></body></html>\n".encode()


def _figure_panels(c: Calibration) -> list[Panel]:
    """Return the panels of a calibration: frame and mask, spots, PSF, noise, thresholds, where regions come and go."""
    return [
        frame_panel(c.example, c.graphics.excluded, c.noise, c.spots, [str(graphic) for graphic in c.graphics.found]),
        *spot_panels(c.spots, c.psf),
        *noise_panels(c.noise),
        _false_alarms(c),
        _region_map(c),
        *([_counts(c)] if len(c.counts) > 1 else []),
    ]


def frame_panel(
    image: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    excluded: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    noise: NoiseFigures,
    spots: Spots,
    graphics: Sequence[str],
) -> Panel:
    """Return a frame (H, W) with its mask, its bad pixels, and where the spots of all frames were."""
    scale = max(round(760 / image.shape[1]), 1)
    shown = cv2.resize(grey(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    covered = cv2.resize(excluded.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) > 0
    shown[covered] = (0.5 * shown[covered] + 0.5 * np.array(MASK_COLOUR)).astype(np.uint8)
    middle = (scale - 1) / 2
    for x, y in np.rint(spots.place * scale + middle).astype(int).tolist():
        cv2.circle(shown, (x, y), 5 * max(scale // 2, 1), SPOT_COLOUR, 1, cv2.LINE_AA)
    for x, y in np.rint(noise.bad * scale + middle).astype(int).tolist():
        cv2.drawMarker(shown, (x, y), BAD_COLOUR, cv2.MARKER_TILTED_CROSS, 4 * scale, 1)
    notes = [f"green: {len(spots)} spots of all frames; magenta: {len(noise.bad)} bad pixels; red: masked"]
    return image_panel("A frame, and what is left out of it", np.asarray(shown, np.uint8), [*notes, *graphics])


def spot_panels(spots: Spots, psf: PsfFigures | None) -> list[Panel]:
    """Return the spots with their fit and what it leaves, and the PSF with its residual over the radius."""
    refused = ", ".join(f"{count} {reason}" for reason, count in spots.rejected.items() if count) or "none"
    if not len(spots) or psf is None:
        return [text_panel("Spots", [f"point-like spots: {len(spots)}, too few for a PSF; refused: {refused}"])]
    order = np.argsort(-spots.peak / spots.rim)
    chosen = spots.of(order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int))])
    model = refined(chosen, psf.field)[1]
    peaks = chosen.peak[:, None, None]
    rows = [
        [grey(patch, 0, 1) for patch in chosen.patches / peaks],
        [grey(patch, 0, 1) for patch in model / peaks],
        [heat(patch, RESIDUAL_SHARE) for patch in (chosen.patches - model) / peaks],
    ]
    notes = [
        f"of {len(spots)}, those first that stand out most; residual: full colour at {RESIDUAL_SHARE:.0%} of the peak",
        f"refused: {refused}",
    ]
    return [strip("Spots: light, fit, residual", rows, ("light", "fit", "residual"), notes), *_psf_panels(spots, psf)]


def _psf_panels(spots: Spots, psf: PsfFigures) -> list[Panel]:
    """Return three panels: the PSF as an image, its profile with the light of the spots, and the residual by radius."""
    image = _shape_of(psf.field.middle)
    rows = [[_shape_of(node) for node in row] for row in psf.field.psfs]
    tiles = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    shown = cv2.resize(grey(np.sqrt(np.clip(tiles, 0, 1)), 0, 1), (PSF_SIDE, PSF_SIDE))
    picture = np.concatenate([np.asarray(shown, np.uint8), _profiles(image)], axis=1)
    kind = "a table" if psf.measured else "a Gaussian"
    told = f"{psf.over_field:+.0%} from the middle to the border"
    where = "no change that the spots tell" if math.isnan(psf.over_field) else told
    notes = [
        f"{psf.psf.sigma_x:.3f} x {psf.psf.sigma_y:.3f} px along its axes, {kind}, from {psf.used} spots; "
        f"brightness by its root, {2 * PSF_PX} px a side",
        f"single spots' widths spread by {psf.spread:.1%}; over the field: {where}",
    ]
    if not psf.field.is_uniform:
        notes += [places_of(psf), "left: the PSF of each place, as they lie in the frame; right: that of the middle"]
    return [image_panel("PSF, with the pixel", picture, notes), _residual_chart(spots, psf)]


def _shape_of(psf: PointSpread) -> Floats:
    """Return a PSF (N, N), integrated over a pixel at each of its places, of peak 1."""
    nodes = np.arange(-PSF_PX, PSF_PX + PSF_STEP / 2, PSF_STEP)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    centre = np.full(2, float(RADIUS_PX))
    image = psf.images(centre - grid, (SIDE, SIDE))[:, RADIUS_PX, RADIUS_PX].reshape(len(nodes), -1)
    return np.asarray(image / image.max())


def _profiles(image: Floats) -> Panel:
    """Return the profiles of a PSF (N, N) through its middle, of height PSF_SIDE."""
    half, width = len(image) // 2, PSF_SIDE
    canvas = np.full((PSF_SIDE, width, 3), 255, np.uint8)
    profiles = (("along x", image[half], (170, 90, 20)), ("along y", image[:, half], (0, 106, 255)))
    for k, (name, profile, colour) in enumerate(profiles):
        x, y = np.linspace(30, width - 10, len(profile)), PSF_SIDE - 20 - (PSF_SIDE - 40) * profile
        points = np.stack([x, y], axis=1).round().astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [points], False, colour, 2, cv2.LINE_AA)
        cv2.putText(canvas, name, (36, 40 + 24 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    grey_ink = (96, 96, 96)
    for px in range(-4, 5, 2):
        at = round(30 + (width - 40) * (px + PSF_PX) / (2 * PSF_PX))
        cv2.line(canvas, (at, PSF_SIDE - 20), (at, PSF_SIDE - 16), grey_ink, 1)
        cv2.putText(canvas, f"{px} px", (at - 14, PSF_SIDE - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, grey_ink, 1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def _residual_chart(spots: Spots, psf: PsfFigures) -> Panel:
    """Return what the PSF leaves of the spots' light, over the radius: mean and scatter, % of the peak."""
    xy, model = refined(spots, psf.field)
    rows, columns = np.indices((SIDE, SIDE))
    radius = np.hypot(columns - xy[:, :1, None], rows - xy[:, 1:, None])
    residual = 100 * (spots.patches - model) / spots.peak[:, None, None]
    edges = np.arange(0, RADIUS_PX + 0.5, 0.5)
    middles = (edges[1:] + edges[:-1]) / 2
    which = np.digitize(radius, edges) - 1
    groups = [residual[which == k] for k in range(len(middles))]
    full = [k for k, group in enumerate(groups) if len(group) > 10]
    mean = np.array([np.mean(groups[k]) for k in full])
    scatter = np.array([np.sqrt(np.mean(groups[k] ** 2)) for k in full])
    table = "" if math.isnan(psf.misfits[1]) else f", of a table {psf.misfits[1]:.1%}"
    notes = [
        f"misfit of a Gaussian {psf.misfits[0]:.1%} of the peak{table}, on spots held out where there are enough",
        f"model_error {psf.error:.1%} of the peak: {ERROR_QUANTILE:.0%} of the spots have less",
    ]
    curves = [Curve(middles[full], scatter, "root mean square"), Curve(middles[full], mean, "mean")]
    return chart("Residual of the PSF over the radius", curves, "radius, px", "% of the peak", notes)


def noise_panels(n: NoiseFigures) -> list[Panel]:
    """Return the photon-transfer curve, and what was measured of noise and pattern."""
    gain = "rises" if math.isfinite(n.gain) else "does not rise significantly"
    curves = [Curve(n.levels, n.variances, "variance over time", dots=True)]
    if math.isfinite(n.gain) and len(n.levels):
        base = float(np.mean(n.variances) - n.gain * np.mean(n.levels))
        ends = np.array([n.levels.min(), n.levels.max()])
        curves.append(Curve(ends, base + n.gain * ends, f"slope {n.gain:.3g} DN^2 a DN"))
    if n.over_time:
        noise = f"{n.temporal:.3g} DN, a variance of {n.temporal**2:.3g} DN^2"
        notes = [f"noise over time {noise}" + ("" if n.compressed else f", which {gain} with the level")]
        share = "all" if n.compressed else "the smaller nine tenths"
        notes.append(f"each point rests on {share} of the changes from frame to frame at its level")
        notes.append(f"of whole rows {n.row_changes:.2g} DN, of whole columns {n.column_changes:.2g} DN")
        notes.append(f"pattern that stays {n.fixed:.3g} DN, of its rows {n.rows:.2g}, of its columns {n.columns:.2g}")
    else:
        notes = [f"noise {n.temporal:.3g} DN, from pixel to pixel; only frames in order tell noise over time from pattern"]
    notes.append(
        f"{n.clipped[0]:.2%} of pixels at {n.pedestal:g} DN, {n.clipped[1]:.2%} at {n.brightest:g} DN, the range's ends"
    )
    if n.compressed:
        notes.append(f"{n.frozen:.0%} of pixels repeat their last value: a codec has removed the noise")
    return [chart("Photon-transfer curve", curves, "level, DN", "variance, DN^2", notes)]


def _false_alarms(c: Calibration) -> Panel:
    """Return regions a frame over the threshold, in the frames and in the inverted ones."""
    searched = max(len(c.counts), 1)
    high = max(2.5 * c.propose.min_snr, 2 * MIN_SNR)
    thresholds = np.linspace(MIN_SNR, high, 60)

    def above(strengths: Floats) -> Floats:
        return np.array([(strengths > limit).sum() for limit in thresholds]) / searched

    floor = 0.3 / searched  # below one region in all frames
    curves = [
        Curve(thresholds, np.maximum(above(c.strengths), floor), "in the frames"),
        Curve(thresholds, np.maximum(above(c.dark_strengths), floor), "in inverted frames: false ones"),
    ]
    notes = [f"of {searched} searched; the curves end at {floor:.2g}, where no frame has any"]
    marks = [(c.propose.min_snr, f"threshold {c.propose.min_snr:g}")]
    return chart("Regions over the threshold", curves, "threshold, local noise", "a frame", notes, log_y=True, marks=marks)


def _region_map(c: Calibration) -> Panel:
    """Return how many regions were found at each place."""
    shape = tuple(-(-side // MAP_CELL_PX) for side in c.shape)
    count = np.zeros(shape)
    at = np.clip(np.rint(c.places).astype(int) // MAP_CELL_PX, 0, np.array(shape[::-1]) - 1)
    np.add.at(count, (at[:, 1], at[:, 0]), 1)
    share = count / max(len(c.counts), 1)
    shown = np.log10(1 + 99 * np.clip(share, 0, 1)) / 2
    picture = grey(np.asarray(c.example, np.float32))[: shape[0] * MAP_CELL_PX, : shape[1] * MAP_CELL_PX] // 3
    large = cv2.resize(shown, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    coloured = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_HOT)
    picture = np.asarray(np.where((large > 0)[..., None], np.maximum(coloured, picture), picture), np.uint8)
    often = int((share > 0.5).sum())
    notes = [
        f"regions: {len(c.places)}, frames: {len(c.counts)}; dark red: once, white: in every frame",
        f"places of {MAP_CELL_PX} x {MAP_CELL_PX} px that raise one in more than half of the frames: {often}",
    ]
    return image_panel("Where regions come and go", picture, notes)


def _counts(c: Calibration) -> Panel:
    """Return how many regions each frame has."""
    curves = [Curve(np.arange(len(c.counts), dtype=float), c.counts, "regions")]
    notes = [f"median {np.median(c.counts):g}, most {c.counts.max():g}"] if len(c.counts) else []
    if len(c.speeds):
        low, middle, high = np.quantile(c.speeds, (0.1, 0.5, 0.9))
        notes.append(f"speeds, px a frame: 10 % below {low:.2g}, median {middle:.2g}, 90 % below {high:.2g}")
    return chart("Regions in each frame", curves, "frame", "regions", notes)
