"""The local contrast of a frame, by which cluttered single images are searched."""

from __future__ import annotations

import cv2
import numpy as np

from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import CELLS, local_contrast
from irst_stream.system.numba_cache import CompiledPart
from irst_stream.types import Floats

__all__ = ["COMPILED", "contrast_map"]

DARK_PERCENT, BRIGHT_PERCENT = 1.0, 99.9  # of the pixels: levels that are taken for the darkest and the brightest
LEAST_LEVEL = 0.02  # of the range between: added to all levels, so that dark pixels' noise is no contrast
MIN_DEVIATION = 1e-12  # of a frame without contrast


def contrast_map(image: Float32Image, least: float) -> Float32Image:
    """Return the local contrast (H, W) of a finite image (H, W) DN, all 0 for one without contrast.

    A target stands out from what is near and from the whole image. So the contrast is a geometric mean: of that over a
    ring's deviation, which is as rare in quiet sky as on loud ground, counted twice, and of that over the root of the
    brightness nearby, in standard deviations over the image. least: DN, above 0, added to the ring's deviations.
    """
    dark, bright = np.percentile(image, (DARK_PERCENT, BRIGHT_PERCENT))
    lowest = max(LEAST_LEVEL * (bright - dark), MIN_DEVIATION)
    level = np.maximum(image - np.float32(dark), 0) + np.float32(lowest)
    spread = np.stack([_ring_deviation(level.astype(np.float64), side) for side, *_ in CELLS]) + np.float32(least)
    over_ring, over_light = np.empty_like(image), np.empty_like(image)
    local_contrast(level, spread, over_ring, over_light)
    over_light /= max(float(over_light.std()), MIN_DEVIATION)
    return np.asarray(np.cbrt(over_ring * over_ring * over_light), np.float32)


def _ring_deviation(level: Floats, side: int) -> Float32Image:
    """Return the standard deviation (H, W) of the pixels in a ring about each cell of that side, px.

    It begins 1 px off the cell and is half as wide as the cell and that pixel. level (H, W): of double precision, for the
    difference of squares.
    """
    inner, outer = side + 2, 2 * side + 3
    area = outer**2 - inner**2
    mean, square = ((_box_sum(values, outer) - _box_sum(values, inner)) / area for values in (level, level * level))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def _box_sum(values: Floats, side: int) -> Floats:
    """Return the sums (H, W) over squares of that side, px, about each pixel; the border reflects the image."""
    return np.asarray(cv2.boxFilter(values, -1, (side, side), normalize=False, borderType=cv2.BORDER_REFLECT), np.float64)


def warm_up() -> None:
    """Call the kernel once."""
    contrast_map(np.ones((9, 9), np.float32), 1.0)


COMPILED = CompiledPart("the contrast", local_contrast, warm_up)
