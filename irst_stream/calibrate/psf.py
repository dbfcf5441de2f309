"""The PSF of a sensor, from its spots: an elliptical Gaussian, and a table where many bright spots bear one out.

Where it changes over the field and there are spots enough everywhere, it is measured at a grid of places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from irst_stream.calibrate.spots import RADIUS_PX, SIDE, Spots
from irst_stream.fit.settings import FLAT_ERROR
from irst_stream.point_spread import PointSpread, gaussian, gaussian_of, tabulated
from irst_stream.psf_field import PsfField, uniform
from irst_stream.types import Floats

__all__ = ["PsfFigures", "measure_psf", "places_of", "refined"]

OVERSAMPLING = 4  # nodes a pixel of a table
TABLE_RADIUS_PX = 5
MIN_SPOTS, MIN_TABLE_SPOTS = 6, 40
TABLE_SNR = 25.0  # of spots from which a table is made
ROUND_RATIO = 1.06  # an axis ratio this near to 1 is called round
CLIP = 3.0  # robust standard deviations: spots whose moments stray farther are left out
TABLE_PASSES = 5
CORE_PX = 3.0  # the radius within which misfits count
ERROR_QUANTILE = 0.85  # of the spots' errors: more than the typical one, since an error told too small splits targets
MIN_GAIN = 0.9  # a table, or a PSF that changes over the field, must lower the held-out misfit to this share
GRID = 3  # places a side
MIN_PLACE_SPOTS, MIN_PLACE_TABLE_SPOTS = 12, 50  # of each place, for a Gaussian and for a table
MIN_FIELD_MISFIT = 0.005  # of the peak: a PSF that leaves less is good enough for the whole field
CHANGE_ERRORS, MIN_CHANGE = 4.0, 0.06  # standard errors, and share of the second moments, by which places must differ
CELL_PX = 16.0  # side of the cells of the frame that count once for the change of the width over the field
INNER_OUTER, MIN_CELLS = (0.5, 0.7), 5  # radii, of that of the border, and cells that must lie within and beyond them
ONE_SIDE = 0.8  # length of the mean direction of the outer cells: with more they all lie on one side, as of one track


@dataclass(frozen=True, slots=True, eq=False)
class PsfFigures:
    """A sensor's PSF and how well it is known.

    psf: that of the whole field; field: the same, or PSFs at a grid of places where it changes from place to place; spread:
    relative standard deviation of single spots' widths; error: deviation of the light from the PSF, of the peak, falling
    with the root of the light, see FitSettings.model_error; misfits: root mean square over the core, of the peak, of the
    Gaussian and of the table (NaN without one) on spots not used to make it; over_field: relative change of the width from
    the frame's middle to its border, NaN where the spots do not tell it; used: how many spots it rests on; measured:
    whether the PSF is a table, not a Gaussian; gain: misfit of the field over that of one PSF, 1 where it is one.
    """

    psf: PointSpread
    field: PsfField
    spread: float
    error: float
    misfits: tuple[float, float]
    over_field: float
    used: int
    measured: bool
    gain: float = 1.0

    @property
    def needs_file(self) -> bool:
        """Whether three settings do not say it all."""
        return self.measured or not self.field.is_uniform


def places_of(psf: PsfFigures) -> str:
    """How a PSF that was measured at several places changes, and what that is worth."""
    nodes = [node for row in psf.field.psfs for node in row]
    low, high = min(node.sigma for node in nodes), max(node.sigma for node in nodes)
    kind, places = "table" if psf.measured else "Gaussian", f"{len(psf.field.columns)} x {len(psf.field.rows)} places"
    return f"a {kind} at each of {places}, {low:.2f} to {high:.2f} px wide; misfit {psf.gain:.0%} of that of one PSF"


def measure_psf(spots: Spots, shape: tuple[int, int], *, one_field: bool = True) -> PsfFigures | None:
    """Measure the PSF on a sensor's spots; shape (H, W) of its frames; None where there are too few spots.

    one_field: whether all frames show the same field, so that the PSF may be measured at several places.
    """
    spots = spots.of(_typical(spots))
    if len(spots) < MIN_SPOTS:
        return None
    psf = _gaussian_of(spots)
    widths = np.sqrt(np.maximum(np.linalg.det(spots.axes[:, [[0, 1], [1, 2]]]), 1e-6)) ** 0.5
    spread = float(np.median(np.abs(widths / np.median(widths) - 1)) * 1.4826)
    table, gaussian_misfit, table_misfit = None, _misfit(spots, uniform(psf)), math.nan
    bright = spots.of(spots.peak > TABLE_SNR * spots.rim)
    if len(bright) >= MIN_TABLE_SPOTS:
        kept, held_out = bright.of(np.arange(len(bright)) % 2 == 0), bright.of(np.arange(len(bright)) % 2 == 1)
        half, full = _make_table(kept, psf), _make_table(bright, psf)
        gaussian_misfit, table_misfit = _misfit(held_out, uniform(psf)), _misfit(held_out, uniform(half))
        table = full if table_misfit < MIN_GAIN * gaussian_misfit else None
    chosen = table or psf
    field, gain = _measure_field(spots, bright, chosen, shape) if one_field else (uniform(chosen), 1.0)
    measured = field.psfs[0][0].measured
    misfits, over_field = (gaussian_misfit, table_misfit), _over_field(spots, widths, shape)
    error = _model_error(spots, field)
    return PsfFigures(chosen, field, spread, error, misfits, over_field, len(spots), measured, gain)


def _measure_field(spots: Spots, bright: Spots, one: PointSpread, shape: tuple[int, int]) -> tuple[PsfField, float]:
    """The PSF at a grid of places, and its held-out misfit over that of one PSF: the one where that does as well.

    bright: the spots from which tables are made; shape (H, W) of the frames.
    """
    height, width = shape
    columns, rows = ((np.arange(GRID) + 0.5) * side / GRID - 0.5 for side in (width, height))
    best, gain = uniform(one), MIN_GAIN
    if not _changes(spots, columns, rows):
        return best, 1.0
    for seen, least, of in ((spots, MIN_PLACE_SPOTS, _gaussians_of), (bright, MIN_PLACE_TABLE_SPOTS, _tables_of)):
        if not len(seen) or np.bincount(_cells_of(seen, columns, rows), minlength=GRID**2).min() < least:
            continue
        even = np.arange(len(seen)) % 2 == 0
        held_out = seen.of(~even)
        misfits = [_misfit(held_out, field) for field in (of(seen.of(even), columns, rows), uniform(one))]
        if misfits[1] > MIN_FIELD_MISFIT and misfits[0] < gain * misfits[1]:
            best, gain = of(seen, columns, rows), misfits[0] / misfits[1]
    return best, 1.0 if best.is_uniform else gain


def _cells_of(spots: Spots, columns: Floats, rows: Floats) -> NDArray[np.int64]:
    """(K,): the number of the grid's place that is nearest to each spot."""
    x, y = (np.abs(spots.place[:, axis, None] - line).argmin(axis=1) for axis, line in enumerate((columns, rows)))
    return np.asarray(y * len(columns) + x, np.int64)


