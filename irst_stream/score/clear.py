"""CLEAR MOT: accuracy, precision, identity switches and fragmentations, from frame-by-frame matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import TruthAndTracks
from irst_stream.score.ragged import Pairs
from irst_stream.types import Ints

__all__ = ["Clear", "ClearRules", "clear"]

ClearRules = Literal["motmetrics", "trackeval"]
Bools = NDArray[np.bool_]
CONTINUITY_GAIN = 1000.0  # TrackEval: added to the similarity of a pair that was matched in the previous frame


@dataclass(frozen=True, slots=True, eq=False)
class Clear:
    """CLEAR MOT metrics.

    mota: 1 - (missed + false + switches) / truths, NaN without truths; motp: mean distance of matched points, px, NaN
    without matches; matched, missed, false: numbers of points; switches: how often a target is matched to another track
    than its previous one; fragments: how often a target is matched again after a break.

    truth, track (matched,): the matched rows of TruthAndTracks.truth and .tracks.
    """

    mota: float
    motp: float
    matched: int
    missed: int
    false: int
    switches: int
    fragments: int
    truth: Ints
    track: Ints


@dataclass(slots=True)
class _MatchState:
    """Carried from frame to frame, for each target (P,).

    last_track: the track it was last matched to, or -1; tracked: whether its latest frame had a match; runs: how many
    unbroken runs of matches it has had. switches: their number so far, over all targets.
    """

    last_track: Ints
    tracked: Bools
    switches: int
    runs: Ints


def clear(data: TruthAndTracks, rules: ClearRules = "motmetrics") -> Clear:
    """Compute CLEAR MOT (Bernardin and Stiefelhagen 2008) of points matched within the radius.

    Two readings of the publication are in use:

    "motmetrics"  as py-motmetrics, and as published: a target keeps the track it was last matched to, however long ago,
                  while both are in range; the others are matched for the largest number of matches, then the least sum
                  of distances. A break is a frame in which the target is present and unmatched.
    "trackeval"   as TrackEval: repeating the match of the previous frame gains 1000, closeness gains
                  1 - distance / radius, and the matching with the largest total gain is taken, even if it has fewer
                  matches. A break is any frame without a match; frames without truth or without tracks are skipped.

    Both give the same result where no point has more than one other in range.
    """
    truth, tracks = data.truth, data.tracks
    targets = len(truth.sequence)
    state = _MatchState(np.full(targets, -1), np.zeros(targets, np.bool_), 0, np.zeros(targets, np.int64))
    candidates_by_step = _rows_by_step(data, truth.points.image[data.pairs.truth])
    matches = [np.zeros(0, np.int64)]
    for candidates, updated in zip(candidates_by_step, _updated_targets(data, rules), strict=True):
        pairs = Pairs(data.pairs.detection[candidates], data.pairs.truth[candidates], data.pairs.distance[candidates])
        target, track = truth.path[pairs.truth], tracks.path[pairs.detection]
        match = _match(pairs, target, track, state, data.radius, rules)
        matches.append(candidates[match])
        _update_state(state, target[match], track[match], updated)
    rows = np.concatenate(matches)
    matched, truths, points = len(rows), len(truth.path), len(tracks.path)
    mistakes = truths + points - 2 * matched + state.switches
    return Clear(
        1 - mistakes / truths if truths else np.nan,
        float(data.pairs.distance[rows].mean()) if matched else np.nan,
        matched,
        truths - matched,
        points - matched,
        state.switches,
        int(np.maximum(state.runs - 1, 0).sum()),
        data.pairs.truth[rows],
        data.pairs.detection[rows],
    )


def _match(pairs: Pairs, target: Ints, track: Ints, state: _MatchState, radius: float, rules: ClearRules) -> Ints:
    """Return the indices of the matched pairs among one step's K candidates; target, track (K,): their identities."""
    repeated = state.last_track[target] == track
    if rules == "trackeval":
        near = np.flatnonzero(pairs.distance < radius)
        gain = CONTINUITY_GAIN * (repeated & state.tracked[target])[near] + 1 - pairs.distance[near] / radius
        return near[best_pairs(target[near], track[near], gain)]
    kept = np.flatnonzero(repeated)
    kept = kept[np.argsort(pairs.truth[kept])]
    kept = kept[np.unique(track[kept], return_index=True)[1]]  # two targets may have had one track last: the first keeps it
    free = np.flatnonzero(~np.isin(target, target[kept]) & ~np.isin(track, track[kept]))
    match_gain = radius * (len(free) + 1)  # exceeds any sum of distances, so the number of matches comes first
    return np.concatenate([kept, free[best_pairs(target[free], track[free], match_gain - pairs.distance[free])]])


def _update_state(state: _MatchState, target: Ints, track: Ints, updated: Ints) -> None:
    """Record one step's matches; `updated` targets without a match become untracked."""
    state.switches += int(((state.last_track[target] >= 0) & (state.last_track[target] != track)).sum())
    state.runs[target] += ~state.tracked[target]
    state.last_track[target] = track
    state.tracked[updated] = False
    state.tracked[target] = True


def _updated_targets(data: TruthAndTracks, rules: ClearRules) -> list[Ints]:
    """List for each step the targets whose tracked flag it sets.

    "motmetrics": the targets present. "trackeval": all targets of the sequences that have both truth and tracks in it.
    """
    if rules == "motmetrics":
        return [data.truth.path[rows] for rows in _rows_by_step(data, data.truth.points.image)]
    matchable = np.flatnonzero((data.truth.points.count > 0) & (data.tracks.points.count > 0))
    frames_by_step = [matchable[rows] for rows in _rows_by_step(data, matchable)]
    return [np.flatnonzero(np.isin(data.truth.sequence, data.sequence[frames])) for frames in frames_by_step]


def _rows_by_step(data: TruthAndTracks, frame: Ints) -> list[Ints]:
    """Group row numbers by the step, 0, 1, ... in its sequence, of each row's frame (R,)."""
    step = data.step[frame]
    order = np.argsort(step, kind="stable")
    return np.split(order, np.searchsorted(step[order], np.arange(1, data.step.max(initial=0) + 1)))
