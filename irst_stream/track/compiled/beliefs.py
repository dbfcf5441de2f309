"""What is believed, as arrays; the room in which a group's hypotheses are worked on; the ways in and out. Compiled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = [
    "AGE",
    "AMPLITUDE",
    "AMPLITUDE_VAR",
    "CONFIRMED",
    "DETECTION",
    "ERROR_VAR",
    "EXISTS",
    "FACTOR",
    "FAINT",
    "HITS",
    "ID",
    "LAST_ERROR_VAR",
    "MOST_TARGETS",
    "NEW",
    "PARENT",
    "PARTS",
    "REALS",
    "SCORE",
    "SEEN_S",
    "SOURCE",
    "TINY",
    "WHOLES",
    "WORTH",
    "Beliefs",
    "Rules",
    "copy",
    "copy_row",
    "covary",
    "empty_room",
    "keep_rows",
    "load",
    "store",
]

# Columns of `real`; from the last on: the factor.
AMPLITUDE, AMPLITUDE_VAR, EXISTS, SCORE, SEEN_S, LAST_ERROR_VAR, FACTOR = range(7)
ID, HITS, AGE, CONFIRMED, DETECTION, PARENT, SOURCE = range(7)  # columns of `whole`; HITS: a bit a frame, the last lowest
REALS, WHOLES = FACTOR, 7  # how many there are, the factor apart
NEW, WORTH, ERROR_VAR, PARTS = 5, 6, 7, 8  # columns of `seen`, see frame.advance; the parts are all from there on
MOST_TARGETS = 10  # of a group; what is near beyond that is a group of its own
TINY = 1e-300
FAINT = 12.0  # of log weight: hypotheses this much less likely than the best are dropped


class Beliefs(NamedTuple):
    """See the package."""

    group: Any
    hypothesis: Any
    block: Any
    log_weight: Any
    chance: Any
    x: Any
    cov: Any
    real: Any
    whole: Any


class Rules(NamedTuple):
    """The settings, as the arithmetic needs them; lights (N,): log density of clutter's brightness, given apart."""

    detected: float
    resolution: float
    softness: float
    gate: float
    near: float
    coloured: bool  # detections' errors are part of the state, its last two numbers
    lights: bool
    drift: float  # variance that an amplitude gains, relative to its square
    hits: int
    of: int
    by_score: bool
    enough: float
    end_s: float
    least: float
    survives: float
    speed_var: float
    most: int  # hypotheses


class Room(NamedTuple):
    """Space for K hypotheses of one group, of `count` (K,) rows each; the rest as in Beliefs."""

    count: Any
    log_weight: Any  # (K,)
    chance: Any  # (K, M)
    x: Any  # (K, MOST_TARGETS, M, D)
    cov: Any  # (K, M, MOST_TARGETS * D, MOST_TARGETS * D)
    real: Any  # (K, MOST_TARGETS, REALS and the factor's)
    whole: Any  # (K, MOST_TARGETS, WHOLES)


@compiled
def empty_room(most, beliefs):  # type: ignore[no-untyped-def]
    """For so many hypotheses of such beliefs."""
    models, size = beliefs.x.shape[1:]
    n = MOST_TARGETS
    return Room(
        np.zeros(most, np.int64),
        np.zeros(most),
        np.zeros((most, models)),
        np.zeros((most, n, models, size)),
        np.zeros((most, models, n * size, n * size)),
        np.zeros((most, n, beliefs.real.shape[1])),
        np.zeros((most, n, WHOLES), np.int64),
    )


