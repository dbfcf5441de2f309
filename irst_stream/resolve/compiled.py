"""The fit of the imaging model to a window's images, and the search for how many targets there are. Compiled.

K targets move in straight lines over T frames; each has x, y (px, at time 0), vx, vy (px a unit of time) and an
amplitude a (DN). What is minimised is the misfit: chi^2 plus the priors' share, in units of the noise.

A pixel's variance is noise^2, and where there is shot noise it grows with the light that the model gives the pixel, whose
share of the misfit is then away^2 / variance + log(variance / noise^2), as by its likelihood.

A pixel at a limit, 0 or full scale, is censored: it says only that the light was at most, or at least, that. Its share of
the misfit is -2 log of the probability of that, as in a Tobit regression, so a dark sky clipped at 0 biases nothing. A
pixel below UNKNOWN says nothing.

The model is separable, so the normal equations need dot products along rows and columns only; pixels at a limit are put
right one by one. How many targets there are is decided by evidence, by Laplace: the best fit's misfit, what its sharpness
leaves of the priors' room, and the K! ways to number the targets.

All of it stands in one file: see compiling.
"""

from __future__ import annotations

import math

import numpy as np

from irst_stream.compiling import compiled

__all__ = ["NOTHING", "PARAMETERS", "UNKNOWN", "fit", "normal_equations", "search_each"]

PARAMETERS = 5  # x, y, vx, vy, a
LARGEST_STEP = 0.3  # px a step
CONVERGED = 0.1  # of chi^2, in one step: what is left then is far below what one standard deviation is worth
DAMPING, EASE, TIGHTEN, HOPELESS = 1e-2, 0.1, 8.0, 1e6
SQRT2 = math.sqrt(2.0)
SQRT_PI_2 = math.sqrt(2.0 / math.pi)
LOG_2PI = math.log(2.0 * math.pi)
FAR_OUT = 4.3  # standard deviations, times the root of 2
LEAST_SPREAD = 0.15  # px: targets start at least this far apart
SPLIT = 0.25  # px: how far from a target the two start that it is split into
STEPS, FIRST_STEPS = 40, 6
OUT_OF_REACH = 10.0  # of log evidence: what no fit makes good after its first steps
RULED_OUT = 30.0  # of log evidence: a number of targets this much less likely is not tried
NEAR = 20.0  # of misfit: starts this close to the best one after their first steps are finished too
SAME = 0.03  # px: two solutions whose targets are all this close are one
AGREES = 0.1  # px: a solution that has a target this close has it too
FAINT = 1e-2  # of a pixel's weight: less is not put right
ROOM = 0.2  # px: of two targets on top of each other, each may be so far (1 sd) from where it is said to be, and no farther
UNKNOWN = -1e29  # DN: a pixel below this holds no measurement
WORTH = 2.5  # of log evidence: what a target that is not there would gain on its own by fitting the noise of a window
KEEP = 0.95  # of the odds of numbers of targets, from frame to frame: groups come apart and draw together
FIRM = 10.0  # of log evidence: the odds are no longer than this, so that the number may change
NOTHING = -1e30  # a limit that no pixel reaches, and the log evidence of what cannot be


@compiled
def _edge(u):  # type: ignore[no-untyped-def]
    """erf(u) and exp(-u^2); so far out that both are at their ends to 1e-8, these."""
    if u > FAR_OUT:
        return 1.0, 0.0
    if u < -FAR_OUT:
        return -1.0, 0.0
    return math.erf(u), math.exp(-u * u)


@compiled
def _line(centre, sigma, value, slope):  # type: ignore[no-untyped-def]
    """The share of a unit 1-D Gaussian that each pixel integrates, and its derivative by the centre."""
    scale = 1.0 / (SQRT2 * sigma)
    height = 1.0 / (math.sqrt(2.0 * math.pi) * sigma)
    left, left_density = _edge((-0.5 - centre) * scale)
    for i in range(len(value)):
        right, density = _edge((i + 0.5 - centre) * scale)
        value[i] = 0.5 * (right - left)
        slope[i] = height * (left_density - density)
        left, left_density = right, density


