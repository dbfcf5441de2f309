"""The tracker's arithmetic, compiled: joint hypotheses of groups, each with one joint Gaussian over all its targets.

Targets that are near to each other are one group. What is believed of a group is a few hypotheses, which differ in what
was taken to come from what; each has a weight, and under it the targets' states are jointly Gaussian: they sway together,
so that a merged measurement, which shows only their mean, still tells where each is. A target exists with some
probability (a multi-Bernoulli mixture); what no target explains is a false alarm or a new one.

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

__all__ = ["MOST_SEEN", "MOST_TARGETS", "Beliefs", "Rules", "advance", "predict", "published", "smoothed"]

AMPLITUDE, AMPLITUDE_VAR, EXISTS, SCORE, SEEN_S, COV_XX, COV_XY, COV_YY = range(8)  # columns of `real`
ID, HITS, AGE, CONFIRMED, DETECTION, PARENT = range(6)  # columns of `whole`; HITS: a bit a frame, the last one lowest
REALS, WHOLES = 8, 6
MOST_TARGETS = 10  # of a group; what is near beyond that is a group of its own
MOST_SEEN = 12  # detections of a group in a frame; the others are taken for new
MOST_MERGED = 5
OPTIONS = 64  # ways to explain one detection
FAINT = 12.0  # of log weight: hypotheses this much less likely than the best are dropped
ALIKE = 0.2  # standard deviations: hypotheses whose states differ by less are one
APART = 1.5  # times the distance at which targets become a group: from there it falls apart
REAL = 0.5  # a target less likely than this is in no group by its place alone
HIDDEN = 0.7  # of the chance to be merged: how much of that a miss is forgiven
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
    clutter: float  # false alarms and births, a px^2
    newborn: float  # the chance that what nobody explains is a new target
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
def _move(x, cov, transition, together, alone):  # type: ignore[no-untyped-def]
    """One model's step: x (n, D) and the joint cov (nD, nD); noise that the targets share, and what each has alone."""
    n, size = x.shape
    half = np.empty((size, size))
    for i in range(n):
        x[i] = _times(transition, x[i].copy())
        for j in range(i + 1):
            a, b = size * i, size * j
            for p in range(size):
                for q in range(size):
                    value = 0.0
                    for k in range(size):
                        value += transition[p, k] * cov[a + k, b + q]
                    half[p, q] = value
            for p in range(size):
                for q in range(size):
                    value = together[p, q] + (alone[p, q] if i == j else 0.0)
                    for k in range(size):
                        value += half[p, k] * transition[q, k]
                    cov[a + p, b + q] = value
            if i != j:
                cov[b : b + size, a : a + size] = cov[a : a + size, b : b + size].T


@compiled
def _times(matrix, vector):  # type: ignore[no-untyped-def]
    out = np.zeros(len(matrix))
    for i in range(len(matrix)):
        for k in range(len(vector)):
            out[i] += matrix[i, k] * vector[k]
    return out


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
            _move(x[rows, m], joint[m], transitions[m], together[m], alone[m])
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
def _place(x, chance, coloured):  # type: ignore[no-untyped-def]
    """Where a target is measured to be: (2,), over its models (M, D)."""
    place = np.zeros(2)
    for m in range(len(x)):
        for a in range(2):
            value = x[m, a]
            if coloured:
                value += x[m, len(x[m]) - 2 + a]
            place[a] += chance[m] * value
    return place


@compiled
def _cross(cov, i, j, size, coloured):  # type: ignore[no-untyped-def]
    """The covariance (2, 2) of what is measured of two targets, under one model's joint cov."""
    out = np.empty((2, 2))
    for a in range(2):
        for b in range(2):
            p, q = size * i + a, size * j + b
            out[a, b] = cov[p, q]
            if coloured:
                u, v = size * (i + 1) - 2 + a, size * (j + 1) - 2 + b
                out[a, b] += cov[u, v] + cov[p, v] + cov[u, q]
    return out


