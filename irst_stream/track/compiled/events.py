"""How a group's targets may explain its detections: the options of each, and the best events made of them. Compiled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import FAINT, WORTH
from irst_stream.track.compiled.places import chi_squared, log_normal, measured
from irst_stream.track.compiled.sight import brightness, chance_of_one, chances_merged, fates, shares_of, size_of, widening

__all__ = ["MOST_SEEN", "Best", "empty_work", "explain", "gain_of"]

MOST_SEEN = 12  # detections of a group in a frame; the others are taken for new
MOST_MERGED = 5
OPTIONS = 64  # ways to explain one detection
MERGEABLE = 1e-3  # targets whose chance to be merged is less are not taken to be


class Work(NamedTuple):
    """What each of a group's detections may show, and how far the search through that has come: see _options, _events."""

    masks: Any  # (MOST_SEEN, OPTIONS) of targets, a bit each
    gains: Any  # (MOST_SEEN, OPTIONS)
    counts: Any  # (MOST_SEEN,)
    hope: Any  # (MOST_SEEN + 1,), as the others: the most that is to be had from here on
    chosen: Any
    turn: Any
    used: Any
    score: Any


class Best(NamedTuple):
    """The best events of a group, in falling order of their score (K,): of which hypothesis (K,), masks (K, MOST_SEEN)."""

    score: Any
    hypothesis: Any
    masks: Any


@compiled
def empty_work():  # type: ignore[no-untyped-def]
    """Room to search in."""
    return Work(
        np.zeros((MOST_SEEN, OPTIONS), np.int64),
        np.zeros((MOST_SEEN, OPTIONS)),
        np.zeros(MOST_SEEN, np.int64),
        np.zeros(MOST_SEEN + 1),
        np.zeros(MOST_SEEN + 1, np.int64),
        np.zeros(MOST_SEEN + 1, np.int64),
        np.zeros(MOST_SEEN + 1, np.int64),
        np.zeros(MOST_SEEN + 1),
    )


@compiled
def explain(room, count, seen, lights, clutter, rules, view, work, best):  # type: ignore[no-untyped-def]
    """The best events of a group over all its hypotheses, and how these look."""
    best.score[:] = -np.inf
    for k in range(count):
        n = room.count[k]
        real, places, spread, merging = room.real[k, :n], view.places[k], view.spread[k], view.merging[k]
        measured(room.x[k, :n], room.cov[k], room.chance[k], rules.coloured, places, spread)
        chances_merged(n, places, spread, rules, merging)
        fates(real, merging, rules, view.fate[k], view.missed[k], view.visible[k], view.odds[k])
        for j in range(len(seen)):
            work.counts[j] = _options(
                seen[j],
                lights[j],
                clutter[j],
                real,
                places,
                spread,
                merging,
                view.fate[k],
                view.odds[k],
                rules,
                work.masks[j],
                work.gains[j],
            )
        base = room.log_weight[k]
        for i in range(n):
            base += view.missed[k, i]
        _events(k, base, len(seen), work, best)


@compiled
def _options(seen, light, clutter, real, places, spread, merging, fate, odds, rules, masks, gains):  # type: ignore[no-untyped-def]
    """Fills the ways in which targets may explain one detection (x, y, xx, xy, yy), none being the first; how many."""
    n, count = len(real), 1
    masks[0], gains[0] = 0, 0.0
    room = rules.resolution + 3 * rules.softness
    candidates = 0
    for i in range(n):
        dx, dy = seen[0] - places[i, 0], seen[1] - places[i, 1]
        wider = widening(1 << i, real, seen)
        xx, xy = spread[i, i, 0, 0] + wider * seen[2], spread[i, i, 0, 1] + wider * seen[3]
        yy = spread[i, i, 1, 1] + wider * seen[4]
        if chi_squared(dx, dy, xx, xy, yy) < rules.gate and count < OPTIONS:
            density, _ = log_normal(dx, dy, xx, xy, yy)
            more = brightness(1 << i, real, light, clutter, rules)
            masks[count], gains[count] = 1 << i, gain_of(1 << i, n, odds, fate, merging, seen[WORTH] + density, more)
            count += 1
        if math.hypot(dx, dy) < room * (MOST_MERGED - 1) / 2 + math.sqrt(rules.gate * max(xx, yy)):
            candidates |= 1 << i
    candidates = _mergeable(candidates, n, merging)
    subset = candidates
    while subset:
        if 2 <= size_of(subset) <= MOST_MERGED and count < OPTIONS and chance_of_one(subset, n, merging) > MERGEABLE:
            density, chi2 = _mean_density(subset, seen, real, places, spread)
            if chi2 < rules.gate:
                more = brightness(subset, real, light, clutter, rules)
                gain = gain_of(subset, n, odds, fate, merging, seen[WORTH] + density, more)
                if gain > -FAINT:
                    masks[count], gains[count] = subset, gain
                    count += 1
        subset = (subset - 1) & candidates
    return count


