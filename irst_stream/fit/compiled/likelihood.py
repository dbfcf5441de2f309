"""The light of targets in a frame, and what keeps it from what was seen. Compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.types import Floats, Ints

__all__ = [
    "NOTHING",
    "NO_PRIORS",
    "PARAMETERS",
    "UNKNOWN",
    "Formation",
    "Model",
    "Priors",
    "Seen",
    "is_within",
    "line",
    "residuals",
    "shares",
    "shine",
]

PARAMETERS = 5  # x, y, vx, vy, a
SQRT2 = math.sqrt(2.0)
LEAST_PRODUCT = 1e-200
SQRT_PI_2 = math.sqrt(2.0 / math.pi)
FAR_OUT = 4.3  # standard deviations, times the root of 2
UNKNOWN = -1e29  # DN: a pixel below this holds no measurement
NOTHING = -1e30  # a limit that no pixel reaches, and the log evidence of what cannot be
NODES, TERMS = 32, 8  # of erf's Taylor series: how many a unit, and how long, for 1e-15
MIDDLE = math.ceil(FAR_OUT * NODES)
PER_SLOPE = math.sqrt(math.pi) / 2  # exp(-u^2) by the slope of erf(u)


class Priors(NamedTuple):
    """What is known of targets before the images are seen.

    amplitude_dn: mean; amplitude, common, own: precisions, 1/sd^2, of amplitudes, of a group's common velocity and of each
    target's own; least_spread, greatest_spread: px, of a group about its middle, 0 where nothing is known of that;
    least_apart: px, of two targets, 0 where nothing is known of that; company: log odds of one more target.
    """

    amplitude_dn: float
    amplitude: float
    common: float
    own: float
    least_spread: float
    greatest_spread: float
    least_apart: float
    company: float


NO_PRIORS = Priors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Seen(NamedTuple):
    """What is seen of one region.

    images (T, H, W) DN; times (T,) of its frames; shifts (T, 2) px, x and y, of still objects in each frame; noise: a
    pixel's standard deviation, DN; limits: DN, at which and below, or above, pixels are censored.
    """

    images: Floats
    times: Floats
    shifts: Floats
    noise: float
    limits: tuple[float, float]


class Model(NamedTuple):
    """The imaging model: sigma of the PSF, px; shot: DN^2 by which a pixel's variance grows with a DN of light; priors."""

    sigma: float
    shot: float
    priors: Priors


class Formation(NamedTuple):
    """The F ways in which a known formation can be flown; F is 0 where none is known.

    seats (F, most, 2): x and y px about a middle, the first sizes (F,) of each taken; precision: 1/sd^2 of a target about
    its seat; weights (F,): log prior probability; free: that of each number of targets in any other arrangement.
    """

    seats: Floats
    sizes: Ints
    precision: float
    weights: Floats
    free: float


def _series() -> Floats:
    """(2 MIDDLE + 1, TERMS): the coefficients of erf's Taylor series about -MIDDLE / NODES and so on."""
    u = np.arange(-MIDDLE, MIDDLE + 1) / NODES
    terms = [np.array([math.erf(v) for v in u]), np.exp(-u * u) / PER_SLOPE, -u * np.exp(-u * u) / PER_SLOPE]
    for n in range(3, TERMS):
        terms.append(-2.0 / n * (u * terms[n - 1] + (n - 2) / (n - 1) * terms[n - 2]))
    return np.stack(terms, axis=1)


SERIES = _series()


@compiled
def line(centre, sigma, value, slope):  # type: ignore[no-untyped-def]
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
def _edge(u):  # type: ignore[no-untyped-def]
    """erf(u) and exp(-u^2); so far out that both are at their ends to 1e-8, these; NaN where u is."""
    if u > FAR_OUT:
        return 1.0, 0.0
    if u < -FAR_OUT:
        return -1.0, 0.0
    if math.isnan(u):  # of a fit gone astray: no place in the series
        return u, u
    node = int(u * NODES + (MIDDLE + 0.5))
    away, series = u - (node - MIDDLE) / NODES, SERIES[node]
    value, slope = series[TERMS - 1], 0.0
    for n in range(TERMS - 2, -1, -1):
        slope = slope * away + value
        value = value * away + series[n]
    return value, PER_SLOPE * slope