@compiled
def _censored(z):  # type: ignore[no-untyped-def]
    """-2 log P(n < -z) of a standard normal n, less its value at z = 0, and the slope of half of it by z."""
    if z > 8.0:  # the tail's expansion
        return z * z + math.log(2 * math.pi) + 2 * math.log(z) - 2 * math.log(2.0), z + 1 / z
    beyond = 0.5 * math.erfc(z / SQRT2)
    return -2 * math.log(2 * beyond), 0.5 * SQRT_PI_2 * math.exp(-0.5 * z * z) / beyond


@compiled
def _within(image, limits):  # type: ignore[no-untyped-def]
    """Whether all pixels are known and within the limits."""
    lowest = highest = image[0, 0]
    for r in range(image.shape[0]):
        for c in range(image.shape[1]):
            lowest, highest = min(lowest, image[r, c]), max(highest, image[r, c])
    return lowest > max(limits[0], UNKNOWN) and highest < limits[1]


@compiled
def _residuals(image, within, amplitudes, limits, noise, shot, row, column, residual, excess):  # type: ignore[no-untyped-def]
    """Fills residual (H, W), half the misfit's slope by each pixel's light, in units of 1 / noise, and excess (H, W), what
    a curvature of 1 / noise^2 overrates; gives the misfit.

    within: whether all pixels are known and within the limits; if so, and without shot noise, excess is 0 and not filled.
    """
    misfit, per_noise = 0.0, 1.0 / noise
    width = image.shape[1]
    lights = np.empty(width)
    for r in range(image.shape[0]):
        lights[:] = 0.0
        for k in range(len(amplitudes)):
            if row[k, r] != 0.0:
                share = amplitudes[k] * row[k, r]
                for c in range(width):
                    lights[c] += share * column[k, c]
        if not within:
            misfit += _at_limits(image[r], lights, limits, noise, shot, residual[r], excess[r])
        elif shot == 0.0:
            for c in range(width):
                away = (lights[c] - image[r, c]) * per_noise
                misfit += away * away
                residual[r, c] = away
        else:
            misfit += _with_shot_noise(image[r], lights, noise, shot, residual[r], excess[r])
    return misfit


@compiled
def _by_light(light, away, slope):  # type: ignore[no-untyped-def]
    """A pixel whose variance grows with its light, all in units of the noise; its misfit is square - log sharpness.

    light; away: what it is more than was seen; slope: of the variance by light. Gives square, sharpness, the misfit's half
    slope by light, and by how much its mean curvature is below 1.
    """
    bend = 0.5 * slope if light > 0.0 else 0.0
    sharpness = 1.0 / (1.0 + slope * max(light, 0.0))
    square = away * away * sharpness
    return square, sharpness, (away - bend * (square - 1.0)) * sharpness, 1.0 - (1.0 + bend * slope * sharpness) * sharpness


