"""Non-uniformity: each pixel's own gain and offset, measured at two levels, or learnt from a scene that moves.

A corrected pixel is gain x raw + offset, DN. Levels keep their mean, so that a DN stays a DN. The temporal noise of a pixel
grows with its gain. The table's own error stays as a pattern: what is left of the noise in the means that the table rests
on, by the share of each level; beyond the two levels it grows in proportion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, UsageError
from irst_stream.system.array_files import read_arrays
from irst_stream.types import Pixels

__all__ = ["CorrectionTable", "LevelMean", "one_point", "read_correction", "two_point", "write_correction"]

Float32Image = NDArray[np.float32]
RESPONSES = 0.25, 4.0  # of the median pixel's: with less or more a pixel counts as bad
NOISE_RATIO = 6.0  # of the median pixel's temporal noise: with more a pixel counts as bad
FAR_RATIO = 10.0  # of one level's pattern among neighbours, or of its noise: with more a pixel counts as bad
STILL_FRAMES, STILL_NOISE_DN = 30, 1.0  # with as many frames and as much noise, a pixel that never changes is dead
SD_PER_MAD = 1.4826  # a Gaussian's standard deviation over its median absolute deviation
MAX_SATURATED = 0.01  # share of a level's pixels
MIN_FRAMES = 2
MIN_RISE = 3.0  # of the two levels, in deviations of a pixel's temporal noise


@dataclass(frozen=True, slots=True, eq=False)
class CorrectionTable:
    """Gain and offset DN of each pixel (H, W), NaN where a pixel is bad.

    levels: mean DN of the one or two levels that it was measured at; errors: standard deviation, DN, of the pattern that
    the table leaves at each of them.
    """

    gain: Float32Image
    offset: Float32Image
    levels: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def bad(self) -> int:
        """The number of bad pixels."""
        return int(np.isnan(self.gain).sum())

    def error(self, level: float) -> float:
        """Standard deviation, DN, of the pattern that noise in the table leaves at a level, DN.

        A table of one level knows no gains: what they add elsewhere is not in it.
        """
        if len(self.levels) == 1:
            return self.errors[0]
        share = (level - self.levels[0]) / (self.levels[1] - self.levels[0])
        return math.hypot((1 - share) * self.errors[0], share * self.errors[1])


class LevelMean:
    """Mean and temporal variance of the pixels over the frames of one level."""

    def __init__(self, where: str) -> None:
        """where: what an error names."""
        self.where, self.frames, self.saturated = where, 0, 0
        self.mean = self._squares = np.zeros((0, 0))

    def add(self, pixels: Pixels, full_scale: float) -> None:
        """Add a frame (H, W) DN."""
        image = pixels.astype(np.float64)
        if not self.frames:
            self.mean, self._squares = np.zeros(image.shape), np.zeros(image.shape)
        if image.shape != self.mean.shape:
            (height, width), (rows, columns) = image.shape, self.mean.shape
            raise UsageError(f"{self.where}: frames of {columns} x {rows} and {width} x {height} px; expected one size")
        self.frames += 1
        self.saturated = max(self.saturated, int((image >= full_scale).sum()))
        change = image - self.mean
        self.mean += change / self.frames
        self._squares += change * (image - self.mean)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Each pixel's temporal variance (H, W), DN^2."""
        return self._squares / (self.frames - 1)

    def check(self) -> None:
        """Raise a UsageError where these frames cannot serve as a level."""
        if self.frames < MIN_FRAMES:
            raise UsageError(
                f"{self.where}: {self.frames} frames; expected {MIN_FRAMES} or more, better 100, of a uniform scene"
            )
        if self.saturated > MAX_SATURATED * self.mean.size:
            raise UsageError(
                f"{self.where}: {self.saturated / self.mean.size:.0%} of pixels are saturated; expected a lower level"
            )


