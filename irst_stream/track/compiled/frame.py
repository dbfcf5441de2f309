"""What a frame does to all that is believed, group by group. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import FAINT, ID, NEW, copy, empty_room, keep_rows, load, store
from irst_stream.track.compiled.events import MOST_SEEN, Best, empty_work, explain
from irst_stream.track.compiled.groups import listed, parts, regroup, where
from irst_stream.track.compiled.hypotheses import join, thin
from irst_stream.track.compiled.lives import add_born, has_ended
from irst_stream.track.compiled.sight import empty_view
from irst_stream.track.compiled.updating import apply

__all__ = ["advance"]


@compiled
def advance(beliefs, seen, sources, lights, clutter, numbers, now_s, rules, out):  # type: ignore[no-untyped-def]
    """One frame: predicted beliefs and its detections to beliefs, which are written into the first part of `out`.

    seen (N, 8 + 2 R): x, y px, the covariance with which they are compared (xx, xy, yy), the chance that each is a new
    target, if nobody explains it, the log of how much likelier it is to be seen of a target than of clutter, px^2, the
    variance of its error, of both axes, and the parts of that (2, R), 0 where it is no part of the state; sources (N,): a
    number that those share whose errors share their parts; lights (N, 2): brightness and its variance, DN, NaN where
    unknown; clutter (N,): log density of that brightness among all; numbers: the id of what the first detection may start,
    the others' follow. Returns groups, hypotheses and rows used; -1 where it has no room.
    """
    parent, owner = regroup(beliefs, seen, rules)
    pool = 2 * rules.most
    first, second, third = empty_room(pool, beliefs), empty_room(pool, beliefs), empty_room(pool, beliefs)
    view, work = empty_view(pool), empty_work()
    best = Best(np.empty(pool), np.zeros(pool, np.int64), np.zeros((pool, MOST_SEEN), np.int64))
    members, begin = listed(parent, len(parent))
    items, start = listed(owner, len(parent))
    ends = np.zeros(3, np.int64)
    out.group[0] = out.hypothesis[0] = out.block[0] = 0
    for g in range(len(parent)):
        if parent[g] != g:
            continue
        count = load(beliefs, g, first)
        for k in members[begin[g] + 1 : begin[g + 1]]:
            others = load(beliefs, k, second)
            count = join(first, count, second, others, third)
            first, third = third, first
        rows = items[start[g] : start[g + 1]]
        owner[rows[MOST_SEEN:]] = -1
        rows = rows[:MOST_SEEN]
        children = _branch(
            first,
            count,
            rows,
            seen[rows],
            sources[rows],
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
        if owner[j] < 0 and seen[j, NEW] >= rules.least:
            first.count[0], first.log_weight[0] = 0, 0.0
            first.chance[0] = 1.0 / beliefs.x.shape[1]
            alone, mine, light, source = np.array([j]), seen[j : j + 1], lights[j : j + 1], sources[j : j + 1]
            add_born(first, 0, np.zeros(1, np.int64), alone, mine, source, light, numbers, now_s, rules)
            if not store(first, np.zeros(1, np.int64), out, ends):
                return -1, -1, -1
    return ends[0], ends[1], ends[2]


@compiled
def _branch(room, count, rows, seen, sources, lights, clutter, numbers, now_s, rules, view, work, best, into):  # type: ignore[no-untyped-def]
    """A group's hypotheses and its detections (their rows in the frame) to the likeliest hypotheses after it; how many."""
    explain(room, count, seen, lights, clutter, rules, view, work, best)
    for c in range(len(best.score)):
        if best.score[c] < best.score[0] - FAINT or best.score[c] == -np.inf:
            return c
        h, masks = best.hypothesis[c], best.masks[c]
        copy(room, h, into, c)
        apply(masks, rows, seen, sources, lights, clutter, now_s, into, c, view, h, rules)
        kept = 0
        for i in range(into.count[c]):
            if not has_ended(into.real[c, i], into.whole[c, i], now_s, rules):
                kept |= 1 << i
        keep_rows(into, c, kept)
        add_born(into, c, masks, rows, seen, sources, lights, numbers, now_s, rules)
    return len(best.score)


@compiled
def _put_away(room, count, spare, out, ends, rules):  # type: ignore[no-untyped-def]
    """A group's hypotheses into the beliefs, each part of it that stands alone as a group; False where there is no room."""
    kept = thin(room, count, rules.most)
    ids, part = parts(room, kept, rules)
    if not len(ids):
        return True
    if (part == part[0]).all():
        return store(room, kept, out, ends)
    for number in np.unique(part):
        for c in range(len(kept)):
            copy(room, kept[c], spare, c)
            mine = 0
            for i in range(spare.count[c]):
                if part[where(ids, len(ids), spare.whole[c, i, ID])] == number:
                    mine |= 1 << i
            keep_rows(spare, c, mine)
        if not store(spare, thin(spare, len(kept), rules.most), out, ends):
            return False
    return True
