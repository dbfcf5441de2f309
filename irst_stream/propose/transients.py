"""Lights that come and go, as sea glint, sparks and leaves do: how strong they are at each place of a sensor's frames.

A target has a path: where it is now, it was on one side shortly before, and is as far on the other side shortly after, or
at the same place, if only faintly. The path may be one in the scene, or, of a target that the platform follows, one in the
frames. A peak without such a pair of others is transient. Of transient peaks, which no inverted
frame shows, a coarse map counts how many there are and how strong, over the last frames; where there are many, the
threshold rises until no more than the share of false alarms that is the place's own is left. Few lights about a place tell
little: as many about a wider one do too, wherever the place itself has some.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np

from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.peaks import TAIL_MARGIN, is_near
from irst_stream.types import Floats, Ints

__all__ = ["COMPANION_SHARE", "TransientClutter", "TransientCounts"]

CELL_PX = 32.0
AROUND = 3, 5  # cells along each axis that count together: of a place, and of a wide one
MEMORY_FRAMES = 300.0
LAGS = (4, 5)  # frames before and after: longer than a glint, and than the frames that the search averages
REACH_PX = 4.5  # a frame: the farthest that a target moves
PATH_PX = 3.0  # from the middle of the pair, at most: a target also turns
SAME_PX = 6.0  # from one frame to the next: the same light, which may move
MOST_PEAKS, MOST_COMPANIONS = 32, 128  # of a frame, the strongest
# of the threshold: a weaker peak still shows the path of a faint target, which passes the threshold in some frames only
COMPANION_SHARE = 0.7
MIN_EVENTS = 12.0  # lights that came and went about a place: fewer may be targets that flicker, enter and leave
MIN_OWN_EVENTS = 3.0  # of them about the place itself: a sky over glinting water has none


class TransientCounts(NamedTuple):
    """What was learnt: lights that came, their peaks, and the peaks' summed excess over the threshold, of each cell of a
    grid (3, m, n), over the last frames, of which the latest weigh most; frames: their weight.
    """

    counts: Float32Image
    frames: float


class _Seen(NamedTuple):
    """A frame's peaks: places (N, 2) px in the frame, strength (N,), which are near no track (N,), and the places (M, 2) px
    of these and weaker ones; place (2,) px: of the scene in the frame.
    """

    xy: Floats
    strength: Floats
    free: np.ndarray[tuple[int], np.dtype[np.bool_]]
    companions: Floats
    place: Floats


class TransientClutter:
    """Learns the transient peaks of one sensor's frames, in order, and says which threshold they ask for."""

    def __init__(
        self, shape: tuple[int, int], threshold: float, allowed: float, learnt: TransientCounts | None = None
    ) -> None:
        """shape: rows, columns of the frames; threshold: of peaks, which may rise; allowed: false peaks of a frame; learnt:
        what it begins with, unused where it is of frames of another shape.
        """
        self._cells = max(round(shape[0] / CELL_PX), 1), max(round(shape[1] / CELL_PX), 1)
        self._shape, self._threshold, self._allowed = shape, threshold, allowed
        self._counts, self._frames = np.zeros((3, *self._cells), np.float32), 0.0  # see TransientCounts
        self._seen = deque[_Seen](maxlen=2 * max(LAGS) + 1)
        if learnt is not None and learnt.counts.shape == self._counts.shape:
            self._counts[:], self._frames = learnt
        self._limits = self._risen()  # thresholds of the cells, None while none has risen

    def learnt(self) -> TransientCounts:
        """Return what is known now; its array goes on changing."""
        return TransientCounts(self._counts, self._frames)

    def thresholds(self, xy: Floats) -> Floats:
        """Return the threshold (N,) at places (N, 2) px."""
        if self._limits is None:
            return np.full(len(xy), self._threshold)
        return np.asarray(self._limits[self._cells_of(xy)], np.float64)

    def learn(self, xy: Floats, strength: Floats, place: tuple[int, int], tracked: Floats) -> None:
        """Learn from the next frame's peaks, xy (N, 2) px and strength (N,), above the threshold or not.

        place: see PreparedFrame; tracked (M, 2) px: places of tracks, whose peaks do not count.
        """
        order = np.argsort(-strength, kind="stable")
        order = order[strength[order] > COMPANION_SHARE * self._threshold][:MOST_COMPANIONS]
        companions, order = xy[order], order[:MOST_PEAKS]
        strong = order[strength[order] > self._threshold]
        xy, strength = xy[strong], strength[strong]
        self._seen.append(_Seen(xy, strength, ~is_near(xy, tracked), companions, np.array(place, np.float64)))
        if len(self._seen) < 2 * max(LAGS) + 1:
            return
        keep = np.float32(1 - 1 / MEMORY_FRAMES)
        self._frames = float(keep) * self._frames + 1
        judged, before = self._at(0), self._at(-1)
        transient = self._without_path()
        self._counts *= keep
        if len(transient):
            fresh = ~_near_any(judged.xy[transient] - judged.place, before.xy - before.place, SAME_PX)
            cells = self._cells_of(judged.xy[transient])
            excess = judged.strength[transient] - self._threshold
            for counts, more in zip(self._counts, (fresh.astype(np.float64), np.ones(len(cells[0])), excess), strict=True):
                np.add.at(counts, cells, more)
        if len(transient) or self._limits is not None:
            self._limits = self._risen()

    def _without_path(self) -> Ints:
        """Rows of the judged frame's peaks that are near no track and have no path, in the scene or in the frames."""
        judged = self._at(0)
        rows = np.flatnonzero(judged.free)
        for lag in LAGS:
            earlier, later, xy = self._at(-lag), self._at(lag), judged.xy[rows]
            has_path = _has_path(xy, earlier.companions, later.companions, lag)
            back, on = judged.place - earlier.place, judged.place - later.place
            if back.any() or on.any():
                has_path |= _has_path(xy, earlier.companions + back, later.companions + on, lag)
            rows = rows[~has_path]
        return rows

    def _at(self, lag: int) -> _Seen:
        """The frame so many after the one that is judged."""
        return self._seen[max(LAGS) + lag]

    def _risen(self) -> Float32Image | None:
        """Return the cells' thresholds (m, n); None where none has risen."""
        own, risen = _summed(self._counts[0], AROUND[0]), np.zeros(self._cells)
        for side in AROUND:
            events, peaks, excess = (_summed(part, side) for part in self._counts)
            allowed = self._allowed * side**2 / own.size
            ratio = np.maximum(peaks / max(self._frames, 1.0) / allowed, 1.0)
            rise = TAIL_MARGIN * excess / np.maximum(peaks, 1e-6) * np.log(ratio)
            rise[(events < MIN_EVENTS) | (own < MIN_OWN_EVENTS)] = 0
            np.maximum(risen, rise, out=risen)
        return np.asarray(self._threshold + risen, np.float32) if risen.any() else None

    def _cells_of(self, xy: Floats) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
        """Row and column (N,) of the cell of each place (N, 2) px."""
        share = xy[:, ::-1] / self._shape
        return tuple(
            np.clip((share[:, axis] * count).astype(np.int64), 0, count - 1) for axis, count in enumerate(self._cells)
        )


def _summed(part: Float32Image, side: int) -> Float32Image:
    """Sum the cells (m, n) within a square of that side about each; beyond the border they are mirrored."""
    summed = cv2.boxFilter(part, -1, (side, side), normalize=False, borderType=cv2.BORDER_REFLECT)
    return np.asarray(summed, np.float32)


def _has_path(xy: Floats, before: Floats, after: Floats, lag: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which places (N, 2) px have a place before (A, 2) and one after (B, 2), lag frames away, on opposite sides."""
    at, earlier = np.nonzero(np.abs(before[None] - xy[:, None]).max(axis=2) <= REACH_PX * lag)
    mirrored = 2 * xy[at] - before[earlier]
    found = np.zeros(len(xy), np.bool_)
    found[at[_near_any(mirrored, after, 2 * PATH_PX)]] = True
    return found


def _near_any(xy: Floats, others: Floats, distance: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which places (N, 2) px are within a distance along both axes of any other (M, 2)."""
    return np.asarray((np.abs(xy[:, None] - others[None]).max(axis=2) <= distance).any(axis=1))
