"""The tracker's arithmetic, compiled: joint hypotheses of groups, each with one joint Gaussian over all its targets.

Targets that are near to each other are one group. What is believed of a group is a few hypotheses, which differ in what
was taken to come from what; each has a weight, and under it the targets' states are jointly Gaussian: they sway together,
so that a merged measurement, which shows only their mean, still tells where each is. A target exists with some
probability (a multi-Bernoulli mixture); what no target explains is a false alarm or a new one.

What a frame does to a hypothesis: its targets move on (predict). Each detection near its group may be clutter or new, one
target, or several that are merged; each of these options gains or loses log weight over clutter, from place, brightness
and the chances to be there, to be seen and to be merged (_options). The best ways to give all detections disjoint sets of
targets, over all hypotheses of the group, become its next hypotheses (_events, _apply): who was given a detection is
updated with it and certainly exists; who was not is the less likely to; what nobody was given starts a new target. Then
those that say the same become one, with their weights' sum, and but a few of the heaviest stay (_thin). Groups that come
near are joined, hypothesis by hypothesis (_regroup, _join), and fall apart when their targets do (_parts).

Beliefs are ragged arrays: groups have hypotheses, hypotheses have rows, one for each target.

    group (G + 1,)  first hypothesis of each      hypothesis (H + 1,)  first row of each    block (H + 1,)  first of `cov`
    log_weight (H,)                               chance (H, M)        of each motion model
    x (R, M, D)     state under each model        cov                  (M, n D, n D) of each hypothesis' n rows, flat
    real (R, 8), whole (R, 6)                     see the names of their columns below

All of it stands in one file: see compiling.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.compiling import compiled

__all__ = ["MOST_SEEN", "MOST_TARGETS", "Beliefs", "Rules", "advance", "predict", "published", "smoothed", "unusual"]

AMPLITUDE, AMPLITUDE_VAR, EXISTS, SCORE, SEEN_S, COV_XX, COV_XY, COV_YY = range(8)  # columns of `real`
ID, HITS, AGE, CONFIRMED, DETECTION, PARENT = range(6)  # columns of `whole`; HITS: a bit a frame, the last one lowest
REALS, WHOLES = 8, 6
MOST_TARGETS = 10  # of a group; what is near beyond that is a group of its own
MOST_SEEN = 12  # detections of a group in a frame; the others are taken for new
MOST_MERGED = 5
MOST_LEARNT = 50  # detections of a frame, of the brightness that is usual
OPTIONS = 64  # ways to explain one detection
FAINT = 12.0  # of log weight: hypotheses this much less likely than the best are dropped
ALIKE = 0.2  # standard deviations: hypotheses whose states differ by less are one
APART = 1.5  # times the distance at which targets become a group: from there it falls apart
REAL = 0.5  # a target less likely than this is in no group by its place alone
HIDDEN = 0.7  # of the chance to be merged: how much of that a miss is forgiven
FAR = 8.0  # standard deviations beyond the resolution: nothing is merged there
MERGEABLE = 1e-3  # targets whose chance to be merged is less are not taken to be
TINY = 1e-300
LOG_2PI = math.log(2 * math.pi)


class Beliefs(NamedTuple):
    """See above."""

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
    seen: float  # log of that chance over the density of false alarms and births, a px^2
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
    real: Any  # (K, MOST_TARGETS, 8)
    whole: Any  # (K, MOST_TARGETS, 6)


class View(NamedTuple):
    """How a room's hypotheses look to the sensor, K of them, each of up to N = MOST_TARGETS targets."""

    places: Any  # (K, N, 2) px, where they are measured
    spread: Any  # (K, N, N, 2, 2) px^2, the joint covariance of that
    merging: Any  # (K, N, N): see _merging
    fate: Any  # (K, N), and what follows: see _fates
    missed: Any
    visible: Any
    odds: Any


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
def _mix(x, cov, chance, switch):  # type: ignore[no-untyped-def]
    """The interacting step of several motion models: x (n, M, D), cov (M, nD, nD) and chance (M,), before they move."""
    n, models, size = x.shape
    new_x, new_cov, ahead = np.zeros(x.shape), np.zeros(cov.shape), np.zeros(models)
    for m in range(models):
        for k in range(models):
            ahead[m] += switch[k, m] * chance[k]
        for k in range(models):
            share = switch[k, m] * chance[k] / max(ahead[m], TINY)
            new_x[:, m] += share * x[:, k]
        for k in range(models):
            share = switch[k, m] * chance[k] / max(ahead[m], TINY)
            away = (x[:, k] - new_x[:, m]).copy().reshape(n * size)
            for p in range(n * size):
                for q in range(n * size):
                    new_cov[m, p, q] += share * (cov[k, p, q] + away[p] * away[q])
    x[:], cov[:], chance[:] = new_x, new_cov, ahead


