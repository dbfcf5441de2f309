"""Association within a group: the options of each detection, and the best joint events by branch and bound. Compiled.

An event gives each detection a set of targets, disjoint from the others'; the empty set: clutter or a new target.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import LOG_RATIO, MAX_LOG_WEIGHT_DROP
from irst_stream.track.compiled.places import gaussian_log_density, predict_positions
from irst_stream.track.compiled.sight import (
    JUMP_GATE_CHI2,
    LOG_JUMP,
    brightness_log_ratio,
    centroid_weights,
    count_targets,
    covariance_inflation,
    innovation,
    jump_variance,
    merge_probabilities,
    merged_probability,
    survival_terms,
)

__all__ = ["MAX_GROUP_DETECTIONS", "BestEvents", "empty_search", "find_best_events", "log_gain"]

MAX_GROUP_DETECTIONS = 12  # in a frame; further ones are taken for new targets
MAX_MERGED_TARGETS = 5  # in one detection
MAX_MERGE_CANDIDATES = 7  # targets nearest to a detection that may be merged in it
MAX_OPTIONS = 64  # of one detection
MIN_MERGE_PROBABILITY = 1e-3  # less likely merges are not considered


class EventSearch(NamedTuple):
    """Each detection's options, and the state of the depth-first search through them: see _list_options, _search_events."""

    masks: Any  # (MAX_GROUP_DETECTIONS, MAX_OPTIONS) of targets, one bit each
    gains: Any  # (MAX_GROUP_DETECTIONS, MAX_OPTIONS)
    counts: Any  # (MAX_GROUP_DETECTIONS,) options
    # (MAX_GROUP_DETECTIONS + 1,), by depth:
    bound: Any  # highest gain that the remaining detections can add
    chosen: Any
    next_option: Any
    used_targets: Any  # mask
    score: Any
    left: Any  # (1,) steps that the frame may still take


class BestEvents(NamedTuple):
    """A group's K best events, by falling score (K,): the hypothesis (K,) and masks (K, MAX_GROUP_DETECTIONS) of each."""

    score: Any
    hypothesis: Any
    masks: Any


@compiled
def empty_search():  # type: ignore[no-untyped-def]
    """A search with no options yet."""
    return EventSearch(
        np.zeros((MAX_GROUP_DETECTIONS, MAX_OPTIONS), np.int64),
        np.zeros((MAX_GROUP_DETECTIONS, MAX_OPTIONS)),
        np.zeros(MAX_GROUP_DETECTIONS, np.int64),
        np.zeros(MAX_GROUP_DETECTIONS + 1),
        np.zeros(MAX_GROUP_DETECTIONS + 1, np.int64),
        np.zeros(MAX_GROUP_DETECTIONS + 1, np.int64),
        np.zeros(MAX_GROUP_DETECTIONS + 1, np.int64),
        np.zeros(MAX_GROUP_DETECTIONS + 1),
        np.zeros(1, np.int64),
    )


@compiled
def find_best_events(workspace, count, detections, rules, prediction, search, best):  # type: ignore[no-untyped-def]
    """Fill `best` with a group's best events over its `count` hypotheses, and `prediction` for each of these.

    Every set of targets that is compared with a detection is a step.
    """
    best.score[:] = -np.inf
    for k in range(count):
        n = workspace.target_count[k]
        x, cov, floats, mode_probs = workspace.x[k, :n], workspace.cov[k], workspace.floats[k, :n], workspace.mode_probs[k]
        positions, position_cov = prediction.positions[k], prediction.position_cov[k]
        merge_probs, log_unmerged = prediction.merge_probs[k], prediction.log_unmerged[k]
        log_missed, log_odds = prediction.log_missed[k], prediction.log_odds[k]
        predict_positions(x, cov, mode_probs, rules.errors_in_state, positions, position_cov)
        merge_probabilities(n, positions, position_cov, rules, merge_probs)
        survival_terms(floats, merge_probs, rules, log_unmerged, log_missed, prediction.detection_probs[k], log_odds)
        for j in range(len(detections.measurements)):
            search.counts[j] = _list_options(detections, j, floats, workspace.ints[k], prediction, k, rules, search)
            search.left[0] -= n
        base = workspace.log_weight[k]
        for i in range(n):
            base += log_missed[i]
        _search_events(k, base, len(detections.measurements), search, best)


