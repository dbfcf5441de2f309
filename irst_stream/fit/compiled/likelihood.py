"""The modelled light of targets in a frame, and its residuals and misfit against the images. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.types import Floats

__all__ = [
    "INFINITE",
    "PARAMETERS",
    "UNKNOWN",
    "is_uncensored",
    "pixel_profile",
    "pixel_profiles",
    "psf_terms",
    "residuals",
    "sum_light",
]

PARAMETERS = 5  # x, y, vx, vy, a
SQRT2 = math.sqrt(2.0)
MIN_PRODUCT = 1e-200
SQRT_2_BY_PI = math.sqrt(2.0 / math.pi)
ERF_CUTOFF = 4.3  # argument beyond which erf is taken for +-1: standard deviations / sqrt(2)
UNKNOWN = -1e29  # DN: a pixel below this holds no measurement
INFINITE = 1e30  # stands for infinity: a limit that no pixel reaches; minus this is the log evidence of the impossible
NODES_PER_UNIT, TERMS = 32, 8  # of erf's Taylor series; enough for 1e-15
MIDDLE_NODE = math.ceil(ERF_CUTOFF * NODES_PER_UNIT)
DENSITY_PER_SLOPE = math.sqrt(math.pi) / 2  # exp(-u^2) divided by the slope of erf(u)


def _erf_series() -> Floats:
    """(2 MIDDLE_NODE + 1, TERMS): Taylor coefficients of erf at nodes 1 / NODES_PER_UNIT apart, centred on 0."""
    u = np.arange(-MIDDLE_NODE, MIDDLE_NODE + 1) / NODES_PER_UNIT
    terms = [
        np.array([math.erf(v) for v in u]),
        np.exp(-u * u) / DENSITY_PER_SLOPE,
        -u * np.exp(-u * u) / DENSITY_PER_SLOPE,
    ]
    for n in range(3, TERMS):
        terms.append(-2.0 / n * (u * terms[n - 1] + (n - 2) / (n - 1) * terms[n - 2]))
    return np.stack(terms, axis=1)


ERF_SERIES = _erf_series()


@compiled
def pixel_profile(centre, sigma, value, slope):  # type: ignore[no-untyped-def]
    """Fill value and slope (N,): the share of a unit 1-D Gaussian in each pixel, and its derivative by the centre."""
    scale = 1.0 / (SQRT2 * sigma)
    height = 1.0 / (math.sqrt(2.0 * math.pi) * sigma)
    left, left_density = _erf_and_density((-0.5 - centre) * scale)
    for i in range(len(value)):
        right, density = _erf_and_density((i + 0.5 - centre) * scale)
        value[i] = 0.5 * (right - left)
        slope[i] = height * (left_density - density)
        left, left_density = right, density


@compiled
def _erf_and_density(u):  # type: ignore[no-untyped-def]
    """Return erf(u) and exp(-u^2); their limits beyond ERF_CUTOFF, which is exact to 1e-8; NaN for NaN."""
    if u > ERF_CUTOFF:
        return 1.0, 0.0
    if u < -ERF_CUTOFF:
        return -1.0, 0.0
    if math.isnan(u):  # of a diverged fit: it has no node
        return u, u
    node = int(u * NODES_PER_UNIT + (MIDDLE_NODE + 0.5))
    offset, series = u - (node - MIDDLE_NODE) / NODES_PER_UNIT, ERF_SERIES[node]
    value, slope = series[TERMS - 1], 0.0
    for n in range(TERMS - 2, -1, -1):
        slope = slope * offset + value
        value = value * offset + series[n]
    return value, DENSITY_PER_SLOPE * slope


@compiled
def psf_terms(shape):  # type: ignore[no-untyped-def]
    """The number of products of profiles that make up a PSF, at least 1."""
    return max(len(shape.columns), 1)


@compiled
def pixel_profiles(p, time, shift, model, row, row_slope, column, column_slope):  # type: ignore[no-untyped-def]
    """Fill the pixel profiles of targets p (K, 5) in one frame: row and row_slope (K R, H), column and slope (K R, W).

    R: psf_terms of the model's shape, those of a target one after the other; time, shift (2,): of that frame.
    """
    shape, terms = model.shape, len(model.shape.columns)
    for k in range(len(p)):
        x, y = p[k, 0] + p[k, 2] * time + shift[0], p[k, 1] + p[k, 3] * time + shift[1]
        if terms == 0:
            pixel_profile(x, model.sigma * shape.stretch_x, column[k], column_slope[k])
            pixel_profile(y, model.sigma * shape.stretch_y, row[k], row_slope[k])
        else:
            own = slice(k * terms, (k + 1) * terms)
            _tabulated_profiles(x, model.sigma, shape, shape.columns, column[own], column_slope[own])
            _tabulated_profiles(y, model.sigma, shape, shape.rows, row[own], row_slope[own])


@compiled
def _tabulated_profiles(centre, sigma, shape, pieces, value, slope):  # type: ignore[no-untyped-def]
    """Fill value and slope (R, N): the terms' profiles of that width in each pixel, and their derivatives by the centre.

    pieces (R, M, 4). A wider PSF is the same profile, stretched, so that a pixel then stands for a little more than itself.
    """
    per_pixel = shape.per_width / sigma
    start = -centre * per_pixel - shape.first * shape.per_width
    height, last = shape.width_px / sigma, pieces.shape[1]
    steep = -height * per_pixel
    for i in range(value.shape[1]):
        at = start + i * per_pixel
        if not 0.0 <= at < last:  # also NaN, of a diverged fit
            value[:, i] = slope[:, i] = 0.0 * at if at != at else 0.0
            continue
        k = int(at)
        u = at - k
        for term in range(len(pieces)):
            c = pieces[term, k]
            value[term, i] = height * (c[0] + u * (c[1] + u * (c[2] + u * c[3])))
            slope[term, i] = steep * (c[1] + u * (2.0 * c[2] + 3.0 * u * c[3]))


@compiled
def is_uncensored(image, limits):  # type: ignore[no-untyped-def]
    """Whether all pixels of an image (H, W) are known and strictly within the limits."""
    lowest = highest = image[0, 0]
    for r in range(image.shape[0]):
        for c in range(image.shape[1]):
            lowest, highest = min(lowest, image[r, c]), max(highest, image[r, c])
    return lowest > max(limits[0], UNKNOWN) and highest < limits[1]


@compiled
def sum_light(amplitudes, row, column, lights):  # type: ignore[no-untyped-def]
    """Fill lights (H, W) with the summed light of targets of these amplitudes (K,) and profiles (K R, H) and (K R, W)."""
    lights[:] = 0.0
    terms = len(row) // max(len(amplitudes), 1)
    for k in range(len(row)):
        amplitude = amplitudes[k // terms]
        for r in range(lights.shape[0]):
            if row[k, r] != 0.0:
                share = amplitude * row[k, r]
                for c in range(lights.shape[1]):
                    lights[r, c] += share * column[k, c]


@compiled
def residuals(images, lights, within, limits, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """Fill residual and excess (T, H, W); return the misfit.

    residual: half the misfit's derivative by each pixel's light, in units of 1 / noise; excess: 1 - the misfit's curvature
    by the pixel's light, in units of 1 / noise^2. within (T,): whether all pixels of a frame are known and uncensored; if
    so, and without shot noise, the frame's excess is 0 and not filled.
    """
    misfit = 0.0
    parts = 1 if within.all() else len(within)  # long loops vectorise better
    size = lights.size // parts
    measured, light = images.reshape((parts, size)), lights.reshape((parts, size))
    residual_parts, excess_parts = residual.reshape((parts, size)), excess.reshape((parts, size))
    for k in range(parts):
        if not within[k]:
            misfit += _censored_residuals(measured[k], light[k], limits, noise, shot, residual_parts[k], excess_parts[k])
        elif shot == 0.0:
            misfit += _uniform_residuals(measured[k], light[k], noise, residual_parts[k])
        else:
            misfit += _shot_noise_residuals(measured[k], light[k], noise, shot, residual_parts[k], excess_parts[k])
    return misfit


@compiled
def _uniform_residuals(measured, lights, noise, residual):  # type: ignore[no-untyped-def]
    """Fill the residuals of uncensored pixels (N,) without shot noise; return their misfit."""
    misfit, per_noise = 0.0, 1.0 / noise
    for c in range(len(measured)):
        away = (lights[c] - measured[c]) * per_noise
        misfit += away * away
        residual[c] = away
    return misfit


@compiled
def _shot_noise_terms(light, away, slope):  # type: ignore[no-untyped-def]
    """Misfit terms of an uncensored pixel with shot noise, in units of the noise; its misfit is square - log(sharpness).

    light: modelled; away: light minus the measured value; slope: of the variance by light. Returns square, sharpness, half
    the misfit's derivative by light, and 1 - its expected curvature.
    """
    bend = 0.5 * slope if light > 0.0 else 0.0
    sharpness = 1.0 / (1.0 + slope * max(light, 0.0))
    square = away * away * sharpness
    return square, sharpness, (away - bend * (square - 1.0)) * sharpness, 1.0 - (1.0 + bend * slope * sharpness) * sharpness


@compiled
def _shot_noise_residuals(measured, lights, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """Fill residual and excess of uncensored pixels (N,) with shot noise; return their misfit."""
    misfit, sharper = 0.0, 1.0  # the product excess_parts all pixels needs only one logarithm
    per_noise, slope = 1.0 / noise, shot / noise
    for c in range(len(measured)):
        light = lights[c] * per_noise
        away = light - measured[c] * per_noise
        bend = 0.5 * slope if light > 0.0 else 0.0
        sharpness = 1.0 / (1.0 + 2.0 * bend * light)
        square = away * away * sharpness
        misfit += square
        sharper *= sharpness
        residual[c] = (away - bend * (square - 1.0)) * sharpness
        excess[c] = 1.0 - (1.0 + bend * slope * sharpness) * sharpness
    return misfit - _log_sharpness(sharper, lights, slope * per_noise)


@compiled
def _log_sharpness(product, lights, slope):  # type: ignore[no-untyped-def]
    """Log of the product of the pixels' sharpness; summed pixel by pixel where the product may have underflowed."""
    if product > MIN_PRODUCT:
        return math.log(product)
    total = 0.0
    for c in range(len(lights)):
        total -= math.log(1.0 + slope * max(lights[c], 0.0))
    return total