def _changes(spots: Spots, columns: Floats, rows: Floats) -> bool:
    """Tell whether the spots' moments differ from place to place by more than their scatter and by a share that counts."""
    cells = _cells_of(spots, columns, rows)
    if np.bincount(cells, minlength=GRID**2).min() < MIN_PLACE_SPOTS:
        return False
    moments = spots.axes / np.median(spots.axes[:, [0, 2]].sum(axis=1) / 2)
    scatter = 1.4826 * np.median(np.abs(moments - np.median(moments, axis=0)), axis=0)
    for k in range(GRID**2):
        own = moments[cells == k]
        change = np.abs(np.median(own, axis=0) - np.median(moments, axis=0))
        if (change > np.maximum(CHANGE_ERRORS * 1.2533 * scatter / math.sqrt(len(own)), MIN_CHANGE)).any():
            return True
    return False


def _gaussians_of(spots: Spots, columns: Floats, rows: Floats) -> PsfField:
    """Gaussians at the places, whose second moments, interpolated, are nearest to those of the spots."""
    hats = [np.stack([np.interp(spots.place[:, axis], line, unit) for unit in np.eye(len(line))], 1)
            for axis, line in enumerate((columns, rows))]  # fmt: skip
    shares = (hats[1][:, :, None] * hats[0][:, None, :]).reshape(len(spots), -1)
    moments = np.linalg.lstsq(shares, spots.axes, rcond=None)[0].reshape(len(rows), len(columns), 3)
    return PsfField(columns, rows, tuple(tuple(map(gaussian_of, row)) for row in moments))


