"""Merging and pruning of a group's hypotheses, and the joint hypotheses of two groups. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import AMPLITUDE, AMPLITUDE_VAR, ID, MAX_LOG_WEIGHT_DROP, copy_hypothesis, copy_row
from irst_stream.track.compiled.ordering import falling_order

__all__ = ["join_groups", "merge_and_prune"]

SAME_STATE_SD = 0.2  # standard deviations: hypotheses whose states differ by less are merged


@compiled
def merge_and_prune(workspace, count, limit):  # type: ignore[no-untyped-def]
    """Merge hypotheses with the same targets and states, adding up their weights, and drop the unlikely ones.

    Returns the indices of those to keep, at most `limit`, by falling weight before the merge.
    """
    weight = workspace.log_weight
    order = falling_order(weight[:count])
    kept, found = np.empty(count, np.int64), 0
    for rank in range(count):
        k = order[rank]
        if found and weight[k] < weight[kept[0]] - MAX_LOG_WEIGHT_DROP:
            break
        same = False
        for other in kept[:found]:
            if _same_state(workspace, k, other):
                high, low = max(weight[other], weight[k]), min(weight[other], weight[k])
                weight[other] = high + math.log1p(math.exp(low - high))
                same = True
                break
        if not same and found < limit:
            kept[found] = k
            found += 1
    return kept[:found]


@compiled
def _same_state(workspace, k, other):  # type: ignore[no-untyped-def]
    """Whether two hypotheses have the same targets, with states and amplitudes within SAME_STATE_SD of the other's."""
    if workspace.target_count[k] != workspace.target_count[other]:
        return False
    size = workspace.x.shape[3]
    for i in range(workspace.target_count[k]):
        if workspace.ints[k, i, ID] != workspace.ints[other, i, ID]:
            return False
        for a in range(size):
            difference = workspace.x[k, i, 0, a] - workspace.x[other, i, 0, a]
            if difference * difference > SAME_STATE_SD**2 * workspace.cov[other, 0, size * i + a, size * i + a]:
                return False
        difference = workspace.floats[k, i, AMPLITUDE] - workspace.floats[other, i, AMPLITUDE]
        if difference * difference > SAME_STATE_SD**2 * workspace.floats[other, i, AMPLITUDE_VAR]:
            return False
    return True


@compiled
def join_groups(workspace, count, other, others, into):  # type: ignore[no-untyped-def]
    """Fill a third workspace with the likeliest pairs of two groups' hypotheses; return how many there are."""
    sums = np.empty(count * others)
    for k in range(count):
        for q in range(others):
            sums[k * others + q] = workspace.log_weight[k] + other.log_weight[q]
    order = falling_order(sums)[: len(into.target_count)]
    size = workspace.x.shape[3]
    for rank in range(len(order)):
        k, q = order[rank] // others, order[rank] % others
        a, b = workspace.target_count[k], other.target_count[q]
        copy_hypothesis(workspace, k, into, rank)
        into.target_count[rank], into.log_weight[rank] = a + b, workspace.log_weight[k] + other.log_weight[q]
        for i in range(b):
            copy_row(other.x[q], other.floats[q], other.ints[q], i, into.x[rank], into.floats[rank], into.ints[rank], a + i)
        a, b = a * size, b * size
        into.cov[rank, :, :a, a : a + b] = 0.0
        into.cov[rank, :, a : a + b, :a] = 0.0
        into.cov[rank, :, a : a + b, a : a + b] = other.cov[q, :, :b, :b]
    return len(order)
