"""What is published of the beliefs: the likeliest hypotheses, also as smoothed by later frames. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import EXISTS, FACTOR, ID, covary

__all__ = ["published", "smoothed"]


@compiled
def published(beliefs):  # type: ignore[no-untyped-def]
    """The likeliest hypothesis of each group: its rows, each one's chance to exist over all hypotheses, states and covs.

    rows (T,), score (T,), state (T, D) and cov (T, D, D) over the motion models.
    """
    group, hypothesis, block, log_weight, chance, x, cov, real, whole = beliefs
    models, size = x.shape[1:]
    total = 0
    for g in range(len(group) - 1):
        total += hypothesis[group[g] + 1] - hypothesis[group[g]]
    rows, score = np.empty(total, np.int64), np.zeros(total)
    state, spread = np.zeros((total, size)), np.zeros((total, size, size))
    at = 0
    for g in range(len(group) - 1):
        h = group[g]
        first, n = hypothesis[h], hypothesis[h + 1] - hypothesis[h]
        joint = cov[block[h] : block[h + 1]].reshape((models, n * size, n * size))
        for i in range(n):
            rows[at] = first + i
            for other in range(group[g], group[g + 1]):
                for r in range(hypothesis[other], hypothesis[other + 1]):
                    if whole[r, ID] == whole[first + i, ID]:
                        score[at] += math.exp(log_weight[other]) * real[r, EXISTS]
            _moments(x[first + i], joint, i, chance[h], state[at], spread[at])
            at += 1
    return rows, score, state, spread


@compiled
def smoothed(beliefs, rows, state, cov, transition, noise, fade):  # type: ignore[no-untyped-def]
    """Takes tracks one frame back: the state (T, D) and cov (T, D, D) of a frame's rows, as smoothed, to these rows'
    (T,) in the beliefs of the frame before; -1 stays as it is. transition, noise (D, D): of the step between them.
    """
    _, hypothesis, block, _, chance, x, joint, real, _ = beliefs
    models, size = x.shape[1:]
    of = np.empty(len(x), np.int64)
    for h in range(len(hypothesis) - 1):
        of[hypothesis[h] : hypothesis[h + 1]] = h
    new_state, new_cov = state.copy(), cov.copy()
    for t in range(len(rows)):
        if rows[t] < 0:
            continue
        h = of[rows[t]]
        n, first = hypothesis[h + 1] - hypothesis[h], hypothesis[h]
        mean, spread = np.zeros(size), np.zeros((size, size))
        matrix = joint[block[h] : block[h + 1]].reshape((models, n * size, n * size))
        _moments(x[rows[t]], matrix, rows[t] - first, chance[h], mean, spread)
        cross = spread @ transition.T
        ahead = transition @ cross + noise
        if fade >= 0:
            row, fresh = real[rows[t], FACTOR:], 1 - fade * fade
            for a in range(2):
                for b in range(2):
                    ahead[size - 2 + a, size - 2 + b] += fresh * covary(row, row, a, b)
        gain = np.linalg.solve(ahead, cross.T).T
        new_state[t] = mean + gain @ (state[t] - transition @ mean)
        back = spread + gain @ (cov[t] - ahead) @ gain.T
        new_cov[t] = (back + back.T) / 2
    return new_state, new_cov


@compiled
def _moments(x, joint, i, chance, state, spread):  # type: ignore[no-untyped-def]
    """Fills the mean (D,) and covariance (D, D) of one target over its models."""
    models, size = x.shape
    for m in range(models):
        state += chance[m] * x[m]
    for m in range(models):
        for p in range(size):
            for q in range(size):
                away = (x[m, p] - state[p]) * (x[m, q] - state[q])
                spread[p, q] += chance[m] * (joint[m, size * i + p, size * i + q] + away)