@compiled
def load(beliefs, g, room):  # type: ignore[no-untyped-def]
    """A group's hypotheses into a room; how many."""
    models, size = beliefs.x.shape[1:]
    begin, end = beliefs.group[g], beliefs.group[g + 1]
    for k in range(end - begin):
        h = begin + k
        first, n, at = beliefs.hypothesis[h], beliefs.hypothesis[h + 1] - beliefs.hypothesis[h], beliefs.block[h]
        room.count[k], room.log_weight[k] = n, beliefs.log_weight[h]
        for m in range(models):
            room.chance[k, m] = beliefs.chance[h, m]
            for p in range(n * size):
                for q in range(n * size):
                    room.cov[k, m, p, q] = beliefs.cov[at + q]
                at += n * size
        for i in range(n):
            copy_row(beliefs.x, beliefs.real, beliefs.whole, first + i, room.x[k], room.real[k], room.whole[k], i)
            room.whole[k, i, PARENT] = first + i
    return end - begin


@compiled
def store(room, kept, out, ends):  # type: ignore[no-untyped-def]
    """Appends a group to the beliefs, weights made to add up to one; False where there is no room left."""
    models, size = out.x.shape[1:]
    total = 0.0
    for k in kept:
        total += math.exp(room.log_weight[k] - room.log_weight[kept[0]])
    total = room.log_weight[kept[0]] + math.log(total)
    for k in kept:
        n, h, row, at = room.count[k], ends[1], ends[2], out.block[ends[1]]
        width = n * size
        if h + 1 >= len(out.hypothesis) or row + n > len(out.x) or at + models * width * width > len(out.cov):
            return False
        out.log_weight[h] = room.log_weight[k] - total
        for m in range(models):
            out.chance[h, m] = room.chance[k, m]
            for p in range(width):
                for q in range(width):
                    out.cov[at + q] = room.cov[k, m, p, q]
                at += width
        for i in range(n):
            copy_row(room.x[k], room.real[k], room.whole[k], i, out.x, out.real, out.whole, row + i)
        out.block[h + 1], out.hypothesis[h + 1] = at, row + n
        ends[1], ends[2] = h + 1, row + n
    if ends[0] + 1 >= len(out.group):
        return False
    out.group[ends[0] + 1] = ends[1]
    ends[0] += 1
    return True


@compiled
def copy(room, k, into, c):  # type: ignore[no-untyped-def]
    """A room's hypothesis k into another room, as its hypothesis c."""
    n, models, size = room.count[k], room.x.shape[2], room.x.shape[3]
    into.count[c], into.log_weight[c] = n, room.log_weight[k]
    for i in range(n):
        copy_row(room.x[k], room.real[k], room.whole[k], i, into.x[c], into.real[c], into.whole[c], i)
    for m in range(models):
        into.chance[c, m] = room.chance[k, m]
        for p in range(n * size):
            for q in range(n * size):
                into.cov[c, m, p, q] = room.cov[k, m, p, q]


@compiled
def copy_row(x, real, whole, i, into_x, into_real, into_whole, k):  # type: ignore[no-untyped-def]
    """Row i of these to row k of those."""
    for m in range(x.shape[1]):
        for a in range(x.shape[2]):
            into_x[k, m, a] = x[i, m, a]
    for a in range(real.shape[1]):
        into_real[k, a] = real[i, a]
    for a in range(WHOLES):
        into_whole[k, a] = whole[i, a]


@compiled
def covary(one, other, a, b):  # type: ignore[no-untyped-def]
    """The covariance of axis a of one's error with axis b of the other's, by their factors, each flat from (2, R)."""
    half, value = len(one) // 2, 0.0
    for r in range(half):
        value += one[a * half + r] * other[b * half + r]
    return value


@compiled
def keep_rows(room, c, kept):  # type: ignore[no-untyped-def]
    """Leaves only some rows of a hypothesis, those of a mask, in their order."""
    n, size = room.count[c], room.x.shape[3]
    count = 0
    for i in range(n):
        if kept >> i & 1:
            if count != i:
                copy_row(room.x[c], room.real[c], room.whole[c], i, room.x[c], room.real[c], room.whole[c], count)
                a, b = count * size, i * size
                room.cov[c, :, a : a + size, : n * size] = room.cov[c, :, b : b + size, : n * size].copy()
                room.cov[c, :, : n * size, a : a + size] = room.cov[c, :, : n * size, b : b + size].copy()
            count += 1
    room.count[c] = count
