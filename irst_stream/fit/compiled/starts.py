"""Starting points of fits: targets on an ellipse of the light, or a solution with one target more or fewer. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.likelihood import INFINITE, PARAMETERS
from irst_stream.fit.compiled.sums import index_of_largest, total
from irst_stream.system.numba_cache import compiled

__all__ = ["append_start", "ellipse_starts", "light_moments", "merge_nearest", "split_brightest"]

MIN_SPREAD_PX = 0.15  # smallest semi-axis of the ellipse that targets start on
SPLIT_PX = 0.25  # distance from a split target at which its two halves start


@compiled
def light_moments(region, sigma):  # type: ignore[no-untyped-def]
    """Moments of the light: total, DN; centroid x, y, px; velocity vx, vy; variance beyond the PSF's, xx, xy, yy, px^2."""
    images, times, noise = region.images, region.times, region.noise
    frames, height, width = images.shape
    light = sx = sy = 0.0
    steps = drift_x = drift_y = 0.0
    sxx = sxy = syy = 0.0
    mean_time = total(times) / len(times)
    for t in range(frames):
        time, dx, dy = times[t] - mean_time, region.shifts[t, 0], region.shifts[t, 1]
        flux = fx = fy = 0.0
        for r in range(height):
            for c in range(width):
                value = images[t, r, c]
                if value > 3.0 * noise:
                    flux += value
                    x, y = c - dx, r - dy
                    fx += value * x
                    fy += value * y
                    sxx += value * x * x
                    sxy += value * x * y
                    syy += value * y * y
        if flux > 0:
            drift_x += time * fx / flux
            drift_y += time * fy / flux
        steps += time**2
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
def ellipse_starts(targets, moments, amplitude, start_count):  # type: ignore[no-untyped-def]
    """Starts (V, K, 5) on the light's ellipse, rotated in start_count steps.

    From four targets on, one more start has a target in the centre. V is 0 where start_count is 0.
    """
    variants = min(start_count, 1) if targets == 1 else start_count + (1 if targets >= 4 and start_count else 0)
    starts = np.empty((variants, targets, PARAMETERS))
    for v in range(variants):
        starts[v] = _ellipse_start(targets, v / max(start_count, 1), v == start_count, moments, amplitude)
    return starts


@compiled
def _ellipse_start(targets, turn, filled, moments, amplitude):  # type: ignore[no-untyped-def]
    """K targets on the light's ellipse, rotated by `turn` of their spacing; the last in its centre if filled."""
    _, x, y, vx, vy, xx, xy, yy = moments
    half, angle = (xx - yy) / 2, 0.5 * math.atan2(2 * xy, xx - yy)
    root = math.sqrt(half * half + xy * xy)
    long = math.sqrt(max((xx + yy) / 2 + root, MIN_SPREAD_PX**2))
    short = math.sqrt(max((xx + yy) / 2 - root, MIN_SPREAD_PX**2))
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
def append_start(starts, p):  # type: ignore[no-untyped-def]
    """Starts (V, K, 5) with one more, p (K, 5), at their end."""
    more = np.empty((len(starts) + 1, *p.shape))
    more[:-1] = starts
    more[-1] = p
    return more


@compiled
def split_brightest(p, moments):  # type: ignore[no-untyped-def]
    """A solution (K + 1, 5): p (K, 5) with its brightest target split along the light's longer axis."""
    _, _, _, _, _, xx, xy, yy = moments
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    brightest = index_of_largest(p[:, 4])
    parts = np.empty((len(p) + 1, PARAMETERS))
    parts[:-1] = p
    parts[-1] = p[brightest]
    for k, side in ((brightest, 1.0), (len(p), -1.0)):
        parts[k, 0] += side * SPLIT_PX * math.cos(angle)
        parts[k, 1] += side * SPLIT_PX * math.sin(angle)
        parts[k, 4] *= 0.5
    return parts


@compiled
def merge_nearest(p):  # type: ignore[no-untyped-def]
    """A solution (K - 1, 5): p (K, 5) with its two nearest targets merged."""
    first, second, least = 0, 1, INFINITE
    for i in range(len(p)):
        for j in range(i):
            apart = math.hypot(p[i, 0] - p[j, 0], p[i, 1] - p[j, 1])
            if apart < least:
                first, second, least = j, i, apart
    whole = np.empty((len(p) - 1, PARAMETERS))
    whole[:second] = p[:second]
    whole[second:] = p[second + 1 :]
    light = max(p[first, 4] + p[second, 4], 1e-9)
    for u in range(4):
        whole[first, u] = (p[first, 4] * p[first, u] + p[second, 4] * p[second, u]) / light
    whole[first, 4] = light
    return whole
