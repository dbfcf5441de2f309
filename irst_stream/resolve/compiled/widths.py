"""What the light tells of the optics' width. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.compiling import compiled
from irst_stream.resolve.compiled.equations import normal_equations
from irst_stream.resolve.compiled.fitting import cholesky, solve
from irst_stream.resolve.compiled.light import NO_PRIORS

__all__ = ["width_tells"]

STEP = 0.03  # of the logarithm of the width, to either side: far above rounding, far below what bends the misfit


@compiled
def width_tells(p, matrix, images, course, sigma, noise, shot, limits, off, doubt):  # type: ignore[no-untyped-def]
    """Of targets p (K, 5) and their matrix (5K, 5K): how far the logarithm of the width should move, its precision with
    all else left free, and the matrix with the width left free.

    off: how far it has moved already; doubt: its standard deviation beforehand. A precision of 0 where nothing can be told.
    """
    n, free = p.size, np.empty((0, 3))
    around, before, after = np.empty((n, n)), np.empty(n), np.empty(n)
    misfit = normal_equations(p, images, course, sigma, noise, shot, limits, NO_PRIORS, free, around, after)
    narrower, wider = sigma * math.exp(-STEP), sigma * math.exp(STEP)
    less = normal_equations(p, images, course, narrower, noise, shot, limits, NO_PRIORS, free, around, before)
    more = normal_equations(p, images, course, wider, noise, shot, limits, NO_PRIORS, free, around, after)
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
