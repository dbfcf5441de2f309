"""What an event says of the targets: what each was given updates it, who got none is the less likely to exist. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    AGE,
    AMPLITUDE,
    AMPLITUDE_VAR,
    CONFIRMED,
    DETECTION,
    ERROR_VAR,
    EXISTS,
    FACTOR,
    HITS,
    LAST_ERROR_VAR,
    PARTS,
    SCORE,
    SEEN_S,
    SOURCE,
    TINY,
    WORTH,
)
from irst_stream.track.compiled.events import gain_of
from irst_stream.track.compiled.lives import confirms
from irst_stream.track.compiled.places import log_normal, place_of
from irst_stream.track.compiled.sight import brightness, shares_of, size_of, widening

__all__ = ["apply", "update"]


@compiled
def apply(masks, rows, seen, sources, lights, clutter, now_s, room, c, view, h, rules):  # type: ignore[no-untyped-def]
    """One event: which targets (masks) each detection (its row in the frame) shows, to a room's hypothesis c, which is a
    copy of what `view` shows of h.
    """
    n = room.count[c]
    x, cov, chance, real, whole = room.x[c, :n], room.cov[c], room.chance[c], room.real[c, :n], room.whole[c, :n]
    merging, fate, odds = view.merging[h], view.fate[h], view.odds[h]
    weight, hit = 0.0, 0
    for i in range(n):
        weight += view.missed[h, i]
    before = real.copy()
    for j in range(len(rows)):
        mask = masks[j]
        if mask == 0:
            continue
        hit |= mask
        more = brightness(mask, before, lights[j], clutter[j], rules)
        wider = widening(mask, real, seen[j])
        density = update(x, cov, chance, mask, shares_of(mask, before), seen[j], wider, rules.coloured)
        weight += gain_of(mask, n, odds, fate, merging, seen[j, WORTH] + density, more)
        _lighten(mask, real, lights[j])
        for i in range(n):
            if mask >> i & 1:
                real[i, SCORE] += seen[j, WORTH] + density + more
                real[i, LAST_ERROR_VAR], real[i, FACTOR:] = seen[j, ERROR_VAR], seen[j, PARTS:]
                whole[i, DETECTION], whole[i, SOURCE] = rows[j], sources[j]
    for i in range(n):
        whole[i, HITS] = (whole[i, HITS] << 1) & 0xFFFFFFFF
        whole[i, AGE] += 1
        if hit >> i & 1:
            whole[i, HITS] |= 1
            real[i, EXISTS], real[i, SEEN_S] = 1.0, now_s
        else:
            whole[i, DETECTION] = -1
            exists, visible = real[i, EXISTS], view.visible[h, i]
            real[i, EXISTS] = exists * (1 - visible) / (1 - exists * visible)
            real[i, SCORE] += math.log(1 - visible)
        whole[i, CONFIRMED] |= confirms(real[i], whole[i], rules)
    room.log_weight[c] += weight


@compiled
def update(x, cov, chance, mask, share, seen, wider, coloured):  # type: ignore[no-untyped-def]
    """A measurement (x, y, xx, xy, yy), by so much less sure, of the weighted mean of some targets: x (n, M, D), cov
    (M, nD, nD), chance (M,).

    Returns its log density.
    """
    n, models, size = x.shape
    gain, logs = np.empty((2, n * size)), np.empty(models)
    for m in range(models):
        dx, dy = seen[0], seen[1]
        gain[:] = 0.0
        for i in range(n):
            if mask >> i & 1:
                across, down = place_of(x, i, m, coloured)
                dx, dy = dx - share[i] * across, dy - share[i] * down
                for p in range(n * size):
                    for a in range(2):
                        value = cov[m, p, size * i + a]
                        if coloured:
                            value += cov[m, p, size * (i + 1) - 2 + a]
                        gain[a, p] += share[i] * value
        xx, xy, yx, yy = wider * seen[2], wider * seen[3], wider * seen[3], wider * seen[4]
        for i in range(n):
            if mask >> i & 1:
                p, u = size * i, size * (i + 1) - 2
                xx += share[i] * (gain[0, p] + (gain[0, u] if coloured else 0.0))
                xy += share[i] * (gain[1, p] + (gain[1, u] if coloured else 0.0))
                yx += share[i] * (gain[0, p + 1] + (gain[0, u + 1] if coloured else 0.0))
                yy += share[i] * (gain[1, p + 1] + (gain[1, u + 1] if coloured else 0.0))
        xy = (xy + yx) / 2
        logs[m], _ = log_normal(dx, dy, xx, xy, yy)
        determinant = max(xx * yy - xy * xy, TINY)
        a, b, c = yy / determinant, -xy / determinant, xx / determinant
        for p in range(n * size):
            left, right = gain[0, p] * a + gain[1, p] * b, gain[0, p] * b + gain[1, p] * c
            x[p // size, m, p % size] += left * dx + right * dy
            for q in range(p + 1):
                cov[m, p, q] -= left * gain[0, q] + right * gain[1, q]
        for p in range(n * size):
            for q in range(p):
                cov[m, q, p] = cov[m, p, q]
    top, total = logs.max(), 0.0
    for m in range(models):
        chance[m] *= math.exp(logs[m] - top)
        total += chance[m]
    chance /= max(total, TINY)
    return top + math.log(max(total, TINY))


@compiled
def _lighten(mask, real, seen):  # type: ignore[no-untyped-def]
    """Takes a detection's brightness (mean, variance) for the sum of these targets'."""
    if math.isnan(seen[0]):
        return
    mean, variance = 0.0, seen[1]
    for i in range(len(real)):
        if mask >> i & 1:
            if math.isnan(real[i, AMPLITUDE]):
                real[i, AMPLITUDE], real[i, AMPLITUDE_VAR] = seen[0] / size_of(mask), seen[0] ** 2
            mean += real[i, AMPLITUDE]
            variance += real[i, AMPLITUDE_VAR]
    for i in range(len(real)):
        if mask >> i & 1:
            gain = real[i, AMPLITUDE_VAR] / variance
            real[i, AMPLITUDE] += gain * (seen[0] - mean)
            real[i, AMPLITUDE_VAR] *= 1 - gain
