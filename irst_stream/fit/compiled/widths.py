"""What the light tells of the optics' width. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.levenberg_marquardt import cholesky, solve
from irst_stream.fit.compiled.likelihood import NO_PRIORS, Model
from irst_stream.fit.compiled.normal_equations import normal_equations
from irst_stream.system.numba_cache import compiled

__all__ = ["width_tells"]

STEP = 0.03  # of the logarithm of the width, to either side: far above rounding, far below what bends the misfit


@compiled
def width_tells(p, matrix, seen, model, off, doubt):  # type: ignore[no-untyped-def]
    """Of targets p (K, 5) and their matrix (5K, 5K): how far the logarithm of the width should move, its precision with
    all else left free, and the matrix with the width left free.

    off: how far it has moved already; doubt: its standard deviation beforehand. A precision of 0 where nothing can be told.
    """
    n, free = p.size, np.empty((0, 3))
    spare, before, after = np.empty((n, n)), np.empty(n), np.empty(n)
    narrower, wider = model.sigma * math.exp(-STEP), model.sigma * math.exp(STEP)
    misfit = normal_equations(p, seen, Model(model.sigma, model.shot, NO_PRIORS), free, spare, after)
    less = normal_equations(p, seen, Model(narrower, model.shot, NO_PRIORS), free, spare, before)
    more = normal_equations(p, seen, Model(wider, model.shot, NO_PRIORS), free, spare, after)
    slope = (more - less) / (4.0 * STEP) + off / doubt**2
    alone = (more - 2.0 * misfit + less) / (2.0 * STEP * STEP) + 1.0 / doubt**2
    together = (after - before) / (2.0 * STEP)  # of the width and each of the targets' numbers
    factor, answer = np.zeros((n, n)), np.empty(n)
    if not cholesky(matrix, 0.0, factor) or not alone > 0.0:
        return 0.0, 0.0, matrix
    solve(factor, together, answer)
    precision = alone - (together * answer).sum()
    if not precision > 0.0:
        return 0.0, 0.0, matrix
    return -slope / precision, precision, matrix - np.outer(together, together) / alone
