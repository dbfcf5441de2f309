"""How hypotheses look to the sensor: which targets merge, which are seen, how bright they are together. Compiled.

Sets of targets are masks, a bit for each.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    AMPLITUDE,
    AMPLITUDE_VAR,
    ERROR_VAR,
    EXISTS,
    LAST_ERROR_VAR,
    MOST_TARGETS,
    PARTS,
    TINY,
)

__all__ = [
    "brightness",
    "chance_of_one",
    "chances_merged",
    "empty_view",
    "fates",
    "shares_of",
    "size_of",
    "unusual",
    "widening",
]

MOST_LEARNT = 50  # detections of a frame, of the brightness that is usual
HIDDEN = 0.7  # of the chance to be merged: how much of that a miss is forgiven
FAR = 8.0  # standard deviations beyond the resolution: nothing is merged there


class View(NamedTuple):
    """How a room's hypotheses look to the sensor, K of them, each of up to N = MOST_TARGETS targets."""

    places: Any  # (K, N, 2) px, where they are measured
    spread: Any  # (K, N, N, 2, 2) px^2, the joint covariance of that
    merging: Any  # (K, N, N): see chances_merged
    fate: Any  # (K, N), and what follows: see fates
    missed: Any
    visible: Any
    odds: Any


@compiled
def empty_view(most):  # type: ignore[no-untyped-def]
    """Of so many hypotheses."""
    n = MOST_TARGETS
    return View(
        np.zeros((most, n, 2)),
        np.zeros((most, n, n, 2, 2)),
        np.zeros((most, n, n)),
        np.zeros((most, n)),
        np.zeros((most, n)),
        np.zeros((most, n)),
        np.zeros((most, n)),
    )


@compiled
def chances_merged(n, places, spread, rules, chance):  # type: ignore[no-untyped-def]
    """Fills (n, n): the chance that two targets are too near to be told apart."""
    for i in range(n):
        chance[i, i] = 0.0
        for j in range(i):
            dx, dy = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1]
            apart = math.hypot(dx, dy)
            xx = spread[i, i, 0, 0] + spread[j, j, 0, 0] - spread[i, j, 0, 0] - spread[j, i, 0, 0]
            xy = spread[i, i, 0, 1] + spread[j, j, 0, 1] - spread[i, j, 0, 1] - spread[j, i, 0, 1]
            yy = spread[i, i, 1, 1] + spread[j, j, 1, 1] - spread[i, j, 1, 1] - spread[j, i, 1, 1]
            along = (dx * dx * xx + 2 * dx * dy * xy + dy * dy * yy) / apart**2 if apart > 1e-6 else (xx + yy) / 2
            beyond = (apart - rules.resolution) / math.sqrt(max(along, 0.0) + rules.softness**2)
            near = min(0.5 * math.erfc(beyond / math.sqrt(2.0)), 0.98) if beyond < FAR else 0.0
            chance[i, j] = chance[j, i] = near


@compiled
def chance_of_one(mask, n, merging):  # type: ignore[no-untyped-def]
    """The chance that the targets of a mask are one: the least of each one's chance to be merged with another of them."""
    least = 1.0
    for i in range(n):
        if mask >> i & 1:
            most = 0.0
            for j in range(n):
                if j != i and mask >> j & 1:
                    most = max(most, merging[i, j])
            least = min(least, most)
    return least


@compiled
def fates(real, merging, rules, fate, missed, visible, odds):  # type: ignore[no-untyped-def]
    """Fills (n,) each: log of not being merged, shared with the neighbour; log of being missed; the chance to be seen
    alone; log of the chance to be there over that of being missed.
    """
    n = len(real)
    for i in range(n):
        most = 0.0
        for j in range(n):
            if j != i:
                most = max(most, merging[i, j] * real[j, EXISTS])
        fate[i] = 0.5 * math.log(1 - most)
        visible[i] = rules.detected * (1 - HIDDEN * most)
        missed[i] = math.log(1 - real[i, EXISTS] * visible[i]) + fate[i]
        odds[i] = math.log(max(real[i, EXISTS], TINY)) - missed[i]


@compiled
def size_of(mask):  # type: ignore[no-untyped-def]
    """How many targets a mask has."""
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@compiled
def widening(mask, real, seen):  # type: ignore[no-untyped-def]
    """By how much to widen the covariance with which a detection is compared to these targets: it leaves out the error that
    is part of their states, which is one as large as that of what they were last seen by; so more than 1 where this one is
    larger.
    """
    if len(seen) == PARTS:
        return 1.0
    before = 0.0
    for i in range(len(real)):
        if mask >> i & 1:
            before += real[i, LAST_ERROR_VAR] / size_of(mask)
    return 1.0 + max(seen[ERROR_VAR] - before, 0.0) / (seen[2] + seen[4])


@compiled
def shares_of(mask, real):  # type: ignore[no-untyped-def]
    """(n,): the weight of each target of a mask in the place that is measured of them."""
    shares, total = np.zeros(len(real)), 0.0
    for i in range(len(real)):
        if mask >> i & 1:
            light = real[i, AMPLITUDE]
            shares[i] = 1.0 if math.isnan(light) else max(light, 1e-9)
            total += shares[i]
    for i in range(len(real)):
        shares[i] /= total
    return shares


@compiled
def brightness(mask, real, seen, clutter, rules):  # type: ignore[no-untyped-def]
    """Log density of a detection's brightness (mean, variance), if it comes from these targets, over that of clutter."""
    if not rules.lights or math.isnan(seen[0]):
        return 0.0
    mean, variance = 0.0, seen[1]
    for i in range(len(real)):
        if mask >> i & 1:
            if math.isnan(real[i, AMPLITUDE]):
                return 0.0
            mean += real[i, AMPLITUDE]
            variance += real[i, AMPLITUDE_VAR]
    away = seen[0] - mean
    return -0.5 * away * away / variance - 0.5 * math.log(2 * math.pi * variance) - clutter


@compiled
def unusual(lights, mean, variance, memory):  # type: ignore[no-untyped-def]
    """(N,): log density of each brightness, lights (N, 2), among all that is detected, of which mean and variance, NaN
    where nothing is known, are learnt, each value adding this much; and they, as learnt.
    """
    learnt = 0
    for j in range(len(lights)):
        value = lights[j, 0]
        if not math.isfinite(value) or learnt == MOST_LEARNT:
            continue
        learnt += 1
        if math.isnan(mean):
            mean, variance = value, (0.3 * value) ** 2
        else:
            away = value - mean
            mean, variance = mean + memory * away, variance + memory * (away * away - variance)
    clutter = np.zeros(len(lights))
    if not math.isnan(mean):
        wide = max(2 * variance, (0.05 * mean) ** 2, 1e-12)
        for j in range(len(lights)):
            away = (lights[j, 0] if math.isfinite(lights[j, 0]) else 0.0) - mean
            clutter[j] = -0.5 * away * away / wide - 0.5 * math.log(2 * math.pi * wide)
    return clutter, mean, variance