@compiled
def _move(x, cov, m, transition, together, alone):  # type: ignore[no-untyped-def]
    """One model's step: x (n, M, D) and the joint cov (M, nD, nD); noise that the targets share, and what each has alone.

    Most of a transition is zeros, which are passed over.
    """
    n, _, size = x.shape
    state, half = np.empty(size), np.empty((size, size))
    for i in range(n):
        for p in range(size):
            state[p] = x[i, m, p]
        for p in range(size):
            value = 0.0
            for k in range(size):
                value += transition[p, k] * state[k]
            x[i, m, p] = value
        for j in range(i + 1):
            a, b = size * i, size * j
            for p in range(size):
                half[p] = 0.0
                for k in range(size):
                    if transition[p, k] != 0:
                        for q in range(size):
                            half[p, q] += transition[p, k] * cov[m, a + k, b + q]
            for q in range(size):
                for p in range(size):
                    value = together[p, q] + (alone[p, q] if i == j else 0.0)
                    for k in range(size):
                        if transition[q, k] != 0:
                            value += half[p, k] * transition[q, k]
                    cov[m, a + p, b + q] = value
            if i != j:
                for p in range(size):
                    for q in range(size):
                        cov[m, b + q, a + p] = cov[m, a + p, b + q]


@compiled
def predict(beliefs, transitions, together, alone, switch, fade, rules):  # type: ignore[no-untyped-def]
    """All that is believed, moved on: transitions, noise together and alone (M, D, D), switch (M, M); fade: of errors."""
    group, hypothesis, block, log_weight, chance, x, cov, real, whole = beliefs
    chance, x, cov, real = chance.copy(), x.copy(), cov.copy(), real.copy()
    models, size = x.shape[1:]
    for h in range(len(hypothesis) - 1):
        rows = slice(hypothesis[h], hypothesis[h + 1])
        n = hypothesis[h + 1] - hypothesis[h]
        joint = cov[block[h] : block[h + 1]].reshape((models, n * size, n * size))
        if models > 1:
            _mix(x[rows], joint, chance[h], switch)
        for m in range(models):
            _move(x[rows], joint, m, transitions[m], together[m], alone[m])
            if rules.coloured:
                for i in range(n):
                    at, fresh = size * (i + 1) - 2, 1 - fade * fade
                    row = real[hypothesis[h] + i]
                    joint[m, at, at] += fresh * row[COV_XX]
                    joint[m, at + 1, at + 1] += fresh * row[COV_YY]
                    joint[m, at, at + 1] += fresh * row[COV_XY]
                    joint[m, at + 1, at] += fresh * row[COV_XY]
    for r in range(len(real)):
        real[r, EXISTS] *= rules.survives
        real[r, AMPLITUDE_VAR] += rules.drift * real[r, AMPLITUDE] ** 2
    return Beliefs(group, hypothesis, block, log_weight, chance, x, cov, real, whole)


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


@compiled
def _place(x, row, m, coloured):  # type: ignore[no-untyped-def]
    """Where a target of x (R, M, D) is measured to be under one model."""
    if not coloured:
        return x[row, m, 0], x[row, m, 1]
    size = x.shape[2]
    return x[row, m, 0] + x[row, m, size - 2], x[row, m, 1] + x[row, m, size - 1]


@compiled
def _mean_place(x, row, chance, coloured):  # type: ignore[no-untyped-def]
    """Where it is over all models."""
    across, down = 0.0, 0.0
    for m in range(len(chance)):
        u, v = _place(x, row, m, coloured)
        across, down = across + chance[m] * u, down + chance[m] * v
    return across, down


@compiled
def _cross(cov, m, i, j, size, coloured, a, b):  # type: ignore[no-untyped-def]
    """The covariance of axis a of what is measured of target i with axis b of target j, under one model's joint cov."""
    p, q = size * i + a, size * j + b
    if not coloured:
        return cov[m, p, q]
    u, v = size * (i + 1) - 2 + a, size * (j + 1) - 2 + b
    return cov[m, p, q] + cov[m, u, v] + cov[m, p, v] + cov[m, u, q]


@compiled
def _measured(x, cov, chance, coloured, places, spread):  # type: ignore[no-untyped-def]
    """Fills the places (n, 2) and their joint covariances (n, n, 2, 2) of x (n, M, D), over all models."""
    n, models, size = x.shape
    for i in range(n):
        places[i, 0], places[i, 1] = _mean_place(x, i, chance, coloured)
        for j in range(i + 1):
            for a in range(2):
                for b in range(2):
                    value = 0.0
                    for m in range(models):
                        here = _place(x, i, m, coloured)[a] - places[i, a]
                        there = _place(x, j, m, coloured)[b] - places[j, b]
                        value += chance[m] * (_cross(cov, m, i, j, size, coloured, a, b) + here * there)
                    spread[i, j, a, b] = spread[j, i, b, a] = value


