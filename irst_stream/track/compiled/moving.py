"""Prediction of all hypotheses by the motion model; several modes interact (IMM). Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    AMPLITUDE,
    AMPLITUDE_VAR,
    ERROR_SOURCE,
    EXISTENCE,
    LAST_ERROR_PARTS,
    TINY,
    Beliefs,
    error_covariance,
)

__all__ = ["predict"]


@compiled
def predict(beliefs, transitions, group_noise, own_noise, mode_switching, error_correlation, rules):  # type: ignore[no-untyped-def]
    """Predict all hypotheses to the next frame; the beliefs given stay as they are.

    transitions (M, D, D) of each mode; group_noise, own_noise (M, D, D): process noise common to a group's targets, and of
    each target alone; mode_switching (M, M): transition probabilities of the modes; error_correlation: of the errors of
    consecutive detections.
    """
    first_hypothesis, first_row, first_cov, log_weight, mode_probs, x, cov, floats, ints = beliefs
    mode_probs, x, cov, floats = mode_probs.copy(), x.copy(), cov.copy(), floats.copy()
    modes, size = x.shape[1:]
    for h in range(len(first_row) - 1):
        rows = slice(first_row[h], first_row[h + 1])
        n = first_row[h + 1] - first_row[h]
        joint = cov[first_cov[h] : first_cov[h + 1]].reshape((modes, n * size, n * size))
        if modes > 1:
            _mix_modes(x[rows], joint, mode_probs[h], mode_switching)
        for m in range(modes):
            _predict_mode(x[rows], joint, m, transitions[m], group_noise[m], own_noise[m])
            if rules.errors_in_state:
                _add_error_noise(joint[m], size, floats[rows], ints[rows], 1 - error_correlation * error_correlation)
    for r in range(len(floats)):
        floats[r, EXISTENCE] *= rules.survival_probability
        floats[r, AMPLITUDE_VAR] += rules.amplitude_drift * floats[r, AMPLITUDE] ** 2
    return Beliefs(first_hypothesis, first_row, first_cov, log_weight, mode_probs, x, cov, floats, ints)


@compiled
def _add_error_noise(joint, size, floats, ints, fresh):  # type: ignore[no-untyped-def]
    """Add the new part of the targets' errors, the fraction `fresh` of their variance, to a joint covariance (nD, nD).

    The errors of two targets covary where their last detections had the same error source.
    """
    for i in range(len(floats)):
        for j in range(i + 1):
            if ints[i, ERROR_SOURCE] == ints[j, ERROR_SOURCE]:
                p, q = size * (i + 1) - 2, size * (j + 1) - 2
                for a in range(2):
                    for b in range(2):
                        value = fresh * error_covariance(floats[i, LAST_ERROR_PARTS:], floats[j, LAST_ERROR_PARTS:], a, b)
                        joint[p + a, q + b] += value
                        if i != j:
                            joint[q + b, p + a] += value


@compiled
def _mix_modes(x, cov, mode_probs, mode_switching):  # type: ignore[no-untyped-def]
    """Mix the modes before prediction, as in IMM: x (n, M, D), cov (M, nD, nD) and mode_probs (M,), in place."""
    n, modes, size = x.shape
    new_x, new_cov, predicted, offset = np.zeros(x.shape), np.zeros(cov.shape), np.zeros(modes), np.empty(n * size)
    for m in range(modes):
        for k in range(modes):
            predicted[m] += mode_switching[k, m] * mode_probs[k]
        for k in range(modes):
            weight = mode_switching[k, m] * mode_probs[k] / max(predicted[m], TINY)
            for i in range(n):
                for a in range(size):
                    new_x[i, m, a] += weight * x[i, k, a]
        for k in range(modes):
            weight = mode_switching[k, m] * mode_probs[k] / max(predicted[m], TINY)
            for i in range(n):
                for a in range(size):
                    offset[size * i + a] = x[i, k, a] - new_x[i, m, a]
            for p in range(n * size):
                for q in range(n * size):
                    new_cov[m, p, q] += weight * (cov[k, p, q] + offset[p] * offset[q])
    x[:], cov[:], mode_probs[:] = new_x, new_cov, predicted


@compiled
def _predict_mode(x, cov, m, transition, group_noise, own_noise):  # type: ignore[no-untyped-def]
    """Predict mode m of n targets in place: x (n, M, D) and the joint cov (M, nD, nD); transition and noises (D, D).

    Zeros of the transition, which are most of it, are skipped.
    """
    n, _, size = x.shape
    state, half = np.empty(size), np.empty((size, size))
    for i in range(n):
        for p in range(size):
            state[p] = x[i, m, p]
        for p in range(size):
            value = 0.0
            for k in range(size):
                value += transition[p, k] * state[k]
            x[i, m, p] = value
        for j in range(i + 1):
            a, b = size * i, size * j
            for p in range(size):
                half[p] = 0.0
                for k in range(size):
                    if transition[p, k] != 0:
                        for q in range(size):
                            half[p, q] += transition[p, k] * cov[m, a + k, b + q]
            for q in range(size):
                for p in range(size):
                    value = group_noise[p, q] + (own_noise[p, q] if i == j else 0.0)
                    for k in range(size):
                        if transition[q, k] != 0:
                            value += half[p, k] * transition[q, k]
                    cov[m, a + p, b + q] = value
            if i != j:
                for p in range(size):
                    for q in range(size):
                        cov[m, b + q, a + p] = cov[m, a + p, b + q]
