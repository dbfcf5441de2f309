"""Estimate of the PSF's width from the light. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.levenberg_marquardt import cholesky, solve
from irst_stream.fit.compiled.normal_equations import normal_equations
from irst_stream.fit.compiled.records import NO_PRIORS, ImagingModel
from irst_stream.system.numba_cache import compiled

__all__ = ["width_step"]

STEP = 0.03  # finite difference in the logarithm of the width: far above rounding, far below the misfit's curvature scale


@compiled
def width_step(p, matrix, region, model, offset, sigma_doubt):  # type: ignore[no-untyped-def]
    """Newton step in the logarithm of the PSF's width at the fit p (K, 5) with matrix (5K, 5K).

    offset: of the logarithm from its prior mean; sigma_doubt: its prior standard deviation. Returns the step, the precision
    of the logarithm marginalised over the targets, and the matrix marginalised over the width. The precision is 0, and the
    matrix as given, where the light does not determine the width.
    """
    n, free = p.size, np.empty((0, 3))
    spare, narrow_vector, wide_vector = np.empty((n, n)), np.empty(n), np.empty(n)
    narrower, wider = model.sigma * math.exp(-STEP), model.sigma * math.exp(STEP)
    misfit = normal_equations(p, region, ImagingModel(model.sigma, model.shape, NO_PRIORS), free, spare, wide_vector)
    narrow_misfit = normal_equations(p, region, ImagingModel(narrower, model.shape, NO_PRIORS), free, spare, narrow_vector)
    wide_misfit = normal_equations(p, region, ImagingModel(wider, model.shape, NO_PRIORS), free, spare, wide_vector)
    slope = (wide_misfit - narrow_misfit) / (4.0 * STEP) + offset / sigma_doubt**2
    curvature = (wide_misfit - 2.0 * misfit + narrow_misfit) / (2.0 * STEP * STEP) + 1.0 / sigma_doubt**2
    factor, solution, mixed = np.zeros((n, n)), np.empty(n), np.empty(n)
    for i in range(n):
        mixed[i] = (wide_vector[i] - narrow_vector[i]) / (2.0 * STEP)  # derivatives by the width and each parameter
    if not cholesky(matrix, 0.0, factor) or not curvature > 0.0:
        return 0.0, 0.0, matrix
    solve(factor, mixed, solution)
    precision = curvature
    for i in range(n):
        precision -= mixed[i] * solution[i]
    if not precision > 0.0:
        return 0.0, 0.0, matrix
    for i in range(n):
        for j in range(n):
            spare[i, j] = matrix[i, j] - mixed[i] * mixed[j] / curvature
    return -slope / precision, precision, spare
