"""Matplotlib plots: frames with truth, detections and tracks; precision-recall; errors over time; latency; training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irst_stream.errors import MissingPackageError
from irst_stream.score import DetectionReport, TrackReport
from irst_stream.system.latency import PERCENTILES
from irst_stream.types import Detections, Floats, Frame, Ints, Pixels, Stamp, Tracks, Truth

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse, Rectangle
except ImportError as error:
    raise MissingPackageError("matplotlib", "plot", "a picture") from error

if TYPE_CHECKING:  # whoever draws the curves of a training needs no sockets
    from irst_stream.live.load_test import LoadStep

__all__ = ["comparison", "detection_curves", "latency_curves", "preview", "tracking", "training_curves"]

PATCH_WIDTH = 24  # px: wider frames are shown together with enlarged groups
COLUMNS = 6
GROUP_REACH = 3  # px shown around a group
MAX_ZOOMS = 6  # enlarged groups of a full frame
DIMMING = 3.0  # white is this many times the brightest pixel, so that marks stand out
MIN_CLOSE_UP = 0.5  # px shown around a group when methods are compared, at least
TRUTH_COLOUR, DETECTION_COLOUR = "#00b4ff", "#ff6a00"
BRIGHTNESS_EXPONENT = 0.6  # below 1, so that the wings of a blurred group are visible
ELLIPSE_SCALE = 2 * 2.4477  # diameter of the 95 % ellipse of a 2-D Gaussian, in standard deviations

Truths = Mapping[Stamp, Truth]
FrameDetections = Mapping[Stamp, Detections]


def preview(path: Path, frames: Sequence[Frame], truths: Truths, detections: FrameDetections) -> None:
    """Draw frames into a PNG: patches side by side, or one full frame with its groups enlarged."""
    wide = max(frames[0].pixels.shape) > PATCH_WIDTH
    figure = _full_frame(frames[0], truths, detections) if wide else _patch_sheet(frames, truths, detections)
    _add_legend(figure, bool(truths), bool(detections))
    _save(figure, path)


def comparison(path: Path, frames: Sequence[Frame], truths: Truths, methods: Mapping[str, FrameDetections]) -> None:
    """Draw one row per frame into a PNG: the whole frame, then an enlarged panel per method with its detections."""
    figure = Figure(figsize=(2.6 * (len(methods) + 1), 2.6 * len(frames) + 0.6), layout="constrained")
    panels = figure.subplots(len(frames), len(methods) + 1, squeeze=False)
    for (sensor, *enlarged), frame in zip(panels, frames, strict=True):
        points = _points(frame.stamp, truths, *methods.values())
        finite = frame.pixels[np.isfinite(frame.pixels)]
        brightest = max(float(finite.max(initial=1)), 1)
        _show(sensor, frame.pixels, 0, brightest)
        sensor.set_title(_title(frame.stamp), fontsize=9)
        sensor.set(xticks=[], yticks=[])
        for axes, (name, found) in zip(enlarged, methods.items(), strict=True):
            _show(axes, frame.pixels, 0, DIMMING * brightest)
            axes.set_title(name, fontsize=9)
            axes.set(xticks=[], yticks=[])
            if len(points):
                (x, y), side = points.mean(axis=0), max(MIN_CLOSE_UP, 0.75 * float(np.ptp(points, axis=0).max()))
                axes.set(xlim=(x - side, x + side), ylim=(y + side, y - side))
            _mark(axes, frame.stamp, truths, found, cross=14, dot=8)
    _add_legend(figure, bool(truths), True)
    _save(figure, path)


def _points(stamp: Stamp, *sets: Truths | FrameDetections) -> Floats:
    """Positions (N, 2) px in a frame, from the first set that has any there; (0, 2) if none has."""
    found = (records[stamp].xy for records in sets if stamp in records)
    return next((xy for xy in found if len(xy)), np.zeros((0, 2)))


def detection_curves(path: Path, report: DetectionReport) -> None:
    """Draw curves of detections into a PNG.

    Precision over recall for each distance of CSO-mAP, unless the truth has boxes; the ROC for each criterion of hits.
    """
    panels = [_precision_recall] * (not report.boxes) + [_roc] * bool(report.hits)
    figure = Figure(figsize=(8 * len(panels), 4.6), layout="constrained")
    parts: Any = figure.subfigures(1, len(panels), squeeze=False)
    for part, draw_panel in zip(parts[0], panels, strict=True):
        draw_panel(part, report)
    _save(figure, path)


def _roc(figure: SubFigure, report: DetectionReport) -> None:
    """Draw the share of targets found over the false detections a frame."""
    axes = figure.add_subplot()
    for (criterion, hit), shade in zip(report.hits.items(), (0.2, 0.7), strict=False):
        label = f"{criterion}, {report.radius:g} px: AUC {hit.roc_area:.1%}"
        axes.step(hit.roc.false_per_frame, hit.roc.found, where="post", color=_viridis(shade), label=label, linewidth=1.8)
    axes.set(ylim=(0, 1.03), xlabel="false detections per frame", ylabel="targets found")
    if max((hit.roc.false_per_frame.max(initial=0) for hit in report.hits.values()), default=0) > 1:
        axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(left=0)
    axes.set_title(f"ROC ({report.images} images)", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)


def _precision_recall(figure: SubFigure, report: DetectionReport) -> None:
    axes = figure.add_subplot()
    shades = np.linspace(0.15, 0.85, len(report.cso_map.curves))
    rows = zip(report.cso_map.curves, report.cso_map.thresholds, report.cso_map.ap, shades, strict=True)
    for (recall, precision), threshold, ap, shade in rows:
        label = f"within {threshold:.2f} px: AP {100 * ap:.2f}"
        axes.plot(recall, precision, color=_viridis(shade), label=label, linewidth=1.8)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    axes.set_title(f"CSO-mAP {100 * report.cso_map.map:.2f} ({report.mode} matching, {report.images} images)", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)


def tracking(path: Path, report: TrackReport, shown: Sequence[tuple[Tracks | None, Truth]], frame: Frame | None) -> None:
    """Draw the paths of one sequence, over a frame if given, and all errors over time into a PNG."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))  # type: ignore[misc]
    axes = left.add_subplot()
    given = [tracks for tracks, _ in shown if tracks is not None]
    real = _paths([t.id for _, t in shown], [t.xy for _, t in shown])
    found = _paths([t.id[t.confirmed] for t in given], [t.state[t.confirmed, :2] for t in given])
    points = np.concatenate([np.zeros((0, 2)), *real, *found])
    axes.set_aspect("equal")
    if frame is not None:
        finite = frame.pixels[np.isfinite(frame.pixels)]
        _show(axes, frame.pixels, 0, DIMMING * max(float(finite.max(initial=1)), 1))
    if len(points):
        low, high = points.min(axis=0) - 1, points.max(axis=0) + 1
        axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
    for line in real:
        axes.plot(*line.T, color=TRUTH_COLOUR, linewidth=3, alpha=0.5, solid_capstyle="round")
    for k, line in enumerate(found):
        axes.plot(*line.T, color=_viridis(0.35 + 0.65 * (k % 8) / 7), linewidth=1.1)
        axes.plot(*line[-1:].T, ".", color=DETECTION_COLOUR, markersize=5)
    axes.set(xlabel="x, px", ylabel="y, px")
    axes.set_title(f"{_title(shown[0][1].stamp)} onward: {len(real)} targets, {len(found)} confirmed tracks", fontsize=9)
    _over_time(right, report)
    entries = [
        Line2D([], [], color=TRUTH_COLOUR, linewidth=3, alpha=0.5, label="truth"),
        Line2D(
            [],
            [],
            color=_viridis(0.7),
            marker=".",
            markerfacecolor=DETECTION_COLOUR,
            markeredgecolor=DETECTION_COLOUR,
            label="tracks and their last positions",
        ),
    ]
    figure.legend(handles=entries, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    _save(figure, path)


def _paths(ids: Sequence[Ints], xy: Sequence[Floats]) -> list[Floats]:
    """The path (n, 2) px of each identity, from the ids (N,) and positions (N, 2) of successive frames."""
    all_ids, all_xy = np.concatenate([np.zeros(0, np.int64), *ids]), np.concatenate([np.zeros((0, 2)), *xy])
    return [all_xy[all_ids == key] for key in np.unique(all_ids)]


def _over_time(figure: SubFigure, report: TrackReport) -> None:
    """Plot GOSPA with its parts, the position error, and the counts, one below the other."""
    time = report.over_time
    gospa, error, count = figure.subplots(3, 1, sharex=True)
    gospa.plot(time.index, time.gospa, color="black", label="GOSPA, px")
    for part, name in zip(time.parts.T, ("localisation", "missed", "false"), strict=True):
        gospa.plot(time.index, part, linewidth=1, label=f"{name}, px²")
    error.plot(time.index, time.position_rmse, color="black", label="position error, rms, px")
    count.plot(time.index, time.targets, color=TRUTH_COLOUR, label="targets")
    count.plot(time.index, time.tracks, color=DETECTION_COLOUR, linewidth=1, label="confirmed tracks")
    gospa.set_title(
        f"HOTA {100 * report.hota.hota:.2f}, IDF1 {100 * report.identity.idf1:.2f}, MOTA {100 * report.clear.mota:.2f}",
        loc="left",
        fontsize=10,
    )
    count.set_xlabel("frame")
    for axes in (gospa, error, count):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper right", fontsize=8)


def _viridis(shade: float) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["viridis"](shade)


def _patch_sheet(frames: Sequence[Frame], truths: Truths, detections: FrameDetections) -> Figure:
    """Draw patches in rows, sequence after sequence, with one brightness scale for all and one view per sequence."""
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.25 * rows + 0.4), layout="constrained")
    top = max(float(np.max(frame.pixels, where=np.isfinite(frame.pixels), initial=0)) for frame in frames)
    for k, frame in enumerate(frames):
        axes = figure.add_subplot(rows, columns, k + 1)
        _show(axes, frame.pixels, 0, top or 1)
        known = [truths[f.stamp].xy for f in frames if f.stamp.sensor == frame.stamp.sensor and f.stamp in truths]
        if sum(map(len, known)):
            _zoom_to(axes, np.concatenate(known).mean(axis=0))
        _mark(axes, frame.stamp, truths, detections)
        axes.set_title(_title(frame.stamp), fontsize=8)
    return figure


