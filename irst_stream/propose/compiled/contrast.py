"""How much brighter a place is than all places about it, which tells a point from an edge or a line. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = ["CELLS", "local_contrast"]

CELLS = ((3, 2, 4), (5, 5, 9), (7, 9, 16))  # side, px; how many of its brightest pixels count, in the middle and about it


@compiled
def local_contrast(image, spread, over_ring, over_light):  # type: ignore[no-untyped-def]
    """Fill two images (H, W): how much brighter each cell of pixels is than the brightest of the eight cells next to it.

    image (H, W): finite, above 0; spread (N, H, W), above 0: about each pixel, for each of the N sides of CELLS. A cell's
    brightness is the mean of its brightest pixels. The difference is divided by the spread in over_ring, and in over_light
    by the root of the brightest neighbour's brightness. The side that shows most counts; 0 where for all sides a neighbour
    is as bright. The image goes on beyond its border as its last row or column.
    """
    height, width = image.shape
    middle, about = np.empty_like(image), np.empty_like(image)
    over_ring[:], over_light[:] = 0.0, 0.0
    for number, (side, few, many) in enumerate(CELLS):
        _brightest_means(image, side // 2, few, many, middle, about)
        for row in range(height):
            for column in range(width):
                brightest = np.float32(0.0)
                for dr in (-side, 0, side):
                    r = min(max(row + dr, 0), height - 1)
                    for dc in (-side, 0, side):
                        if dr != 0 or dc != 0:
                            brightest = max(brightest, about[r, min(max(column + dc, 0), width - 1)])
                excess = middle[row, column] - brightest
                if excess > 0:
                    over_ring[row, column] = max(over_ring[row, column], excess / spread[number, row, column])
                    over_light[row, column] = max(over_light[row, column], excess / np.sqrt(brightest))


@compiled
def _brightest_means(image, reach, few, many, middle, about):  # type: ignore[no-untyped-def]
    """Fill two images (H, W) with the mean of the few, and of the many, brightest pixels within reach of each pixel."""
    height, width = image.shape
    top = np.empty(many, np.float32)
    for row in range(height):
        for column in range(width):
            top[:] = -np.inf
            for dr in range(-reach, reach + 1):
                r = min(max(row + dr, 0), height - 1)
                for dc in range(-reach, reach + 1):
                    value = image[r, min(max(column + dc, 0), width - 1)]
                    if value > top[many - 1]:
                        k = many - 1
                        while k > 0 and top[k - 1] < value:
                            top[k] = top[k - 1]
                            k -= 1
                        top[k] = value
            middle[row, column] = top[:few].sum() / few
            about[row, column] = top.sum() / many
