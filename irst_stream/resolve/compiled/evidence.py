"""What the sharpness of a fit says: its evidence, its covariances, and which numbers of targets need no trial. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.compiling import compiled
from irst_stream.resolve.compiled.fitting import cholesky, solve
from irst_stream.resolve.compiled.light import NOTHING, PARAMETERS

__all__ = ["certainty", "evidence", "too_bright_or_dim"]

LOG_2PI = math.log(2.0 * math.pi)
RULED_OUT = 30.0  # of log evidence: a number of targets this much less likely is not tried
ROOM = 0.2  # px: of two targets on top of each other, each may be so far (1 sd) from where it is said to be, and no farther


@compiled
def evidence(p, misfit, matrix, priors, area):  # type: ignore[no-untyped-def]
    """Log evidence of a fit, by Laplace; minus infinity where the fit is not a minimum.

    What two targets on top of each other share in light leaves their places open, by the matrix without end. Yet a pair
    that spreads changes its light by the square of that, which ROOM stands for: without it many faint targets in one place
    would always be likelier than one bright one.
    """
    targets = len(p)
    factor, bounded = np.zeros(matrix.shape), matrix.copy()
    for k in range(targets if targets > 1 else 0):
        for axis in range(2):
            bounded[PARAMETERS * k + axis, PARAMETERS * k + axis] += 1.0 / ROOM**2
    if not cholesky(bounded, 0.0, factor):
        return NOTHING
    _, amplitude, common, own = priors
    log = -0.5 * misfit - targets * math.log(area) + 0.5 * targets * (math.log(amplitude) - LOG_2PI)
    log += (targets - 1) * math.log(own) + math.log(common / targets) - targets * LOG_2PI
    log += 0.5 * PARAMETERS * targets * LOG_2PI + math.lgamma(targets + 1.0)
    for i in range(len(matrix)):
        log -= math.log(factor[i, i])
    return log


@compiled
def too_bright_or_dim(p, matrix, priors, targets):  # type: ignore[no-untyped-def]
    """Whether the light of a fit is far beyond what this many targets could give by the amplitude prior."""
    mean, precision = priors[0], priors[1]
    n = len(matrix)
    factor, ones, spread = np.zeros((n, n)), np.zeros(n), np.empty(n)
    if not cholesky(matrix, 0.0, factor):
        return False
    for k in range(len(p)):
        ones[PARAMETERS * k + 4] = 1.0
    solve(factor, ones, spread)
    light, variance = p[:, 4].sum(), targets / precision
    for k in range(len(p)):
        variance += spread[PARAMETERS * k + 4]
    return (light - targets * mean) ** 2 / variance > 2 * RULED_OUT


@compiled
def certainty(matrix, sides, cov, amplitude_sd):  # type: ignore[no-untyped-def]
    """Fills cov (K, 2, 2) px^2 and amplitude_sd (K,) DN from the matrix (5K, 5K), which it makes sure of.

    No target is less certain to be anywhere than in its patch, whose sides are given. NaN where the matrix is of no use.
    """
    n = len(matrix)
    factor, unit, column = np.zeros((n, n)), np.zeros(n), np.empty(n)
    for k in range(len(amplitude_sd)):
        for axis in range(2):
            matrix[PARAMETERS * k + axis, PARAMETERS * k + axis] += 12.0 / sides[axis] ** 2
    cov[:], amplitude_sd[:] = np.nan, np.nan
    if not cholesky(matrix, 0.0, factor):  # nothing sensible is known of light like that
        return
    for k in range(len(amplitude_sd)):
        for u in (0, 1, 4):
            at = PARAMETERS * k + u
            unit[at] = 1.0
            solve(factor, unit, column)
            unit[at] = 0.0
            if u == 4:
                amplitude_sd[k] = math.sqrt(column[at])
            else:
                cov[k, u, 0], cov[k, u, 1] = column[PARAMETERS * k], column[PARAMETERS * k + 1]
        cov[k, 0, 1] = cov[k, 1, 0] = (cov[k, 0, 1] + cov[k, 1, 0]) / 2
        if not cov[k, 0, 0] * cov[k, 1, 1] > cov[k, 0, 1] ** 2 or not cov[k].max() < -NOTHING:
            cov[k] = np.nan
