"""What is judged together: groups that come near become one, and fall apart again when their targets do. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import EXISTS, ID, MOST_TARGETS
from irst_stream.track.compiled.places import cross_cov, mean_place

__all__ = ["listed", "parts", "regroup", "where"]

APART = 1.5  # times the distance at which targets become a group: from there it falls apart
REAL = 0.5  # a target less likely than this is in no group by its place alone


@compiled
def regroup(beliefs, seen, rules):  # type: ignore[no-untyped-def]
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
                across, down = mean_place(x, first + i, chance[h], rules.coloured)
                left, top, right, bottom = min(left, across), min(top, down), max(right, across), max(bottom, down)
                exists = max(exists, real[first + i, EXISTS])
                for m in range(models):
                    for a in range(2):
                        variance = max(variance, cross_cov(joint, m, i, i, size, rules.coloured, a, a))
        boxes[g, 0], boxes[g, 1], boxes[g, 2], boxes[g, 3] = left, top, right, bottom
        boxes[g, 4], boxes[g, 5] = math.sqrt(rules.gate * (variance + widest)), exists
    return boxes, rows


@compiled
def _near(boxes, g, k):  # type: ignore[no-untyped-def]
    """How far two boxes are apart along the axis where that is most."""
    return max(boxes[g, 0] - boxes[k, 2], boxes[k, 0] - boxes[g, 2], boxes[g, 1] - boxes[k, 3], boxes[k, 1] - boxes[g, 3])


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
def _root(parent, k):  # type: ignore[no-untyped-def]
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
def parts(room, kept, rules):  # type: ignore[no-untyped-def]
    """The targets of a group by the part it falls into: their ids and, of the same length, the parts' numbers."""
    ids = np.empty(len(kept) * MOST_TARGETS, np.int64)
    count = 0
    for k in kept:
        for i in range(room.count[k]):
            ids[count] = room.whole[k, i, ID]
            if where(ids, count, ids[count]) == count:
                count += 1
    part = np.arange(count)
    for k in kept:
        for i in range(room.count[k]):
            a = _root(part, where(ids, count, room.whole[k, i, ID]))
            for j in range(i):
                away = max(abs(room.x[k, i, 0, 0] - room.x[k, j, 0, 0]), abs(room.x[k, i, 0, 1] - room.x[k, j, 0, 1]))
                if away < APART * rules.near:
                    b = _root(part, where(ids, count, room.whole[k, j, ID]))
                    part[max(a, b)] = min(a, b)
                    a = min(a, b)
    for k in range(count):
        part[k] = _root(part, k)
    return ids[:count], part


@compiled
def where(values, count, value):  # type: ignore[no-untyped-def]
    """The first place of a value among the first ones, or their count."""
    for k in range(count):
        if values[k] == value:
            return k
    return count


@compiled
def listed(label, count):  # type: ignore[no-untyped-def]
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