@compiled
def _censored_residuals(measured, lights, limits, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """Fill residual and excess of pixels (N,), some of them unknown or censored; return their misfit."""
    floor, ceiling = limits
    misfit, sharper, slope = 0.0, 1.0, shot / noise
    for c in range(len(measured)):
        value, light, away = measured[c], lights[c] / noise, (lights[c] - measured[c]) / noise
        if sharper < MIN_PRODUCT:
            misfit -= math.log(sharper)
            sharper = 1.0
        if value < UNKNOWN:
            residual[c], excess[c] = 0.0, 1.0
        elif floor < value < ceiling:
            square, sharpness, residual[c], excess[c] = _shot_noise_terms(light, away, slope)
            misfit += square
            sharper *= sharpness
        elif value <= floor and away < 1e-3:
            residual[c] = excess[c] = 0.0
        else:
            side = 1.0 if value <= floor else -1.0
            _, sharpness, _, _ = _shot_noise_terms(light, away, slope)
            scale = side * math.sqrt(sharpness)
            cost, steep = _censored_cost(scale * away)
            misfit += cost
            chain = scale * (1.0 - (0.5 * slope * away * sharpness if light > 0.0 else 0.0))  # by light
            residual[c] = steep * chain
            excess[c] = 1.0 - steep * (steep - scale * away) * chain * chain
    return misfit - math.log(sharper)


@compiled
def _censored_cost(z):  # type: ignore[no-untyped-def]
    """Return -2 log P(n < -z) of a standard normal n, minus its value at z = 0, and half its derivative by z."""
    if z > 8.0:  # asymptotic expansion of the tail
        return z * z + math.log(2 * math.pi) + 2 * math.log(z) - 2 * math.log(2.0), z + 1 / z
    tail = 0.5 * math.erfc(z / SQRT2)
    return -2 * math.log(2 * tail), 0.5 * SQRT_2_BY_PI * math.exp(-0.5 * z * z) / tail
