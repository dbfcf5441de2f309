"""The best one-to-one choice among pairs, for all frames at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from irst_stream.types import Floats, Ints

__all__ = ["best_pairs"]


def best_pairs(left: Ints, right: Ints, gain: Floats) -> NDArray[np.bool_]:
    """(K,): which of K pairs to take, so that nobody is in two of them and the sum of gains, all above 0, is largest.

    left, right (K,): who is in each pair; no pair is given twice. The pairs fall apart into islands that share nobody, and
    each is settled by itself, so rows of many frames can be given together. No pairs: an empty answer.
    """
    chosen = np.zeros(len(gain), np.bool_)
    if not len(gain):
        return chosen
    row, column, island = _islands(left, right)
    order = np.lexsort((-gain, island))
    first = np.flatnonzero(np.diff(island[order], prepend=-1))
    rows, columns = (np.maximum.reduceat(place[order], first) + 1 for place in (row, column))
    stars = np.minimum(rows, columns) == 1  # one who is in all pairs of the island: the best of them is taken
    chosen[order[first[stars]]] = True
    last = np.append(first[1:], len(order))
    for k in np.flatnonzero(~stars):
        few = order[first[k] : last[k]]
        gains, place = np.zeros((rows[k], columns[k])), np.full((rows[k], columns[k]), -1)
        gains[row[few], column[few]], place[row[few], column[few]] = gain[few], few
        taken = place[linear_sum_assignment(gains, maximize=True)]
        chosen[taken[taken >= 0]] = True
    return chosen


def _islands(left: Ints, right: Ints) -> tuple[Ints, Ints, Ints]:
    """(K,) of each pair: its place from 0 among the left and among the right of its island, and the island."""
    _, row = np.unique(left, return_inverse=True)
    _, column = np.unique(right, return_inverse=True)
    rows = int(row.max()) + 1
    side = rows + int(column.max()) + 1
    graph = coo_array((np.ones(len(row), np.int8), (row, column + rows)), shape=(side, side))
    _, label = connected_components(graph, directed=False)
    return _places(label[:rows])[row], _places(label[rows:])[column], np.asarray(label[row], np.int64)


def _places(label: Ints) -> Ints:
    """(N,): how many before it bear the same label."""
    order = np.argsort(label, kind="stable")
    first = np.searchsorted(label[order], label[order])
    place = np.empty(len(label), np.int64)
    place[order] = np.arange(len(label)) - first
    return place
