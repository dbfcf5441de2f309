"""What a fit says of itself: evidence, covariances, what it leaves unexplained, which numbers need no trial. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.levenberg_marquardt import cholesky, solve
from irst_stream.fit.compiled.likelihood import NOTHING, PARAMETERS, UNKNOWN, shares, shine
from irst_stream.system.numba_cache import compiled

__all__ = ["certainty", "evidence", "factors", "strain", "too_bright_or_dim"]

LOG_2PI = math.log(2.0 * math.pi)
RULED_OUT = 30.0  # of log evidence: a number of targets this much less likely is not tried
LIT = 0.1  # of the noise: where targets shine less, a fit explains nothing
BEND = math.sqrt(3.0 / (16.0 * math.pi))  # norm of a unit Gaussian's second derivative by x, at a width of 1 px
FADE = 25.0
QUARTIC = 1.48  # the variance of a Gaussian of the same area as exp(-d^4 / 2), for each of the two


@compiled
def evidence(p, misfit, matrix, seen, model, seated, precision):  # type: ignore[no-untyped-def]
    """Log evidence of a fit, by Laplace; minus infinity where the fit is not a minimum.

    The group's middle may be anywhere in the images. seated: how many targets have seats, whose precision this is, 0
    where the arrangement is free.

    What two targets on top of each other share in light leaves their places open, by the matrix without end. Yet a pair
    that spreads changes its light by the square of that, which _room stands for: without it many faint targets in one place
    would always be likelier than one bright one.
    """
    targets, priors = len(p), model.priors
    frames, height, width = seen.images.shape
    factor, bounded = np.zeros(matrix.shape), matrix.copy()
    room = _room(frames, model.sigma, seen.noise, priors)
    for k in range(targets):
        close = 0.0
        for j in range(targets):
            if j != k:
                apart = (p[j, 0] - p[k, 0]) ** 2 + (p[j, 1] - p[k, 1]) ** 2
                close = max(close, math.exp(-apart / (FADE * room)))
        for axis in range(2):
            bounded[PARAMETERS * k + axis, PARAMETERS * k + axis] += close / room
    if not cholesky(bounded, 0.0, factor):
        return NOTHING
    log = (
        -0.5 * misfit
        - math.log(height * width)
        - math.log(targets)
        + 0.5 * targets * (math.log(priors.amplitude) - LOG_2PI)
    )
    log += (targets - 1) * math.log(priors.own) + math.log(priors.common / targets) - targets * LOG_2PI
    log += 0.5 * PARAMETERS * targets * LOG_2PI + (0.0 if seated else (targets - 1) * priors.company)
    log += (targets - 1) * (math.log(precision) - LOG_2PI) if seated else math.lgamma(targets + 1.0)
    for i in range(len(matrix)):
        log -= math.log(factor[i, i])
    return log


@compiled
def _room(frames, sigma, noise, priors):  # type: ignore[no-untyped-def]
    """Px^2: the variance of a target's place of two that are on top of each other, by how far they may part unseen.

    A pair of amplitude a each, d px apart, differs from one in its middle by a d^2 / 4 times the second derivative of the
    optics, whose norm is BEND over the cube of their width.
    """
    width = sigma * sigma + 1.0 / 12.0
    bend = BEND / (width * math.sqrt(width))
    return QUARTIC * noise / (priors.amplitude_dn * bend * math.sqrt(frames))


@compiled
def too_bright_or_dim(p, matrix, priors, targets):  # type: ignore[no-untyped-def]
    """Whether the light of a fit is far beyond what this many targets could give by the amplitude prior."""
    mean, precision = priors.amplitude_dn, priors.amplitude
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
    """Fills cov (K, K, 2, 2) px^2, of each two targets' places, and amplitude_sd (K,) DN from the matrix (5K, 5K), which it
    makes sure of.

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
                continue
            for j in range(k, len(amplitude_sd)):
                for v in range(2):
                    cov[k, j, u, v] = cov[j, k, v, u] = column[PARAMETERS * j + v]
        both = (cov[k, k, 0, 1] + cov[k, k, 1, 0]) / 2
        cov[k, k, 0, 1] = cov[k, k, 1, 0] = both
        if not cov[k, k, 0, 0] * cov[k, k, 1, 1] > both**2 or not cov[k, k].max() < -NOTHING:
            cov[k, k] = np.nan


@compiled
def strain(p, seen, model):  # type: ignore[no-untyped-def]
    """Mean square, in units of its variance, of what the fit p (K, 5) leaves of the pixels that its targets shine into: in
    each frame by itself, and in all frames together. 0 where there are none.

    About 1 where the light is that of point targets, and more the less it is. What a platform that shakes leaves one way in
    this frame and the other way in the next counts in the first only.
    """
    targets, (frames, height, width), noise, shot = len(p), seen.images.shape, seen.noise, model.shot
    row, row_slope = np.empty((targets, height)), np.empty((targets, height))
    column, column_slope = np.empty((targets, width)), np.empty((targets, width))
    lights, left, variance = np.empty((height, width)), np.zeros((height, width)), np.zeros((height, width))
    alone, together, seen_pixels, pixels = 0.0, 0.0, 0, 0
    for t in range(frames):
        shares(p, seen.times[t], seen.shifts[t], model.sigma, row, row_slope, column, column_slope)
        shine(p[:, 4], row, column, lights)
        for r in range(height):
            for c in range(width):
                value, light = seen.images[t, r, c], lights[r, c]
                if light > LIT * noise and max(seen.limits[0], UNKNOWN) < value < seen.limits[1]:
                    away, spread = value - light, noise**2 + shot * light
                    alone += away * away / spread
                    left[r, c] += away
                    variance[r, c] += spread
                    seen_pixels += 1
    for r in range(height):
        for c in range(width):
            if variance[r, c] > 0.0:
                together += left[r, c] ** 2 / variance[r, c]
                pixels += 1
    return alone / max(seen_pixels, 1), together / max(pixels, 1)


@compiled
def factors(number, cov):  # type: ignore[no-untyped-def]
    """(N, most, 2, 2 most): what the errors of N regions' targets are made of, independent parts of variance 1, which the
    targets of a region share; of cov (N, most, most, 2, 2), the first number (N,) of each. 0 where that is unknown.
    """
    regions, most = cov.shape[:2]
    out = np.zeros((regions, most, 2, 2 * most))
    joint, factor = np.zeros((2 * most, 2 * most)), np.zeros((2 * most, 2 * most))
    for r in range(regions):
        known = np.array([k for k in range(number[r]) if not math.isnan(cov[r, k, k, 0, 0])], np.int64)
        n = 2 * len(known)
        for i in range(n):
            for j in range(n):
                joint[i, j] = cov[r, known[i // 2], known[j // 2], i % 2, j % 2]
        if not cholesky(joint[:n, :n], 0.0, factor):
            for i in range(n):
                for j in range(n):
                    if i // 2 != j // 2:
                        joint[i, j] = 0.0
            if not cholesky(joint[:n, :n], 0.0, factor):
                continue
        for i in range(n):
            for j in range(i + 1):
                out[r, known[i // 2], i % 2, j] = factor[i, j]
    return out