@compiled
def _chi2(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    return (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / max(xx * yy - xy * xy, TINY)


@compiled
def _log_normal(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Log density of a two-dimensional Gaussian, and its chi^2."""
    chi2 = _chi2(dx, dy, xx, xy, yy)
    return -0.5 * chi2 - 0.5 * math.log(max(xx * yy - xy * xy, TINY)) - LOG_2PI, chi2


@compiled
def _merging(n, places, spread, rules, chance):  # type: ignore[no-untyped-def]
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
def _together(mask, n, merging):  # type: ignore[no-untyped-def]
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
def _size(mask):  # type: ignore[no-untyped-def]
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@compiled
def _shares(mask, real):  # type: ignore[no-untyped-def]
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
def _brightness(mask, real, seen, clutter, rules):  # type: ignore[no-untyped-def]
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
def _gain(mask, n, odds, fate, merging, place_density, light_density, rules):  # type: ignore[no-untyped-def]
    """By how much better a detection is explained by these targets than by clutter, they being missed."""
    gain = rules.seen + place_density + light_density
    for i in range(n):
        if mask >> i & 1:
            gain += odds[i]
    if mask & (mask - 1):
        return gain + math.log(max(_together(mask, n, merging), 1e-9))
    for i in range(n):
        if mask >> i & 1:
            gain += fate[i]
    return gain


@compiled
def _fates(real, merging, rules, fate, missed, visible, odds):  # type: ignore[no-untyped-def]
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
def _options(seen, light, clutter, real, places, spread, merging, fate, odds, rules, masks, gains):  # type: ignore[no-untyped-def]
    """Fills the ways in which targets may explain one detection (x, y, xx, xy, yy), none being the first; how many."""
    n, count = len(real), 1
    masks[0], gains[0] = 0, 0.0
    room = rules.resolution + 3 * rules.softness
    candidates = 0
    for i in range(n):
        dx, dy = seen[0] - places[i, 0], seen[1] - places[i, 1]
        xx, xy, yy = spread[i, i, 0, 0] + seen[2], spread[i, i, 0, 1] + seen[3], spread[i, i, 1, 1] + seen[4]
        if _chi2(dx, dy, xx, xy, yy) < rules.gate and count < OPTIONS:
            density, _ = _log_normal(dx, dy, xx, xy, yy)
            more = _brightness(1 << i, real, light, clutter, rules)
            masks[count], gains[count] = 1 << i, _gain(1 << i, n, odds, fate, merging, density, more, rules)
            count += 1
        if math.hypot(dx, dy) < room * (MOST_MERGED - 1) / 2 + math.sqrt(rules.gate * max(xx, yy)):
            candidates |= 1 << i
    candidates = _mergeable(candidates, n, merging)
    subset = candidates
    while subset:
        if 2 <= _size(subset) <= MOST_MERGED and count < OPTIONS and _together(subset, n, merging) > MERGEABLE:
            density, chi2 = _mean_density(subset, seen, real, places, spread)
            if chi2 < rules.gate:
                more = _brightness(subset, real, light, clutter, rules)
                gain = _gain(subset, n, odds, fate, merging, density, more, rules)
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
    share = _shares(mask, real)
    dx, dy, xx, xy, yy = seen[0], seen[1], seen[2], seen[3], seen[4]
    for i in range(len(real)):
        if share[i] > 0:
            dx, dy = dx - share[i] * places[i, 0], dy - share[i] * places[i, 1]
            for j in range(len(real)):
                if share[j] > 0:
                    both = share[i] * share[j]
                    xx += both * spread[i, j, 0, 0]
                    xy += both * (spread[i, j, 0, 1] + spread[i, j, 1, 0]) / 2
                    yy += both * spread[i, j, 1, 1]
    return _log_normal(dx, dy, xx, xy, yy)


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


@compiled
def update(x, cov, chance, mask, share, seen, coloured):  # type: ignore[no-untyped-def]
    """A measurement (x, y, xx, xy, yy) of the weighted mean of some targets: x (n, M, D), cov (M, nD, nD), chance (M,).

    Returns its log density.
    """
    n, models, size = x.shape
    gain, logs = np.empty((2, n * size)), np.empty(models)
    for m in range(models):
        dx, dy = seen[0], seen[1]
        gain[:] = 0.0
        for i in range(n):
            if mask >> i & 1:
                across, down = _place(x, i, m, coloured)
                dx, dy = dx - share[i] * across, dy - share[i] * down
                for p in range(n * size):
                    for a in range(2):
                        value = cov[m, p, size * i + a]
                        if coloured:
                            value += cov[m, p, size * (i + 1) - 2 + a]
                        gain[a, p] += share[i] * value
        xx, xy, yx, yy = seen[2], seen[3], seen[3], seen[4]
        for i in range(n):
            if mask >> i & 1:
                p, u = size * i, size * (i + 1) - 2
                xx += share[i] * (gain[0, p] + (gain[0, u] if coloured else 0.0))
                xy += share[i] * (gain[1, p] + (gain[1, u] if coloured else 0.0))
                yx += share[i] * (gain[0, p + 1] + (gain[0, u + 1] if coloured else 0.0))
                yy += share[i] * (gain[1, p + 1] + (gain[1, u + 1] if coloured else 0.0))
        xy = (xy + yx) / 2
        logs[m], _ = _log_normal(dx, dy, xx, xy, yy)
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
                real[i, AMPLITUDE], real[i, AMPLITUDE_VAR] = seen[0] / _size(mask), seen[0] ** 2
            mean += real[i, AMPLITUDE]
            variance += real[i, AMPLITUDE_VAR]
    for i in range(len(real)):
        if mask >> i & 1:
            gain = real[i, AMPLITUDE_VAR] / variance
            real[i, AMPLITUDE] += gain * (seen[0] - mean)
            real[i, AMPLITUDE_VAR] *= 1 - gain


@compiled
def _apply(masks, rows, seen, lights, clutter, now_s, room, c, view, h, rules):  # type: ignore[no-untyped-def]
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
        more = _brightness(mask, before, lights[j], clutter[j], rules)
        density = update(x, cov, chance, mask, _shares(mask, before), seen[j], rules.coloured)
        weight += _gain(mask, n, odds, fate, merging, density, more, rules)
        _lighten(mask, real, lights[j])
        for i in range(n):
            if mask >> i & 1:
                real[i, SCORE] += rules.seen + density + more
                real[i, COV_XX], real[i, COV_XY], real[i, COV_YY] = seen[j, 5], seen[j, 6], seen[j, 7]
                whole[i, DETECTION] = rows[j]
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
        whole[i, CONFIRMED] |= _confirms(real[i], whole[i], rules)
    room.log_weight[c] += weight


@compiled
def _confirms(real, whole, rules):  # type: ignore[no-untyped-def]
    if rules.by_score:
        return 1 if real[SCORE] >= rules.enough else 0
    return 1 if _size(whole[HITS] & ((1 << rules.of) - 1)) >= rules.hits else 0


@compiled
def _ended(real, whole, now_s, rules):  # type: ignore[no-untyped-def]
    """Whether a track is over: unlikely, long unseen, or not confirmed in time."""
    if real[EXISTS] < rules.least or now_s - real[SEEN_S] > rules.end_s:
        return True
    if whole[CONFIRMED]:
        return False
    if rules.by_score:
        return real[SCORE] < -rules.enough
    frames = min(whole[AGE], rules.of)
    misses = frames - _size(whole[HITS] & ((1 << frames) - 1))
    return whole[AGE] > rules.of or misses > rules.of - rules.hits


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
                error = seen[5 + a + b]
                cov[m, a, b] = error
                if rules.coloured:
                    u, v = size - 2 + a, size - 2 + b
                    cov[m, u, v], cov[m, a, v], cov[m, u, b] = error, -error, -error
                    cov[m, a, b] += seen[2 + a + b]
    real[AMPLITUDE], real[AMPLITUDE_VAR] = light[0], light[1]
    real[EXISTS], real[SCORE], real[SEEN_S] = seen[8], math.log(seen[8]), now_s
    real[COV_XX], real[COV_XY], real[COV_YY] = seen[5], seen[6], seen[7]
    whole[ID], whole[HITS], whole[AGE], whole[CONFIRMED], whole[DETECTION], whole[PARENT] = number, 1, 1, 0, row, -1
    whole[CONFIRMED] = _confirms(real, whole, rules)


@compiled
def _alike(room, k, other):  # type: ignore[no-untyped-def]
    """Whether two hypotheses of a room say the same of the same targets, within a fraction of the other's deviations."""
    if room.count[k] != room.count[other]:
        return False
    size = room.x.shape[3]
    for i in range(room.count[k]):
        if room.whole[k, i, ID] != room.whole[other, i, ID]:
            return False
        for a in range(size):
            away = room.x[k, i, 0, a] - room.x[other, i, 0, a]
            if away * away > ALIKE**2 * room.cov[other, 0, size * i + a, size * i + a]:
                return False
        away = room.real[k, i, AMPLITUDE] - room.real[other, i, AMPLITUDE]
        if away * away > ALIKE**2 * room.real[other, i, AMPLITUDE_VAR]:
            return False
    return True


@compiled
def _root(parent, k):  # type: ignore[no-untyped-def]
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
def _boxes(beliefs, seen, rules):  # type: ignore[no-untyped-def]
    """(G, 6) of each group: the box of its places, the reach beyond it of its gates, and whether it is real; rows (G,)."""
    group, hypothesis, block, _, chance, x, cov, real, _ = beliefs
    groups, models, size = len(group) - 1, x.shape[1], x.shape[2]
    boxes, rows = np.empty((groups, 6)), np.zeros(groups, np.int64)
    widest = 0.0
    for j in range(len(seen)):
        widest = max(widest, seen[j, 2], seen[j, 4])
    for g in range(groups):
        left, top, right, bottom, variance, exists = np.inf, np.inf, -np.inf, -np.inf, 0.0, 0.0
        for h in range(group[g], group[g + 1]):
            first, n = hypothesis[h], hypothesis[h + 1] - hypothesis[h]
            rows[g] = max(rows[g], n)
            joint = cov[block[h] : block[h + 1]].reshape((models, n * size, n * size))
            for i in range(n):
                across, down = _mean_place(x, first + i, chance[h], rules.coloured)
                left, top, right, bottom = min(left, across), min(top, down), max(right, across), max(bottom, down)
                exists = max(exists, real[first + i, EXISTS])
                for m in range(models):
                    for a in range(2):
                        variance = max(variance, _cross(joint, m, i, i, size, rules.coloured, a, a))
        boxes[g, 0], boxes[g, 1], boxes[g, 2], boxes[g, 3] = left, top, right, bottom
        boxes[g, 4], boxes[g, 5] = math.sqrt(rules.gate * (variance + widest)), exists
    return boxes, rows


@compiled
def _near(boxes, g, k):  # type: ignore[no-untyped-def]
    """How far two boxes are apart along the axis where that is most."""
    return max(boxes[g, 0] - boxes[k, 2], boxes[k, 0] - boxes[g, 2], boxes[g, 1] - boxes[k, 3], boxes[k, 1] - boxes[g, 3])


@compiled
def _regroup(beliefs, seen, rules):  # type: ignore[no-untyped-def]
    """Which groups become one, (G,) numbers of the first of each, and which one each detection is near to, -1 for none."""
    boxes, rows = _boxes(beliefs, seen, rules)
    groups = len(boxes)
    parent, owner = np.arange(groups), np.full(len(seen), -1)
    order = np.argsort(boxes[:, 0])
    for first in range(groups):
        g = order[first]
        if boxes[g, 5] < REAL:
            continue
        for second in range(first + 1, groups):
            k = order[second]
            if boxes[k, 0] - boxes[g, 2] > rules.near:
                break
            if boxes[k, 5] >= REAL and _near(boxes, g, k) < rules.near:
                _unite(parent, rows, g, k)
    _own(boxes, seen, parent, rows, owner)
    for g in range(groups):
        parent[g] = _root(parent, g)
    for j in range(len(seen)):
        if owner[j] >= 0:
            owner[j] = parent[owner[j]]
    return parent, owner


@compiled
def _own(boxes, seen, parent, rows, owner):  # type: ignore[no-untyped-def]
    """Gives each detection to the nearest group in whose reach it is; the others that reach it are united with that."""
    groups = len(boxes)
    left, widest = boxes[:, 0] - boxes[:, 4], 0.0
    for g in range(groups):
        widest = max(widest, boxes[g, 2] - boxes[g, 0] + 2 * boxes[g, 4])
    order = np.argsort(left)
    left = left[order]
    reached = np.empty(groups, np.int64)
    for j in range(len(seen)):
        x, y = seen[j, 0], seen[j, 1]
        count, nearest = 0, np.inf
        for place in range(np.searchsorted(left, x - widest), groups):
            if left[place] > x:
                break
            g = order[place]
            outside = max(boxes[g, 0] - x, x - boxes[g, 2], boxes[g, 1] - y, y - boxes[g, 3])
            if outside < boxes[g, 4]:
                reached[count] = g
                count += 1
                if outside < nearest or (outside == nearest and g < owner[j]):
                    owner[j], nearest = g, outside
        if count > 1:
            reached[:count].sort()
            for g in reached[:count]:
                _unite(parent, rows, owner[j], g)


@compiled
def _unite(parent, rows, g, k):  # type: ignore[no-untyped-def]
    """Makes two groups one, where that is not too large."""
    a, b = _root(parent, g), _root(parent, k)
    if a != b and rows[a] + rows[b] <= MOST_TARGETS:
        a, b = min(a, b), max(a, b)
        parent[b] = a
        rows[a] += rows[b]


@compiled
def _room(most, beliefs):  # type: ignore[no-untyped-def]
    models, size = beliefs.x.shape[1:]
    n = MOST_TARGETS
    return Room(
        np.zeros(most, np.int64),
        np.zeros(most),
        np.zeros((most, models)),
        np.zeros((most, n, models, size)),
        np.zeros((most, models, n * size, n * size)),
        np.zeros((most, n, REALS)),
        np.zeros((most, n, WHOLES), np.int64),
    )


@compiled
def _view(most):  # type: ignore[no-untyped-def]
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
def _work():  # type: ignore[no-untyped-def]
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
def _load(beliefs, g, room):  # type: ignore[no-untyped-def]
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
            _copy_row(beliefs.x, beliefs.real, beliefs.whole, first + i, room.x[k], room.real[k], room.whole[k], i)
            room.whole[k, i, PARENT] = first + i
    return end - begin


@compiled
def _copy_row(x, real, whole, i, into_x, into_real, into_whole, k):  # type: ignore[no-untyped-def]
    """Row i of these to row k of those."""
    for m in range(x.shape[1]):
        for a in range(x.shape[2]):
            into_x[k, m, a] = x[i, m, a]
    for a in range(REALS):
        into_real[k, a] = real[i, a]
    for a in range(WHOLES):
        into_whole[k, a] = whole[i, a]


@compiled
def _copy(room, k, into, c):  # type: ignore[no-untyped-def]
    """A room's hypothesis k into another room, as its hypothesis c."""
    n, models, size = room.count[k], room.x.shape[2], room.x.shape[3]
    into.count[c], into.log_weight[c] = n, room.log_weight[k]
    for i in range(n):
        _copy_row(room.x[k], room.real[k], room.whole[k], i, into.x[c], into.real[c], into.whole[c], i)
    for m in range(models):
        into.chance[c, m] = room.chance[k, m]
        for p in range(n * size):
            for q in range(n * size):
                into.cov[c, m, p, q] = room.cov[k, m, p, q]


@compiled
def _join(room, count, other, others, into):  # type: ignore[no-untyped-def]
    """The likeliest pairs of two rooms' hypotheses into a third; how many."""
    sums = np.empty(count * others)
    for k in range(count):
        for q in range(others):
            sums[k * others + q] = -(room.log_weight[k] + other.log_weight[q])
    order = np.argsort(sums)[: len(into.count)]
    size = room.x.shape[3]
    for place in range(len(order)):
        k, q = order[place] // others, order[place] % others
        a, b = room.count[k], other.count[q]
        _copy(room, k, into, place)
        into.count[place], into.log_weight[place] = a + b, room.log_weight[k] + other.log_weight[q]
        for i in range(b):
            _copy_row(
                other.x[q], other.real[q], other.whole[q], i, into.x[place], into.real[place], into.whole[place], a + i
            )
        a, b = a * size, b * size
        into.cov[place, :, :a, a : a + b] = 0.0
        into.cov[place, :, a : a + b, :a] = 0.0
        into.cov[place, :, a : a + b, a : a + b] = other.cov[q, :, :b, :b]
    return len(order)


@compiled
def _explain(room, count, seen, lights, clutter, rules, view, work, best):  # type: ignore[no-untyped-def]
    """The best events of a group over all its hypotheses, and how these look."""
    best.score[:] = -np.inf
    for k in range(count):
        n = room.count[k]
        real, places, spread, merging = room.real[k, :n], view.places[k], view.spread[k], view.merging[k]
        _measured(room.x[k, :n], room.cov[k], room.chance[k], rules.coloured, places, spread)
        _merging(n, places, spread, rules, merging)
        _fates(real, merging, rules, view.fate[k], view.missed[k], view.visible[k], view.odds[k])
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
def _keep_rows(room, c, kept):  # type: ignore[no-untyped-def]
    """Leaves only some rows of a hypothesis, those of a mask, in their order."""
    n, size = room.count[c], room.x.shape[3]
    count = 0
    for i in range(n):
        if kept >> i & 1:
            if count != i:
                _copy_row(room.x[c], room.real[c], room.whole[c], i, room.x[c], room.real[c], room.whole[c], count)
                a, b = count * size, i * size
                room.cov[c, :, a : a + size, : n * size] = room.cov[c, :, b : b + size, : n * size].copy()
                room.cov[c, :, : n * size, a : a + size] = room.cov[c, :, : n * size, b : b + size].copy()
            count += 1
    room.count[c] = count


@compiled
def _add_born(room, c, masks, rows, seen, lights, numbers, now_s, rules):  # type: ignore[no-untyped-def]
    """Adds what a hypothesis does not explain to it, as new targets."""
    size = room.x.shape[3]
    for j in range(len(rows)):
        n = room.count[c]
        if masks[j] or n >= MOST_TARGETS or seen[j, 8] < rules.least:
            continue
        a, b = n * size, (n + 1) * size
        room.cov[c, :, a:b, :b] = 0.0
        room.cov[c, :, :b, a:b] = 0.0
        cov, number = room.cov[c, :, a:b, a:b], numbers + rows[j]
        _born(rows[j], seen[j], lights[j], number, now_s, rules, room.x[c, n], cov, room.real[c, n], room.whole[c, n])
        room.count[c] = n + 1


@compiled
def _thin(room, count, most):  # type: ignore[no-untyped-def]
    """(count,): which hypotheses to keep, and in falling order: weights of alike ones added up, faint ones dropped."""
    weight = room.log_weight
    order = np.argsort(-weight[:count])
    kept, found = np.empty(count, np.int64), 0
    for place in range(count):
        k = order[place]
        if found and weight[k] < weight[kept[0]] - FAINT:
            break
        same = False
        for other in kept[:found]:
            if _alike(room, k, other):
                high, low = max(weight[other], weight[k]), min(weight[other], weight[k])
                weight[other] = high + math.log1p(math.exp(low - high))
                same = True
                break
        if not same and found < most:
            kept[found] = k
            found += 1
    return kept[:found]


@compiled
def _where(values, count, value):  # type: ignore[no-untyped-def]
    """The first place of a value among the first ones, or their count."""
    for k in range(count):
        if values[k] == value:
            return k
    return count


@compiled
def _parts(room, kept, rules):  # type: ignore[no-untyped-def]
    """The targets of a group by the part it falls into: their ids and, of the same length, the parts' numbers."""
    ids = np.empty(len(kept) * MOST_TARGETS, np.int64)
    count = 0
    for k in kept:
        for i in range(room.count[k]):
            ids[count] = room.whole[k, i, ID]
            if _where(ids, count, ids[count]) == count:
                count += 1
    part = np.arange(count)
    for k in kept:
        for i in range(room.count[k]):
            a = _root(part, _where(ids, count, room.whole[k, i, ID]))
            for j in range(i):
                away = max(abs(room.x[k, i, 0, 0] - room.x[k, j, 0, 0]), abs(room.x[k, i, 0, 1] - room.x[k, j, 0, 1]))
                if away < APART * rules.near:
                    b = _root(part, _where(ids, count, room.whole[k, j, ID]))
                    part[max(a, b)] = min(a, b)
                    a = min(a, b)
    for k in range(count):
        part[k] = _root(part, k)
    return ids[:count], part


@compiled
def _store(room, kept, out, ends):  # type: ignore[no-untyped-def]
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
            _copy_row(room.x[k], room.real[k], room.whole[k], i, out.x, out.real, out.whole, row + i)
        out.block[h + 1], out.hypothesis[h + 1] = at, row + n
        ends[1], ends[2] = h + 1, row + n
    if ends[0] + 1 >= len(out.group):
        return False
    out.group[ends[0] + 1] = ends[1]
    ends[0] += 1
    return True


@compiled
def _put_away(room, count, spare, out, ends, rules):  # type: ignore[no-untyped-def]
    """A group's hypotheses into the beliefs, each part of it that stands alone as a group; False where there is no room."""
    kept = _thin(room, count, rules.most)
    ids, part = _parts(room, kept, rules)
    if not len(ids):
        return True
    if (part == part[0]).all():
        return _store(room, kept, out, ends)
    for number in np.unique(part):
        for c in range(len(kept)):
            _copy(room, kept[c], spare, c)
            mine = 0
            for i in range(spare.count[c]):
                if part[_where(ids, len(ids), spare.whole[c, i, ID])] == number:
                    mine |= 1 << i
            _keep_rows(spare, c, mine)
        if not _store(spare, _thin(spare, len(kept), rules.most), out, ends):
            return False
    return True


@compiled
def _listed(label, count):  # type: ignore[no-untyped-def]
    """What bears each label below count, in rising order: that of label g is items[start[g] : start[g + 1]]."""
    start = np.zeros(count + 1, np.int64)
    for k in label:
        if k >= 0:
            start[k + 1] += 1
    start = np.cumsum(start)
    items, end = np.empty(start[count], np.int64), start.copy()
    for item in range(len(label)):
        if label[item] >= 0:
            items[end[label[item]]] = item
            end[label[item]] += 1
    return items, start


@compiled
def _branch(room, count, rows, seen, lights, clutter, numbers, now_s, rules, view, work, best, into):  # type: ignore[no-untyped-def]
    """A group's hypotheses and its detections (their rows in the frame) to the likeliest hypotheses after it; how many."""
    _explain(room, count, seen, lights, clutter, rules, view, work, best)
    for c in range(len(best.score)):
        if best.score[c] < best.score[0] - FAINT or best.score[c] == -np.inf:
            return c
        h, masks = best.hypothesis[c], best.masks[c]
        _copy(room, h, into, c)
        _apply(masks, rows, seen, lights, clutter, now_s, into, c, view, h, rules)
        kept = 0
        for i in range(into.count[c]):
            if not _ended(into.real[c, i], into.whole[c, i], now_s, rules):
                kept |= 1 << i
        _keep_rows(into, c, kept)
        _add_born(into, c, masks, rows, seen, lights, numbers, now_s, rules)
    return len(best.score)


@compiled
def advance(beliefs, seen, lights, clutter, numbers, now_s, rules, out):  # type: ignore[no-untyped-def]
    """One frame: predicted beliefs and its detections to beliefs, which are written into the first part of `out`.

    seen (N, 9): x, y px, the covariance with which they are compared (xx, xy, yy), their own, and the chance that each is a
    new target, if nobody explains it; lights (N, 2): brightness and its variance, DN, NaN where unknown; clutter (N,): log
    density of that brightness among all; numbers: the id of what the first detection may start, the others' follow. Returns
    groups, hypotheses and rows used; -1 where it has no room.
    """
    parent, owner = _regroup(beliefs, seen, rules)
    pool = 2 * rules.most
    first, second, third = _room(pool, beliefs), _room(pool, beliefs), _room(pool, beliefs)
    view, work = _view(pool), _work()
    best = Best(np.empty(pool), np.zeros(pool, np.int64), np.zeros((pool, MOST_SEEN), np.int64))
    members, begin = _listed(parent, len(parent))
    items, start = _listed(owner, len(parent))
    ends = np.zeros(3, np.int64)
    out.group[0] = out.hypothesis[0] = out.block[0] = 0
    for g in range(len(parent)):
        if parent[g] != g:
            continue
        count = _load(beliefs, g, first)
        for k in members[begin[g] + 1 : begin[g + 1]]:
            others = _load(beliefs, k, second)
            count = _join(first, count, second, others, third)
            first, third = third, first
        rows = items[start[g] : start[g + 1]]
        owner[rows[MOST_SEEN:]] = -1
        rows = rows[:MOST_SEEN]
        children = _branch(
            first,
            count,
            rows,
            seen[rows],
            lights[rows],
            clutter[rows],
            numbers,
            now_s,
            rules,
            view,
            work,
            best,
            second,
        )
        if not _put_away(second, children, third, out, ends, rules):
            return -1, -1, -1
    for j in range(len(seen)):
        if owner[j] < 0 and seen[j, 8] >= rules.least:
            first.count[0], first.log_weight[0] = 0, 0.0
            first.chance[0] = 1.0 / beliefs.x.shape[1]
            alone, mine, light = np.array([j]), seen[j : j + 1], lights[j : j + 1]
            _add_born(first, 0, np.zeros(1, np.int64), alone, mine, light, numbers, now_s, rules)
            if not _store(first, np.zeros(1, np.int64), out, ends):
                return -1, -1, -1
    return ends[0], ends[1], ends[2]


@compiled
def published(beliefs):  # type: ignore[no-untyped-def]
    """The likeliest hypothesis of each group: its rows, each one's chance to exist over all hypotheses, states and covs.

    rows (T,), score (T,), state (T, D) and cov (T, D, D) over the motion models.
    """
    group, hypothesis, block, log_weight, chance, x, cov, real, whole = beliefs
    models, size = x.shape[1:]
    total = 0
    for g in range(len(group) - 1):
        total += hypothesis[group[g] + 1] - hypothesis[group[g]]
    rows, score = np.empty(total, np.int64), np.zeros(total)
    state, spread = np.zeros((total, size)), np.zeros((total, size, size))
    at = 0
    for g in range(len(group) - 1):
        h = group[g]
        first, n = hypothesis[h], hypothesis[h + 1] - hypothesis[h]
        joint = cov[block[h] : block[h + 1]].reshape((models, n * size, n * size))
        for i in range(n):
            rows[at] = first + i
            for other in range(group[g], group[g + 1]):
                for r in range(hypothesis[other], hypothesis[other + 1]):
                    if whole[r, ID] == whole[first + i, ID]:
                        score[at] += math.exp(log_weight[other]) * real[r, EXISTS]
            _moments(x[first + i], joint, i, chance[h], state[at], spread[at])
            at += 1
    return rows, score, state, spread


@compiled
def _moments(x, joint, i, chance, state, spread):  # type: ignore[no-untyped-def]
    """Fills the mean (D,) and covariance (D, D) of one target over its models."""
    models, size = x.shape
    for m in range(models):
        state += chance[m] * x[m]
    for m in range(models):
        for p in range(size):
            for q in range(size):
                away = (x[m, p] - state[p]) * (x[m, q] - state[q])
                spread[p, q] += chance[m] * (joint[m, size * i + p, size * i + q] + away)


@compiled
def smoothed(beliefs, rows, state, cov, transition, noise, fade):  # type: ignore[no-untyped-def]
    """Takes tracks one frame back: the state (T, D) and cov (T, D, D) of a frame's rows, as smoothed, to these rows'
    (T,) in the beliefs of the frame before; -1 stays as it is. transition, noise (D, D): of the step between them.
    """
    _, hypothesis, block, _, chance, x, joint, real, _ = beliefs
    models, size = x.shape[1:]
    of = np.empty(len(x), np.int64)
    for h in range(len(hypothesis) - 1):
        of[hypothesis[h] : hypothesis[h + 1]] = h
    new_state, new_cov = state.copy(), cov.copy()
    for t in range(len(rows)):
        if rows[t] < 0:
            continue
        h = of[rows[t]]
        n, first = hypothesis[h + 1] - hypothesis[h], hypothesis[h]
        mean, spread = np.zeros(size), np.zeros((size, size))
        matrix = joint[block[h] : block[h + 1]].reshape((models, n * size, n * size))
        _moments(x[rows[t]], matrix, rows[t] - first, chance[h], mean, spread)
        cross = spread @ transition.T
        ahead = transition @ cross + noise
        if fade >= 0:
            row, fresh = real[rows[t]], 1 - fade * fade
            for a in range(2):
                for b in range(2):
                    ahead[size - 2 + a, size - 2 + b] += fresh * row[COV_XX + a + b]
        gain = np.linalg.solve(ahead, cross.T).T
        new_state[t] = mean + gain @ (state[t] - transition @ mean)
        back = spread + gain @ (cov[t] - ahead) @ gain.T
        new_cov[t] = (back + back.T) / 2
    return new_state, new_cov