@compiled
def _list_options(detections, j, floats, ints, prediction, k, rules, search):  # type: ignore[no-untyped-def]
    """List the target sets of hypothesis k that may explain detection j, the likeliest first; return their number.

    Only single targets and merged sets within the gate are options.
    """
    measurement, amplitude, log_clutter = detections.measurements[j], detections.amplitudes[j], detections.log_clutter[j]
    positions, position_cov = prediction.positions[k], prediction.position_cov[k]
    merge_probs, log_unmerged, log_odds = prediction.merge_probs[k], prediction.log_unmerged[k], prediction.log_odds[k]
    masks, gains = search.masks[j], search.gains[j]
    n, count = len(floats), 1
    masks[0], gains[0] = 0, 0.0
    merge_reach = rules.resolution_px + 3 * rules.resolution_sd_px
    candidates = 0
    for i in range(n):
        dx, dy, xx, xy, yy = innovation(i, measurement, floats, positions, position_cov)
        jump = jump_variance(i, dx, dy, xx, xy, yy, ints, rules)
        log_density, chi2 = gaussian_log_density(dx, dy, xx + jump, xy, yy + jump)
        if chi2 < (JUMP_GATE_CHI2 if jump > 0 else rules.gate_chi2) and count < MAX_OPTIONS:
            brightness_gain = brightness_log_ratio(1 << i, floats, amplitude, log_clutter, rules)
            log_ratio = measurement[LOG_RATIO] + log_density + (LOG_JUMP if jump > 0 else 0.0)
            masks[count] = 1 << i
            gains[count] = log_gain(1 << i, n, log_odds, log_unmerged, merge_probs, log_ratio, brightness_gain)
            count += 1
        if math.hypot(dx, dy) < merge_reach * (MAX_MERGED_TARGETS - 1) / 2 + math.sqrt(rules.gate_chi2 * max(xx, yy)):
            candidates |= 1 << i
    candidates = _mergeable_targets(candidates, n, merge_probs)
    while count_targets(candidates) > MAX_MERGE_CANDIDATES:
        candidates &= ~(1 << _farthest(candidates, positions, measurement))
    subset = candidates
    while subset:
        search.left[0] -= 1
        may_merge = 2 <= count_targets(subset) <= MAX_MERGED_TARGETS and count < MAX_OPTIONS
        if may_merge and merged_probability(subset, n, merge_probs) > MIN_MERGE_PROBABILITY:
            log_density, chi2 = _merged_log_density(subset, measurement, floats, positions, position_cov)
            if chi2 < rules.gate_chi2:
                brightness_gain = brightness_log_ratio(subset, floats, amplitude, log_clutter, rules)
                log_ratio = measurement[LOG_RATIO] + log_density
                gain = log_gain(subset, n, log_odds, log_unmerged, merge_probs, log_ratio, brightness_gain)
                if gain > -MAX_LOG_WEIGHT_DROP:
                    masks[count], gains[count] = subset, gain
                    count += 1
        subset = (subset - 1) & candidates
    _sort_options(masks, gains, count)
    return count


@compiled
def _farthest(mask, positions, measurement):  # type: ignore[no-untyped-def]
    """The target of a mask whose predicted position is farthest from a measurement."""
    farthest, largest = 0, -1.0
    for i in range(len(positions)):
        if mask >> i & 1:
            distance = math.hypot(measurement[0] - positions[i, 0], measurement[1] - positions[i, 1])
            if distance > largest:
                farthest, largest = i, distance
    return farthest


@compiled
def _sort_options(masks, gains, count):  # type: ignore[no-untyped-def]
    """Sort the first `count` options by falling gain, in place; equal ones keep their order."""
    for k in range(1, count):
        mask, gain, at = masks[k], gains[k], k
        while at > 0 and gains[at - 1] < gain:
            masks[at], gains[at] = masks[at - 1], gains[at - 1]
            at -= 1
        masks[at], gains[at] = mask, gain