def _zoom_to(axes: Axes, centre: Floats) -> None:
    """Limit the view to the pixels around a point."""
    x, y = np.rint(centre)
    side = GROUP_REACH + 0.5
    axes.set(xlim=(x - side, x + side), ylim=(y + side, y - side))
    axes.set_xticks(x + np.arange(-2, 3, 2))
    axes.set_yticks(y + np.arange(-2, 3, 2))


def _full_frame(frame: Frame, truths: Truths, detections: FrameDetections) -> Figure:
    """Draw the frame at the left and up to MAX_ZOOMS of its groups enlarged at the right, in boxes of the same number."""
    centres = _centres(frame.stamp, truths, detections)
    shown = centres[:MAX_ZOOMS]
    figure = Figure(figsize=(14, 7) if shown else (9, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1)) if shown else (figure, figure)  # type: ignore[misc]
    axes = left.add_subplot()
    finite = frame.pixels[np.isfinite(frame.pixels)]
    low, high = np.percentile(finite, (0.5, 99.95)) if finite.size else (0, 1)
    _show(axes, frame.pixels, low, max(high, low + 1))
    height, width = frame.pixels.shape
    more = f"; {len(shown)} of {len(centres)} groups enlarged" if len(centres) > len(shown) else ""
    axes.set_title(f"{_title(frame.stamp)}, {width} x {height} px{more}", fontsize=9)
    for k, centre in enumerate(shown):
        _numbered_box(axes, centre, k + 1)
        zoom = right.add_subplot(3, 2, k + 1)
        _zoom(zoom, frame, centre, k + 1)
        _mark(zoom, frame.stamp, truths, detections)
    return figure