def two_point(cold: LevelMean, hot: LevelMean) -> CorrectionTable:
    """Return the table that makes the frames of two uniform levels uniform.

    A UsageError says why frames cannot serve: too few, saturated, or of levels too close together.
    """
    cold.check()
    hot.check()
    if cold.mean.shape != hot.mean.shape:
        (rows, columns), (height, width) = cold.mean.shape, hot.mean.shape
        raise UsageError(f"{hot.where}: frames of {width} x {height} px, those of {cold.where} have {columns} x {rows}")
    rise = hot.mean - cold.mean
    typical, noise = float(np.nanmedian(rise)), math.sqrt(float(np.nanmedian(cold.variance)))
    if not typical > MIN_RISE * noise:
        raise UsageError(
            f"{hot.where}: {typical:.1f} DN above {cold.where}, of {noise:.1f} DN of noise; expected a much brighter level"
        )
    good = (rise > RESPONSES[0] * typical) & (rise < RESPONSES[1] * typical) & ~_noisy(cold) & ~_noisy(hot)
    levels = float(cold.mean[good].mean()), float(hot.mean[good].mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(good, (levels[1] - levels[0]) / rise, np.nan)
    errors = (_error(cold, gain), _error(hot, gain))
    return CorrectionTable(_single(gain), _single(levels[0] - gain * cold.mean), levels, errors)


def one_point(level: LevelMean) -> CorrectionTable:
    """Return the table of offsets alone that makes the frames of one uniform level uniform."""
    level.check()
    gain = np.where(_noisy(level) | _dead(level) | ~np.isfinite(level.mean), np.nan, 1.0)
    middle = float(level.mean[gain == 1].mean())
    return CorrectionTable(_single(gain), _single(middle - gain * level.mean), (middle,), (_error(level, gain),))


def _noisy(level: LevelMean) -> NDArray[np.bool_]:
    """Tell which pixels (H, W) change far more than others from frame to frame."""
    variance = level.variance
    return np.asarray(variance > NOISE_RATIO**2 * max(float(np.nanmedian(variance)), 1e-12))


def _dead(level: LevelMean) -> NDArray[np.bool_]:
    """Tell which pixels (H, W) of one level, which shows no response, never change, or lie far from their neighbours.

    Where frames are few, or noise is less than the steps of the counts, good pixels may never change either.
    """
    known = np.isfinite(level.mean)
    image = np.where(known, level.mean, np.median(level.mean[known]) if known.any() else 0.0).astype(np.float32)
    away = np.abs(image - cv2.medianBlur(image, 5))
    noise = math.sqrt(max(float(np.nanmedian(level.variance)), 0.0))
    far = away > FAR_RATIO * max(SD_PER_MAD * float(np.median(away)), noise)
    still = (level.variance == 0) & (level.frames >= STILL_FRAMES) & (noise > STILL_NOISE_DN)
    return np.asarray(far | still)


def _error(level: LevelMean, gain: NDArray[np.float64]) -> float:
    """Standard deviation of the pattern that the noise in a level's mean leaves, DN."""
    return float(np.sqrt(np.nanmean(gain**2 * level.variance) / level.frames))


def _single(image: NDArray[np.float64]) -> Float32Image:
    return image.astype(np.float32)


def read_correction(path: Path) -> CorrectionTable:
    """Read a table that write_correction wrote; raise a FormatError for anything else."""
    what = "a correction table that irst-stream correct wrote"
    gain, offset, levels, errors = read_arrays(path, ("gain", "offset", "levels", "errors"), what)
    if gain.ndim != 2 or gain.shape != offset.shape or gain.dtype != np.float32 or offset.dtype != np.float32:
        raise FormatError(f"{path}: not {what}: expected gain and offset (H, W) float32, got {gain.shape}, {offset.shape}")
    if levels.shape != errors.shape or levels.shape not in ((1,), (2,)) or not np.isfinite([levels, errors]).all():
        raise FormatError(f"{path}: not {what}: expected one or two levels, got {levels.tolist()}")
    return CorrectionTable(gain, offset, tuple(levels.tolist()), tuple(errors.tolist()))


def write_correction(path: Path, table: CorrectionTable) -> None:
    """Write a table as a .npz file."""
    with path.open("wb") as file:
        np.savez_compressed(
            file, gain=table.gain, offset=table.offset, levels=np.array(table.levels), errors=np.array(table.errors)
        )
