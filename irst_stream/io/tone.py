"""The tone map of pictures: from a little below a frame's median to well above it, in deviations of its noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Pixels

__all__ = ["tone_levels", "toned"]

DARK_SD, BRIGHT_SD = 3.0, 20.0  # deviations of the noise below and above the median
SD_OF_MAD = 1.4826
SAMPLES = 16384  # pixels that the levels are drawn from
LEAST_SD = 1e-3  # DN


def tone_levels(pixels: Pixels) -> tuple[float, float]:
    """The levels, DN, that become black and white; 0 and 1 for a frame without a finite pixel."""
    sample = pixels.reshape(-1)[:: max(pixels.size // SAMPLES, 1)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return 0.0, 1.0
    median = float(np.median(sample))
    sd = max(SD_OF_MAD * float(np.median(np.abs(sample - median))), float(sample.std()) / BRIGHT_SD, LEAST_SD)
    return median - DARK_SD * sd, median + BRIGHT_SD * sd


def toned(pixels: Pixels, low: float, high: float) -> NDArray[np.uint8]:
    """Pixels (H, W) as 8 bits, from `low` to `high` DN; what is not a number is black."""
    grey = np.clip((pixels.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
    return np.asarray(np.nan_to_num(grey).astype(np.uint8))