def _centres(stamp: Stamp, truths: Truths, detections: FrameDetections) -> list[Floats]:
    """Centres to enlarge, in whole px: the true groups, largest first, or else the detections; none overlap."""
    points: list[Floats] = []
    if stamp in truths:
        truth = truths[stamp]
        groups = sorted(np.unique(truth.group), key=lambda group: -int((truth.group == group).sum()))
        points = [np.rint(truth.xy[truth.group == group].mean(axis=0)) for group in groups]
    elif stamp in detections:
        points = list(np.rint(detections[stamp].xy))
    apart: list[Floats] = []
    for point in points:
        if all(np.abs(point - other).max() > GROUP_REACH for other in apart):
            apart.append(point)
    return apart


def _numbered_box(axes: Axes, centre: Floats, number: int) -> None:
    side = 2 * GROUP_REACH + 1
    corner = centre - side / 2
    axes.add_patch(Rectangle((corner[0], corner[1]), side, side, fill=False, edgecolor=TRUTH_COLOUR, linewidth=1))
    back = {"boxstyle": "round,pad=0.15", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
    where = (corner[0] + side, corner[1])
    axes.annotate(
        f"{number}", where, (3, 3), textcoords="offset points", color="white", fontsize=8, bbox=back, annotation_clip=True
    )


def _zoom(axes: Axes, frame: Frame, centre: Floats, number: int) -> None:
    """Draw one box of the frame with its own brightness scale; outside the frame it stays white."""
    x, y = centre.astype(int)
    rows = slice(max(y - GROUP_REACH, 0), y + GROUP_REACH + 1)
    columns = slice(max(x - GROUP_REACH, 0), x + GROUP_REACH + 1)
    part = frame.pixels[rows, columns]
    left, top = columns.start - 0.5, rows.start - 0.5
    extent = (left, left + part.shape[1], top + part.shape[0], top)
    axes.imshow(part, cmap="gray", extent=extent, interpolation="nearest")
    _zoom_to(axes, centre)
    axes.set_title(f"{number}", fontsize=9, loc="left")
    axes.tick_params(labelsize=7, length=2)


def _show(axes: Axes, pixels: Pixels, low: float, high: float) -> None:
    axes.imshow(pixels, cmap="gray", norm=PowerNorm(BRIGHTNESS_EXPONENT, low, high, clip=True), interpolation="nearest")
    axes.tick_params(labelsize=6, length=2)


def training_curves(path: Path, curves: Sequence[Mapping[str, Any]]) -> None:
    """Draw a training run into a PNG: losses above, scores below, against minutes of training.

    curves: one mapping per validation with "seconds", "stage" and any figures; figures with "_" in the name are scores.
    """
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    minutes = _minutes(curves)
    names = dict.fromkeys(key for point in curves for key in point if key not in ("stage", "windows", "seconds"))
    for name in names:
        axes = scores if "_" in name else losses
        rows = [(m, point[name]) for m, point in zip(minutes, curves, strict=True) if name in point]
        axes.plot(*zip(*rows, strict=True), label=name, marker=".", linewidth=1.4)
    losses.set_yscale("symlog")
    losses.set(ylabel="loss")
    scores.set(xlabel="minutes of training", ylabel="CSO-mAP, right counts in %")
    for axes in (losses, scores):
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    _save(figure, path)


def latency_curves(path: Path, steps: Sequence[LoadStep]) -> None:
    """Plot end-to-end latency and the latency of each stage against the frame rate into a PNG."""
    steps = sorted(steps, key=lambda step: step.offered)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    whole, parts = figure.subplots(1, 2)
    rates = [step.offered for step in steps]
    shades = [_viridis(k / len(PERCENTILES)) for k in range(len(PERCENTILES) + 1)]
    for k, percentile in enumerate(PERCENTILES):
        values = [step.end_to_end.percentiles[k] for step in steps]
        whole.plot(rates, values, marker=".", color=shades[k], label=f"p{percentile:g}")
    whole.plot(rates, [step.end_to_end.longest for step in steps], marker=".", color=shades[-1], label="longest")
    whole.plot(rates, [step.lag_ms for step in steps], color="gray", linestyle="--", label="the window's lag")
    for name in dict.fromkeys(name for step in steps for name in step.stages if not name.startswith("end to end")):
        values = [step.stages[name].percentiles[2] if name in step.stages else np.nan for step in steps]
        parts.plot(rates, values, marker=".", label=name)
    for step in steps:
        if not step.kept_up:
            for axes in (whole, parts):
                axes.axvline(step.offered, color=DETECTION_COLOUR, linewidth=0.8, alpha=0.6)
    whole.set(title="end to end, ms (orange: rate not kept up with)", xlabel="frames/s")
    parts.set(title="p99 of each stage, ms", xlabel="frames/s")
    for axes in (whole, parts):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.25, which="both")
        axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _minutes(curves: Sequence[Mapping[str, Any]]) -> list[float]:
    """Total training time of each point in minutes; in the curves, seconds restart at each stage."""
    minutes, earlier_s, stage, last_s = [], 0.0, None, 0.0
    for point in curves:
        if point["stage"] != stage:
            earlier_s, stage = earlier_s + last_s, point["stage"]
        last_s = float(point["seconds"])
        minutes.append((earlier_s + last_s) / 60)
    return minutes


