"""Levenberg-Marquardt fit of a given number of targets. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.likelihood import PARAMETERS
from irst_stream.fit.compiled.normal_equations import normal_equations
from irst_stream.system.numba_cache import compiled

__all__ = ["cholesky", "fit", "solve"]

MAX_STEP_PX = 0.3
MIN_GAIN = 0.1  # of chi^2 in one step: a fit that gains less is converged, far within one standard deviation
FIRST_DAMPING, DAMPING_DECREASE, DAMPING_INCREASE, MAX_DAMPING = 1e-2, 0.1, 8.0, 1e6


@compiled
def fit(start, region, model, seats, steps):  # type: ignore[no-untyped-def]
    """Fit from start (K, 5): return p (K, 5), its misfit and matrix (5K, 5K), and whether the fit has converged.

    seats: see normal_equations.
    """
    n = start.size
    p, trial = start.copy(), start.copy()
    matrix, vector = np.empty((n, n)), np.empty(n)
    trial_matrix, trial_vector = np.empty((n, n)), np.empty(n)
    factor, step = np.zeros((n, n)), np.empty(n)
    misfit = normal_equations(p, region, model, seats, matrix, vector)
    damping = FIRST_DAMPING
    for _ in range(steps):
        if not cholesky(matrix, damping, factor):
            damping = max(damping, FIRST_DAMPING) * DAMPING_INCREASE
            continue
        solve(factor, vector, step)
        for k in range(len(p)):
            for u in range(PARAMETERS):
                moved = step[PARAMETERS * k + u]
                trial[k, u] = p[k, u] - (min(max(moved, -MAX_STEP_PX), MAX_STEP_PX) if u < 4 else moved)
        found = normal_equations(trial, region, model, seats, trial_matrix, trial_vector)
        if found < misfit:
            gained = misfit - found
            p[:] = trial
            misfit = found
            matrix, trial_matrix = trial_matrix, matrix
            vector, trial_vector = trial_vector, vector
            damping *= DAMPING_DECREASE
            if gained < MIN_GAIN:
                return p, misfit, matrix, True
        else:
            damping *= DAMPING_INCREASE
            if damping > MAX_DAMPING:
                return p, misfit, matrix, True
    return p, misfit, matrix, False


@compiled
def cholesky(matrix, damping, factor):  # type: ignore[no-untyped-def]
    """Fill the lower Cholesky factor of matrix + damping x its diagonal; return False where it is not positive definite."""
    for i in range(len(matrix)):
        for j in range(i + 1):
            value = matrix[i, j]
            if i == j:
                value += damping * matrix[i, i]
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i == j:
                if not value > 0.0:
                    return False
                factor[i, i] = math.sqrt(value)
            else:
                factor[i, j] = value / factor[j, j]
    return True


@compiled
def solve(factor, vector, solution):  # type: ignore[no-untyped-def]
    """Fill the solution of L L^T solution = vector."""
    n = len(vector)
    for i in range(n):
        value = vector[i]
        for k in range(i):
            value -= factor[i, k] * solution[k]
        solution[i] = value / factor[i, i]
    for i in range(n - 1, -1, -1):
        value = solution[i]
        for k in range(i + 1, n):
            value -= factor[k, i] * solution[k]
        solution[i] = value / factor[i, i]
