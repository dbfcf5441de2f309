"""Coarse maps of a frame: a value for each of its cells, and what lies between their middles."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from irst_stream.propose.compiled import Between, Cells, cell_means, read_map
from irst_stream.types import Floats, Ints, Pixels

__all__ = ["NOWHERE", "CellMeans", "Image", "given", "read_at"]

Image = NDArray[np.float32]
NOWHERE = np.zeros(0, np.int64)  # flat places: none
EMPTY = 0.05  # of a cell's pixels: with fewer good ones it is taken for its nearest


class CellMeans:
    """The means over cells of frames of one size, and their medians.

    rows: the Between of the frame's rows.
    """

    def __init__(self, shape: tuple[int, int], cell: int, every: int = 1) -> None:
        """shape: rows, columns of the frames; cell: px a side, about; every: only every so many rows are looked at."""
        self._shape, self._every = shape, every
        height, width = (max(round(side / cell), 1) for side in shape)
        self._down, self._along = _cells(-(-shape[0] // every), height), _cells(shape[1], width)
        self.rows = _between(shape[0], height)

    def of(self, image: Pixels, bad: Ints = NOWHERE, rectify: bool = False) -> tuple[Image, int]:
        """(m, n) means of an image; what is bad, flat and rising, or not finite counts as 0; how many are not finite.

        rectify: of the pixels' sizes.
        """
        means = np.empty((len(self._down.first), len(self._along.first)), np.float32)
        return means, cell_means(given(image), bad, self._down, self._along, self._every, rectify, means)

    def share(self, bad: Ints) -> Image | None:
        """The share of each cell's pixels that are not among the bad ones, flat places; None where none is."""
        if not len(bad):
            return None
        good = np.ones(self._shape, np.float32)
        good.ravel()[bad] = 0
        return self.of(good)[0]

    def median(self, means: Image, share: Image | None) -> Image:
        """Of 5 x 5 cells' means, of their good pixels alone; a cell with next to none has its nearest one's.

        share: of each cell's pixels that are good, None where all are; the others count as 0 in the means.
        """
        if share is not None:
            empty = share < EMPTY
            means = np.divide(means, np.where(empty, np.float32(1), share), dtype=np.float32)
            if empty.any() and not empty.all():
                means = means[tuple(distance_transform_edt(empty, return_distances=False, return_indices=True))]
        return np.asarray(cv2.medianBlur(means, 5), np.float32)

    def widened(self, coarse: Image) -> Image:
        """A coarse map, with a value for each of the frame's columns."""
        wide = cv2.resize(coarse, (self._shape[1], len(coarse)), interpolation=cv2.INTER_LINEAR)
        return np.asarray(wide, np.float32)


def given(image: Pixels) -> Pixels:
    """An image as compiled code takes it: contiguous and read-only, so that it is compiled once for each type of pixels."""
    view = np.require(image, requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


def _cells(length: int, count: int) -> Cells:
    """Cells of equal lengths; a pixel between two belongs to both by its parts."""
    size = length / count
    most = min(int(np.ceil(size - 1e-9)) + (length % count > 0), length)
    first = np.minimum((np.arange(count) * size + 1e-9).astype(np.int64), length - most)
    pixels = first[:, None] + np.arange(most)
    begin, end = np.arange(count)[:, None] * size, np.arange(1, count + 1)[:, None] * size
    overlap = np.maximum(np.minimum(pixels + 1, end) - np.maximum(pixels, begin), 0)
    return Cells(first, (overlap / size).astype(np.float32))


def _between(length: int, count: int) -> Between:
    place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    low = np.minimum(place.astype(np.int64), max(count - 2, 0))
    return Between(low, (place - low).astype(np.float32))


def read_at(coarse: Image, xy: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """A coarse map of frames of that shape, read at (N, 2) x, y px: (N,), linear between the middles of its cells."""
    return np.asarray(read_map(coarse, np.ascontiguousarray(xy, np.float64), *shape), np.float64)
