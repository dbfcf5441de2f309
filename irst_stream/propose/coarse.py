"""Coarse maps of a frame: one value for each cell of a grid, and interpolation between the cells' centres."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from irst_stream.propose.compiled import CellWeights, Interpolation, cell_means, interpolate_map
from irst_stream.types import Floats, Ints, Pixels

__all__ = ["MIN_GOOD_SHARE", "NO_PIXELS", "CellAverager", "Float32Image", "kernel_input", "sample_map", "to_xy"]

Float32Image = NDArray[np.float32]
NO_PIXELS = np.zeros(0, np.int64)  # flat indices
MIN_GOOD_SHARE = 0.05  # a cell with a smaller share of good pixels takes the value of its nearest neighbour


class CellAverager:
    """Averages frames of one size over a grid of cells, and smooths and expands such coarse maps.

    rows: the Interpolation of the frame's rows between the cells' rows.
    """

    def __init__(self, shape: tuple[int, int], cell_px: int, row_step: int = 1) -> None:
        """shape: rows, columns of the frames; cell_px: approximate side of a cell; row_step: 2 reads every other row."""
        self._shape, self._row_step = shape, row_step
        height, width = (max(round(side / cell_px), 1) for side in shape)
        self._down, self._along = _cell_weights(-(-shape[0] // row_step), height), _cell_weights(shape[1], width)
        self.rows = _interpolation(shape[0], height)

    def average(self, image: Pixels, bad: Ints = NO_PIXELS, rectify: bool = False) -> tuple[Float32Image, int]:
        """Return the cells' means (m, n) of an image (H, W), and how many of the pixels read are not finite.

        Pixels that are not finite or bad (flat indices, ascending) count as 0. rectify: average the absolute values.
        """
        means = np.empty((len(self._down.first), len(self._along.first)), np.float32)
        not_finite = cell_means(kernel_input(image), bad, self._down, self._along, self._row_step, rectify, means)
        return means, not_finite

    def good_share(self, bad: Ints) -> Float32Image | None:
        """Return the share (m, n) of each cell's pixels that are not bad (flat indices); None where no pixel is bad."""
        if not len(bad):
            return None
        good = np.ones(self._shape, np.float32)
        good.ravel()[bad] = 0
        return self.average(good)[0]

    def median(self, means: Float32Image, share: Float32Image | None) -> Float32Image:
        """Return the median over 5 x 5 cells of the means of their good pixels.

        means (m, n): bad pixels counted as 0; share (m, n): of good pixels, None where all are good. A cell with almost no
        good pixel takes the value of its nearest neighbour.
        """
        if share is not None:
            empty = share < MIN_GOOD_SHARE
            means = np.divide(means, np.where(empty, np.float32(1), share), dtype=np.float32)
            if empty.any() and not empty.all():
                means = means[tuple(distance_transform_edt(empty, return_distances=False, return_indices=True))]
        return np.asarray(cv2.medianBlur(means, 5), np.float32)

    def expand(self, coarse: Float32Image) -> Float32Image:
        """Interpolate a coarse map (m, n) along its rows to the frame's width: (m, W)."""
        expanded = cv2.resize(coarse, (self._shape[1], len(coarse)), interpolation=cv2.INTER_LINEAR)
        return np.asarray(expanded, np.float32)

    def fill(self, coarse: Float32Image) -> Float32Image:
        """Interpolate a coarse map (m, n) to the whole frame: (H, W). Kernels take expanded maps, which costs less."""
        expanded, lower = self.expand(coarse), self.rows.lower
        upper = np.minimum(lower + 1, len(expanded) - 1)
        fraction = self.rows.fraction[:, None]
        return np.asarray((1 - fraction) * expanded[lower] + fraction * expanded[upper], np.float32)


def kernel_input(image: Pixels) -> Pixels:
    """Return the image contiguous, aligned and read-only, so that kernels are compiled once for each pixel type."""
    fits = image.flags.c_contiguous and image.flags.aligned
    view = (image if fits else np.require(image, requirements=["C", "A"])).view()  # slow, even with nothing to do
    view.flags.writeable = False
    return view


def _cell_weights(length: int, count: int) -> CellWeights:
    """Divide an axis into cells of equal length; a pixel across a boundary belongs to both cells in proportion."""
    size = length / count
    most = min(int(np.ceil(size - 1e-9)) + (length % count > 0), length)
    first = np.minimum((np.arange(count) * size + 1e-9).astype(np.int64), length - most)
    pixels = first[:, None] + np.arange(most)
    begin, end = np.arange(count)[:, None] * size, np.arange(1, count + 1)[:, None] * size
    overlap = np.maximum(np.minimum(pixels + 1, end) - np.maximum(pixels, begin), 0)
    return CellWeights(first, (overlap / size).astype(np.float32))


def _interpolation(length: int, count: int) -> Interpolation:
    """Return where each of `length` pixels lies between the centres of `count` cells; constant beyond the outermost."""
    position = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    lower = np.minimum(position.astype(np.int64), max(count - 2, 0))
    return Interpolation(lower, (position - lower).astype(np.float32))


def sample_map(coarse: Float32Image, xy: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """Interpolate a coarse map of frames of that shape (H, W) at xy (N, 2) px: (N,), linear between cell centres."""
    return np.asarray(interpolate_map(coarse, np.ascontiguousarray(xy, np.float64), *shape), np.float64)


def to_xy(flat: Ints, width: int) -> Ints:
    """Return the places (N, 2), x, y, of flat indices (N,) into images of that width."""
    return np.stack([flat % width, flat // width], axis=-1)
