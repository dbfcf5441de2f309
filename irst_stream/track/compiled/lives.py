"""Targets are born, are confirmed, and end. Compiled."""

from __future__ import annotations

import math

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
    ID,
    LAST_ERROR_VAR,
    MOST_TARGETS,
    NEW,
    PARENT,
    PARTS,
    SCORE,
    SEEN_S,
    SOURCE,
    covary,
)
from irst_stream.track.compiled.sight import size_of

__all__ = ["add_born", "confirms", "has_ended"]


@compiled
def confirms(real, whole, rules):  # type: ignore[no-untyped-def]
    """1 where a track has what confirms it, else 0."""
    if rules.by_score:
        return 1 if real[SCORE] >= rules.enough else 0
    return 1 if size_of(whole[HITS] & ((1 << rules.of) - 1)) >= rules.hits else 0


@compiled
def has_ended(real, whole, now_s, rules):  # type: ignore[no-untyped-def]
    """Whether a track is over: unlikely, long unseen, or not confirmed in time."""
    if real[EXISTS] < rules.least or now_s - real[SEEN_S] > rules.end_s:
        return True
    if whole[CONFIRMED]:
        return False
    if rules.by_score:
        return real[SCORE] < -rules.enough
    frames = min(whole[AGE], rules.of)
    misses = frames - size_of(whole[HITS] & ((1 << frames) - 1))
    return whole[AGE] > rules.of or misses > rules.of - rules.hits


@compiled
def add_born(room, c, masks, rows, seen, sources, lights, numbers, now_s, rules):  # type: ignore[no-untyped-def]
    """Adds what a hypothesis does not explain to it, as new targets."""
    size = room.x.shape[3]
    for j in range(len(rows)):
        n = room.count[c]
        if masks[j] or n >= MOST_TARGETS or seen[j, NEW] < rules.least:
            continue
        a, b = n * size, (n + 1) * size
        room.cov[c, :, a:b, :b] = 0.0
        room.cov[c, :, :b, a:b] = 0.0
        cov, number = room.cov[c, :, a:b, a:b], numbers + rows[j]
        _born(rows[j], seen[j], lights[j], number, now_s, rules, room.x[c, n], cov, room.real[c, n], room.whole[c, n])
        room.whole[c, n, SOURCE] = sources[j]
        room.count[c] = n + 1


@compiled
def _born(row, seen, light, number, now_s, rules, x, cov, real, whole):  # type: ignore[no-untyped-def]
    """Fills a new target's x (M, D), cov (M, D, D), real and whole from a detection."""
    models, size = x.shape
    x[:], cov[:] = 0.0, 0.0
    for m in range(models):
        x[m, 0], x[m, 1] = seen[0], seen[1]
        for a in range(2, size - (2 if rules.coloured else 0)):
            cov[m, a, a] = rules.speed_var
        for a in range(2):
            for b in range(2):
                cov[m, a, b] = seen[2 + a + b]
                if rules.coloured:
                    u, v, error = size - 2 + a, size - 2 + b, covary(seen[PARTS:], seen[PARTS:], a, b)
                    cov[m, u, v], cov[m, a, v], cov[m, u, b] = error, -error, -error
                    cov[m, a, b] += error
    real[AMPLITUDE], real[AMPLITUDE_VAR] = light[0], light[1]
    real[EXISTS], real[SCORE], real[SEEN_S] = seen[NEW], math.log(seen[NEW]), now_s
    real[LAST_ERROR_VAR], real[FACTOR:] = seen[ERROR_VAR], seen[PARTS:]
    whole[ID], whole[HITS], whole[AGE], whole[CONFIRMED], whole[DETECTION], whole[PARENT] = number, 1, 1, 0, row, -1
    whole[CONFIRMED] = confirms(real, whole, rules)
