"""Hypotheses of a group that say the same become one, the heaviest stay; those of two groups are joined. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import AMPLITUDE, AMPLITUDE_VAR, FAINT, ID, copy, copy_row

__all__ = ["join", "thin"]

ALIKE = 0.2  # standard deviations: hypotheses whose states differ by less are one


@compiled
def thin(room, count, most):  # type: ignore[no-untyped-def]
    """(count,): which hypotheses to keep, and in falling order: weights of alike ones added up, faint ones dropped."""
    weight = room.log_weight
    order = np.argsort(-weight[:count])
    kept, found = np.empty(count, np.int64), 0
    for place in range(count):
        k = order[place]
        if found and weight[k] < weight[kept[0]] - FAINT:
            break
        same = False
        for other in kept[:found]:
            if _alike(room, k, other):
                high, low = max(weight[other], weight[k]), min(weight[other], weight[k])
                weight[other] = high + math.log1p(math.exp(low - high))
                same = True
                break
        if not same and found < most:
            kept[found] = k
            found += 1
    return kept[:found]


@compiled
def _alike(room, k, other):  # type: ignore[no-untyped-def]
    """Whether two hypotheses of a room say the same of the same targets, within a fraction of the other's deviations."""
    if room.count[k] != room.count[other]:
        return False
    size = room.x.shape[3]
    for i in range(room.count[k]):
        if room.whole[k, i, ID] != room.whole[other, i, ID]:
            return False
        for a in range(size):
            away = room.x[k, i, 0, a] - room.x[other, i, 0, a]
            if away * away > ALIKE**2 * room.cov[other, 0, size * i + a, size * i + a]:
                return False
        away = room.real[k, i, AMPLITUDE] - room.real[other, i, AMPLITUDE]
        if away * away > ALIKE**2 * room.real[other, i, AMPLITUDE_VAR]:
            return False
    return True


@compiled
def join(room, count, other, others, into):  # type: ignore[no-untyped-def]
    """The likeliest pairs of two rooms' hypotheses into a third; how many."""
    sums = np.empty(count * others)
    for k in range(count):
        for q in range(others):
            sums[k * others + q] = -(room.log_weight[k] + other.log_weight[q])
    order = np.argsort(sums)[: len(into.count)]
    size = room.x.shape[3]
    for place in range(len(order)):
        k, q = order[place] // others, order[place] % others
        a, b = room.count[k], other.count[q]
        copy(room, k, into, place)
        into.count[place], into.log_weight[place] = a + b, room.log_weight[k] + other.log_weight[q]
        for i in range(b):
            copy_row(
                other.x[q], other.real[q], other.whole[q], i, into.x[place], into.real[place], into.whole[place], a + i
            )
        a, b = a * size, b * size
        into.cov[place, :, :a, a : a + b] = 0.0
        into.cov[place, :, a : a + b, :a] = 0.0
        into.cov[place, :, a : a + b, a : a + b] = other.cov[q, :, :b, :b]
    return len(order)
