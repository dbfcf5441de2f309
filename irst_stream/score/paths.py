"""Truth and confirmed tracks of many frames as flat arrays, with all pairs of them within a radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.score.ragged import Pairs, Ragged
from irst_stream.score.report import MismatchError
from irst_stream.types import Floats, Ints, Tracks, Truth

__all__ = ["RADIUS", "Paths", "TruthAndTracks"]

RADIUS = 1.0  # px: largest distance at which a track can match a target


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """R points of P paths; a path is one identity in one sequence.

    points: x, y px of each frame's points; path (R,): each point's path, 0 to P - 1; velocity (R, 2) px/s, NaN where
    unknown; sequence (P,): the sequence of each path.
    """

    points: Ragged
    path: Ints
    velocity: Floats
    sequence: Ints

    @property
    def length(self) -> Ints:
        """(P,): the number of frames in which each path has a point."""
        return np.bincount(self.path, minlength=len(self.sequence))


@dataclass(frozen=True, slots=True, eq=False)
class TruthAndTracks:
    """F frames of S sequences: their truth, their confirmed tracks, and all pairs of the two within radius px.

    sequence (F,): 0 to S - 1; frames of a sequence are consecutive and in order. index (F,): the frame's number in its
    sequence; time_ns (F,); step (F,): 0, 1, ... within each sequence, without the gaps that index may have. pairs:
    detection is a row of `tracks`, truth a row of `truth`. size (R, 2) px: of each row of `truth`, NaN for a point.
    """

    sequence: Ints
    index: Ints
    time_ns: Ints
    step: Ints
    truth: Paths
    tracks: Paths
    pairs: Pairs
    radius: float
    size: Floats

    @classmethod
    def of(cls, frames: Sequence[tuple[Tracks | None, Truth]], radius: float = RADIUS) -> TruthAndTracks:
        """Join frames of tracks, None for no tracks, and truth; sequences and frames may come in any order.

        Tentative tracks are left out. An identity that occurs twice in one frame raises a MismatchError.
        """
        ordered = sorted(frames, key=lambda frame: (*_sequence_key(frame[1]), frame[1].stamp.index))
        truths = [truth for _, truth in ordered]
        number = {key: k for k, key in enumerate(dict.fromkeys(map(_sequence_key, truths)))}
        sequence = np.array([number[_sequence_key(truth)] for truth in truths], np.int64)
        first = np.flatnonzero(np.diff(sequence, prepend=-1))
        step = np.arange(len(truths)) - np.repeat(first, np.diff(first, append=len(truths)))
        time_ns = np.array([truth.stamp.time_ns for truth in truths], np.int64)
        true = _paths(truths, [truth.id for truth in truths], [truth.xy for truth in truths], sequence)
        true = Paths(true.points, true.path, _velocities(true, step, time_ns), true.sequence)
        confirmed = [np.zeros(0, np.int64) if t is None else np.flatnonzero(t.confirmed) for t, _ in ordered]
        states = [np.zeros((0, 4)) if t is None else t.state[k] for (t, _), k in zip(ordered, confirmed, strict=True)]
        ids = [k if t is None else t.id[k] for (t, _), k in zip(ordered, confirmed, strict=True)]
        tracked = _paths(truths, ids, [state[:, :2] for state in states], sequence)
        velocity = np.concatenate([np.zeros((0, 2)), *(state[:, 2:] for state in states)])
        tracked = Paths(tracked.points, tracked.path, velocity, tracked.sequence)
        index = np.array([truth.stamp.index for truth in truths], np.int64)
        pairs = Pairs.within(tracked.points, true.points, radius)
        size = np.concatenate([np.zeros((0, 2)), *(truth.size for truth in truths)])
        return cls(sequence, index, time_ns, step, true, tracked, pairs, radius, size)


def _sequence_key(truth: Truth) -> tuple[str, int]:
    return truth.stamp.sensor, truth.stamp.epoch


def _paths(truths: Sequence[Truth], ids: Sequence[Ints], xy: Sequence[Floats], sequence: Ints) -> Paths:
    """Build one path, with unknown velocities, for each identity of each sequence.

    truths, ids, xy: one element for each frame; truths give the frames' stamps; sequence (F,).
    """
    for truth, frame_ids in zip(truths, ids, strict=True):
        if len(np.unique(frame_ids)) < len(frame_ids):
            duplicate = min(key for key in frame_ids.tolist() if frame_ids.tolist().count(key) > 1)
            stamp = truth.stamp
            where = f"sequence {stamp.sensor!r} index {stamp.index}"
            raise MismatchError(f"{where}: id {duplicate} occurs twice", in_truth=frame_ids is truth.id)
    points = Ragged.of(xy, (2,), "xy")
    key = np.column_stack([sequence[points.image], np.concatenate([np.zeros(0, np.int64), *ids])])
    unique, path = np.unique(key, axis=0, return_inverse=True)
    return Paths(points, path, np.full((len(path), 2), np.nan), unique[:, 0])


def _velocities(paths: Paths, step: Ints, time_ns: Ints) -> Floats:
    """(R, 2) px/s by central differences; NaN where a path is not in both neighbouring frames, or no time passes."""
    frame = paths.points.image
    order = np.lexsort((frame, paths.path))
    path, frame, xy = paths.path[order], frame[order], paths.points.rows[order]
    velocity = np.full((len(order), 2), np.nan)
    if len(order) < 3:
        return velocity
    span = time_ns[frame[2:]] - time_ns[frame[:-2]]
    neighbours = (path[2:] == path[:-2]) & (step[frame[2:]] - step[frame[:-2]] == 2) & (span > 0)
    rows = np.flatnonzero(neighbours) + 1
    velocity[order[rows]] = (xy[rows + 1] - xy[rows - 1]) / (span[rows - 1, None] * 1e-9)
    return velocity