@compiled
def _measured(x, cov, chance, coloured):  # type: ignore[no-untyped-def]
    """Places (n, 2) and their joint covariances (n, n, 2, 2), over all models."""
    n, models, size = x.shape
    places, spread = np.zeros((n, 2)), np.zeros((n, n, 2, 2))
    for i in range(n):
        places[i] = _place(x[i], chance, coloured)
    for m in range(models):
        for i in range(n):
            here = _place(x[i, m : m + 1], np.ones(1), coloured) - places[i]
            for j in range(n):
                there = _place(x[j, m : m + 1], np.ones(1), coloured) - places[j]
                part = _cross(cov[m], i, j, size, coloured)
                for a in range(2):
                    for b in range(2):
                        spread[i, j, a, b] += chance[m] * (part[a, b] + here[a] * there[b])
    return places, spread


@compiled
def _log_normal(dx, dy, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Log density of a two-dimensional Gaussian, and its chi^2."""
    determinant = max(xx * yy - xy * xy, TINY)
    chi2 = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
    return -0.5 * chi2 - 0.5 * math.log(determinant) - LOG_2PI, chi2


@compiled
def _merging(places, spread, rules):  # type: ignore[no-untyped-def]
    """(n, n): the chance that two targets are too near to be told apart."""
    n = len(places)
    chance = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            dx, dy = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1]
            apart = math.hypot(dx, dy)
            c = spread[i, i] + spread[j, j] - spread[i, j] - spread[j, i]
            if apart > 1e-6:
                along = (dx * dx * c[0, 0] + 2 * dx * dy * c[0, 1] + dy * dy * c[1, 1]) / apart**2
            else:
                along = (c[0, 0] + c[1, 1]) / 2
            width = math.sqrt(max(along, 0.0) + rules.softness**2)
            chance[i, j] = chance[j, i] = min(0.5 * math.erfc((apart - rules.resolution) / (width * math.sqrt(2.0))), 0.98)
    return chance


@compiled
def _together(mask, merging):  # type: ignore[no-untyped-def]
    """The chance that the targets of a mask are one: the least of each one's chance to be merged with another of them."""
    n = len(merging)
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
    return shares / total


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
def _gain(mask, real, missed, merging, fate, place_density, light_density, rules):  # type: ignore[no-untyped-def]
    """By how much better a detection is explained by these targets than by clutter, they being missed."""
    gain = math.log(rules.detected) + place_density + light_density - math.log(rules.clutter)
    for i in range(len(real)):
        if mask >> i & 1:
            gain += math.log(max(real[i, EXISTS], TINY)) - missed[i]
    if _size(mask) > 1:
        return gain + math.log(max(_together(mask, merging), 1e-9))
    for i in range(len(real)):
        if mask >> i & 1:
            gain += fate[i]
    return gain


@compiled
def _fates(real, merging, rules):  # type: ignore[no-untyped-def]
    """(n,) each: log of not being merged, shared with the neighbour; log of being missed; the chance to be seen alone."""
    n = len(real)
    fate, missed, visible = np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        most = 0.0
        for j in range(n):
            if j != i:
                most = max(most, merging[i, j] * real[j, EXISTS])
        fate[i] = 0.5 * math.log(1 - most)
        visible[i] = rules.detected * (1 - HIDDEN * most)
        missed[i] = math.log(1 - real[i, EXISTS] * visible[i]) + fate[i]
    return fate, missed, visible


@compiled
def _options(seen, light, clutter, places, spread, real, merging, fate, missed, rules, masks, gains):  # type: ignore[no-untyped-def]
    """Fills the ways in which targets may explain one detection (x, y, xx, xy, yy), none being the first; how many."""
    n, count = len(places), 1
    masks[0], gains[0] = 0, 0.0
    room = rules.resolution + 3 * rules.softness
    candidates = 0
    for i in range(n):
        dx, dy = seen[0] - places[i, 0], seen[1] - places[i, 1]
        c = spread[i, i]
        density, chi2 = _log_normal(dx, dy, c[0, 0] + seen[2], c[0, 1] + seen[3], c[1, 1] + seen[4])
        if chi2 < rules.gate and count < OPTIONS:
            more = _brightness(1 << i, real, light, clutter, rules)
            masks[count], gains[count] = 1 << i, _gain(1 << i, real, missed, merging, fate, density, more, rules)
            count += 1
        reach = room * (MOST_MERGED - 1) / 2 + math.sqrt(rules.gate * max(c[0, 0] + seen[2], c[1, 1] + seen[4]))
        if math.hypot(dx, dy) < reach:
            candidates |= 1 << i
    subset = candidates
    while subset:
        size = _size(subset)
        if 2 <= size <= MOST_MERGED and count < OPTIONS and _together(subset, merging) > 1e-3:
            share = _shares(subset, real)
            dx, dy, xx, xy, yy = seen[0], seen[1], seen[2], seen[3], seen[4]
            for i in range(n):
                if share[i] > 0:
                    dx, dy = dx - share[i] * places[i, 0], dy - share[i] * places[i, 1]
                    for j in range(n):
                        if share[j] > 0:
                            both, c = share[i] * share[j], spread[i, j]
                            xx, xy, yy = xx + both * c[0, 0], xy + both * (c[0, 1] + c[1, 0]) / 2, yy + both * c[1, 1]
            density, chi2 = _log_normal(dx, dy, xx, xy, yy)
            if chi2 < rules.gate:
                more = _brightness(subset, real, light, clutter, rules)
                gain = _gain(subset, real, missed, merging, fate, density, more, rules)
                if gain > -FAINT:
                    masks[count], gains[count] = subset, gain
                    count += 1
        subset = (subset - 1) & candidates
    return count


@compiled
def _events(h, base, masks, gains, counts, best_score, best_hypothesis, best_masks):  # type: ignore[no-untyped-def]
    """The best ways in which disjoint sets of targets explain all detections, by branch and bound.

    masks, gains (m, OPTIONS) and counts (m,): each detection's; they are entered among the best so far, in falling order.
    """
    m, most = len(counts), len(best_score)
    hope = np.zeros(m + 1)
    for j in range(m - 1, -1, -1):
        hope[j] = hope[j + 1] + gains[j, : counts[j]].max()
    chosen, turn = np.zeros(m + 1, np.int64), np.zeros(m + 1, np.int64)
    used, score = np.zeros(m + 1, np.int64), np.zeros(m + 1)
    depth, score[0] = 0, base
    while depth >= 0:
        if depth == m:
            _enter(h, score[m], chosen, best_score, best_hypothesis, best_masks)
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
        if reached + hope[depth + 1] <= best_score[most - 1]:
            continue
        chosen[depth], used[depth + 1], score[depth + 1] = mask, used[depth] | mask, reached
        depth += 1


@compiled
def _enter(h, score, chosen, best_score, best_hypothesis, best_masks):  # type: ignore[no-untyped-def]
    """Enters an event among the best, in falling order of their scores."""
    k = len(best_score) - 1
    if score <= best_score[k]:
        return
    while k > 0 and best_score[k - 1] < score:
        best_score[k], best_hypothesis[k], best_masks[k] = best_score[k - 1], best_hypothesis[k - 1], best_masks[k - 1]
        k -= 1
    best_score[k], best_hypothesis[k] = score, h
    best_masks[k, : best_masks.shape[1]] = chosen[: best_masks.shape[1]]


@compiled
def update(x, cov, chance, mask, share, seen, coloured):  # type: ignore[no-untyped-def]
    """A measurement (x, y, xx, xy, yy) of the weighted mean of some targets: x (n, M, D), cov (M, nD, nD), chance (M,).

    Returns its log density.
    """
    n, models, size = x.shape
    gain, logs = np.empty((n * size, 2)), np.empty(models)
    for m in range(models):
        dx, dy = seen[0], seen[1]
        gain[:] = 0.0
        for i in range(n):
            if mask >> i & 1:
                place = _place(x[i, m : m + 1], np.ones(1), coloured)
                dx, dy = dx - share[i] * place[0], dy - share[i] * place[1]
                for p in range(n * size):
                    for a in range(2):
                        value = cov[m, p, size * i + a]
                        if coloured:
                            value += cov[m, p, size * (i + 1) - 2 + a]
                        gain[p, a] += share[i] * value
        xx, xy, yx, yy = seen[2], seen[3], seen[3], seen[4]
        for i in range(n):
            if mask >> i & 1:
                p, u = size * i, size * (i + 1) - 2
                xx += share[i] * (gain[p, 0] + (gain[u, 0] if coloured else 0.0))
                xy += share[i] * (gain[p, 1] + (gain[u, 1] if coloured else 0.0))
                yx += share[i] * (gain[p + 1, 0] + (gain[u + 1, 0] if coloured else 0.0))
                yy += share[i] * (gain[p + 1, 1] + (gain[u + 1, 1] if coloured else 0.0))
        xy = (xy + yx) / 2
        logs[m], _ = _log_normal(dx, dy, xx, xy, yy)
        determinant = max(xx * yy - xy * xy, TINY)
        a, b, c = yy / determinant, -xy / determinant, xx / determinant
        for p in range(n * size):
            left, right = gain[p, 0] * a + gain[p, 1] * b, gain[p, 0] * b + gain[p, 1] * c
            x[p // size, m, p % size] += left * dx + right * dy
            for q in range(p + 1):
                value = cov[m, p, q] - left * gain[q, 0] - right * gain[q, 1]
                cov[m, p, q] = cov[m, q, p] = value
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
def _apply(masks, rows, seen, lights, clutter, now_s, x, cov, chance, real, whole, rules):  # type: ignore[no-untyped-def]
    """One event: which targets (masks) each detection (its row in the frame) shows. Returns the log weight it adds."""
    places, spread = _measured(x, cov, chance, rules.coloured)
    merging = _merging(places, spread, rules)
    fate, missed, visible = _fates(real, merging, rules)
    weight, hit = 0.0, 0
    for i in range(len(real)):
        weight += missed[i]
    before = real.copy()
    for j in range(len(masks)):
        mask = masks[j]
        if mask == 0:
            continue
        hit |= mask
        more = _brightness(mask, before, lights[j], clutter[j], rules)
        density = update(x, cov, chance, mask, _shares(mask, before), seen[j], rules.coloured)
        weight += _gain(mask, before, missed, merging, fate, density, more, rules)
        _lighten(mask, real, lights[j])
        for i in range(len(real)):
            if mask >> i & 1:
                real[i, SCORE] += math.log(rules.detected) + density + more - math.log(rules.clutter)
                real[i, COV_XX], real[i, COV_XY], real[i, COV_YY] = seen[j, 5], seen[j, 6], seen[j, 7]
                whole[i, DETECTION] = rows[j]
    for i in range(len(real)):
        whole[i, HITS] = (whole[i, HITS] << 1) & 0xFFFFFFFF
        whole[i, AGE] += 1
        if hit >> i & 1:
            whole[i, HITS] |= 1
            real[i, EXISTS], real[i, SEEN_S] = 1.0, now_s
        else:
            whole[i, DETECTION] = -1
            exists = real[i, EXISTS]
            real[i, EXISTS] = exists * (1 - visible[i]) / (1 - exists * visible[i])
            real[i, SCORE] += math.log(1 - visible[i])
        whole[i, CONFIRMED] |= _confirms(real[i], whole[i], rules)
    return weight


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
    real[EXISTS], real[SCORE], real[SEEN_S] = rules.newborn, math.log(rules.newborn), now_s
    real[COV_XX], real[COV_XY], real[COV_YY] = seen[5], seen[6], seen[7]
    whole[ID], whole[HITS], whole[AGE], whole[CONFIRMED], whole[DETECTION], whole[PARENT] = number, 1, 1, 0, row, -1
    whole[CONFIRMED] = _confirms(real, whole, rules)


@compiled
def _alike(n, x, y, cov, real, other, whole, others):  # type: ignore[no-untyped-def]
    """Whether two hypotheses say the same of the same n targets, within a fraction of their deviations."""
    size = x.shape[2]
    for i in range(n):
        if whole[i, ID] != others[i, ID]:
            return False
        for a in range(size):
            away = x[i, 0, a] - y[i, 0, a]
            if away * away > ALIKE**2 * cov[0, size * i + a, size * i + a]:
                return False
        away = real[i, AMPLITUDE] - other[i, AMPLITUDE]
        if away * away > ALIKE**2 * real[i, AMPLITUDE_VAR]:
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
    groups, size = len(group) - 1, x.shape[2]
    boxes, rows = np.empty((groups, 6)), np.zeros(groups, np.int64)
    widest = 0.0
    for j in range(len(seen)):
        widest = max(widest, seen[j, 2], seen[j, 4])
    for g in range(groups):
        box = boxes[g]
        box[0] = box[1] = np.inf
        box[2] = box[3] = -np.inf
        box[4] = box[5] = 0.0
        for h in range(group[g], group[g + 1]):
            n = hypothesis[h + 1] - hypothesis[h]
            rows[g] = max(rows[g], n)
            joint = cov[block[h] : block[h + 1]].reshape((x.shape[1], n * size, n * size))
            for i in range(n):
                place = _place(x[hypothesis[h] + i], chance[h], rules.coloured)
                box[0], box[1] = min(box[0], place[0]), min(box[1], place[1])
                box[2], box[3] = max(box[2], place[0]), max(box[3], place[1])
                for m in range(x.shape[1]):
                    c = _cross(joint[m], i, i, size, rules.coloured)
                    box[4] = max(box[4], math.sqrt(rules.gate * (max(c[0, 0], c[1, 1]) + widest)))
                box[5] = max(box[5], real[hypothesis[h] + i, EXISTS])
    return boxes, rows


@compiled
def _near(box, other):  # type: ignore[no-untyped-def]
    """How far two boxes are apart along the axis where that is most."""
    return max(box[0] - other[2], other[0] - box[2], box[1] - other[3], other[1] - box[3])


@compiled
def _regroup(beliefs, seen, rules):  # type: ignore[no-untyped-def]
    """Which groups become one, (G,) numbers of the first of each, and which one each detection is near to, -1 for none."""
    boxes, rows = _boxes(beliefs, seen, rules)
    groups = len(boxes)
    parent, owner, away = np.arange(groups), np.full(len(seen), -1), np.empty(groups)
    order = np.argsort(boxes[:, 0])
    widest = 0.0
    for g in range(groups):
        widest = max(widest, boxes[g, 2] - boxes[g, 0])
    for first in range(groups):
        g = order[first]
        for second in range(first + 1, groups):
            k = order[second]
            if boxes[k, 0] - boxes[g, 2] > rules.near:
                break
            if boxes[g, 5] >= REAL and boxes[k, 5] >= REAL and _near(boxes[g], boxes[k]) < rules.near:
                _unite(parent, rows, g, k)
    for j in range(len(seen)):
        near, nearest = -1, np.inf
        for g in range(groups):
            box = boxes[g]
            outside = max(box[0] - seen[j, 0], seen[j, 0] - box[2], box[1] - seen[j, 1], seen[j, 1] - box[3])
            away[g] = outside - box[4]
            if away[g] < 0 and outside < nearest:
                near, nearest = g, outside
        if near < 0:
            continue
        for g in range(groups):
            if away[g] < 0 and g != near:
                _unite(parent, rows, near, g)
        owner[j] = near
    for g in range(groups):
        parent[g] = _root(parent, g)
    for j in range(len(seen)):
        if owner[j] >= 0:
            owner[j] = parent[owner[j]]
    return parent, owner


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
    """Space for so many hypotheses: how many rows each has, log weights, chances, x, cov, real, whole."""
    models, size = beliefs.x.shape[1:]
    n = MOST_TARGETS
    return (
        np.zeros(most, np.int64),
        np.zeros(most),
        np.zeros((most, models)),
        np.zeros((most, n, models, size)),
        np.zeros((most, models, n * size, n * size)),
        np.zeros((most, n, REALS)),
        np.zeros((most, n, WHOLES), np.int64),
    )


@compiled
def _load(beliefs, g, room):  # type: ignore[no-untyped-def]
    """A group's hypotheses into a room; how many."""
    group, hypothesis, block, log_weight, chance, x, cov, real, whole = beliefs
    counts, logs, chances, xs, covs, reals, wholes = room
    size = x.shape[2]
    for k in range(group[g + 1] - group[g]):
        h = group[g] + k
        first, n = hypothesis[h], hypothesis[h + 1] - hypothesis[h]
        counts[k], logs[k], chances[k] = n, log_weight[h], chance[h]
        xs[k, :n], reals[k, :n], wholes[k, :n] = x[first : first + n], real[first : first + n], whole[first : first + n]
        covs[k, :, : n * size, : n * size] = cov[block[h] : block[h + 1]].reshape((x.shape[1], n * size, n * size))
        for i in range(n):
            wholes[k, i, PARENT] = first + i
    return group[g + 1] - group[g]


@compiled
def _join(room, count, other, others, into):  # type: ignore[no-untyped-def]
    """The likeliest pairs of two rooms' hypotheses into a third; how many."""
    most = len(into[0])
    sums = np.empty(count * others)
    for k in range(count):
        for q in range(others):
            sums[k * others + q] = -(room[1][k] + other[1][q])
    order = np.argsort(sums)[:most]
    size = room[3].shape[3]
    for place in range(len(order)):
        k, q = order[place] // others, order[place] % others
        a, b = room[0][k], other[0][q]
        n = a + b
        into[0][place], into[1][place], into[2][place] = n, room[1][k] + other[1][q], room[2][k]
        into[3][place, :a], into[3][place, a:n] = room[3][k, :a], other[3][q, :b]
        into[4][place, :, : n * size, : n * size] = 0.0
        into[4][place, :, : a * size, : a * size] = room[4][k, :, : a * size, : a * size]
        into[4][place, :, a * size : n * size, a * size : n * size] = other[4][q, :, : b * size, : b * size]
        into[5][place, :a], into[5][place, a:n] = room[5][k, :a], other[5][q, :b]
        into[6][place, :a], into[6][place, a:n] = room[6][k, :a], other[6][q, :b]
    return len(order)


@compiled
def _explain(room, count, seen, lights, clutter, rules, best_score, best_hypothesis, best_masks):  # type: ignore[no-untyped-def]
    """The best events of a group over all its hypotheses."""
    best_score[:] = -np.inf
    m, size = len(seen), room[3].shape[3]
    masks, gains, counts = np.zeros((m, OPTIONS), np.int64), np.zeros((m, OPTIONS)), np.zeros(m, np.int64)
    for k in range(count):
        n = room[0][k]
        real = room[5][k, :n]
        places, spread = _measured(room[3][k, :n], room[4][k, :, : n * size, : n * size], room[2][k], rules.coloured)
        merging = _merging(places, spread, rules)
        fate, missed, _ = _fates(real, merging, rules)
        for j in range(m):
            counts[j] = _options(
                seen[j], lights[j], clutter[j], places, spread, real, merging, fate, missed, rules, masks[j], gains[j]
            )
        _events(k, room[1][k] + missed.sum(), masks, gains, counts, best_score, best_hypothesis, best_masks)


@compiled
def _copy(room, k, into, c):  # type: ignore[no-untyped-def]
    n, size = room[0][k], room[3].shape[3]
    into[0][c], into[1][c], into[2][c] = n, room[1][k], room[2][k]
    into[3][c, :n], into[5][c, :n], into[6][c, :n] = room[3][k, :n], room[5][k, :n], room[6][k, :n]
    into[4][c, :, : n * size, : n * size] = room[4][k, :, : n * size, : n * size]


@compiled
def _keep_rows(room, c, kept):  # type: ignore[no-untyped-def]
    """Leaves only some rows of a hypothesis, in their order."""
    n, size = room[0][c], room[3].shape[3]
    count = 0
    for i in range(n):
        if kept[i]:
            if count != i:
                room[3][c, count], room[5][c, count], room[6][c, count] = room[3][c, i], room[5][c, i], room[6][c, i]
                a, b = count * size, i * size
                room[4][c, :, a : a + size, : n * size] = room[4][c, :, b : b + size, : n * size].copy()
                room[4][c, :, : n * size, a : a + size] = room[4][c, :, : n * size, b : b + size].copy()
            count += 1
    room[0][c] = count


@compiled
def _add_born(room, c, masks, rows, seen, lights, numbers, now_s, rules):  # type: ignore[no-untyped-def]
    """Adds what a hypothesis does not explain to it, as new targets."""
    size = room[3].shape[3]
    for j in range(len(masks)):
        n = room[0][c]
        if masks[j] or n >= MOST_TARGETS:
            continue
        a, b = n * size, (n + 1) * size
        room[4][c, :, a:b, :b] = 0.0
        room[4][c, :, :b, a:b] = 0.0
        cov = room[4][c, :, a:b, a:b]
        _born(
            rows[j], seen[j], lights[j], numbers + rows[j], now_s, rules, room[3][c, n], cov, room[5][c, n], room[6][c, n]
        )
        room[0][c] = n + 1


@compiled
def _thin(room, count, most):  # type: ignore[no-untyped-def]
    """(count,): which hypotheses to keep, and in falling order: weights of alike ones added up, faint ones dropped."""
    order = np.argsort(-room[1][:count])
    kept, found = np.empty(count, np.int64), 0
    for place in range(count):
        k = order[place]
        if found and room[1][k] < room[1][kept[0]] - FAINT:
            break
        n, same = room[0][k], False
        for other in kept[:found]:
            if room[0][other] == n and _alike(
                n, room[3][other], room[3][k], room[4][other], room[5][other], room[5][k], room[6][other], room[6][k]
            ):
                high, low = max(room[1][other], room[1][k]), min(room[1][other], room[1][k])
                room[1][other] = high + math.log1p(math.exp(low - high))
                same = True
                break
        if not same and found < most:
            kept[found] = k
            found += 1
    return kept[:found]


@compiled
def _parts(room, kept, rules):  # type: ignore[no-untyped-def]
    """The targets of a group by the part it falls into: their ids and, of the same length, the parts' numbers."""
    ids = np.empty(len(kept) * MOST_TARGETS, np.int64)
    count = 0
    for k in kept:
        for i in range(room[0][k]):
            number = room[6][k, i, ID]
            if not (ids[:count] == number).any():
                ids[count] = number
                count += 1
    ids = ids[:count]
    part = np.arange(count)
    for k in kept:
        n = room[0][k]
        for i in range(n):
            a = _root(part, np.flatnonzero(ids == room[6][k, i, ID])[0])
            for j in range(i):
                b = _root(part, np.flatnonzero(ids == room[6][k, j, ID])[0])
                x, y = room[3][k, i, 0], room[3][k, j, 0]
                if a != b and max(abs(x[0] - y[0]), abs(x[1] - y[1])) < APART * rules.near:
                    part[max(a, b)] = min(a, b)
                    a = min(a, b)
    for k in range(count):
        part[k] = _root(part, k)
    return ids, part


@compiled
def _store(room, kept, out, ends):  # type: ignore[no-untyped-def]
    """Appends a group to the beliefs, weights made to add up to one; False where there is no room left."""
    group, hypothesis, block, log_weight, chance, x, cov, real, whole = out
    size, models = x.shape[2], x.shape[1]
    total = 0.0
    for k in kept:
        total += math.exp(room[1][k] - room[1][kept[0]])
    total = room[1][kept[0]] + math.log(total)
    for k in kept:
        n, h, row = room[0][k], ends[1], ends[2]
        width = n * size
        if h + 1 >= len(hypothesis) or row + n > len(x) or block[h] + models * width * width > len(cov):
            return False
        log_weight[h], chance[h] = room[1][k] - total, room[2][k]
        x[row : row + n], real[row : row + n], whole[row : row + n] = room[3][k, :n], room[5][k, :n], room[6][k, :n]
        cov[block[h] : block[h] + models * width * width] = room[4][k, :, :width, :width].copy().reshape(-1)
        block[h + 1] = block[h] + models * width * width
        hypothesis[h + 1] = row + n
        ends[1], ends[2] = h + 1, row + n
    if ends[0] + 1 >= len(group):
        return False
    group[ends[0] + 1] = ends[1]
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
            mine = np.zeros(MOST_TARGETS, np.bool_)
            for i in range(spare[0][c]):
                mine[i] = part[np.flatnonzero(ids == spare[6][c, i, ID])[0]] == number
            _keep_rows(spare, c, mine)
        if not _store(spare, _thin(spare, len(kept), rules.most), out, ends):
            return False
    return True


@compiled
def advance(beliefs, seen, lights, clutter, numbers, now_s, rules, out):  # type: ignore[no-untyped-def]
    """One frame: predicted beliefs and its detections to beliefs, in `out`, whose arrays are at least as large as needed.

    seen (N, 8): x, y px, the covariance with which they are compared (xx, xy, yy), and their own; lights (N, 2): brightness
    and its variance, DN, NaN where unknown; clutter (N,): log density of that brightness among all; numbers: the id of what
    the first detection may start, the others' follow. Returns groups, hypotheses and rows used; -1 where it has no room.
    """
    parent, owner = _regroup(beliefs, seen, rules)
    pool = 2 * rules.most
    first, second, third = _room(pool, beliefs), _room(pool, beliefs), _room(pool, beliefs)
    best_score, best_hypothesis = np.empty(pool), np.zeros(pool, np.int64)
    ends = np.zeros(3, np.int64)
    out.group[0] = out.hypothesis[0] = out.block[0] = 0
    for g in range(len(parent)):
        if parent[g] != g:
            continue
        count = _load(beliefs, g, first)
        for k in range(g + 1, len(parent)):
            if parent[k] == g:
                others = _load(beliefs, k, second)
                count = _join(first, count, second, others, third)
                first, third = third, first
        rows = np.flatnonzero(owner == g)
        if len(rows) > MOST_SEEN:
            owner[rows[MOST_SEEN:]] = -1
            rows = rows[:MOST_SEEN]
        best_masks = np.zeros((pool, len(rows)), np.int64)
        mine, light, density = seen[rows], lights[rows], clutter[rows]
        _explain(first, count, mine, light, density, rules, best_score, best_hypothesis, best_masks)
        children = 0
        for c in range(pool):
            if best_score[c] < best_score[0] - FAINT or best_score[c] == -np.inf:
                break
            _copy(first, best_hypothesis[c], second, c)
            n = second[0][c]
            x, cov = second[3][c, :n], second[4][c, :, : n * beliefs.x.shape[2], : n * beliefs.x.shape[2]]
            real, whole = second[5][c, :n], second[6][c, :n]
            second[1][c] += _apply(
                best_masks[c], rows, mine, light, density, now_s, x, cov, second[2][c], real, whole, rules
            )
            kept = np.zeros(MOST_TARGETS, np.bool_)
            for i in range(n):
                kept[i] = not _ended(real[i], whole[i], now_s, rules)
            _keep_rows(second, c, kept)
            _add_born(second, c, best_masks[c], rows, mine, light, numbers, now_s, rules)
            children += 1
        if not _put_away(second, children, third, out, ends, rules):
            return -1, -1, -1
    for j in range(len(seen)):
        if owner[j] < 0:
            first[0][0], first[1][0] = 0, 0.0
            first[2][0] = 1.0 / beliefs.x.shape[1]
            mine = seen[j : j + 1]
            _add_born(first, 0, np.zeros(1, np.int64), np.array([j]), mine, lights[j : j + 1], numbers, now_s, rules)
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
