"""Averages of a frame over a grid of cells, and interpolation between the cells' centres. Compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.system.numba_cache import compiled
from irst_stream.types import Ints

__all__ = ["NAN", "ONE", "ZERO", "CellWeights", "Interpolation", "cell_means", "interpolate_map"]

ZERO, ONE, NAN = np.float32(0), np.float32(1), np.float32(np.nan)
LARGEST = np.finfo(np.float32).max


class CellWeights(NamedTuple):
    """How pixels along one axis average to m cells: cell k is weights[k] (m, n) times the n pixels from first[k] (m,)."""

    first: Ints
    weights: NDArray[np.float32]


class Interpolation(NamedTuple):
    """Where n pixels along one axis lie between the centres of cells lower (n,) and lower + 1: fraction (n,) of the way."""

    lower: Ints
    fraction: NDArray[np.float32]


@compiled
def cell_means(image, bad, down, along, row_step, rectify, means):  # type: ignore[no-untyped-def]
    """Fill means (m, n) with the mean of each cell; return how many of the pixels read are not finite.

    Bad pixels and pixels that are not finite count as 0. image (H, W), any pixel type; bad: flat indices, ascending; down
    and along: CellWeights of the rows and of the columns; row_step: only every row_step-th row is read, and `down` counts
    these rows; rectify: average the absolute values. A row that two cells share is read, and counted, twice.
    """
    width, not_finite = image.shape[1], 0
    row, total = np.empty(width, np.float32), np.empty(width, np.float32)
    for j in range(len(down.first)):
        total[:] = ZERO
        for k in range(down.weights.shape[1]):
            r = row_step * (down.first[j] + k)
            not_finite += _read_row(image[r], rectify, row)
            _zero_bad(row, bad, r * width)
            weight = down.weights[j, k]
            for c in range(width):
                total[c] += weight * row[c]
        _average_row(total, along, means[j])
    return not_finite


@compiled
def _read_row(pixels, rectify, row):  # type: ignore[no-untyped-def]
    """Fill row with the pixels, or their absolute values, 0 where not finite; return how many are not finite."""
    not_finite = 0
    for c in range(len(row)):
        value = np.float32(pixels[c])
        size = abs(value)
        finite = size <= LARGEST
        not_finite += not finite
        row[c] = (size if rectify else value) if finite else ZERO
    return not_finite


@compiled
def _zero_bad(row, bad, start):  # type: ignore[no-untyped-def]
    """Set a row's bad pixels to 0; start: the flat index of its first pixel."""
    if len(bad) == 0:
        return
    k = np.searchsorted(bad, start)
    while k < len(bad) and bad[k] < start + len(row):
        row[bad[k] - start] = ZERO
        k += 1


@compiled
def _average_row(row, along, means):  # type: ignore[no-untyped-def]
    """Fill means (n,) with the means of a row's cells."""
    for i in range(len(means)):
        total = ZERO
        for k in range(along.weights.shape[1]):
            total += along.weights[i, k] * row[along.first[i] + k]
        means[i] = total


@compiled
def interpolate_map(coarse, xy, height, width):  # type: ignore[no-untyped-def]
    """Interpolate a coarse map (m, n) of frames (height, width) at xy (N, 2) px: (N,), linear between cell centres."""
    values = np.empty(len(xy), np.float64)
    for k in range(len(xy)):
        x0, x1, u = _neighbour_cells(xy[k, 0], width, coarse.shape[1])
        y0, y1, v = _neighbour_cells(xy[k, 1], height, coarse.shape[0])
        top = coarse[y0, x0] * (1 - u) + coarse[y0, x1] * u
        values[k] = top * (1 - v) + (coarse[y1, x0] * (1 - u) + coarse[y1, x1] * u) * v
    return values


@compiled
def _neighbour_cells(position, length, cells):  # type: ignore[no-untyped-def]
    """Return the two cells of an axis whose centres enclose a position, px, and the fraction of the way to the second.

    length: pixels along the axis; cells: their number. Beyond the outermost centres the outermost cell holds.
    """
    at = min(max((position + 0.5) * cells / length - 0.5, 0.0), cells - 1.0)
    low = min(int(at), max(cells - 2, 0))
    return low, min(low + 1, cells - 1), at - low
