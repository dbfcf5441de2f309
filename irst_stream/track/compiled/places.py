"""Predicted measurements of position, their covariances, and Gaussian densities. Compiled."""

from __future__ import annotations

import math

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import TINY

__all__ = [
    "gaussian_log_density",
    "mahalanobis_squared",
    "mean_position",
    "measured_position",
    "position_cross_cov",
    "predict_positions",
]

LOG_2PI = math.log(2 * math.pi)


@compiled
def measured_position(x, row, m, errors_in_state):  # type: ignore[no-untyped-def]
    """Predicted measurement x, y, px, of a target of x (R, M, D) under mode m: with its error, if that is in the state."""
    if not errors_in_state:
        return x[row, m, 0], x[row, m, 1]
    size = x.shape[2]
    return x[row, m, 0] + x[row, m, size - 2], x[row, m, 1] + x[row, m, size - 1]


@compiled
def mean_position(x, row, mode_probs, errors_in_state):  # type: ignore[no-untyped-def]
    """Predicted measurement x, y, px, of a target of x (R, M, D), averaged over the modes (M,)."""
    x_mean, y_mean = 0.0, 0.0
    for m in range(len(mode_probs)):
        u, v = measured_position(x, row, m, errors_in_state)
        x_mean, y_mean = x_mean + mode_probs[m] * u, y_mean + mode_probs[m] * v
    return x_mean, y_mean


@compiled
def position_cross_cov(cov, m, i, j, size, errors_in_state, a, b):  # type: ignore[no-untyped-def]
    """Covariance, px^2, of target i's predicted measurement along axis a with target j's along axis b, under mode m."""
    p, q = size * i + a, size * j + b
    if not errors_in_state:
        return cov[m, p, q]
    u, v = size * (i + 1) - 2 + a, size * (j + 1) - 2 + b
    return cov[m, p, q] + cov[m, u, v] + cov[m, p, v] + cov[m, u, q]


@compiled
def predict_positions(x, cov, mode_probs, errors_in_state, positions, position_cov):  # type: ignore[no-untyped-def]
    """Fill the predicted measurements (n, 2) of x (n, M, D) and their joint covariance (n, n, 2, 2), over all modes."""
    n, modes, size = x.shape
    for i in range(n):
        positions[i, 0], positions[i, 1] = mean_position(x, i, mode_probs, errors_in_state)
        for j in range(i + 1):
            for a in range(2):
                for b in range(2):
                    value = 0.0
                    for m in range(modes):
                        one = measured_position(x, i, m, errors_in_state)[a] - positions[i, a]
                        other = measured_position(x, j, m, errors_in_state)[b] - positions[j, b]
                        within = position_cross_cov(cov, m, i, j, size, errors_in_state, a, b)
                        value += mode_probs[m] * (within + one * other)
                    position_cov[i, j, a, b] = position_cov[j, i, b, a] = value


@compiled
def mahalanobis_squared(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Squared Mahalanobis distance of an offset dx, dy with covariance xx, xy, yy."""
    return (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / max(xx * yy - xy * xy, TINY)


@compiled
def gaussian_log_density(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Log density of a two-dimensional Gaussian at an offset dx, dy from its mean, and the squared Mahalanobis distance."""
    chi2 = mahalanobis_squared(dx, dy, xx, xy, yy)
    return -0.5 * chi2 - 0.5 * math.log(max(xx * yy - xy * xy, TINY)) - LOG_2PI, chi2
