"""Evidence, covariances and reduced chi-square of a fit, and the numbers of targets that its light rules out. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.levenberg_marquardt import cholesky, solve
from irst_stream.fit.compiled.likelihood import INFINITE, PARAMETERS, UNKNOWN, pixel_profiles, psf_terms, sum_light
from irst_stream.fit.compiled.sums import total
from irst_stream.system.numba_cache import compiled

__all__ = ["covariance_factors", "evidence", "fill_covariances", "light_rules_out", "reduced_chi_square"]

LOG_2PI = math.log(2.0 * math.pi)
RULED_OUT_EVIDENCE = 30.0  # log evidence: a number of targets this much less likely is not tried
MIN_LIGHT = 0.1  # of the noise: pixels with less modelled light do not test the fit
CURVATURE_NORM = math.sqrt(3.0 / (16.0 * math.pi))  # L2 norm of a unit Gaussian's second derivative by x, sd 1 px
COINCIDENCE_REACH = 25.0  # parting variances: squared distance at which two targets no longer count as coincident
QUARTIC_VARIANCE = 1.48  # variance of a Gaussian of the same area as exp(-d^4 / 2), for each target of a pair


@compiled
def evidence(p, misfit, matrix, region, model, seated, precision):  # type: ignore[no-untyped-def]
    """Log evidence of a fit in Laplace's approximation; -INFINITE where the fit is not a minimum.

    p (K, 5); matrix (5K, 5K). The group's centre has a uniform prior over the images. seated: number of targets that take
    seats of a formation, 0 where the arrangement is free; precision: 1/sd^2 about a seat.

    The matrix alone leaves the positions of two coincident targets unbounded, because only their common light is measured.
    Yet the light changes with the square of their separation, so _parting_variance bounds them: without it, many faint
    targets in one place would always be likelier than one bright target.
    """
    targets, priors = len(p), model.priors
    frames, height, width = region.images.shape
    factor, bounded = np.zeros(matrix.shape), matrix.copy()
    amplitude = max(total(p[:, 4]) / targets, priors.amplitude_dn)
    parting = _parting_variance(frames, model.sigma, region.noise, amplitude)
    for k in range(targets):
        close = 0.0
        for j in range(targets):
            if j != k:
                apart = (p[j, 0] - p[k, 0]) ** 2 + (p[j, 1] - p[k, 1]) ** 2
                close = max(close, math.exp(-apart / (COINCIDENCE_REACH * parting)))
        for axis in range(2):
            bounded[PARAMETERS * k + axis, PARAMETERS * k + axis] += close / parting
    if not cholesky(bounded, 0.0, factor):
        return -INFINITE
    log = (
        -0.5 * misfit
        - math.log(height * width)
        - math.log(targets)
        + 0.5 * targets * (math.log(priors.amplitude) - LOG_2PI)
    )
    log += (targets - 1) * math.log(priors.own) + math.log(priors.common / targets) - targets * LOG_2PI
    log += 0.5 * PARAMETERS * targets * LOG_2PI + (0.0 if seated else (targets - 1) * priors.extra_target)
    log += (targets - 1) * (math.log(precision) - LOG_2PI) if seated else math.lgamma(targets + 1.0)
    for i in range(len(matrix)):
        log -= math.log(factor[i, i])
    return log


@compiled
def _parting_variance(frames, sigma, noise, amplitude):  # type: ignore[no-untyped-def]
    """Position variance, px^2, of each of two coincident targets: how far they may part before the light shows it.

    A pair of this amplitude a each, DN, d px apart, differs from one target at its centre by a d^2 / 4 times the second
    derivative of the PSF, whose norm is CURVATURE_NORM over the cube of its width.
    """
    width = sigma * sigma + 1.0 / 12.0
    curvature = CURVATURE_NORM / (width * math.sqrt(width))
    return QUARTIC_VARIANCE * noise / (amplitude * curvature * math.sqrt(frames))


@compiled
def light_rules_out(p, matrix, priors, targets):  # type: ignore[no-untyped-def]
    """Whether the amplitude prior rules out that `targets` targets give the total light of the fit p (K, 5)."""
    mean, precision = priors.amplitude_dn, priors.amplitude
    n = len(matrix)
    factor, ones, spread = np.zeros((n, n)), np.zeros(n), np.empty(n)
    if not cholesky(matrix, 0.0, factor):
        return False
    for k in range(len(p)):
        ones[PARAMETERS * k + 4] = 1.0
    solve(factor, ones, spread)
    light, variance = total(p[:, 4]), targets / precision
    for k in range(len(p)):
        variance += spread[PARAMETERS * k + 4]
    return (light - targets * mean) ** 2 / variance > 2 * RULED_OUT_EVIDENCE


@compiled
def fill_covariances(matrix, sides, cov, amplitude_sd):  # type: ignore[no-untyped-def]
    """Fill cov (K, K, 2, 2) px^2, the covariances of each two targets' positions, and amplitude_sd (K,) DN.

    matrix (5K, 5K): of the fit; the call adds the prior that a target is in its patch, of these sides, x and y px. All is
    NaN where the matrix is not positive definite, and a target's own covariance where it is not.
    """
    n = len(matrix)
    factor, unit, column = np.zeros((n, n)), np.zeros(n), np.empty(n)
    for k in range(len(amplitude_sd)):
        for axis in range(2):
            matrix[PARAMETERS * k + axis, PARAMETERS * k + axis] += 12.0 / sides[axis] ** 2
    cov[:], amplitude_sd[:] = np.nan, np.nan
    if not cholesky(matrix, 0.0, factor):
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
        if not cov[k, k, 0, 0] * cov[k, k, 1, 1] > both**2 or not max(cov[k, k, 0, 0], cov[k, k, 1, 1]) < INFINITE:
            cov[k, k] = np.nan


@compiled
def reduced_chi_square(p, region, model):  # type: ignore[no-untyped-def]
    """Reduced chi-square of the fit p (K, 5) over the uncensored pixels that its targets light: single and stacked frames.

    The first averages each frame's squared residuals in units of their variance, the second those of the frames' sum. About
    1 where the light is that of point targets, larger the less it is; 0 where there are no such pixels. Residuals that
    change sign between frames, as under platform jitter, raise only the first.
    """
    parts, (frames, height, width) = len(p) * psf_terms(model.shape), region.images.shape
    noise, shot = region.noise, region.shot
    row, row_slope = np.empty((parts, height)), np.empty((parts, height))
    column, column_slope = np.empty((parts, width)), np.empty((parts, width))
    lights, summed, variance = np.empty((height, width)), np.zeros((height, width)), np.zeros((height, width))
    single, stacked, frame_pixels, pixels = 0.0, 0.0, 0, 0
    for t in range(frames):
        pixel_profiles(p, region.times[t], region.shifts[t], model, row, row_slope, column, column_slope)
        sum_light(p[:, 4], row, column, lights)
        for r in range(height):
            for c in range(width):
                value, light = region.images[t, r, c], lights[r, c]
                if light > MIN_LIGHT * noise and max(region.limits[0], UNKNOWN) < value < region.limits[1]:
                    away, spread = value - light, noise**2 + shot * light
                    single += away * away / spread
                    summed[r, c] += away
                    variance[r, c] += spread
                    frame_pixels += 1
    for r in range(height):
        for c in range(width):
            if variance[r, c] > 0.0:
                stacked += summed[r, c] ** 2 / variance[r, c]
                pixels += 1
    return single / max(frame_pixels, 1), stacked / max(pixels, 1)


@compiled
def covariance_factors(number, cov):  # type: ignore[no-untyped-def]
    """Factor the joint position covariances of N regions: (N, most, 2, 2 most) px.

    Each region's targets share 2 most independent errors of variance 1; two targets covary by factor[i] @ factor[j].T.
    cov (N, most, most, 2, 2) px^2, of which the first number (N,) targets of each region count. 0 where cov is NaN.
    """
    regions, most = cov.shape[:2]
    out = np.zeros((regions, most, 2, 2 * most))
    joint, factor = np.zeros((2 * most, 2 * most)), np.zeros((2 * most, 2 * most))
    known = np.empty(most, np.int64)
    for r in range(regions):
        n = 0
        for k in range(number[r]):
            if not math.isnan(cov[r, k, k, 0, 0]):
                known[n // 2] = k
                n += 2
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