@compiled
def _mergeable(mask, n, merging):  # type: ignore[no-untyped-def]
    """Those of a mask that can be merged with another of it."""
    found = 0
    for i in range(n):
        for j in range(i):
            if mask >> i & mask >> j & 1 and merging[i, j] > MERGEABLE:
                found |= 1 << i | 1 << j
    return found


@compiled
def _mean_density(mask, seen, real, places, spread):  # type: ignore[no-untyped-def]
    """Log density of a detection, and its chi^2, if it is the weighted mean of these targets."""
    share = shares_of(mask, real)
    wider = widening(mask, real, seen)
    dx, dy, xx, xy, yy = seen[0], seen[1], wider * seen[2], wider * seen[3], wider * seen[4]
    for i in range(len(real)):
        if share[i] > 0:
            dx, dy = dx - share[i] * places[i, 0], dy - share[i] * places[i, 1]
            for j in range(len(real)):
                if share[j] > 0:
                    both = share[i] * share[j]
                    xx += both * spread[i, j, 0, 0]
                    xy += both * (spread[i, j, 0, 1] + spread[i, j, 1, 0]) / 2
                    yy += both * spread[i, j, 1, 1]
    return log_normal(dx, dy, xx, xy, yy)


@compiled
def gain_of(mask, n, odds, fate, merging, place_density, light_density):  # type: ignore[no-untyped-def]
    """By how much better a detection is explained by these targets than by clutter, they being missed."""
    gain = place_density + light_density
    for i in range(n):
        if mask >> i & 1:
            gain += odds[i]
    if mask & (mask - 1):
        return gain + math.log(max(chance_of_one(mask, n, merging), 1e-9))
    for i in range(n):
        if mask >> i & 1:
            gain += fate[i]
    return gain


@compiled
def _events(h, base, m, work, best):  # type: ignore[no-untyped-def]
    """The best ways in which disjoint sets of targets explain all m detections, by branch and bound; in falling order.

    work: the options of each detection; best: the best events so far, among which they are entered.
    """
    masks, gains, counts, hope, chosen, turn, used, score = work
    most = len(best.score)
    hope[m] = 0.0
    for j in range(m - 1, -1, -1):
        highest = gains[j, 0]
        for option in range(1, counts[j]):
            highest = max(highest, gains[j, option])
        hope[j] = hope[j + 1] + highest
    turn[: m + 1] = 0
    depth, used[0], score[0] = 0, 0, base
    while depth >= 0:
        if depth == m:
            _enter(h, m, score[m], chosen, best)
            depth -= 1
            continue
        if turn[depth] >= counts[depth]:
            turn[depth] = 0
            depth -= 1
            continue
        option = turn[depth]
        turn[depth] += 1
        mask = masks[depth, option]
        if mask & used[depth]:
            continue
        reached = score[depth] + gains[depth, option]
        if reached + hope[depth + 1] <= best.score[most - 1]:
            continue
        chosen[depth], used[depth + 1], score[depth + 1] = mask, used[depth] | mask, reached
        depth += 1


@compiled
def _enter(h, m, score, chosen, best):  # type: ignore[no-untyped-def]
    """Enters an event of m detections among the best, in falling order of their scores."""
    k = len(best.score) - 1
    if score <= best.score[k]:
        return
    while k > 0 and best.score[k - 1] < score:
        best.score[k], best.hypothesis[k] = best.score[k - 1], best.hypothesis[k - 1]
        for j in range(m):
            best.masks[k, j] = best.masks[k - 1, j]
        k -= 1
    best.score[k], best.hypothesis[k] = score, h
    for j in range(m):
        best.masks[k, j] = chosen[j]
