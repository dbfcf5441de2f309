"""Optimal one-to-one assignment among candidate pairs, for all frames at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from irst_stream.types import Floats, Ints

__all__ = ["best_pairs"]


def best_pairs(left: Ints, right: Ints, gain: Floats) -> NDArray[np.bool_]:
    """Choose one-to-one pairs with the largest sum of gains: (K,) bool.

    left, right (K,): the two members of each pair; no pair occurs twice. gain (K,): all above 0. Connected components of
    the pairs are solved separately, so pairs of many frames can be passed together. No pairs: an empty array.
    """
    chosen = np.zeros(len(gain), np.bool_)
    if not len(gain):
        return chosen
    row, column, component = _components(left, right)
    order = np.lexsort((-gain, component))
    first = np.flatnonzero(np.diff(component[order], prepend=-1))
    rows, columns = (np.maximum.reduceat(number[order], first) + 1 for number in (row, column))
    stars = np.minimum(rows, columns) == 1  # all pairs of the component share one member, so only its best pair is chosen
    chosen[order[first[stars]]] = True
    last = np.append(first[1:], len(order))
    for k in np.flatnonzero(~stars):
        pairs = order[first[k] : last[k]]
        gains, pair_at = np.zeros((rows[k], columns[k])), np.full((rows[k], columns[k]), -1)
        gains[row[pairs], column[pairs]], pair_at[row[pairs], column[pairs]] = gain[pairs], pairs
        taken = pair_at[linear_sum_assignment(gains, maximize=True)]
        chosen[taken[taken >= 0]] = True
    return chosen


def _components(left: Ints, right: Ints) -> tuple[Ints, Ints, Ints]:
    """For each pair (K,): the number from 0 of its left and of its right member within the component, and the component."""
    _, row = np.unique(left, return_inverse=True)
    _, column = np.unique(right, return_inverse=True)
    rows = int(row.max()) + 1
    side = rows + int(column.max()) + 1
    graph = coo_array((np.ones(len(row), np.int8), (row, column + rows)), shape=(side, side))
    _, label = connected_components(graph, directed=False)
    return _count_earlier(label[:rows])[row], _count_earlier(label[rows:])[column], np.asarray(label[row], np.int64)


def _count_earlier(label: Ints) -> Ints:
    """(N,): how many earlier elements have the same label."""
    order = np.argsort(label, kind="stable")
    first = np.searchsorted(label[order], label[order])
    earlier = np.empty(len(label), np.int64)
    earlier[order] = np.arange(len(label)) - first
    return earlier
