"""The local contrast of a frame, by which cluttered single images are searched."""

from __future__ import annotations

import cv2
import numpy as np

from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import CELLS, local_contrast
from irst_stream.system.numba_cache import CompiledPart

__all__ = ["COMPILED", "contrast_map"]


def contrast_map(image: Float32Image, least: float) -> Float32Image:
    """Return the local contrast (H, W) of a finite image (H, W) DN, in standard deviations of a ring about each place.

    So the same contrast is as rare in quiet sky as on loud ground. least: DN, added to each deviation.
    """
    level = np.asarray(image - np.float32(np.median(image)), np.float64)  # single precision loses what squares differ by
    spread = np.stack([_ring_deviation(level, side) for side, *_ in CELLS]) + np.float32(least)
    contrast = np.empty_like(image)
    local_contrast(image, spread, contrast)
    return contrast


def _ring_deviation(level: np.ndarray[tuple[int, int], np.dtype[np.float64]], side: int) -> Float32Image:
    """Return the standard deviation (H, W) of the pixels about each cell of that side, px, and of its rim of 1 px.

    The ring ends as far beyond the rim as the rim is from the cell's middle.
    """
    inner, outer = side + 2, 2 * side + 3
    area = outer**2 - inner**2
    mean, square = (
        (_box_sum(values, outer) - _box_sum(values, inner)) / area for values in (level, level * level)
    )
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def _box_sum(values: np.ndarray[tuple[int, int], np.dtype[np.float64]], side: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return cv2.boxFilter(values, -1, (side, side), normalize=False, borderType=cv2.BORDER_REFLECT)


def warm_up() -> None:
    """Call the kernel once."""
    contrast_map(np.ones((9, 9), np.float32), 1.0)


COMPILED = CompiledPart("the contrast", local_contrast, warm_up)
