"""A sensor's noise, gain and bad pixels, measured on its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.conditioning.line_noise import line_offsets
from irst_stream.types import Floats, Ints, Pixels

__all__ = ["NoiseFigures", "measure_image_noise", "measure_noise"]

SD_PER_MAD = 1.4826  # a Gaussian's standard deviation over its median absolute deviation
LEVELS = 12  # steps of brightness in which variance over level is measured
MIN_PIXELS_A_LEVEL = 200
MIN_FRAMES = 8  # fewer say nothing of noise over time
BLINKING, HOT = 8.0, 12.0  # deviations from the frame's median noise, and from the neighbourhood, that make a pixel bad
MAX_CLUSTER = 2  # bad pixels side by side
COARSE_DN = 4.0
CORRELATED = 0.3  # of the noise of neighbours: of frames enlarged twofold it is 0.6 and more, of sensors below 0.1
LINE_FRAMES = 32  # from which noise of lines is measured
CORRELATED_FRAMES, CORRELATED_BLOCK_PX, CORRELATED_LIMIT = 16, 16, 3.0
COMPRESSED_SHARE = 0.3  # of pixels that repeat their last value exactly: more than noise of 1 DN leaves


@dataclass(frozen=True, slots=True, eq=False)
class NoiseFigures:
    """What frames say of a sensor's noise, DN; NaN where there are too few frames or levels to say.

    temporal: median standard deviation of a pixel over time, or from pixel to pixel, see over_time; fixed: standard
    deviation of the pattern that stays, without what is smooth; rows, columns: that of the pattern's row and column means;
    row_changes, column_changes: that of the offsets that all pixels of a row or of a column share in one frame; levels and
    variances (K,): variance over time by brightness, the photon-transfer curve; gain: its slope, DN^2 a DN; frozen: share
    of pixels that repeat their last value exactly; alike: correlation of neighbours' noise along rows and along columns,
    the smaller one; pedestal, brightest: lowest and highest value seen; clipped: shares of pixels at them; bad (N, 2): x, y
    of dead, hot and blinking pixels.
    """

    temporal: float
    fixed: float
    rows: float
    columns: float
    row_changes: float
    column_changes: float
    levels: Floats
    variances: Floats
    gain: float
    frozen: float
    alike: float
    pedestal: float
    brightest: float
    clipped: tuple[float, float]
    bad: Ints

    @property
    def over_time(self) -> bool:
        """Whether frames in order told noise over time from pattern; else `temporal` is the noise from pixel to pixel."""
        return math.isfinite(self.fixed)

    @property
    def compressed(self) -> bool:
        """Whether the frames look as if a lossy codec had removed their noise."""
        return self.frozen > COMPRESSED_SHARE

    @property
    def correlated(self) -> bool:
        """Whether neighbouring pixels share their noise, as where frames were enlarged or smoothed."""
        return self.alike > CORRELATED


def measure_image_noise(images: Sequence[Pixels]) -> NoiseFigures:
    """Measure the noise of images (H, W) DN of any sizes that show different scenes: that within each, and the range."""
    pedestal, brightest = float(min(map(np.nanmin, images))), float(max(map(np.nanmax, images)))
    clipped = tuple(float(np.mean([np.mean(image == value) for image in images])) for value in (pedestal, brightest))
    spatial, nothing = float(np.median([_high_frequency_noise(image) for image in images])), np.zeros(0)
    return NoiseFigures(
        spatial, np.nan, np.nan, np.nan, np.nan, np.nan, nothing, nothing, np.nan, 0.0, np.nan, pedestal, brightest,
        (clipped[0], clipped[1]), np.zeros((0, 2), np.int64),
    )  # fmt: skip


def measure_noise(stack: NDArray[np.generic], excluded: NDArray[np.bool_] | None = None) -> NoiseFigures:
    """Measure the noise of frames (T, H, W) DN, in order.

    excluded (H, W): pixels that are no measurement, None for none. At least one pixel must be left.
    """
    good = np.ones(stack.shape[1:], bool)
    if stack.dtype.kind == "f":
        good = np.isfinite(stack).mean(axis=0) > 0.5  # so that some frame and the next one have a value
    if excluded is not None:
        good &= ~excluded
    seen = stack if good.all() else stack[:, good]
    pedestal, brightest = float(np.nanmin(seen)), float(np.nanmax(seen))
    clipped = float(np.mean(seen == pedestal)), float(np.mean(seen == brightest))
    if len(stack) < MIN_FRAMES:
        return replace(measure_image_noise(list(stack)), pedestal=pedestal, brightest=brightest, clipped=clipped)
    values = stack.astype(np.float32)
    values[:, ~good] = 0
    steps = np.diff(values, axis=0)
    changes = steps[:, good]
    frozen = float(np.mean(changes == 0))
    temporal = np.nanmedian(np.abs(steps), axis=0) * SD_PER_MAD / np.sqrt(2)
    mean = np.nanmedian(values, axis=0)
    pattern = mean - cv2.medianBlur(np.nan_to_num(mean).astype(np.float32), 5)
    levels, variances, gain = _photon_transfer(values[:, good], changes, trimmed=frozen <= COMPRESSED_SHARE)
    rows, columns = good.any(axis=1), good.any(axis=0)
    known = np.where(good, pattern, np.nan)
    return NoiseFigures(
        _temporal_noise(changes, temporal[good]),
        _robust_sd(known),
        _robust_sd(np.nanmedian(known[rows], axis=1)) if rows.sum() > 8 else float("nan"),
        _robust_sd(np.nanmedian(known[:, columns], axis=0)) if columns.sum() > 8 else float("nan"),
        _line_changes(steps[:LINE_FRAMES], good, 1),
        _line_changes(steps[:LINE_FRAMES], good, 0),
        levels,
        variances,
        gain,
        frozen,
        _correlation(values[: CORRELATED_FRAMES + 2], good),
        pedestal,
        brightest,
        clipped,
        _bad_pixels(values, temporal, pattern, good),
    )


def _temporal_noise(changes: NDArray[np.float32], deviations: NDArray[np.floating]) -> float:
    """The noise over time, DN, from pixels' changes (T, N) and their robust deviations (N,): the median of these.

    Below a few DN whole numbers are too coarse for it: then the changes' mean square, the largest of them limited.
    """
    typical = float(np.nanmedian(deviations))
    if typical >= COARSE_DN:
        return typical
    return float(np.sqrt(np.nanmean(_limited(changes) ** 2) / 2))


def _limited(changes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The changes (T, N), the largest hundredth of them limited, as what moves makes them."""
    limit = np.nanquantile(np.abs(changes), 0.99)
    return np.clip(changes, -limit, limit)