@compiled
def _with_shot_noise(seen, lights, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """A row of _residuals, none of it at a limit."""
    misfit, sharper = 0.0, 1.0  # all of the row, multiplied: one logarithm does for them
    per_noise, slope = 1.0 / noise, shot / noise
    for c in range(len(seen)):
        light = lights[c] * per_noise
        away = light - seen[c] * per_noise
        bend = 0.5 * slope if light > 0.0 else 0.0
        sharpness = 1.0 / (1.0 + 2.0 * bend * light)
        square = away * away * sharpness
        misfit += square
        sharper *= sharpness
        residual[c] = (away - bend * (square - 1.0)) * sharpness
        excess[c] = 1.0 - (1.0 + bend * slope * sharpness) * sharpness
    return misfit - math.log(sharper)


@compiled
def _at_limits(seen, lights, limits, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """A row of _residuals of which some pixels are unknown or at a limit."""
    floor, ceiling = limits
    misfit, sharper, slope = 0.0, 1.0, shot / noise
    for c in range(len(seen)):
        value, light, away = seen[c], lights[c] / noise, (lights[c] - seen[c]) / noise
        if value < UNKNOWN:
            residual[c], excess[c] = 0.0, 1.0
        elif floor < value < ceiling:
            square, sharpness, residual[c], excess[c] = _by_light(light, away, slope)
            misfit += square
            sharper *= sharpness
        elif value <= floor and away < 1e-3:
            residual[c] = excess[c] = 0.0
        else:
            side = 1.0 if value <= floor else -1.0
            _, sharpness, _, _ = _by_light(light, away, slope)
            scale = side * math.sqrt(sharpness)
            cost, steep = _censored(scale * away)
            misfit += cost
            turn = scale * (1.0 - (0.5 * slope * away * sharpness if light > 0.0 else 0.0))  # of that by light
            residual[c] = steep * turn
            excess[c] = 1.0 - steep * (steep - scale * away) * turn * turn
    return misfit - math.log(sharper)


@compiled
def _frame_equations(p, even, noise, row, row_slope, column, column_slope, residual, excess, matrix, vector):  # type: ignore[no-untyped-def]
    """One frame's Gauss-Newton matrix (3K, 3K) and gradient (3K,) by x, y, a of each target."""
    height, width = residual.shape
    for i in range(len(p)):
        by_x = by_y = by_a = 0.0
        for r in range(height):
            if row[i, r] == 0.0 and row_slope[i, r] == 0.0:
                continue
            along = along_slope = 0.0
            for c in range(width):
                along += residual[r, c] * column[i, c]
                along_slope += residual[r, c] * column_slope[i, c]
            by_x += row[i, r] * along_slope
            by_y += row_slope[i, r] * along
            by_a += row[i, r] * along
        a = p[i, 4] / noise
        vector[3 * i], vector[3 * i + 1], vector[3 * i + 2] = a * by_x, a * by_y, by_a / noise
        for j in range(i + 1):
            b = p[j, 4] / noise
            rr, rs, sr, ss = _dots(row[i], row_slope[i], row[j], row_slope[j])
            cc, cs, sc, tt = _dots(column[i], column_slope[i], column[j], column_slope[j])
            m = matrix[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
            m[0, 0], m[0, 1], m[0, 2] = a * b * rr * tt, a * b * rs * sc, a / noise * rr * sc
            m[1, 0], m[1, 1], m[1, 2] = a * b * sr * cs, a * b * ss * cc, a / noise * sr * cc
            m[2, 0], m[2, 1], m[2, 2] = b / noise * rr * cs, b / noise * rs * cc, rr * cc / noise**2
    if not even:
        _put_right(p, noise, row, row_slope, column, column_slope, excess, matrix)
    for i in range(len(vector)):
        for j in range(i):
            matrix[j, i] = matrix[i, j]


@compiled
def _dots(a, a_slope, b, b_slope):  # type: ignore[no-untyped-def]
    ab = asl = sab = ss = 0.0
    for i in range(len(a)):
        ab += a[i] * b[i]
        asl += a[i] * b_slope[i]
        sab += a_slope[i] * b[i]
        ss += a_slope[i] * b_slope[i]
    return ab, asl, sab, ss


@compiled
def _put_right(p, noise, row, row_slope, column, column_slope, excess, matrix):  # type: ignore[no-untyped-def]
    """Takes from the matrix's lower half what some pixels do not tell."""
    n, pixels = 3 * len(p), 0
    slopes, weighted = np.empty((n, excess.size)), np.empty((n, excess.size))  # by each of these pixels
    for r in range(excess.shape[0]):
        for c in range(excess.shape[1]):
            weight = excess[r, c]
            if abs(weight) < FAINT:
                continue
            for i in range(len(p)):
                a = p[i, 4] / noise
                slopes[3 * i, pixels] = a * row[i, r] * column_slope[i, c]
                slopes[3 * i + 1, pixels] = a * row_slope[i, r] * column[i, c]
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
def _add_frame(time, frame_matrix, frame_vector, matrix, vector):  # type: ignore[no-untyped-def]
    """Adds one frame's equations by (x, y, a) to those by (x, y, vx, vy, a), where d/dv = time d/dx."""
    targets = len(frame_vector) // 3
    for i in range(targets):
        for u in range(3):
            p = 5 * i + (u if u < 2 else 4)
            vector[p] += frame_vector[3 * i + u]
            if u < 2:
                vector[p + 2] += time * frame_vector[3 * i + u]
            for j in range(targets):
                for v in range(3):
                    q = 5 * j + (v if v < 2 else 4)
                    share = frame_matrix[3 * i + u, 3 * j + v]
                    matrix[p, q] += share
                    if u < 2:
                        matrix[p + 2, q] += time * share
                    if v < 2:
                        matrix[p, q + 2] += time * share
                    if u < 2 and v < 2:
                        matrix[p + 2, q + 2] += time * time * share


@compiled
def _add_priors(p, priors, matrix, vector):  # type: ignore[no-untyped-def]
    """Gaussian priors: amplitude (mean, 1/sd^2), the targets' common velocity (1/sd^2), each one's own (1/sd^2)."""
    mean, amplitude, common, own = priors
    targets = len(p)
    misfit = 0.0
    for k in range(targets):
        away = p[k, 4] - mean
        misfit += amplitude * away * away
        vector[5 * k + 4] += amplitude * away
        matrix[5 * k + 4, 5 * k + 4] += amplitude
    for axis in (2, 3):
        middle = 0.0
        for k in range(targets):
            middle += p[k, axis] / targets
        misfit += common * middle * middle
        for k in range(targets):
            away = p[k, axis] - middle
            misfit += own * away * away
            vector[5 * k + axis] += own * away + common * middle / targets
            for j in range(targets):
                same = 1.0 if j == k else 0.0
                matrix[5 * k + axis, 5 * j + axis] += own * (same - 1.0 / targets) + common / targets**2
    return misfit


@compiled
def normal_equations(p, images, times, sigma, noise, shot, limits, priors, matrix, vector):  # type: ignore[no-untyped-def]
    """Fills the matrix (5K, 5K) and the gradient (5K,) of half the misfit at p (K, 5); returns the misfit."""
    frames, height, width = images.shape
    targets = len(p)
    row, row_slope = np.empty((targets, height)), np.empty((targets, height))
    column, column_slope = np.empty((targets, width)), np.empty((targets, width))
    residual, excess = np.empty((height, width)), np.empty((height, width))
    frame_matrix, frame_vector = np.empty((3 * targets, 3 * targets)), np.empty(3 * targets)
    matrix[:] = 0.0
    vector[:] = 0.0
    misfit = _add_priors(p, priors, matrix, vector)
    for t in range(frames):
        for k in range(targets):
            _line(p[k, 0] + p[k, 2] * times[t], sigma, column[k], column_slope[k])
            _line(p[k, 1] + p[k, 3] * times[t], sigma, row[k], row_slope[k])
        within = _within(images[t], limits)
        misfit += _residuals(images[t], within, p[:, 4], limits, noise, shot, row, column, residual, excess)
        even = within and shot == 0.0
        _frame_equations(p, even, noise, row, row_slope, column, column_slope, residual, excess, frame_matrix, frame_vector)
        _add_frame(times[t], frame_matrix, frame_vector, matrix, vector)
    return misfit


@compiled
def cholesky(matrix, damping, factor):  # type: ignore[no-untyped-def]
    """Fills the lower factor of matrix + damping x its diagonal; False where that is not positive definite."""
    for i in range(len(matrix)):
        for j in range(i + 1):
            value = matrix[i, j]
            if i == j:
                value += damping * matrix[i, i]
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i == j:
                if not value > 0.0:
                    return False
                factor[i, i] = math.sqrt(value)
            else:
                factor[i, j] = value / factor[j, j]
    return True


@compiled
def solve(factor, vector, solution):  # type: ignore[no-untyped-def]
    """Fills the solution of L L^T solution = vector."""
    n = len(vector)
    for i in range(n):
        value = vector[i]
        for k in range(i):
            value -= factor[i, k] * solution[k]
        solution[i] = value / factor[i, i]
    for i in range(n - 1, -1, -1):
        value = solution[i]
        for k in range(i + 1, n):
            value -= factor[k, i] * solution[k]
        solution[i] = value / factor[i, i]


@compiled
def fit(start, images, times, sigma, noise, shot, limits, priors, steps):  # type: ignore[no-untyped-def]
    """Levenberg-Marquardt from start (K, 5): p (K, 5) at its end, the misfit and matrix (5K, 5K) there, if it is done."""
    n = start.size
    p, trial = start.copy(), start.copy()
    matrix, vector = np.empty((n, n)), np.empty(n)
    trial_matrix, trial_vector = np.empty((n, n)), np.empty(n)
    factor, step = np.zeros((n, n)), np.empty(n)
    misfit = normal_equations(p, images, times, sigma, noise, shot, limits, priors, matrix, vector)
    damping = DAMPING
    for _ in range(steps):
        if not cholesky(matrix, damping, factor):
            damping = max(damping, DAMPING) * TIGHTEN
            continue
        solve(factor, vector, step)
        for k in range(len(p)):
            for u in range(PARAMETERS):
                moved = step[PARAMETERS * k + u]
                trial[k, u] = p[k, u] - (min(max(moved, -LARGEST_STEP), LARGEST_STEP) if u < 4 else moved)
        found = normal_equations(trial, images, times, sigma, noise, shot, limits, priors, trial_matrix, trial_vector)
        if found < misfit:
            gained = misfit - found
            p[:] = trial
            misfit = found
            matrix, trial_matrix = trial_matrix, matrix
            vector, trial_vector = trial_vector, vector
            damping *= EASE
            if gained < CONVERGED:
                return p, misfit, matrix, True
        else:
            damping *= TIGHTEN
            if damping > HOPELESS:
                return p, misfit, matrix, True
    return p, misfit, matrix, False


@compiled
def moments(images, times, sigma, noise):  # type: ignore[no-untyped-def]
    """Light, mean x, y, velocity vx, vy, and the excess over the optics of the spread: xx, xy, yy."""
    frames, height, width = images.shape
    light = sx = sy = 0.0
    steps = drift_x = drift_y = 0.0
    sxx = sxy = syy = 0.0
    mean_time = times.mean()
    for t in range(frames):
        flux = fx = fy = 0.0
        for r in range(height):
            for c in range(width):
                value = images[t, r, c]
                if value > 3.0 * noise:
                    flux += value
                    fx += value * c
                    fy += value * r
                    sxx += value * c * c
                    sxy += value * c * r
                    syy += value * r * r
        if flux > 0:
            drift_x += (times[t] - mean_time) * fx / flux
            drift_y += (times[t] - mean_time) * fy / flux
        steps += (times[t] - mean_time) ** 2
        light, sx, sy = light + flux, sx + fx, sy + fy
    if light <= 0.0:
        return 0.0, (width - 1) / 2, (height - 1) / 2, 0.0, 0.0, 0.0, 0.0, 0.0
    x, y = sx / light, sy / light
    optics = sigma * sigma + 1.0 / 12.0
    xx, xy, yy = sxx / light - x * x - optics, sxy / light - x * y, syy / light - y * y - optics
    vx = drift_x / steps if steps > 0 else 0.0
    vy = drift_y / steps if steps > 0 else 0.0
    return light / frames, x, y, vx, vy, xx, xy, yy


@compiled
def _start(targets, turn, filled, found, amplitude):  # type: ignore[no-untyped-def]
    """K targets on an ellipse of the light's spread, turned; the first in the middle if filled."""
    _, x, y, vx, vy, xx, xy, yy = found
    half, angle = (xx - yy) / 2, 0.5 * math.atan2(2 * xy, xx - yy)
    root = math.sqrt(half * half + xy * xy)
    long = math.sqrt(max((xx + yy) / 2 + root, LEAST_SPREAD**2))
    short = math.sqrt(max((xx + yy) / 2 - root, LEAST_SPREAD**2))
    p = np.empty((targets, PARAMETERS))
    ring = targets - 1 if filled else targets
    stretch = math.sqrt(2.0 * targets / max(ring, 1)) if targets > 2 else 1.0
    for k in range(targets):
        along = across = 0.0
        if not (filled and k == ring):
            phase = 2 * math.pi * (k + turn) / ring
            along, across = stretch * long * math.cos(phase), stretch * short * math.sin(phase)
        if targets == 1:
            along = across = 0.0
        p[k, 0] = x + along * math.cos(angle) - across * math.sin(angle)
        p[k, 1] = y + along * math.sin(angle) + across * math.cos(angle)
        p[k, 2], p[k, 3], p[k, 4] = vx, vy, amplitude
    return p


@compiled
def evidence(p, misfit, matrix, priors, area):  # type: ignore[no-untyped-def]
    """Log evidence of a fit, by Laplace; minus infinity where the fit is not a minimum.

    What two targets on top of each other share in light leaves their places open, by the matrix without end. Yet a pair
    that spreads changes its light by the square of that, which ROOM stands for: without it many faint targets in one place
    would always be likelier than one bright one.
    """
    targets = len(p)
    factor, bounded = np.zeros(matrix.shape), matrix.copy()
    for k in range(targets if targets > 1 else 0):
        for axis in range(2):
            bounded[PARAMETERS * k + axis, PARAMETERS * k + axis] += 1.0 / ROOM**2
    if not cholesky(bounded, 0.0, factor):
        return NOTHING
    _, amplitude, common, own = priors
    log = -0.5 * misfit - targets * math.log(area) + 0.5 * targets * (math.log(amplitude) - LOG_2PI)
    log += (targets - 1) * math.log(own) + math.log(common / targets) - targets * LOG_2PI
    log += 0.5 * PARAMETERS * targets * LOG_2PI + math.lgamma(targets + 1.0)
    for i in range(len(matrix)):
        log -= math.log(factor[i, i])
    return log


@compiled
def _ellipses(targets, found, amplitude, turns):  # type: ignore[no-untyped-def]
    """Starts (V, K, 5) on the light's ellipse, turned by so many steps; of four and more targets also with one in it."""
    variants = min(turns, 1) if targets == 1 else turns + (1 if targets >= 4 and turns else 0)
    starts = np.empty((variants, targets, PARAMETERS))
    for v in range(variants):
        starts[v] = _start(targets, v / max(turns, 1), v == turns, found, amplitude)
    return starts


@compiled
def _with(starts, p):  # type: ignore[no-untyped-def]
    """Starts (V, K, 5) and one more, p (K, 5)."""
    more = np.empty((len(starts) + 1, *p.shape))
    more[:-1] = starts
    more[-1] = p
    return more


@compiled
def _best_of(points, images, times, sigma, noise, shot, limits, priors, needed):  # type: ignore[no-untyped-def]
    """A few steps from every start (V, K, 5), all that may still win to the end; the best, and how the others agree.

    needed: log evidence; where the first steps leave it far out of reach, they are all.
    """
    variants, n = len(points), points[0].size
    misfits, done, matrices = np.empty(variants), np.empty(variants, np.bool_), np.empty((variants, n, n))
    for v in range(variants):
        points[v], misfits[v], matrices[v], done[v] = fit(
            points[v], images, times, sigma, noise, shot, limits, priors, FIRST_STEPS
        )
    best = int(misfits.argmin())
    area = float(images.shape[1] * images.shape[2])
    if evidence(points[best], misfits[best], matrices[best], priors, area) >= needed - OUT_OF_REACH:
        first, reach = best, np.inf
        for turn in range(-1, variants):
            v = first if turn < 0 else turn
            if not done[v] and misfits[v] < reach:
                points[v], misfits[v], matrices[v], done[v] = fit(
                    points[v], images, times, sigma, noise, shot, limits, priors, STEPS
                )
            reach = misfits.min() + NEAR
        best = int(misfits.argmin())
    return points[best], misfits[best], matrices[best], _agreement(points, misfits, best)


@compiled
def _agreement(points, misfits, best):  # type: ignore[no-untyped-def]
    """(K,): for each target of the best solution the weight of all solutions that have it too, 0 to 1.

    A solution weighs exp(-misfit / 2); one that several starts have led to counts once.
    """
    variants, targets = points.shape[:2]
    shared, total = np.zeros(targets), 0.0
    counted = np.zeros(variants, np.bool_)
    for v in range(variants):
        weight = math.exp(-0.5 * (misfits[v] - misfits[best]))
        for other in range(v):
            if counted[other] and _farthest(points[v], points[other]) < SAME:
                weight = 0.0
        counted[v] = weight > 0.0
        total += weight
        for k in range(targets):
            if _nearest(points[best, k], points[v]) < AGREES:
                shared[k] += weight
    return shared / total


@compiled
def _nearest(target, others):  # type: ignore[no-untyped-def]
    nearest = -NOTHING
    for k in range(len(others)):
        nearest = min(nearest, math.hypot(target[0] - others[k, 0], target[1] - others[k, 1]))
    return nearest


@compiled
def _farthest(p, q):  # type: ignore[no-untyped-def]
    """How far the target of p that is farthest from all of q is from them."""
    farthest = 0.0
    for k in range(len(p)):
        farthest = max(farthest, _nearest(p[k], q))
    return farthest


@compiled
def _too_bright_or_dim(p, matrix, priors, targets):  # type: ignore[no-untyped-def]
    """Whether the light of a fit is far beyond what this many targets could give by the amplitude prior."""
    mean, precision = priors[0], priors[1]
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
def _split(p, found):  # type: ignore[no-untyped-def]
    """A solution with its brightest target in two, along the light's longer axis."""
    _, _, _, _, _, xx, xy, yy = found
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    brightest = int(p[:, 4].argmax())
    split = np.empty((len(p) + 1, PARAMETERS))
    split[:-1] = p
    split[-1] = p[brightest]
    for k, side in ((brightest, 1.0), (len(p), -1.0)):
        split[k, 0] += side * SPLIT * math.cos(angle)
        split[k, 1] += side * SPLIT * math.sin(angle)
        split[k, 4] *= 0.5
    return split


@compiled
def _merged(p):  # type: ignore[no-untyped-def]
    """A solution with the two targets that are nearest to each other in one."""
    first, second, least = 0, 1, -NOTHING
    for i in range(len(p)):
        for j in range(i):
            apart = math.hypot(p[i, 0] - p[j, 0], p[i, 1] - p[j, 1])
            if apart < least:
                first, second, least = j, i, apart
    merged = np.empty((len(p) - 1, PARAMETERS))
    merged[:second] = p[:second]
    merged[second:] = p[second + 1 :]
    light = max(p[first, 4] + p[second, 4], 1e-9)
    for u in range(4):
        merged[first, u] = (p[first, 4] * p[first, u] + p[second, 4] * p[second, u]) / light
    merged[first, 4] = light
    return merged


@compiled
def search(images, times, sigma, noise, shot, limits, priors, most, turns, hint, held, guess, odds):  # type: ignore[no-untyped-def]
    """Fits the likely numbers of targets.

    hint (K, 5): one more start for that number, K may be 0. held (most + 1, most, 5): a solution for each number, from
    which alone that number is fitted anew; amplitudes of 0 where there is none. guess: the number to begin with, 0 for what
    the light says. odds (most + 1,): log evidence of each number from frames before the window's. Gives the best p (K, 5),
    without a row where noise alone explains the light better, its matrix (5K, 5K), how far other solutions agree with each
    target (K,), the log evidence of each number (most + 1,), odds and all, NOTHING where it was not tried, and what to hold
    the next time.
    """
    found = moments(images, times, sigma, noise)
    area = float(images.shape[1] * images.shape[2])
    logs, solutions = np.full(most + 1, NOTHING), np.zeros(held.shape)
    if guess == 0:
        guess = int(min(max(round(found[0] / priors[0]), 1), most))
    starts = held[guess : guess + 1, :guess].copy()
    if held[guess, 0, 4] == 0.0:
        starts = _ellipses(guess, found, priors[0], turns)
    if len(hint) == guess:
        starts = _with(starts, hint)
    p, misfit, matrix, agreed = _best_of(starts, images, times, sigma, noise, shot, limits, priors, NOTHING)
    logs[guess] = evidence(p, misfit, matrix, priors, area) + odds[guess]
    solutions[guess, :guess] = first = p
    for direction in (1, -1):
        targets, q = guess + direction, first
        while 1 <= targets <= most and not _too_bright_or_dim(p, matrix, priors, targets):
            starts = held[targets : targets + 1, :targets].copy()
            if held[targets, 0, 4] == 0.0:
                grown = turns == 1 and len(hint) != targets
                starts = _ellipses(targets, found, priors[0], 0 if grown else turns)
                if grown:
                    starts = _with(starts, _split(q, found) if direction > 0 else _merged(q))
            if len(hint) == targets:
                starts = _with(starts, hint)
            needed = logs[targets - direction] - odds[targets]
            q, misfit, other, agrees = _best_of(starts, images, times, sigma, noise, shot, limits, priors, needed)
            solutions[targets, :targets] = q
            logs[targets] = evidence(q, misfit, other, priors, area) + odds[targets]
            if logs[targets] <= logs[targets - direction]:
                break
            if logs[targets] >= logs.max():
                p, matrix, agreed = q, other, agrees
            targets += direction
    none = np.empty((0, PARAMETERS))
    empty, nobody = np.empty((0, 0)), np.empty(0)
    logs[0] = -0.5 * normal_equations(none, images, times, sigma, noise, shot, limits, priors, empty, nobody)
    if logs[0] > logs[1:].max():
        return none, empty, nobody, logs, solutions
    return p, matrix, agreed, logs, solutions


@compiled
def _leave(images, times, sigma, noise, shot, limits, logs, solutions, best, odds):  # type: ignore[no-untyped-def]
    """Moves the odds (most + 1,) on by the window's first frame, which leaves it next: what that says of each number.

    They are relative to the best number's; of a number that was not tried nothing new is known. A solution of more targets
    fits more of the noise too, which WORTH makes up for.
    """
    said, nothing = np.full(len(odds), NOTHING), (0.0, 0.0, 0.0, 0.0)
    for k in range(1, len(odds)):
        if logs[k] > NOTHING and solutions[k, 0, 4] != 0.0:
            matrix, vector = np.empty((PARAMETERS * k, PARAMETERS * k)), np.empty(PARAMETERS * k)
            p = solutions[k, :k]
            misfit = normal_equations(p, images[:1], times[:1], sigma, noise, shot, limits, nothing, matrix, vector)
            said[k] = -0.5 * misfit - WORTH * k / len(images)
    before = odds.copy()
    for k in range(1, len(odds)):
        gain = said[k] - said[best] if said[k] > NOTHING else 0.0
        odds[k] = min(max(KEEP * (before[k] - before[best] + gain), -FIRM), FIRM)


@compiled
def _certainty(matrix, sides, cov, amplitude_sd):  # type: ignore[no-untyped-def]
    """Fills cov (K, 2, 2) px^2 and amplitude_sd (K,) DN from the matrix (5K, 5K), which it makes sure of.

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
            else:
                cov[k, u, 0], cov[k, u, 1] = column[PARAMETERS * k], column[PARAMETERS * k + 1]
        cov[k, 0, 1] = cov[k, 1, 0] = (cov[k, 0, 1] + cov[k, 1, 0]) / 2
        if not cov[k, 0, 0] * cov[k, 1, 1] > cov[k, 0, 1] ** 2 or not cov[k].max() < -NOTHING:
            cov[k] = np.nan


@compiled
def search_each(which, images, times, sigma, noise, shot, limits, priors, turns, hints, hinted, held, begin, odds, out):  # type: ignore[no-untyped-def]
    """Searches some of N regions (N, T, H, W), the rows `which`; fills these rows of the arrays in `out`.

    noise (N,), limits (N, 2); hints (N, M, 5), the first hinted (N,) of each count; held (N, most + 1, most, 5), begin (N,)
    and odds (N, most + 1): see search. out: number of targets (N,), their p (N, most, 5), cov (N, most, 2, 2), amplitude_sd
    (N, most) and probability (N, most), and what to hold the next time, solutions and odds.
    """
    number, points, cov, amplitude_sd, probability, solutions, odds_then = out
    most, sides = points.shape[1], (images.shape[3], images.shape[2])
    for k in which:
        bounds = (limits[k, 0], limits[k, 1])
        hint = hints[k, : hinted[k]].copy()
        p, matrix, agreed, logs, solutions[k] = search(
            images[k], times, sigma, noise[k], shot, bounds, priors, most, turns, hint, held[k], begin[k], odds[k]
        )
        n = len(p)
        number[k], points[k, :n] = n, p
        _certainty(matrix, sides, cov[k, :n], amplitude_sd[k, :n])
        share = np.exp(logs - logs.max())
        probability[k, :n] = agreed * (share[n:].sum() / share.sum())
        if n > 0:
            odds_then[k] = odds[k]
            _leave(images[k], times, sigma, noise[k], shot, bounds, logs, solutions[k], n, odds_then[k])