@compiled
def shares(p, time, shift, sigma, row, row_slope, column, column_slope):  # type: ignore[no-untyped-def]
    """Fill row and its slopes (K, H), column and its slopes (K, W), by `line`, of targets p (K, 5) in one frame.

    time, shift (2,): of that frame.
    """
    for k in range(len(p)):
        line(p[k, 0] + p[k, 2] * time + shift[0], sigma, column[k], column_slope[k])
        line(p[k, 1] + p[k, 3] * time + shift[1], sigma, row[k], row_slope[k])


@compiled
def is_within(image, limits):  # type: ignore[no-untyped-def]
    """Whether all pixels are known and within the limits."""
    lowest = highest = image[0, 0]
    for r in range(image.shape[0]):
        for c in range(image.shape[1]):
            lowest, highest = min(lowest, image[r, c]), max(highest, image[r, c])
    return lowest > max(limits[0], UNKNOWN) and highest < limits[1]


@compiled
def shine(amplitudes, row, column, lights):  # type: ignore[no-untyped-def]
    """Fills lights (H, W) with those of targets that have these shares (K, H) and (K, W) along the axes."""
    lights[:] = 0.0
    for k in range(len(amplitudes)):
        for r in range(lights.shape[0]):
            if row[k, r] != 0.0:
                share = amplitudes[k] * row[k, r]
                for c in range(lights.shape[1]):
                    lights[r, c] += share * column[k, c]


@compiled
def residuals(images, lights, within, limits, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """Fills residual (T, H, W), half the misfit's slope by each pixel's light, in units of 1 / noise, and excess (T, H, W),
    what a curvature of 1 / noise^2 overrates; gives the misfit.

    within (T,): whether all pixels of a frame are known and within the limits; if so, and without shot noise, its excess is
    0 and not filled.
    """
    misfit = 0.0
    parts = 1 if within.all() else len(within)  # the longer the loops the better
    size = lights.size // parts
    seen, light = images.reshape((parts, size)), lights.reshape((parts, size))
    left, over = residual.reshape((parts, size)), excess.reshape((parts, size))
    for k in range(parts):
        if not within[k]:
            misfit += _at_limits(seen[k], light[k], limits, noise, shot, left[k], over[k])
        elif shot == 0.0:
            misfit += _even(seen[k], light[k], noise, left[k])
        else:
            misfit += _with_shot_noise(seen[k], light[k], noise, shot, left[k], over[k])
    return misfit


@compiled
def _even(seen, lights, noise, residual):  # type: ignore[no-untyped-def]
    """Some pixels of residuals, none of them at a limit."""
    misfit, per_noise = 0.0, 1.0 / noise
    for c in range(len(seen)):
        away = (lights[c] - seen[c]) * per_noise
        misfit += away * away
        residual[c] = away
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
    """The same of pixels with shot noise."""
    misfit, sharper = 0.0, 1.0  # of all of them, multiplied: one logarithm does for them
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
    return misfit - _log_sharpness(sharper, lights, slope * per_noise)


@compiled
def _log_sharpness(product, lights, slope):  # type: ignore[no-untyped-def]
    """The logarithm of the product of some pixels' sharpness, which may be too small a number."""
    if product > LEAST_PRODUCT:
        return math.log(product)
    total = 0.0
    for c in range(len(lights)):
        total -= math.log(1.0 + slope * max(lights[c], 0.0))
    return total


@compiled
def _at_limits(seen, lights, limits, noise, shot, residual, excess):  # type: ignore[no-untyped-def]
    """The same of pixels of which some are unknown or at a limit."""
    floor, ceiling = limits
    misfit, sharper, slope = 0.0, 1.0, shot / noise
    for c in range(len(seen)):
        value, light, away = seen[c], lights[c] / noise, (lights[c] - seen[c]) / noise
        if sharper < LEAST_PRODUCT:
            misfit -= math.log(sharper)
            sharper = 1.0
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
def _censored(z):  # type: ignore[no-untyped-def]
    """-2 log P(n < -z) of a standard normal n, less its value at z = 0, and the slope of half of it by z."""
    if z > 8.0:  # the tail's expansion
        return z * z + math.log(2 * math.pi) + 2 * math.log(z) - 2 * math.log(2.0), z + 1 / z
    beyond = 0.5 * math.erfc(z / SQRT2)
    return -2 * math.log(2 * beyond), 0.5 * SQRT_PI_2 * math.exp(-0.5 * z * z) / beyond
