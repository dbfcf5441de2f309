"""The update of all hypotheses with one frame's detections, group by group. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    BIRTH_PROBABILITY,
    ID,
    MAX_LOG_WEIGHT_DROP,
    append_group,
    copy_hypothesis,
    detections_of,
    empty_workspace,
    keep_rows,
    load_group,
)
from irst_stream.track.compiled.events import MAX_GROUP_DETECTIONS, BestEvents, empty_search, find_best_events
from irst_stream.track.compiled.gating import connected_parts, index_of, regroup, rows_by_label
from irst_stream.track.compiled.hypotheses import join_groups, merge_and_prune
from irst_stream.track.compiled.lives import add_births, has_ended
from irst_stream.track.compiled.ordering import falling_order
from irst_stream.track.compiled.sight import empty_prediction
from irst_stream.track.compiled.updating import apply_event

__all__ = ["advance"]

ELEMENTS_A_STEP = 16  # elements of a covariance that are updated in the time of one step


@compiled
def advance(beliefs, detections, rules, out):  # type: ignore[no-untyped-def]
    """Update predicted beliefs with one frame's FrameDetections; write the result to the beginning of `out`.

    Returns the numbers of groups, hypotheses and rows written, -1 for each if `out` is too small; the steps taken; and how
    many detections started no track because there are too many already.

    The work is counted in steps. Once rules.max_steps are taken, each group left goes on with its likeliest hypothesis and
    the first association found. Groups stand in the order of their age, so that new ones are the first to lose.
    """
    measurements = detections.measurements
    parent, owner = regroup(beliefs, measurements, rules)
    pool = 2 * rules.max_hypotheses
    group, output, spare = empty_workspace(pool, beliefs), empty_workspace(pool, beliefs), empty_workspace(pool, beliefs)
    prediction, search = empty_prediction(pool), empty_search()
    search.left[0] = rules.max_steps
    best = BestEvents(np.empty(pool), np.zeros(pool, np.int64), np.zeros((pool, MAX_GROUP_DETECTIONS), np.int64))
    members, begin = rows_by_label(parent, len(parent))
    gated, start = rows_by_label(owner, len(parent))
    used = np.zeros(4, np.int64)
    out.first_hypothesis[0] = out.first_row[0] = out.first_cov[0] = 0
    for g in range(len(parent)):
        if parent[g] != g:
            continue
        count = load_group(beliefs, g, group)
        for k in members[begin[g] + 1 : begin[g + 1]]:
            others = load_group(beliefs, k, output)
            count = join_groups(group, count, output, others, spare)
            group, spare = spare, group
        rows = gated[start[g] : start[g + 1]]
        owner[rows[MAX_GROUP_DETECTIONS:]] = -1
        rows = rows[:MAX_GROUP_DETECTIONS]
        theirs = detections_of(detections, rows)
        children = _branch_group(group, count, theirs, rules, prediction, search, best, output)
        if not _store_group(output, children, spare, out, used, rules):
            return -1, -1, -1, 0, 0
    refused, row, no_mask = 0, np.empty(1, np.int64), np.zeros(1, np.int64)
    for j in falling_order(measurements[:, BIRTH_PROBABILITY]):
        if owner[j] < 0 and measurements[j, BIRTH_PROBABILITY] >= rules.min_existence_probability:
            if used[3] >= rules.max_tracks:
                refused += 1
                continue
            group.target_count[0], group.log_weight[0] = 0, 0.0
            group.mode_probs[0] = 1.0 / beliefs.x.shape[1]
            row[0] = j
            add_births(group, 0, no_mask, detections_of(detections, row), rules)
            if not append_group(group, no_mask, out, used):
                return -1, -1, -1, 0, 0
    return used[0], used[1], used[2], rules.max_steps - search.left[0], refused


@compiled
def _branch_group(workspace, count, detections, rules, prediction, search, best, into):  # type: ignore[no-untyped-def]
    """Update a group's `count` hypotheses with its detections; write the likeliest into `into` and return their number."""
    spent = search.left[0] <= 0
    find_best_events(workspace, 1 if spent else count, detections, rules, prediction, search, best)
    for c in range(1 if spent else len(best.score)):
        if best.score[c] < best.score[0] - MAX_LOG_WEIGHT_DROP or best.score[c] == -np.inf:
            return c
        h, masks = best.hypothesis[c], best.masks[c]
        width = workspace.target_count[h] * workspace.x.shape[2] * workspace.x.shape[3]
        search.left[0] -= width * width * (1 + len(detections.rows)) // ELEMENTS_A_STEP
        copy_hypothesis(workspace, h, into, c)
        apply_event(masks, detections, into, c, prediction, h, rules)
        kept = 0
        for i in range(into.target_count[c]):
            if not has_ended(into.floats[c, i], into.ints[c, i], detections.now_s, rules):
                kept |= 1 << i
        keep_rows(into, c, kept)
        add_births(into, c, masks, detections, rules)
    return c + 1


@compiled
def _store_group(workspace, count, spare, out, used, rules):  # type: ignore[no-untyped-def]
    """Merge and prune a group's hypotheses and append them to `out`, split into groups where targets are far apart.

    Returns False if `out` is full.
    """
    kept = merge_and_prune(workspace, count, rules.max_hypotheses)
    ids, part = connected_parts(workspace, kept, rules)
    if not len(ids):
        return True
    parts = 0
    for k in range(len(part)):
        parts += part[k] == k
    if parts == 1:
        return append_group(workspace, kept, out, used)
    for number in range(len(part)):
        if part[number] != number:
            continue
        for c in range(len(kept)):
            copy_hypothesis(workspace, kept[c], spare, c)
            targets = 0
            for i in range(spare.target_count[c]):
                if part[index_of(ids, len(ids), spare.ints[c, i, ID])] == number:
                    targets |= 1 << i
            keep_rows(spare, c, targets)
        if not append_group(spare, merge_and_prune(spare, len(kept), rules.max_hypotheses), out, used):
            return False
    return True
