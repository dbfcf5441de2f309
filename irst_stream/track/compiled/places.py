"""Where targets are measured to be, and how surely. Compiled."""

from __future__ import annotations

import math

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import TINY

__all__ = ["chi_squared", "cross_cov", "log_normal", "mean_place", "measured", "place_of"]

LOG_2PI = math.log(2 * math.pi)


@compiled
def place_of(x, row, m, coloured):  # type: ignore[no-untyped-def]
    """Where a target of x (R, M, D) is measured to be under one model."""
    if not coloured:
        return x[row, m, 0], x[row, m, 1]
    size = x.shape[2]
    return x[row, m, 0] + x[row, m, size - 2], x[row, m, 1] + x[row, m, size - 1]


@compiled
def mean_place(x, row, chance, coloured):  # type: ignore[no-untyped-def]
    """Where it is over all models."""
    across, down = 0.0, 0.0
    for m in range(len(chance)):
        u, v = place_of(x, row, m, coloured)
        across, down = across + chance[m] * u, down + chance[m] * v
    return across, down


@compiled
def cross_cov(cov, m, i, j, size, coloured, a, b):  # type: ignore[no-untyped-def]
    """The covariance of axis a of what is measured of target i with axis b of target j, under one model's joint cov."""
    p, q = size * i + a, size * j + b
    if not coloured:
        return cov[m, p, q]
    u, v = size * (i + 1) - 2 + a, size * (j + 1) - 2 + b
    return cov[m, p, q] + cov[m, u, v] + cov[m, p, v] + cov[m, u, q]


@compiled
def measured(x, cov, chance, coloured, places, spread):  # type: ignore[no-untyped-def]
    """Fills the places (n, 2) and their joint covariances (n, n, 2, 2) of x (n, M, D), over all models."""
    n, models, size = x.shape
    for i in range(n):
        places[i, 0], places[i, 1] = mean_place(x, i, chance, coloured)
        for j in range(i + 1):
            for a in range(2):
                for b in range(2):
                    value = 0.0
                    for m in range(models):
                        here = place_of(x, i, m, coloured)[a] - places[i, a]
                        there = place_of(x, j, m, coloured)[b] - places[j, b]
                        value += chance[m] * (cross_cov(cov, m, i, j, size, coloured, a, b) + here * there)
                    spread[i, j, a, b] = spread[j, i, b, a] = value


@compiled
def chi_squared(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Of a distance, by its covariance."""
    return (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / max(xx * yy - xy * xy, TINY)


@compiled
def log_normal(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Log density of a two-dimensional Gaussian, and its chi^2."""
    chi2 = chi_squared(dx, dy, xx, xy, yy)
    return -0.5 * chi2 - 0.5 * math.log(max(xx * yy - xy * xy, TINY)) - LOG_2PI, chi2