def _line_changes(steps: NDArray[np.float32], good: NDArray[np.bool_], axis: int) -> float:
    """The standard deviation, DN, of what lines share in changes (T, H, W) DN from frame to frame; axis 1 for rows.

    The median line's, which no edge that moves in some of them raises.
    """
    lines = good.any(axis=axis)
    offsets = [line_offsets(np.nan_to_num(step), good, axis).ravel()[lines] for step in steps]
    return _robust_sd(np.concatenate(offsets)) / math.sqrt(2)


def _correlation(values: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    """The correlation of neighbouring pixels' noise in frames (T, H, W) DN, the smaller of that along rows and columns.

    A row's own noise is shared by all its pixels, but not by its neighbours'. The changes of changes leave out what moves
    steadily, and only the calmer half of the frame counts, where little moves at all. NaN where there is too little of it.
    """
    changes = np.diff(np.nan_to_num(values), n=2, axis=0)
    limit = CORRELATED_LIMIT * SD_PER_MAD * float(np.median(np.abs(changes[:, good])))
    np.clip(changes, -limit, limit, out=changes)
    changes[:, ~good] = 0
    square, down, along = (
        sum(cv2.blur(change * shifted, 2 * [CORRELATED_BLOCK_PX]) for change, shifted in zip(changes, others, strict=True))
        for others in (changes, np.roll(changes, 1, axis=1), np.roll(changes, 1, axis=2))
    )
    step = slice(CORRELATED_BLOCK_PX // 2, None, CORRELATED_BLOCK_PX)
    blocks = np.stack([np.asarray(part)[step, step].ravel() for part in (square, down, along)])
    blocks = blocks[:, blocks[0] > 0]
    if not blocks.shape[1]:
        return float("nan")
    calm = blocks[:, blocks[0] <= np.median(blocks[0])]
    return float(np.median(calm[1:] / calm[0], axis=1).min())


def _photon_transfer(
    values: NDArray[np.float32], steps: NDArray[np.float32], *, trimmed: bool
) -> tuple[Floats, Floats, float]:
    """Variance over time by brightness, and its slope; the slope is NaN where it does not rise significantly.

    trimmed: the lower 90 % of a level's squares count, which hold for a Gaussian; else all of them, as in _temporal_noise,
    and the slope, as of what a codec leaves, is no gain.
    """
    steps = steps if trimmed else _limited(steps)
    level = ((values[1:] + values[:-1]) / 2).ravel()[:: max(steps.size // 2_000_000, 1)]
    square = (steps**2 / 2).ravel()[:: max(steps.size // 2_000_000, 1)]
    known = np.isfinite(level) & np.isfinite(square)
    level, square = level[known], square[known]
    edges = np.unique(np.quantile(level, np.linspace(0.01, 0.99, LEVELS + 1)))
    which = np.digitize(level, edges) - 1
    rows = [k for k in range(len(edges) - 1) if (which == k).sum() >= MIN_PIXELS_A_LEVEL]
    if len(rows) < 3:
        return np.zeros(0), np.zeros(0), float("nan")
    centres = np.array([level[which == k].mean() for k in rows])
    # the mean of the lower 90 % is hardly touched by what moves; a Gaussian's is 0.623 of its variance
    share, mean_of_them = (0.9, 0.623) if trimmed else (1.0, 1.0)
    means = [np.sort(square[which == k])[: int(share * (which == k).sum())].mean() for k in rows]
    variances = np.array(means) / mean_of_them
    slope, base = np.polyfit(centres, variances, 1)
    scatter = np.std(variances - np.polyval((slope, base), centres)) / max(np.std(centres) * np.sqrt(len(rows)), 1e-12)
    return centres, variances, float(slope) if trimmed and slope > 3 * scatter else float("nan")


def _bad_pixels(
    values: NDArray[np.float32], temporal: NDArray[np.floating], pattern: NDArray[np.floating], good: NDArray[np.bool_]
) -> Ints:
    """(N, 2) x, y of good pixels that never change where others do, stand far out of their neighbourhood, or blink."""
    typical = float(np.median(temporal[good]))
    if typical <= 0:  # a codec's frames: nothing changes anywhere
        return np.zeros((0, 2), np.int64)
    dead = np.ptp(values, axis=0) == 0
    blinking = temporal > BLINKING * typical
    edges = cv2.blur(np.abs(pattern).astype(np.float32), (7, 7)) + typical
    hot = np.abs(pattern) > HOT * edges
    rows, columns = np.nonzero((dead | _single(blinking | hot)) & good)
    if len(rows) > 0.02 * dead.size:  # that many are scenery
        return np.zeros((0, 2), np.int64)
    return np.stack([columns, rows], axis=1).astype(np.int64)


def _single(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the pixels (H, W) in clusters of MAX_CLUSTER at most; more are a target that rests or creeps."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=8)
    return np.asarray(pixels & (stats[labels, cv2.CC_STAT_AREA] <= MAX_CLUSTER))


def _high_frequency_noise(image: Pixels) -> float:
    """Noise of one image, DN: from its second differences along both axes, whose median the scene hardly touches."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(np.nan_to_num(image.astype(np.float32)), -1, kernel)[1:-1, 1:-1]
    return float(np.median(np.abs(response)) * SD_PER_MAD / 6)


def _robust_sd(values: NDArray[np.floating]) -> float:
    """Standard deviation by the median absolute deviation."""
    return float(np.nanmedian(np.abs(values - np.nanmedian(values))) * SD_PER_MAD)
