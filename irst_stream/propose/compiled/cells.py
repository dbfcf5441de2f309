"""Frames averaged over cells, and maps of cells read at pixels. Compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.system.numba_cache import compiled
from irst_stream.types import Ints

__all__ = ["NAN", "ONE", "ZERO", "Between", "Cells", "cell_means", "read_map"]

ZERO, ONE, NAN = np.float32(0), np.float32(1), np.float32(np.nan)
LARGEST = np.finfo(np.float32).max


class Cells(NamedTuple):
    """m cells along an axis: the mean over cell k is share[k] (m, n) times the n pixels from first[k] (m,) on."""

    first: Ints
    share: NDArray[np.float32]


class Between(NamedTuple):
    """n pixels along an axis, each between the middles of cells low (n,) and low + 1, part (n,) of the way."""

    low: Ints
    part: NDArray[np.float32]


@compiled
def cell_means(image, bad, down, along, every, rectify, means):  # type: ignore[no-untyped-def]
    """Fills means (m, n): of each cell's pixels; those that are not finite, or bad, count as 0. How many are not finite.

    image (H, W) of any type; bad: flat places, rising; down and along: the Cells; every: only every so many rows are read,
    and are what `down` is about; rectify: of the pixels' sizes.
    """
    width, holes = image.shape[1], 0
    row, total = np.empty(width, np.float32), np.empty(width, np.float32)
    for j in range(len(down.first)):
        total[:] = ZERO
        for k in range(down.share.shape[1]):
            r = every * (down.first[j] + k)
            holes += _finite(image[r], rectify, row)
            _blank(row, bad, r * width)
            share = down.share[j, k]
            for c in range(width):
                total[c] += share * row[c]
        _across(total, along, means[j])
    return holes


@compiled
def _finite(given, rectify, row):  # type: ignore[no-untyped-def]
    """Fills a row with the numbers given, or their sizes, 0 for what is not finite; how many these are."""
    holes = 0
    for c in range(len(row)):
        value = np.float32(given[c])
        size = abs(value)
        finite = size <= LARGEST
        holes += not finite
        row[c] = (size if rectify else value) if finite else ZERO
    return holes


@compiled
def _blank(row, bad, start):  # type: ignore[no-untyped-def]
    """Sets a row's bad pixels to 0; start: the flat place of its first pixel."""
    if len(bad) == 0:
        return
    k = np.searchsorted(bad, start)
    while k < len(bad) and bad[k] < start + len(row):
        row[bad[k] - start] = ZERO
        k += 1


@compiled
def _across(row, along, means):  # type: ignore[no-untyped-def]
    """Fills means (n,) of a row's cells."""
    for i in range(len(means)):
        total = ZERO
        for k in range(along.share.shape[1]):
            total += along.share[i, k] * row[along.first[i] + k]
        means[i] = total


@compiled
def read_map(coarse, xy, height, width):  # type: ignore[no-untyped-def]
    """(N,): a coarse map (m, n) of frames of that size, read at (N, 2) x, y px, linear between the middles of its cells."""
    found = np.empty(len(xy), np.float64)
    for k in range(len(xy)):
        x0, x1, u = _amid(xy[k, 0], width, coarse.shape[1])
        y0, y1, v = _amid(xy[k, 1], height, coarse.shape[0])
        top = coarse[y0, x0] * (1 - u) + coarse[y0, x1] * u
        found[k] = top * (1 - v) + (coarse[y1, x0] * (1 - u) + coarse[y1, x1] * u) * v
    return found


@compiled
def _amid(place, length, cells):  # type: ignore[no-untyped-def]
    """The two of so many cells along an axis that a place is between, and the part of the way to the second."""
    at = min(max((place + 0.5) * cells / length - 0.5, 0.0), cells - 1.0)
    low = min(int(at), max(cells - 2, 0))
    return low, min(low + 1, cells - 1), at - low
