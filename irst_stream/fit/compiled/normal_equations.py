"""Normal equations of a fit to a window: the misfit, its gradient and its Gauss-Newton matrix. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.frame_equations import MIN_EXCESS, add_frame
from irst_stream.fit.compiled.image_equations import add_image_equations
from irst_stream.fit.compiled.likelihood import INFINITE, is_uncensored, pixel_profiles, residuals, sum_light
from irst_stream.fit.compiled.sums import total
from irst_stream.system.numba_cache import compiled

__all__ = ["normal_equations"]

LOG_2PI = math.log(2.0 * math.pi)
SPACING_SD_PX = 0.03  # standard deviation by which targets may fall short of the smallest distance
SPREAD_STEPS = 6  # grid over the spread of a group, by which the prior is integrated


@compiled
def normal_equations(p, region, model, seats, matrix, vector):  # type: ignore[no-untyped-def]
    """Fill the matrix (5K, 5K) and gradient (5K,) of half the misfit at p (K, 5); return the misfit.

    seats (K, 3): x and y of each target's seat about the group's centre, px, and its precision, 1/sd^2; (0, 3) where the
    arrangement is free.
    """
    images, noise, limits, shot = region.images, region.noise, region.limits, region.shot
    frames, height, width = images.shape
    targets = len(p)
    if len(model.shape.columns):
        matrix[:], vector[:] = 0.0, 0.0
        misfit = _add_priors(p, model.priors, seats, matrix, vector)
        return misfit + add_image_equations(p, region, model, matrix, vector)
    row, row_slope = np.empty((frames, targets, height)), np.empty((frames, targets, height))
    column, column_slope = np.empty((frames, targets, width)), np.empty((frames, targets, width))
    lights, residual, excess = np.empty(images.shape), np.empty(images.shape), np.empty(images.shape)
    frame_matrix, frame_vector = np.empty((3 * targets, 3 * targets)), np.empty(3 * targets)
    within = np.empty(frames, np.bool_)
    for t in range(frames):
        pixel_profiles(p, region.times[t], region.shifts[t], model, row[t], row_slope[t], column[t], column_slope[t])
        sum_light(p[:, 4], row[t], column[t], lights[t])
        within[t] = is_uncensored(images[t], limits)
    matrix[:] = 0.0
    vector[:] = 0.0
    misfit = _add_priors(p, model.priors, seats, matrix, vector)
    misfit += residuals(images, lights, within, limits, noise, shot, residual, excess)
    for t in range(frames):
        uniform, profiles = within[t] and shot == 0.0, (row[t], row_slope[t], column[t], column_slope[t])
        _frame_equations(p, uniform, noise, *profiles, residual[t], excess[t], frame_matrix, frame_vector)
        add_frame(region.times[t], frame_matrix, frame_vector, matrix, vector)
    return misfit


@compiled
def _frame_equations(p, uniform, noise, row, row_slope, column, column_slope, residual, excess, matrix, vector):  # type: ignore[no-untyped-def]
    """Fill one frame's Gauss-Newton matrix (3K, 3K) and gradient (3K,) by x, y, a of each target.

    uniform: whether all pixels have curvature 1 / noise^2, so that excess is not filled.
    """
    for i in range(len(p)):
        by_x, by_y, by_a = _profile_gradient(residual, row[i], row_slope[i], column[i], column_slope[i])
        a = p[i, 4] / noise
        vector[3 * i], vector[3 * i + 1], vector[3 * i + 2] = a * by_x, a * by_y, by_a / noise
        for j in range(i + 1):
            b = p[j, 4] / noise
            m = matrix[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
            rr, rs, sr, ss = _profile_products(row[i], row_slope[i], row[j], row_slope[j])
            cc, cs, sc, tt = _profile_products(column[i], column_slope[i], column[j], column_slope[j])
            m[0, 0], m[0, 1], m[0, 2] = rr * tt, rs * sc, rr * sc
            m[1, 0], m[1, 1], m[1, 2] = sr * cs, ss * cc, sr * cc
            m[2, 0], m[2, 1], m[2, 2] = rr * cs, rs * cc, rr * cc
            for u in range(3):
                for v in range(3):
                    m[u, v] *= (a if u < 2 else 1.0 / noise) * (b if v < 2 else 1.0 / noise)
    if not uniform:
        _subtract_uninformative_pixels(p, noise, row, row_slope, column, column_slope, excess, matrix)
    for i in range(len(vector)):
        for j in range(i):
            matrix[j, i] = matrix[i, j]


@compiled
def _profile_gradient(residual, row, row_slope, column, column_slope):  # type: ignore[no-untyped-def]
    """Return the sums of residuals (H, W) times the derivatives of a product of profiles by x and y, and times itself."""
    height, width = residual.shape
    by_x = by_y = by_a = 0.0
    for r in range(height):
        if row[r] == 0.0 and row_slope[r] == 0.0:
            continue
        along = along_slope = 0.0
        for c in range(width):
            along += residual[r, c] * column[c]
            along_slope += residual[r, c] * column_slope[c]
        by_x += row[r] * along_slope
        by_y += row_slope[r] * along
        by_a += row[r] * along
    return by_x, by_y, by_a


@compiled
def _profile_products(a, a_slope, b, b_slope):  # type: ignore[no-untyped-def]
    """Return the dot products a b, a b_slope, a_slope b and a_slope b_slope."""
    ab = asl = sab = ss = 0.0
    for i in range(len(a)):
        ab += a[i] * b[i]
        asl += a[i] * b_slope[i]
        sab += a_slope[i] * b[i]
        ss += a_slope[i] * b_slope[i]
    return ab, asl, sab, ss


@compiled
def _subtract_uninformative_pixels(p, noise, row, row_slope, column, column_slope, excess, matrix):  # type: ignore[no-untyped-def]
    """Subtract from the matrix's lower half the curvature that censored, unknown or shot-noisy pixels lack."""
    n, pixels = 3 * len(p), 0
    slopes, weighted = np.empty((n, excess.size)), np.empty((n, excess.size))  # a column a pixel
    for r in range(excess.shape[0]):
        for c in range(excess.shape[1]):
            weight = excess[r, c]
            if abs(weight) < MIN_EXCESS:
                continue
            for i in range(len(p)):
                a = p[i, 4] / noise
                slopes[3 * i, pixels] = a * (row[i, r] * column_slope[i, c])
                slopes[3 * i + 1, pixels] = a * (row_slope[i, r] * column[i, c])
                slopes[3 * i + 2, pixels] = row[i, r] * column[i, c] / noise
            for i in range(n):
                weighted[i, pixels] = weight * slopes[i, pixels]
            pixels += 1
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for k in range(pixels):
                total += weighted[i, k] * slopes[j, k]
            matrix[i, j] -= total