def _mark(
    axes: Axes, stamp: Stamp, truths: Truths, detections: FrameDetections, *, cross: float = 9, dot: float = 7
) -> None:
    """Mark truth as crosses and detections as dots with 95 % ellipses; the view does not change."""
    view = (axes.get_xlim(), axes.get_ylim())
    if stamp in truths:
        axes.plot(*truths[stamp].xy.T, "+", color=TRUTH_COLOUR, markersize=cross, markeredgewidth=1.2)
        for centre, size in zip(truths[stamp].xy, truths[stamp].size, strict=True):
            if np.isfinite(size).all():
                left, top = centre - size / 2
                axes.add_patch(Rectangle((left, top), *size, fill=False, edgecolor=TRUTH_COLOUR, linewidth=0.8))
    if stamp in detections:
        axes.plot(*detections[stamp].xy.T, ".", color=DETECTION_COLOUR, markersize=dot)
        for xy, cov in zip(detections[stamp].xy, detections[stamp].cov, strict=True):
            if np.isfinite(cov).all():
                axes.add_patch(_ellipse(xy, cov))
    axes.set(xlim=view[0], ylim=view[1])


def _ellipse(xy: Floats, cov: Floats) -> Ellipse:
    """The 95 % ellipse of a position (2,) px with covariance (2, 2) px^2."""
    variance, direction = np.linalg.eigh(cov)
    width, height = ELLIPSE_SCALE * np.sqrt(np.maximum(variance, 0))
    angle = np.degrees(np.arctan2(direction[1, 0], direction[0, 0]))
    return Ellipse((xy[0], xy[1]), width, height, angle=angle, fill=False, edgecolor=DETECTION_COLOUR, linewidth=1)


def _title(stamp: Stamp) -> str:
    """Sensor and frame number; characters that matplotlib cannot draw are replaced or escaped."""
    name = stamp.sensor.encode("utf-8", "replace").decode().replace("$", r"\$")
    return f"{name}, frame {stamp.index}"


def _add_legend(figure: Figure, truths: bool, detections: bool) -> None:
    entries = []
    if truths:
        entries.append(Line2D([], [], color=TRUTH_COLOUR, marker="+", linestyle="", markersize=9, label="truth"))
    if detections:
        entries.append(Line2D([], [], color=DETECTION_COLOUR, marker=".", linestyle="", label="detections"))
    if entries:
        figure.legend(handles=entries, loc="outside upper right", ncols=2, frameon=False, fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, format="png")
