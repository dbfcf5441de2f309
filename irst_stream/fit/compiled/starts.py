"""Where fits start: on ellipses of the light, or from a solution with one target more or fewer. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.likelihood import NOTHING, PARAMETERS
from irst_stream.system.numba_cache import compiled

__all__ = ["ellipses", "merged", "moments", "split", "with_one_more"]

LEAST_SPREAD = 0.15  # px: targets start at least this far apart
SPLIT = 0.25  # px: how far from a target the two start that it is split into


@compiled
def moments(seen, sigma):  # type: ignore[no-untyped-def]
    """Light, mean x, y, velocity vx, vy, and the excess over the optics of the spread: xx, xy, yy."""
    images, times, noise = seen.images, seen.times, seen.noise
    frames, height, width = images.shape
    light = sx = sy = 0.0
    steps = drift_x = drift_y = 0.0
    sxx = sxy = syy = 0.0
    mean_time = times.mean()
    for t in range(frames):
        time, dx, dy = times[t] - mean_time, seen.shifts[t, 0], seen.shifts[t, 1]
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
def ellipses(targets, found, amplitude, turns):  # type: ignore[no-untyped-def]
    """Starts (V, K, 5) on the light's ellipse, turned by so many steps; of four and more targets also with one in it."""
    variants = min(turns, 1) if targets == 1 else turns + (1 if targets >= 4 and turns else 0)
    starts = np.empty((variants, targets, PARAMETERS))
    for v in range(variants):
        starts[v] = _start(targets, v / max(turns, 1), v == turns, found, amplitude)
    return starts


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
def with_one_more(starts, p):  # type: ignore[no-untyped-def]
    """Starts (V, K, 5) and one more, p (K, 5)."""
    more = np.empty((len(starts) + 1, *p.shape))
    more[:-1] = starts
    more[-1] = p
    return more


@compiled
def split(p, found):  # type: ignore[no-untyped-def]
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
def merged(p):  # type: ignore[no-untyped-def]
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
