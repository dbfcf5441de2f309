"""Normal equations under a PSF of several terms, from the image of each target and its derivatives. Compiled.

A PSF of R terms would need R^2 pairs of profiles for each entry of the matrix; an image of some hundred pixels, summed over
its terms once, needs one dot product, over all pixels in a row.
"""

from __future__ import annotations

import numpy as np

from irst_stream.fit.compiled.frame_equations import MIN_EXCESS, add_frame
from irst_stream.fit.compiled.likelihood import is_uncensored, pixel_profiles, residuals
from irst_stream.system.numba_cache import compiled

__all__ = ["add_image_equations"]


@compiled
def add_image_equations(p, region, model, matrix, vector):  # type: ignore[no-untyped-def]
    """Add the frames' Gauss-Newton matrix (5K, 5K) and gradient (5K,) at p (K, 5); return the images' misfit."""
    frames, height, width = region.images.shape
    targets, pixels, terms = len(p), height * width, len(model.shape.columns)
    row, row_slope = np.empty((targets * terms, height)), np.empty((targets * terms, height))
    column, column_slope = np.empty((targets * terms, width)), np.empty((targets * terms, width))
    slopes, weighted = np.empty((3 * targets, height, width)), np.empty((3 * targets, pixels))
    light, residual, excess = np.empty((1, height, width)), np.empty((1, height, width)), np.empty((1, height, width))
    frame_matrix, frame_vector = np.empty((3 * targets, 3 * targets)), np.empty(3 * targets)
    within, misfit = np.empty(1, np.bool_), 0.0
    for t in range(frames):
        pixel_profiles(p, region.times[t], region.shifts[t], model, row, row_slope, column, column_slope)
        _fill_slopes(p, row, row_slope, column, column_slope, slopes, light[0])
        image = region.images[t : t + 1]
        within[0] = is_uncensored(image[0], region.limits)
        misfit += residuals(image, light, within, region.limits, region.noise, region.shot, residual, excess)
        flat = slopes.reshape((3 * targets, pixels))
        if not within[0] or region.shot != 0.0:
            _weight(flat, excess.reshape(pixels), weighted)
            _fill_frame(flat, weighted, residual.reshape(pixels), region.noise, frame_matrix, frame_vector)
        else:
            _fill_frame(flat, flat, residual.reshape(pixels), region.noise, frame_matrix, frame_vector)
        add_frame(region.times[t], frame_matrix, frame_vector, matrix, vector)
    return misfit


@compiled
def _fill_slopes(p, row, row_slope, column, column_slope, slopes, light):  # type: ignore[no-untyped-def]
    """Fill light (H, W), and slopes (3 K, H, W): its derivatives by x, y and a of each target p (K, 5).

    row and row_slope (K R, H), column and column_slope (K R, W): the targets' profiles; R is a multiple of four.
    """
    height, width = light.shape
    terms, pixels = len(row) // max(len(p), 1), height * width
    for k in range(len(p)):
        for first in range(k * terms, (k + 1) * terms, 4):
            more = first > k * terms
            _add_four_terms(row, column_slope, first, more, slopes[3 * k])
            _add_four_terms(row_slope, column, first, more, slopes[3 * k + 1])
            _add_four_terms(row, column, first, more, slopes[3 * k + 2])
    flat, total = slopes.reshape((len(slopes), pixels)), light.reshape(pixels)
    total[:] = 0.0
    for k in range(len(p)):
        a = p[k, 4]
        for i in range(pixels):
            flat[3 * k, i] *= a
        for i in range(pixels):
            flat[3 * k + 1, i] *= a
        for i in range(pixels):
            total[i] += a * flat[3 * k + 2, i]


@compiled
def _add_four_terms(row, column, first, more, image):  # type: ignore[no-untyped-def]
    """Fill image (H, W) with the products of four rows' and columns' profiles from `first` on; add them where `more`."""
    c0, c1, c2, c3 = column[first], column[first + 1], column[first + 2], column[first + 3]
    for r in range(len(image)):
        r0, r1, r2, r3 = row[first, r], row[first + 1, r], row[first + 2, r], row[first + 3, r]
        line = image[r]
        if more:
            for c in range(len(line)):
                line[c] += r0 * c0[c] + r1 * c1[c] + r2 * c2[c] + r3 * c3[c]
        else:
            for c in range(len(line)):
                line[c] = r0 * c0[c] + r1 * c1[c] + r2 * c2[c] + r3 * c3[c]


@compiled
def _weight(slopes, excess, weighted):  # type: ignore[no-untyped-def]
    """Fill weighted (M, N): slopes (M, N) times each pixel's curvature, 1 - excess (N,)."""
    for c in range(len(excess)):
        excess[c] = 1.0 - (excess[c] if abs(excess[c]) >= MIN_EXCESS else 0.0)
    for i in range(len(slopes)):
        for c in range(len(excess)):
            weighted[i, c] = excess[c] * slopes[i, c]


@compiled
def _fill_frame(slopes, weighted, residual, noise, matrix, vector):  # type: ignore[no-untyped-def]
    """Fill one frame's matrix (M, M) and gradient (M,) from slopes and weighted slopes (M, N) and residuals (N,)."""
    per_noise = 1.0 / noise
    for i in range(len(slopes)):
        total = 0.0
        for c in range(len(residual)):
            total += slopes[i, c] * residual[c]
        vector[i] = per_noise * total
        for j in range(i + 1):
            total = 0.0
            for c in range(len(residual)):
                total += weighted[i, c] * slopes[j, c]
            matrix[i, j] = matrix[j, i] = per_noise * per_noise * total
