"""The local contrast of a frame, by which cluttered single images are searched."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import local_contrast
from irst_stream.system.numba_cache import CompiledPart
from irst_stream.types import Pixels

__all__ = ["COMPILED", "contrast_map"]

DARK_PERCENT, BRIGHT_PERCENT = 1.0, 99.9  # of the pixels: levels that are taken for the darkest and the brightest
LEAST_LEVEL = 0.02  # of the range between: added to all levels, so that dark pixels' noise is no contrast
MIN_DEVIATION = 1e-12  # of a frame without contrast


def contrast_map(pixels: Pixels, light: Float32Image) -> Float32Image:
    """Return the local contrast (H, W) of a frame in standard deviations, all 0 for one without contrast.

    light (H, W) DN: of its pixels, NaN at bad ones, which count as dark.
    """
    known = np.isfinite(light)
    if not known.any():
        return np.zeros_like(light)
    dark, bright = np.percentile(pixels[known], (DARK_PERCENT, BRIGHT_PERCENT))
    least = max(LEAST_LEVEL * (bright - dark), MIN_DEVIATION)
    image = np.where(known, np.maximum(pixels - np.float32(dark), 0), 0).astype(np.float32) + np.float32(least)
    contrast = np.empty_like(light)
    local_contrast(image, contrast)
    return contrast / np.float32(max(float(contrast.std()), MIN_DEVIATION))


def warm_up() -> None:
    """Call the kernel once."""
    local_contrast(np.ones((9, 9), np.float32), np.empty((9, 9), np.float32))


COMPILED = CompiledPart("the contrast", local_contrast, warm_up)
