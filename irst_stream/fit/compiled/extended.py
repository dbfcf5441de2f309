"""The hypothesis that a region's light is one extended target: larger than the PSF, with a size of its own. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.evidence import evidence
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.compiled.records import ImagingModel, PsfShape
from irst_stream.system.numba_cache import compiled

__all__ = ["extended_model", "fit_extended"]

STEPS = 30
FIRST_EXTENT, GROWTH, MAX_STEPS = 0.5, 1.5, 6  # of the PSF's width, and factors of it that are tried
MAX_EXTENT_PX = 4.0


@compiled
def extended_model(sigma, shape, priors, extent_x, extent_y):  # type: ignore[no-untyped-def]
    """The imaging model of targets of these extents, standard deviations in px: the PSF itself where both are 0.

    sigma and shape: of the PSF. An extended target is a Gaussian along the frame's axes, blurred by the PSF's widths.
    """
    if extent_x == 0.0 and extent_y == 0.0:
        return ImagingModel(sigma, shape, priors)
    x, y = math.hypot(sigma * shape.stretch_x, extent_x), math.hypot(sigma * shape.stretch_y, extent_y)
    width = math.sqrt(x * y)
    none = np.empty((0, 1, 4))
    return ImagingModel(width, PsfShape(x / width, y / width, none, none, 0.0, 1.0, 1.0), priors)


@compiled
def fit_extended(region, model, start):  # type: ignore[no-untyped-def]
    """Fit one extended target from start (1, 5). Returns p (1, 5), its log evidence, matrix and extents, px.

    The extents grow along either axis, by GROWTH a step, as long as the evidence does.
    """
    first = FIRST_EXTENT * model.sigma
    x, y = first * model.shape.stretch_x, first * model.shape.stretch_y
    p, log, matrix = _fit_with(start, region, model, x, y)
    for _ in range(MAX_STEPS):
        best_x, best_y = x, y
        for wide, tall in ((GROWTH * x, GROWTH * y), (GROWTH * x, y), (x, GROWTH * y)):
            if max(wide, tall) > MAX_EXTENT_PX:
                continue
            tried, tried_log, tried_matrix = _fit_with(p, region, model, wide, tall)
            if tried_log > log:
                p, log, matrix, best_x, best_y = tried, tried_log, tried_matrix, wide, tall
        if best_x == x and best_y == y:
            break
        x, y = best_x, best_y
    return p, log, matrix, x, y


@compiled
def _fit_with(start, region, model, extent_x, extent_y):  # type: ignore[no-untyped-def]
    """Fit one target of these extents from start (1, 5); return p (1, 5), its log evidence and its matrix."""
    wide = extended_model(model.sigma, model.shape, model.priors, extent_x, extent_y)
    p, misfit, matrix, _ = fit(start, region, wide, np.empty((0, 3)), STEPS)
    return p, evidence(p, misfit, matrix, region, wide, 0, 0.0), matrix