@compiled
def _mergeable_targets(mask, n, merge_probs):  # type: ignore[no-untyped-def]
    """Mask of the targets in a mask that may merge with another one in it."""
    found = 0
    for i in range(n):
        for j in range(i):
            if mask >> i & mask >> j & 1 and merge_probs[i, j] > MIN_MERGE_PROBABILITY:
                found |= 1 << i | 1 << j
    return found


@compiled
def _merged_log_density(mask, measurement, floats, positions, position_cov):  # type: ignore[no-untyped-def]
    """Log density of a detection of several merged targets, at their weighted mean position, and its chi^2."""
    weights = centroid_weights(mask, floats)
    inflation = covariance_inflation(mask, floats, measurement)
    dx, dy = measurement[0], measurement[1]
    xx, xy, yy = inflation * measurement[2], inflation * measurement[3], inflation * measurement[4]
    for i in range(len(floats)):
        if weights[i] > 0:
            dx, dy = dx - weights[i] * positions[i, 0], dy - weights[i] * positions[i, 1]
            for j in range(len(floats)):
                if weights[j] > 0:
                    both = weights[i] * weights[j]
                    xx += both * position_cov[i, j, 0, 0]
                    xy += both * (position_cov[i, j, 0, 1] + position_cov[i, j, 1, 0]) / 2
                    yy += both * position_cov[i, j, 1, 1]
    return gaussian_log_density(dx, dy, xx, xy, yy)


@compiled
def log_gain(mask, n, log_odds, log_unmerged, merge_probs, position_log_ratio, brightness_gain):  # type: ignore[no-untyped-def]
    """Log weight gained where a detection comes from these targets, over clutter while the targets are missed."""
    gain = position_log_ratio + brightness_gain
    for i in range(n):
        if mask >> i & 1:
            gain += log_odds[i]
    if mask & (mask - 1):
        return gain + math.log(max(merged_probability(mask, n, merge_probs), 1e-9))
    for i in range(n):
        if mask >> i & 1:
            gain += log_unmerged[i]
    return gain


@compiled
def _search_events(h, base, m, search, best):  # type: ignore[no-untyped-def]
    """Search hypothesis h for events of m detections, by branch and bound, and insert the best ones into `best`.

    base: log weight of the event that misses all targets; search: options of each detection, the likeliest first; best:
    events so far. Each detection's likeliest options come first, so that the search may stop after any number of steps:
    once the frame's are used up, it stops as soon as the group has an event, of this hypothesis or of an earlier one.
    """
    masks, gains, counts, bound, chosen, next_option, used_targets, score, left = search
    limit = len(best.score)
    bound[m] = 0.0
    for j in range(m - 1, -1, -1):
        highest = gains[j, 0]
        for option in range(1, counts[j]):
            highest = max(highest, gains[j, option])
        bound[j] = bound[j + 1] + highest
    next_option[: m + 1] = 0
    depth, used_targets[0], score[0] = 0, 0, base
    while depth >= 0 and (left[0] > 0 or best.score[0] == -np.inf):
        left[0] -= 1
        if depth == m:
            _insert_event(h, m, score[m], chosen, best)
            depth -= 1
            continue
        if next_option[depth] >= counts[depth]:
            next_option[depth] = 0
            depth -= 1
            continue
        option = next_option[depth]
        next_option[depth] += 1
        mask = masks[depth, option]
        if mask & used_targets[depth]:
            continue
        reached = score[depth] + gains[depth, option]
        if reached + bound[depth + 1] <= best.score[limit - 1]:
            continue
        chosen[depth], used_targets[depth + 1], score[depth + 1] = mask, used_targets[depth] | mask, reached
        depth += 1


@compiled
def _insert_event(h, m, score, chosen, best):  # type: ignore[no-untyped-def]
    """Insert an event of m detections into `best`, which stays in falling order of score."""
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
