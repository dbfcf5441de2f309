"""Truth and tracks of many frames as flat arrays: who is where when, and who is near whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.score.ragged import Pairs, Ragged
from irst_stream.score.report import MismatchError
from irst_stream.types import Floats, Ints, Tracks, Truth

__all__ = ["RADIUS", "Encounters", "Paths"]

RADIUS = 1.0  # px: a track farther than this from a target has nothing to do with it


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """R points of P paths, a path being one identity in one sequence, frame after frame.

    points: xy of each frame, px; path (R,) 0 to P - 1; velocity (R, 2) px/s, NaN where unknown; sequence (P,) that each
    path belongs to.
    """

    points: Ragged
    path: Ints
    velocity: Floats
    sequence: Ints

    @property
    def length(self) -> Ints:
        """(P,): in how many frames each path is there."""
        return np.bincount(self.path, minlength=len(self.sequence))


@dataclass(frozen=True, slots=True, eq=False)
class Encounters:
    """F frames of S sequences, the truth in them, the confirmed tracks in them, and every pair of them within radius px.

    sequence (F,) 0 to S - 1, each one's frames being consecutive and in order; index (F,) the frame's number in its
    sequence; time_ns (F,); step (F,) 0, 1, ... within each sequence, whatever the index; pairs: detection is a row of
    found, truth a row of real.
    """

    sequence: Ints
    index: Ints
    time_ns: Ints
    step: Ints
    real: Paths
    found: Paths
    pairs: Pairs
    radius: float

    @classmethod
    def of(cls, frames: Sequence[tuple[Tracks | None, Truth]], radius: float = RADIUS) -> Encounters:
        """Each frame's truth with its tracks, None for none; sequences and frames may come in any order.

        Tentative tracks are left out. An identity that is twice in one frame raises a MismatchError.
        """
        ordered = sorted(frames, key=lambda frame: (*_clip(frame[1]), frame[1].stamp.index))
        truths = [truth for _, truth in ordered]
        number = {clip: k for k, clip in enumerate(dict.fromkeys(map(_clip, truths)))}
        sequence = np.array([number[_clip(truth)] for truth in truths], np.int64)
        first = np.flatnonzero(np.diff(sequence, prepend=-1))
        step = np.arange(len(truths)) - np.repeat(first, np.diff(first, append=len(truths)))
        time_ns = np.array([truth.stamp.time_ns for truth in truths], np.int64)
        real = _paths(truths, [truth.id for truth in truths], [truth.xy for truth in truths], sequence)
        real = Paths(real.points, real.path, _speeds(real, step, time_ns), real.sequence)
        kept = [np.zeros(0, np.int64) if t is None else np.flatnonzero(t.confirmed) for t, _ in ordered]
        states = [np.zeros((0, 4)) if t is None else t.state[k] for (t, _), k in zip(ordered, kept, strict=True)]
        ids = [k if t is None else t.id[k] for (t, _), k in zip(ordered, kept, strict=True)]
        found = _paths(truths, ids, [state[:, :2] for state in states], sequence)
        velocity = np.concatenate([np.zeros((0, 2)), *(state[:, 2:] for state in states)])
        found = Paths(found.points, found.path, velocity, found.sequence)
        index = np.array([truth.stamp.index for truth in truths], np.int64)
        pairs = Pairs.within(found.points, real.points, radius)
        return cls(sequence, index, time_ns, step, real, found, pairs, radius)


def _clip(truth: Truth) -> tuple[str, int]:
    return truth.stamp.sensor, truth.stamp.epoch


def _paths(truths: Sequence[Truth], ids: Sequence[Ints], xy: Sequence[Floats], sequence: Ints) -> Paths:
    """Paths without velocities, one for each identity of each sequence."""
    for truth, who in zip(truths, ids, strict=True):
        if len(np.unique(who)) < len(who):
            twice = min(key for key in who.tolist() if who.tolist().count(key) > 1)
            stamp = truth.stamp
            where = f"sequence {stamp.sensor!r} index {stamp.index}"
            raise MismatchError(f"{where}: id {twice} is there twice", in_truth=who is truth.id)
    points = Ragged.of(xy, (2,), "xy")
    key = np.column_stack([sequence[points.image], np.concatenate([np.zeros(0, np.int64), *ids])])
    unique, path = np.unique(key, axis=0, return_inverse=True)
    return Paths(points, path, np.full((len(path), 2), np.nan), unique[:, 0])


def _speeds(real: Paths, step: Ints, time_ns: Ints) -> Floats:
    """(R, 2) px/s by central differences; NaN where a path is not in both neighbouring frames, or no time passes."""
    frame = real.points.image
    order = np.lexsort((frame, real.path))
    path, when, xy = real.path[order], frame[order], real.points.rows[order]
    speed = np.full((len(order), 2), np.nan)
    if len(order) < 3:
        return speed
    span = time_ns[when[2:]] - time_ns[when[:-2]]
    joined = (path[2:] == path[:-2]) & (step[when[2:]] - step[when[:-2]] == 2) & (span > 0)
    rows = np.flatnonzero(joined) + 1
    speed[order[rows]] = (xy[rows + 1] - xy[rows - 1]) / (span[rows - 1, None] * 1e-9)
    return speed
