"""Targets move on: each by its motion model, or by several that interact, all of a group together. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import AMPLITUDE, AMPLITUDE_VAR, EXISTS, FACTOR, SOURCE, TINY, Beliefs, covary

__all__ = ["predict"]


@compiled
def predict(beliefs, transitions, together, alone, switch, fade, rules):  # type: ignore[no-untyped-def]
    """All that is believed, moved on: transitions, noise together and alone (M, D, D), switch (M, M); fade: of errors."""
    group, hypothesis, block, log_weight, chance, x, cov, real, whole = beliefs
    chance, x, cov, real = chance.copy(), x.copy(), cov.copy(), real.copy()
    models, size = x.shape[1:]
    for h in range(len(hypothesis) - 1):
        rows = slice(hypothesis[h], hypothesis[h + 1])
        n = hypothesis[h + 1] - hypothesis[h]
        joint = cov[block[h] : block[h + 1]].reshape((models, n * size, n * size))
        if models > 1:
            _mix(x[rows], joint, chance[h], switch)
        for m in range(models):
            _move(x[rows], joint, m, transitions[m], together[m], alone[m])
            if rules.coloured:
                _err_anew(joint[m], size, real[rows], whole[rows], 1 - fade * fade)
    for r in range(len(real)):
        real[r, EXISTS] *= rules.survives
        real[r, AMPLITUDE_VAR] += rules.drift * real[r, AMPLITUDE] ** 2
    return Beliefs(group, hypothesis, block, log_weight, chance, x, cov, real, whole)


@compiled
def _err_anew(joint, size, real, whole, fresh):  # type: ignore[no-untyped-def]
    """Adds to the joint covariance what is new in the targets' errors, of those seen together last what they share."""
    for i in range(len(real)):
        for j in range(i + 1):
            if whole[i, SOURCE] == whole[j, SOURCE]:
                p, q = size * (i + 1) - 2, size * (j + 1) - 2
                for a in range(2):
                    for b in range(2):
                        value = fresh * covary(real[i, FACTOR:], real[j, FACTOR:], a, b)
                        joint[p + a, q + b] += value
                        if i != j:
                            joint[q + b, p + a] += value


@compiled
def _mix(x, cov, chance, switch):  # type: ignore[no-untyped-def]
    """The interacting step of several motion models: x (n, M, D), cov (M, nD, nD) and chance (M,), before they move."""
    n, models, size = x.shape
    new_x, new_cov, ahead = np.zeros(x.shape), np.zeros(cov.shape), np.zeros(models)
    for m in range(models):
        for k in range(models):
            ahead[m] += switch[k, m] * chance[k]
        for k in range(models):
            share = switch[k, m] * chance[k] / max(ahead[m], TINY)
            new_x[:, m] += share * x[:, k]
        for k in range(models):
            share = switch[k, m] * chance[k] / max(ahead[m], TINY)
            away = (x[:, k] - new_x[:, m]).copy().reshape(n * size)
            for p in range(n * size):
                for q in range(n * size):
                    new_cov[m, p, q] += share * (cov[k, p, q] + away[p] * away[q])
    x[:], cov[:], chance[:] = new_x, new_cov, ahead


@compiled
def _move(x, cov, m, transition, together, alone):  # type: ignore[no-untyped-def]
    """One model's step: x (n, M, D) and the joint cov (M, nD, nD); noise that the targets share, and what each has alone.

    Most of a transition is zeros, which are passed over.
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
                    value = together[p, q] + (alone[p, q] if i == j else 0.0)
                    for k in range(size):
                        if transition[q, k] != 0:
                            value += half[p, k] * transition[q, k]
                    cov[m, a + p, b + q] = value
            if i != j:
                for p in range(size):
                    for q in range(size):
                        cov[m, b + q, a + p] = cov[m, a + p, b + q]
