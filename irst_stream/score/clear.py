"""CLEAR MOT: accuracy, precision, identity switches and fragmentation, by matching frame after frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import Encounters
from irst_stream.score.ragged import Pairs
from irst_stream.types import Ints

__all__ = ["Clear", "Rules", "clear"]

Rules = Literal["motmetrics", "trackeval"]
Bools = NDArray[np.bool_]
STAY = 1000.0  # what going on as before is worth in TrackEval, in similarities


@dataclass(frozen=True, slots=True, eq=False)
class Clear:
    """mota: 1 - (missed + false + switches) / truths, NaN without truths; motp: mean distance of the matched, px, NaN
    without any; matched, missed, false: points; switches: a target's match is another track than its last; fragments: a
    target's match is taken up again after a break.

    truth, track (matched,): rows of Encounters.real and .found that were matched.
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
class _State:
    """What one frame leaves to the next: of each target its last track or -1, and whether it had one just now."""

    last: Ints
    tracked: Bools
    switches: int
    runs: Ints


def clear(met: Encounters, rules: Rules = "motmetrics") -> Clear:
    """Bernardin and Stiefelhagen 2008, of points within the radius. Two readings are in use:

    "motmetrics"  as py-motmetrics, and as published: who was last matched with each other, however long ago, stays so while
                  in range; of the others as many as possible are matched, at the least sum of distances. A break is a
                  frame in which the target is there and unmatched.
    "trackeval"   as TrackEval: staying with the match of the frame before is worth 1000, being near 1 - distance / radius,
                  and the largest sum is taken, even where fewer are matched. A break is any frame without a match, but
                  frames with no truth or no track at all are passed over.

    Where nobody is in range of two, both give the same.
    """
    real, found = met.real, met.found
    paths = len(real.sequence)
    state = _State(np.full(paths, -1), np.zeros(paths, np.bool_), 0, np.zeros(paths, np.int64))
    meetings = _by_step(met, real.points.image[met.pairs.truth])
    taken = [np.zeros(0, np.int64)]
    for some, seen in zip(meetings, _seen(met, rules), strict=True):
        pairs = Pairs(met.pairs.detection[some], met.pairs.truth[some], met.pairs.distance[some])
        target, track = real.path[pairs.truth], found.path[pairs.detection]
        match = _match(pairs, target, track, state, met.radius, rules)
        taken.append(some[match])
        _go_on(state, target[match], track[match], seen)
    rows = np.concatenate(taken)
    matched, truths, tracks = len(rows), len(real.path), len(found.path)
    wrong = truths + tracks - 2 * matched + state.switches
    return Clear(
        1 - wrong / truths if truths else np.nan,
        float(met.pairs.distance[rows].mean()) if matched else np.nan,
        matched,
        truths - matched,
        tracks - matched,
        state.switches,
        int(np.maximum(state.runs - 1, 0).sum()),
        met.pairs.truth[rows],
        met.pairs.detection[rows],
    )


def _match(pairs: Pairs, target: Ints, track: Ints, state: _State, radius: float, rules: Rules) -> Ints:
    """Which of the pairs of one step match; target, track: the identities in each."""
    stays = state.last[target] == track
    if rules == "trackeval":
        near = np.flatnonzero(pairs.distance < radius)
        gain = STAY * (stays & state.tracked[target])[near] + 1 - pairs.distance[near] / radius
        return near[best_pairs(target[near], track[near], gain)]
    kept = np.flatnonzero(stays)
    kept = kept[np.argsort(pairs.truth[kept])]
    kept = kept[np.unique(track[kept], return_index=True)[1]]  # of those who lay claim to one track the first keeps it
    free = np.flatnonzero(~np.isin(target, target[kept]) & ~np.isin(track, track[kept]))
    most = radius * (len(free) + 1)  # so much that one more match is worth any distance
    return np.concatenate([kept, free[best_pairs(target[free], track[free], most - pairs.distance[free])]])


def _go_on(state: _State, target: Ints, track: Ints, seen: Ints) -> None:
    """Takes up the matches of one step; seen: the targets of which it says whether they are tracked."""
    state.switches += int(((state.last[target] >= 0) & (state.last[target] != track)).sum())
    state.runs[target] += ~state.tracked[target]
    state.last[target] = track
    state.tracked[seen] = False
    state.tracked[target] = True


def _seen(met: Encounters, rules: Rules) -> list[Ints]:
    """For each step the targets that are there; by TrackEval's rules all of sequences where anything could match."""
    if rules == "motmetrics":
        return [met.real.path[rows] for rows in _by_step(met, met.real.points.image)]
    busy = np.flatnonzero((met.real.points.count > 0) & (met.found.points.count > 0))
    frames = [busy[some] for some in _by_step(met, busy)]
    return [np.flatnonzero(np.isin(met.real.sequence, met.sequence[some])) for some in frames]


def _by_step(met: Encounters, frame: Ints) -> list[Ints]:
    """Which of the given frames belong to step 0, 1, ... of their sequences."""
    step = met.step[frame]
    order = np.argsort(step, kind="stable")
    return np.split(order, np.searchsorted(step[order], np.arange(1, met.step.max(initial=0) + 1)))