@compiled
def _add_priors(p, priors, seats, matrix, vector):  # type: ignore[no-untyped-def]
    """Add the priors of amplitudes, common velocity, own velocities and positions; return their share of the misfit."""
    targets = len(p)
    misfit = 0.0
    for k in range(targets):
        away = p[k, 4] - priors.amplitude_dn
        misfit += priors.amplitude * away * away
        vector[5 * k + 4] += priors.amplitude * away
        matrix[5 * k + 4, 5 * k + 4] += priors.amplitude
    for axis in (2, 3):
        middle = total(p[:, axis]) / max(targets, 1)
        misfit += priors.common * middle * middle
        for k in range(targets):
            away = p[k, axis] - middle
            misfit += priors.own * away * away
            vector[5 * k + axis] += priors.own * away + priors.common * middle / targets
            for j in range(targets):
                same = 1.0 if j == k else 0.0
                share = priors.own * (same - 1.0 / targets) + priors.common / (targets * targets)
                matrix[5 * k + axis, 5 * j + axis] += share
    return misfit + _add_position_prior(p, priors, seats, matrix, vector)


@compiled
def _add_position_prior(p, priors, seats, matrix, vector):  # type: ignore[no-untyped-def]
    """Add the prior of the positions about the group's centre, by seats or by spread; return its share of the misfit."""
    targets = len(p)
    if targets < 2:
        return 0.0
    middle_x, middle_y, square = 0.0, 0.0, 0.0
    away = p[:, :2].copy()
    if len(seats):
        away -= seats[:, :2]
    for k in range(targets):
        middle_x += away[k, 0] / targets
        middle_y += away[k, 1] / targets
    for k in range(targets):
        away[k, 0] -= middle_x
        away[k, 1] -= middle_y
        square += away[k, 0] ** 2 + away[k, 1] ** 2
    if len(seats):
        precision, misfit = seats[0, 2], seats[0, 2] * square
    else:
        precision, misfit = _spread_prior(square, targets, priors.min_spread, priors.max_spread)
    for axis in (0, 1):
        for k in range(targets):
            vector[5 * k + axis] += precision * away[k, axis]
            for j in range(targets):
                same = 1.0 if j == k else 0.0
                matrix[5 * k + axis, 5 * j + axis] += precision * (same - 1.0 / targets)
    if priors.min_spacing > 0.0 and not len(seats):
        misfit += _add_spacing_penalty(p, priors.min_spacing, matrix, vector)
    return misfit


