"""The tracks to publish: each group's likeliest hypothesis, and fixed-lag smoothing. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import EXISTENCE, ID, LAST_ERROR_PARTS, error_covariance
from irst_stream.track.compiled.matrices import product, product_transposed, solve_right

__all__ = ["best_tracks", "smooth_back"]


@compiled
def best_tracks(beliefs):  # type: ignore[no-untyped-def]
    """The targets of each group's likeliest hypothesis.

    Returns rows (T,); score (T,): existence probability over all hypotheses of the group; state (T, D) and cov (T, D, D)
    over the modes.
    """
    first_hypothesis, first_row, first_cov, log_weight, mode_probs, x, cov, floats, ints = beliefs
    modes, size = x.shape[1:]
    total = 0
    for g in range(len(first_hypothesis) - 1):
        total += first_row[first_hypothesis[g] + 1] - first_row[first_hypothesis[g]]
    rows, score = np.empty(total, np.int64), np.zeros(total)
    state, cov_out = np.zeros((total, size)), np.zeros((total, size, size))
    at = 0
    for g in range(len(first_hypothesis) - 1):
        h = first_hypothesis[g]
        first, n = first_row[h], first_row[h + 1] - first_row[h]
        joint = cov[first_cov[h] : first_cov[h + 1]].reshape((modes, n * size, n * size))
        for i in range(n):
            rows[at] = first + i
            for other in range(first_hypothesis[g], first_hypothesis[g + 1]):
                for r in range(first_row[other], first_row[other + 1]):
                    if ints[r, ID] == ints[first + i, ID]:
                        score[at] += math.exp(log_weight[other]) * floats[r, EXISTENCE]
            _mode_moments(x[first + i], joint, i, mode_probs[h], state[at], cov_out[at])
            at += 1
    return rows, score, state, cov_out


@compiled
def smooth_back(beliefs, rows, state, cov, transition, noise, error_correlation):  # type: ignore[no-untyped-def]
    """Smooth tracks one frame back (Rauch-Tung-Striebel): their state (T, D) and cov (T, D, D) at the frame before.

    state, cov: smoothed, of the later frame; beliefs: of the frame before, rows (T,): the tracks' rows in these, a track of
    row -1 stays as it is; transition, noise (D, D): of the step between the frames; error_correlation: of consecutive
    detections' errors, negative where errors are not part of the state.
    """
    _, first_row, first_cov, _, mode_probs, x, joint, floats, _ = beliefs
    modes, size = x.shape[1:]
    hypothesis_of = np.empty(len(x), np.int64)
    for h in range(len(first_row) - 1):
        hypothesis_of[first_row[h] : first_row[h + 1]] = h
    new_state, new_cov = state.copy(), cov.copy()
    for t in range(len(rows)):
        if rows[t] < 0:
            continue
        h = hypothesis_of[rows[t]]
        n, first = first_row[h + 1] - first_row[h], first_row[h]
        filtered_state, filtered_cov = np.zeros(size), np.zeros((size, size))
        matrix = joint[first_cov[h] : first_cov[h + 1]].reshape((modes, n * size, n * size))
        _mode_moments(x[rows[t]], matrix, rows[t] - first, mode_probs[h], filtered_state, filtered_cov)
        cross = product_transposed(filtered_cov, transition)
        predicted_cov = product(transition, cross)
        for a in range(size):
            for b in range(size):
                predicted_cov[a, b] += noise[a, b]
        if error_correlation >= 0:
            row, fresh = floats[rows[t], LAST_ERROR_PARTS:], 1 - error_correlation * error_correlation
            for a in range(2):
                for b in range(2):
                    predicted_cov[size - 2 + a, size - 2 + b] += fresh * error_covariance(row, row, a, b)
        gain = solve_right(cross, predicted_cov)
        _smooth(new_state[t], new_cov[t], filtered_state, filtered_cov, transition, predicted_cov, gain)
    return new_state, new_cov


@compiled
def _smooth(state, cov, filtered_state, filtered_cov, transition, predicted_cov, gain):  # type: ignore[no-untyped-def]
    """Take one track's state (D,) and cov (D, D), in place, from a frame back to the one before."""
    size = len(state)
    excess, excess_cov = np.empty(size), np.empty((size, size))  # smoothed, over predicted
    for a in range(size):
        excess[a] = state[a]
        for b in range(size):
            excess[a] -= transition[a, b] * filtered_state[b]
            excess_cov[a, b] = cov[a, b] - predicted_cov[a, b]
    change = product_transposed(product(gain, excess_cov), gain)
    for a in range(size):
        state[a] = filtered_state[a]
        for b in range(size):
            state[a] += gain[a, b] * excess[b]
            cov[a, b] = (filtered_cov[a, b] + change[a, b] + filtered_cov[b, a] + change[b, a]) / 2


@compiled
def _mode_moments(x, joint, i, mode_probs, state, cov):  # type: ignore[no-untyped-def]
    """Fill the mean (D,) and covariance (D, D), given as zeros, of target i over its modes: x (M, D), joint (M, nD, nD)."""
    modes, size = x.shape
    for m in range(modes):
        for a in range(size):
            state[a] += mode_probs[m] * x[m, a]
    for m in range(modes):
        for p in range(size):
            for q in range(size):
                product = (x[m, p] - state[p]) * (x[m, q] - state[q])
                cov[p, q] += mode_probs[m] * (joint[m, size * i + p, size * i + q] + product)