def _tables_of(spots: Spots, columns: Floats, rows: Floats) -> PsfField:
    """The tables of the spots that are nearest to each place."""
    cells, count = _cells_of(spots, columns, rows), len(columns)
    each = [_table_of(spots.of(cells == k)) for k in range(count * len(rows))]
    return PsfField(columns, rows, tuple(tuple(each[count * r : count * (r + 1)]) for r in range(len(rows))))


def _table_of(spots: Spots) -> PointSpread:
    """The table of the spots of one place."""
    return _make_table(spots, _gaussian_of(spots))


def _typical(spots: Spots) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which spots have moments near the median ones."""
    if not len(spots):
        return np.zeros(0, np.bool_)
    logs = np.log(np.maximum(spots.axes[:, [0, 2]], 1e-3))
    away = np.abs(logs - np.median(logs, axis=0))
    return np.asarray((away < CLIP * (np.median(away, axis=0) * 1.4826 + 0.03)).all(axis=1))


def _gaussian_of(spots: Spots) -> PointSpread:
    """The elliptical Gaussian of the median moments."""
    xx, xy, yy = np.median(spots.axes, axis=0)
    (short, long), vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    short = max(short, 0.04)
    ratio = math.sqrt(max(long, short) / short)
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
    angle = 0.0 if min(angle, 180 - angle) < 8 else 90.0 if abs(angle - 90) < 8 else angle  # nearly along an axis
    return gaussian((short * long) ** 0.25, 1.0 if ratio < ROUND_RATIO else round(ratio, 3), round(angle, 1))


def refine(patches: Floats, psf: PointSpread, xy: Floats, steps: int = 6) -> tuple[Floats, Floats, Floats]:
    """Fit place and amplitude of one source in each patch (K, S, S): xy (K, 2), amplitude (K,), model images (K, S, S)."""
    xy, h = xy.copy(), 0.02
    along_x, along_y = np.array([h, 0.0]), np.array([0.0, h])
    for _ in range(steps):
        image = psf.images(xy, (SIDE, SIDE))
        by_x = (psf.images(xy + along_x, (SIDE, SIDE)) - psf.images(xy - along_x, (SIDE, SIDE))) / (2 * h)
        by_y = (psf.images(xy + along_y, (SIDE, SIDE)) - psf.images(xy - along_y, (SIDE, SIDE))) / (2 * h)
        amplitude = np.einsum("kij,kij->k", patches, image) / np.einsum("kij,kij->k", image, image)
        slopes = np.stack([by_x, by_y, image], axis=1) * amplitude[:, None, None, None]
        matrix = np.einsum("kuij,kvij->kuv", slopes, slopes)
        vector = np.einsum("kuij,kij->ku", slopes, patches - amplitude[:, None, None] * image)
        step = np.linalg.solve(
            matrix + 1e-9 * np.trace(matrix, axis1=1, axis2=2)[:, None, None] * np.eye(3), vector[..., None]
        )
        xy += np.clip(step[:, :2, 0], -0.3, 0.3)
    image = psf.images(xy, (SIDE, SIDE))
    amplitude = np.einsum("kij,kij->k", patches, image) / np.einsum("kij,kij->k", image, image)
    return xy, amplitude, amplitude[:, None, None] * image


def _core(xy: Floats) -> NDArray[np.bool_]:
    """(K, SIDE, SIDE): which pixels lie within CORE_PX of each place."""
    rows, columns = np.indices((SIDE, SIDE))
    return np.asarray(np.hypot(columns - xy[:, :1, None], rows - xy[:, 1:, None]) <= CORE_PX)


def refined(spots: Spots, field: PsfField) -> tuple[Floats, Floats]:
    """Fit place and amplitude of each spot under the PSF of its place: xy (K, 2), model images (K, SIDE, SIDE)."""
    xy, model = spots.xy.copy(), np.empty(spots.patches.shape)
    for psf, rows in field.groups(spots.place):
        xy[rows], _, model[rows] = refine(spots.patches[rows], psf, spots.xy[rows])
    return xy, model


def _misfit(spots: Spots, field: PsfField) -> float:
    """Median over spots of the root mean square residual over the core, without noise, of the peak."""
    if not len(spots):
        return math.nan
    xy, model = refined(spots, field)
    core = _core(xy)
    square = ((spots.patches - model) ** 2 * core).sum(axis=(1, 2)) / core.sum(axis=(1, 2)) - spots.rim**2
    return float(np.sqrt(max(np.median(square / spots.peak**2), 0.0)))


def _model_error(spots: Spots, field: PsfField) -> float:
    """FitSettings.model_error, from the residuals beyond the noise; see Fitter for how it grows with light."""
    xy, model = refined(spots, field)
    lit = _core(xy)
    excess = ((spots.patches - model) ** 2 - spots.rim[:, None, None] ** 2) * lit
    light = (lit * (np.maximum(model, 0) + FLAT_ERROR**2 * spots.peak[:, None, None])).sum(axis=(1, 2)) * spots.peak
    return float(np.sqrt(np.clip(np.quantile(excess.sum(axis=(1, 2)) / light, ERROR_QUANTILE), 1e-6, 0.04)))


def _make_table(spots: Spots, start: PointSpread) -> PointSpread:
    """A table whose values are means of the spots' light at each offset, found together with the spots' places."""
    half = TABLE_RADIUS_PX * OVERSAMPLING
    nodes = np.arange(-half, half + 1) / OVERSAMPLING
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1)
    centre = np.full(2, float(RADIUS_PX))
    table = np.array([start.images(centre - place, (SIDE, SIDE))[RADIUS_PX, RADIUS_PX] for place in grid.reshape(-1, 2)])
    table, psf = table.reshape(grid.shape[:2]), start
    rows, columns = np.indices((SIDE, SIDE))
    for _ in range(TABLE_PASSES):
        xy, amplitude, model = refine(spots.patches, psf, spots.xy)
        residual = (spots.patches - model) / amplitude[:, None, None]
        dx, dy = columns - xy[:, :1, None], rows - xy[:, 1:, None]
        at = np.rint(np.stack([dy, dx]) * OVERSAMPLING).astype(int) + half
        inside = ((at >= 0) & (at <= 2 * half)).all(axis=0)
        limit = CLIP * np.median(np.abs(residual[inside])) * 1.4826 + 0.1 * np.abs(model / amplitude[:, None, None])
        inside &= np.abs(residual) < limit
        total, count = np.zeros(table.shape), np.zeros(table.shape)
        np.add.at(total, (at[0][inside], at[1][inside]), residual[inside])
        np.add.at(count, (at[0][inside], at[1][inside]), 1.0)
        change = gaussian_filter(total, 1.0) / (gaussian_filter(count, 1.0) + 1e-3)
        table = table + change
        psf = tabulated(_centred(table), OVERSAMPLING)
        table = psf.table
    return psf


def _centred(table: Floats) -> Floats:
    """Taper a table to 0 at its rim, so that cutting it off leaves no edge."""
    nodes = (np.arange(len(table)) - len(table) // 2) / OVERSAMPLING
    radius = np.hypot(nodes[:, None], nodes)
    taper = np.clip((TABLE_RADIUS_PX - radius) / 1.0, 0, 1)
    return np.asarray(table * taper)


def _over_field(spots: Spots, widths: Floats, shape: tuple[int, int]) -> float:
    """Relative change of the spots' width from the frame's middle to its border; NaN where the spots do not tell it.

    By a line through the median widths (K,) of cells of the frame, so that a target that hovers counts once. NaN unless
    cells lie in the inner and in the outer part, there on more than one side, and the line's slope is CHANGE_ERRORS
    standard errors or more.
    """
    cells, which = np.unique(spots.place // CELL_PX, axis=0, return_inverse=True)
    which = which.ravel()
    middle = (np.array(shape[::-1]) - 1) / 2
    offsets = np.array([np.median(spots.place[which == k], axis=0) for k in range(len(cells))]) / middle - 1
    width = np.array([np.median(widths[which == k]) for k in range(len(cells))]) / np.median(widths)
    radius = np.hypot(*offsets.T)
    inner, outer = radius < INNER_OUTER[0], radius > INNER_OUTER[1]
    if min(inner.sum(), outer.sum()) < MIN_CELLS:
        return math.nan
    sides = offsets[outer] / radius[outer, None]
    if np.hypot(*sides.mean(axis=0)) > ONE_SIDE:
        return math.nan
    away = radius - radius.mean()
    slope = float((away * width).sum() / (away**2).sum())
    misfit = width - width.mean() - slope * away
    error = math.sqrt(float((misfit**2).sum()) / (len(cells) - 2) / float((away**2).sum()))
    return slope if abs(slope) > CHANGE_ERRORS * error else math.nan