@compiled
def _add_spacing_penalty(p, least, matrix, vector):  # type: ignore[no-untyped-def]
    """Add a penalty for targets closer than the smallest distance, px; return its share of the misfit."""
    misfit = 0.0
    for k in range(len(p)):
        for j in range(k):
            x, y = p[k, 0] - p[j, 0], p[k, 1] - p[j, 1]
            apart = math.sqrt(x * x + y * y)
            if apart >= least:
                continue
            near = (least - apart) / SPACING_SD_PX
            misfit += near * near
            scale = max(apart, 1e-6) * SPACING_SD_PX
            slope = (x / scale, y / scale)  # minus the derivative of near by k's position
            for u in range(2):
                vector[5 * k + u] -= near * slope[u]
                vector[5 * j + u] += near * slope[u]
                for v in range(2):
                    share = slope[u] * slope[v]
                    matrix[5 * k + u, 5 * k + v] += share
                    matrix[5 * j + u, 5 * j + v] += share
                    matrix[5 * k + u, 5 * j + v] -= share
                    matrix[5 * j + u, 5 * k + v] -= share
    return misfit


@compiled
def _spread_prior(square, targets, least, greatest):  # type: ignore[no-untyped-def]
    """Return the precision, 1/px^2, that holds targets to their centre, and -2 log density of their positions.

    The prior is a Gaussian whose standard deviation has a log-uniform prior between least and greatest, px. square: the sum
    of squared distances from the centre, px^2. A least of 0 means no prior, and gives 0 and 0.
    """
    if not least > 0.0:
        return 0.0, 0.0
    step, lowest = math.log(greatest / least) / (SPREAD_STEPS - 1), INFINITE
    misfits = np.empty(SPREAD_STEPS)
    for i in range(SPREAD_STEPS):
        log = math.log(least) + i * step
        misfits[i] = square * math.exp(-2.0 * log) + 2.0 * (targets - 1) * (LOG_2PI + 2.0 * log)
        lowest = min(lowest, misfits[i])
    total = precision = 0.0
    for i in range(SPREAD_STEPS):
        weight = math.exp(0.5 * (lowest - misfits[i]))
        total += weight
        precision += weight * math.exp(-2.0 * (math.log(least) + i * step))
    return precision / total, lowest - 2.0 * math.log(total / SPREAD_STEPS)
