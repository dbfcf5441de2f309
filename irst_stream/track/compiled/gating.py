"""Gating: which detections a group may explain, which groups merge into one, and into which parts one splits. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import CONFIRMED, EXISTENCE, ID, MAX_GROUP_TARGETS
from irst_stream.track.compiled.ordering import first_at_least, numbered, rising_order
from irst_stream.track.compiled.places import mean_position, position_cross_cov
from irst_stream.track.compiled.sight import JUMP_GATE_CHI2

__all__ = ["connected_parts", "index_of", "regroup", "rows_by_label"]

SPLIT_DISTANCE_RATIO = 1.5  # times group_radius_px: a group splits where its parts are further apart
MAX_GATING_GROUPS = 16  # that one detection may merge, with those of each group at most MAX_GROUP_TARGETS
MIN_JOIN_EXISTENCE = 0.5  # groups less likely to exist merge only through a detection that both gate


@compiled
def regroup(beliefs, measurements, rules):  # type: ignore[no-untyped-def]
    """Merge groups that are close or gate the same detection, and assign each detection to a group.

    Returns parent (G,): the lowest number among the groups merged with each; owner (N,): the parent of the nearest group
    that gates each detection, -1 for none.
    """
    boxes, targets = _bounding_boxes(beliefs, measurements, rules)
    groups = len(boxes)
    parent, owner = numbered(groups), np.empty(len(measurements), np.int64)
    owner[:] = -1
    order = rising_order(boxes[:, 0].copy())
    for first in range(groups):
        g = order[first]
        if boxes[g, 5] < MIN_JOIN_EXISTENCE:
            continue
        for second in range(first + 1, groups):
            k = order[second]
            if boxes[k, 0] - boxes[g, 2] > rules.group_radius_px:
                break
            if boxes[k, 5] >= MIN_JOIN_EXISTENCE and _box_distance(boxes, g, k) < rules.group_radius_px:
                _merge_groups(parent, targets, g, k)
    _gate_detections(boxes, measurements, parent, targets, owner)
    for g in range(groups):
        parent[g] = _find_root(parent, g)
    for j in range(len(measurements)):
        if owner[j] >= 0:
            owner[j] = parent[owner[j]]
    return parent, owner


@compiled
def _bounding_boxes(beliefs, measurements, rules):  # type: ignore[no-untyped-def]
    """Each group's box and size.

    Returns (G, 6): left, top, right, bottom of its targets' positions, px, the gate around that, px, and the highest
    existence probability; and (G,): targets of its largest hypothesis.
    """
    first_hypothesis, first_row, first_cov, _, mode_probs, x, cov, floats, ints = beliefs
    groups, modes, size = len(first_hypothesis) - 1, x.shape[1], x.shape[2]
    boxes, targets = np.empty((groups, 6)), np.zeros(groups, np.int64)
    widest = 0.0
    for j in range(len(measurements)):
        widest = max(widest, measurements[j, 2], measurements[j, 4])
    for g in range(groups):
        left, top, right, bottom, variance, existence, jump = np.inf, np.inf, -np.inf, -np.inf, 0.0, 0.0, 0.0
        for h in range(first_hypothesis[g], first_hypothesis[g + 1]):
            first, n = first_row[h], first_row[h + 1] - first_row[h]
            targets[g] = max(targets[g], n)
            joint = cov[first_cov[h] : first_cov[h + 1]].reshape((modes, n * size, n * size))
            for i in range(n):
                x_mean, y_mean = mean_position(x, first + i, mode_probs[h], rules.errors_in_state)
                left, top, right, bottom = min(left, x_mean), min(top, y_mean), max(right, x_mean), max(bottom, y_mean)
                existence = max(existence, floats[first + i, EXISTENCE])
                if ints[first + i, CONFIRMED]:
                    jump = rules.jump_px
                for m in range(modes):
                    for a in range(2):
                        variance = max(variance, position_cross_cov(joint, m, i, i, size, rules.errors_in_state, a, a))
        boxes[g, 0], boxes[g, 1], boxes[g, 2], boxes[g, 3] = left, top, right, bottom
        gate = math.sqrt(rules.gate_chi2 * (variance + widest))
        if jump > 0:
            gate = max(gate, math.sqrt(JUMP_GATE_CHI2 * (variance + widest + jump**2)))
        boxes[g, 4], boxes[g, 5] = gate, existence
    return boxes, targets


@compiled
def _box_distance(boxes, g, k):  # type: ignore[no-untyped-def]
    """Distance of two boxes along the axis where it is larger; negative where they overlap."""
    return max(boxes[g, 0] - boxes[k, 2], boxes[k, 0] - boxes[g, 2], boxes[g, 1] - boxes[k, 3], boxes[k, 1] - boxes[g, 3])


@compiled
def _gate_detections(boxes, measurements, parent, targets, owner):  # type: ignore[no-untyped-def]
    """Assign each detection to the nearest group that gates it, and merge the other groups that gate it with that one."""
    groups = len(boxes)
    left, widest = np.empty(groups), 0.0
    for g in range(groups):
        left[g] = boxes[g, 0] - boxes[g, 4]
        widest = max(widest, boxes[g, 2] - boxes[g, 0] + 2 * boxes[g, 4])
    order = rising_order(left)
    left = left[order]
    gating = np.empty(MAX_GATING_GROUPS, np.int64)
    for j in range(len(measurements)):
        x, y = measurements[j, 0], measurements[j, 1]
        count, nearest = 0, np.inf
        for at in range(first_at_least(left, x - widest), groups):
            if left[at] > x:
                break
            g = order[at]
            distance = max(boxes[g, 0] - x, x - boxes[g, 2], boxes[g, 1] - y, y - boxes[g, 3])
            if distance < boxes[g, 4]:
                if count < MAX_GATING_GROUPS:
                    _insert(gating, count, g)
                    count += 1
                if distance < nearest or (distance == nearest and g < owner[j]):
                    owner[j], nearest = g, distance
        if count > 1:
            for g in gating[:count]:
                _merge_groups(parent, targets, owner[j], g)


@compiled
def _insert(rising, count, number):  # type: ignore[no-untyped-def]
    """Insert a number into the first `count` of an array, which rise and go on rising."""
    at = count
    while at > 0 and rising[at - 1] > number:
        rising[at] = rising[at - 1]
        at -= 1
    rising[at] = number


@compiled
def _merge_groups(parent, targets, g, k):  # type: ignore[no-untyped-def]
    """Merge two groups unless they would have more than MAX_GROUP_TARGETS targets."""
    a, b = _find_root(parent, g), _find_root(parent, k)
    if a != b and targets[a] + targets[b] <= MAX_GROUP_TARGETS:
        a, b = min(a, b), max(a, b)
        parent[b] = a
        targets[a] += targets[b]


@compiled
def _find_root(parent, k):  # type: ignore[no-untyped-def]
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
def connected_parts(workspace, kept, rules):  # type: ignore[no-untyped-def]
    """The parts into which a group splits: ids (T,) of the targets of its kept hypotheses, and the part (T,) of each.

    A part's number is the index of the first of its targets.
    """
    ids = np.empty(len(kept) * MAX_GROUP_TARGETS, np.int64)
    count = 0
    for k in kept:
        for i in range(workspace.target_count[k]):
            ids[count] = workspace.ints[k, i, ID]
            if index_of(ids, count, ids[count]) == count:
                count += 1
    part = numbered(count)
    for k in kept:
        for i in range(workspace.target_count[k]):
            a = _find_root(part, index_of(ids, count, workspace.ints[k, i, ID]))
            for j in range(i):
                distance = max(
                    abs(workspace.x[k, i, 0, 0] - workspace.x[k, j, 0, 0]),
                    abs(workspace.x[k, i, 0, 1] - workspace.x[k, j, 0, 1]),
                )
                if distance < SPLIT_DISTANCE_RATIO * rules.group_radius_px:
                    b = _find_root(part, index_of(ids, count, workspace.ints[k, j, ID]))
                    part[max(a, b)] = min(a, b)
                    a = min(a, b)
    for k in range(count):
        part[k] = _find_root(part, k)
    return ids[:count], part


@compiled
def index_of(values, count, value):  # type: ignore[no-untyped-def]
    """Index of a value among the first `count` values, or `count` where it is not there."""
    for k in range(count):
        if values[k] == value:
            return k
    return count


@compiled
def rows_by_label(label, count):  # type: ignore[no-untyped-def]
    """Rows by label from 0 to count - 1, in rising order: those of label g are rows[start[g] : start[g + 1]]."""
    start = np.zeros(count + 1, np.int64)
    for k in label:
        if k >= 0:
            start[k + 1] += 1
    for g in range(count):
        start[g + 1] += start[g]
    rows, end = np.empty(start[count], np.int64), start.copy()
    for row in range(len(label)):
        if label[row] >= 0:
            rows[end[label[row]]] = row
            end[label[row]] += 1
    return rows, start
