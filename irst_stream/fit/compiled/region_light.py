"""What the images of a region tell before they are fitted: their noise, their peak, whether there is light. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.likelihood import INFINITE, UNKNOWN
from irst_stream.fit.compiled.sums import median
from irst_stream.system.numba_cache import compiled

__all__ = ["region_light"]

LIT_SIGMAS = 3.0  # a region without a brighter pixel holds no target
DARK_PX = 3.2  # distance from the light's centre beyond which pixels count as dark
MIN_DARK_PIXELS = 20
ROUNDING_SD_DN = 1 / math.sqrt(12)  # noise of rounding to whole numbers


@compiled
def region_light(images, noise, ceiling, least_noise):  # type: ignore[no-untyped-def]
    """Measure N regions (N, T, H, W) DN; pixels below UNKNOWN hold no measurement.

    noise (N,) DN: where it is NaN, that of the dark pixels takes its place, and at least least_noise everywhere. Returns
    limits (N, 2) DN, at and beyond which a pixel is censored: 0, where a pixel shows exactly that and none less, and
    ceiling (N,); peak (N,) DN: the brightest pixel of the mean image, at least 0; lit (N,): whether a pixel stands out.
    """
    regions, frames, height, width = images.shape
    limits, peak, lit = np.empty((regions, 2)), np.zeros(regions), np.zeros(regions, np.bool_)
    for k in range(regions):
        if math.isnan(noise[k]):
            noise[k] = _dark_noise(images[k], least_noise)
        noise[k] = max(noise[k], least_noise)
        lowest, highest = INFINITE, -INFINITE
        for y in range(height):
            for x in range(width):
                total = 0.0
                for t in range(frames):
                    value = images[k, t, y, x]
                    highest = max(highest, value)
                    if value > UNKNOWN:
                        lowest = min(lowest, value)
                        total += min(value, ceiling[k])
                peak[k] = max(peak[k], total / frames)
        limits[k, 0] = 0.0 if lowest == 0.0 else -INFINITE
        limits[k, 1] = min(ceiling[k], INFINITE)
        lit[k] = highest > LIT_SIGMAS * noise[k]
    return limits, peak, lit


@compiled
def _dark_noise(images, least_noise):  # type: ignore[no-untyped-def]
    """Noise, DN, of the pixels of one region (T, H, W) far from the light; twice the variance where the sky is clipped."""
    frames, height, width = images.shape
    light = np.zeros((height, width))
    for t in range(frames):
        for y in range(height):
            for x in range(width):
                light[y, x] += max(images[t, y, x], 0.0)
    middle = median(light.flatten())
    total, along, down = 1e-12, 0.0, 0.0
    for y in range(height):
        for x in range(width):
            strength = max(light[y, x] - middle, 0.0) ** 2
            total += strength
            along += strength * x
            down += strength * y
    along, down = along / total, down / total
    count, lowest, mean, square = 0, INFINITE, 0.0, 0.0
    for y in range(height):
        for x in range(width):
            if math.hypot(x - along, y - down) > DARK_PX:
                for t in range(frames):
                    value = images[t, y, x]
                    if value > UNKNOWN:
                        count += 1
                        lowest = min(lowest, value)
                        step = value - mean
                        mean += step / count
                        square += step * (value - mean)
    if count < MIN_DARK_PIXELS:
        return least_noise
    variance = square / count if lowest < 0.0 else 2 * (square / count + mean * mean)
    return max(math.sqrt(variance), ROUNDING_SD_DN)
