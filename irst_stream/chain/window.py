"""The sliding windows of one sensor: frames in, windows of an odd number of frames out.

A sensor's window holds frames of one epoch and one size whose indices follow each other. The rules, each counted by
its name:

    gap        frames are missing      the window starts anew with this frame; `missing` counts the frames (1)
    stray      the last index was one  the window starts anew with this frame (2)
    restart    another epoch, or (3)   the window starts anew, whichever of the two epochs is the larger
    size       another size or type    the window starts anew
    pause      much time has passed    the window starts anew: what was in view has moved on
    clock      time stands still, or goes back  nothing: frames are in order of their index, not of their time
    duplicate  an index seen last      the frame is dropped
    late       an older index, else    the frame is dropped
    small      too few pixels          the frame is dropped

1. Of one gap MOST_MISSING at most; where the index rises by more than FAR, once another frame has followed.
2. It rose by more than FAR, and this frame goes on where those before it were.
3. RESTARTED frames in a row that are older than the newest, but follow each other: the sensor counts anew in its old epoch.

Frames of up to PATCH_LIMIT px a side are one region, a patch; in larger ones the regions
that may hold a group are found, cut out and followed (RegionPlaces).
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TypeAlias

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH
from irst_stream.propose.proposer import Prepared, Proposer, corners_of, cut_out
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Floats, Frame, Ints, Stamp, Window, at_rest

__all__ = ["Events", "RegionPlaces", "SequenceCheck", "WindowBuilder"]

PATCH_LIMIT = 64  # px: a frame that is no larger is one region
SLACK = 2.0  # px along each axis: how far a group may be from the middle of its region before that moves
LONGEST_PAUSE_S = 10.0
FAR = 100  # frames: an index that rises by more may be a mistake
RESTARTED = 5  # frames: so many older ones that follow each other are those of a sensor that counts anew
MOST_MISSING = 1_000_000
DROPPED = ("duplicate", "late", "small")
Events: TypeAlias = Counter[tuple[str, str]]


class SequenceCheck:
    """Judges whether a frame follows its sensor's last one, by the rules above."""

    def __init__(self, events: Events | None = None, smallest: tuple[int, int] = (1, 1)) -> None:
        """events: where what happens is counted, by sensor and name; smallest: rows, columns that a frame must have."""
        self.events: Events = Counter() if events is None else events
        self._smallest = smallest
        self._last: Frame | None = None
        self._before: Stamp | None = None  # the stamp before a last frame that is far ahead of it
        self._older = (-1, 0)  # of consecutive late frames, the last index and how many there are

    def judge(self, frame: Frame) -> str:
        """One of the names above; "next" of a frame that follows, "first" of the first one."""
        verdict = self._compare(frame, self._last)
        if verdict == "late":
            verdict = self._judge_late(frame)
        if verdict not in ("first", "next"):
            self.count(frame, verdict)
        if verdict not in DROPPED:
            self._accept(frame, verdict)
        return verdict

    def count(self, frame: Frame, event: str, times: int = 1) -> None:
        """Count something that happened to a frame of this sensor."""
        if times:
            self.events[frame.stamp.sensor, event] += times

    def _judge_late(self, frame: Frame) -> str:
        """A frame with an older index is late, unless the newest was a stray one, or the sensor counts from 0 again."""
        index, before = frame.stamp.index, self._before
        if before is not None and before.index < index <= before.index + FAR:
            self.count(frame, "missing", index - before.index - 1)
            return "stray"
        last, row = self._older
        row = row + 1 if row and index == last + 1 else 1
        self._older = index, row
        return "late" if row < RESTARTED else "restart"

    def _accept(self, frame: Frame, verdict: str) -> None:
        """Remember the accepted frame and the state needed to judge later ones."""
        last, before, self._before = self._last, self._before, None
        if last is not None and verdict == "gap" and frame.stamp.index - last.stamp.index > FAR:
            self._before = before or last.stamp
        elif before is not None and last is not None and verdict in ("next", "gap", "pause", "size"):
            self.count(frame, "missing", min(last.stamp.index - before.index - 1, MOST_MISSING))
        self._older = (-1, 0)
        self._last = frame

    def _compare(self, frame: Frame, last: Frame | None) -> str:
        least = self._smallest if max(frame.pixels.shape) <= PATCH_LIMIT else PATCH
        if any(side < wanted for side, wanted in zip(frame.pixels.shape, least, strict=True)):
            return "small"
        if last is None:
            return "first"
        now, before = frame.stamp, last.stamp
        if now.epoch != before.epoch:
            return "restart"
        if now.index <= before.index:
            return "duplicate" if now.index == before.index else "late"
        if (frame.pixels.shape, frame.pixels.dtype) != (last.pixels.shape, last.pixels.dtype):
            return "size"
        if now.index != before.index + 1:
            if now.index - before.index <= FAR:
                self.count(frame, "missing", now.index - before.index - 1)
            return "gap"
        if now.time_ns - before.time_ns > LONGEST_PAUSE_S * 1e9:
            return "pause"
        if now.time_ns <= before.time_ns and now.clock != "sensor":
            self.count(frame, "clock")
        return "next"


class WindowBuilder:
    """The windows of one sensor.

    length: frames of a window, odd; 1 gives each frame alone. `events` counts what is named above by sensor and name, and
    "regions", those that were left out because there were too many. `restarted`: whether the last frame was a restart, so
    that nothing known by older stamps holds.
    """

    def __init__(
        self,
        length: int = 5,
        search: ProposeSettings | None = None,
        smallest: tuple[int, int] = (1, 1),
        events: Events | None = None,
    ) -> None:
        """search: for groups in full frames; smallest: rows, columns that a patch must have; events: where to count."""
        if length < 1 or length % 2 == 0:
            raise UsageError(f"window: expected an odd number of frames, got {length}")
        self.length, self.restarted = length, False
        self._check = SequenceCheck(events, smallest)
        self._search = search or ProposeSettings()
        self._frames: deque[Frame] = deque(maxlen=length)
        self._cutter: _Cutter | None = None

    @property
    def events(self) -> Events:
        """How often what happened, by sensor and name."""
        return self._check.events

    def push(self, frame: Frame) -> Window | None:
        """Take the sensor's next frame; the window it completes, centred (length - 1) / 2 frames ago, or None."""
        verdict = self._check.judge(frame)
        self.restarted = verdict == "restart"
        if verdict in DROPPED:
            return None
        if verdict in ("size", "restart", "first"):
            self._frames.clear()
            self._cutter = self._new_cutter(frame)
        elif verdict != "next":
            self._frames.clear()
            if self._cutter is not None:
                self._cutter.clear()
        self._frames.append(frame)
        if self._cutter is not None:
            self._cutter.prepare(frame)
        if len(self._frames) < self.length:
            return None
        if self._cutter is None:
            return _patch_window(self._frames)
        window, left_out = self._cutter.cut(self._frames)
        self._check.count(frame, "regions", left_out)
        return window

    def count(self, frame: Frame, event: str) -> None:
        """Count something else that happened to a frame."""
        self._check.count(frame, event)

    @property
    def bad_pixels(self) -> Ints:
        """(N, 2) x, y of the pixels that a sensor of full frames was seen to have broken."""
        return np.zeros((0, 2), np.int64) if self._cutter is None else self._cutter.proposer.bad

    def _new_cutter(self, frame: Frame) -> _Cutter | None:
        """Of full frames; None of patches."""
        rows, columns = frame.pixels.shape
        if max(rows, columns) <= PATCH_LIMIT:
            return None
        return _Cutter(Proposer(self._search, (rows, columns)), (rows, columns), self.length)


def _patch_window(frames: deque[Frame]) -> Window:
    """Frames that are one region each, as they are."""
    patches = np.stack([f.pixels for f in frames]).astype(np.float32, copy=False)[None]
    middle = frames[len(frames) // 2]
    region, unknown, ceiling = np.zeros(1, np.int64), np.full(1, np.nan), np.full(1, middle.full_scale)
    return Window(middle.stamp, np.zeros((1, 2)), patches, *at_rest(1, len(frames)), region, unknown, ceiling)


class _Cutter:
    """One sensor of full frames: finds the regions of the centre frame and cuts them out of all frames of the window."""

    def __init__(self, proposer: Proposer, shape: tuple[int, int], length: int) -> None:
        self.proposer, self.regions = proposer, RegionPlaces(shape)
        self._prepared: deque[Prepared] = deque(maxlen=length)

    def prepare(self, frame: Frame) -> None:
        """Takes the next frame."""
        self._prepared.append(self.proposer.prepare(frame.pixels))

    def clear(self) -> None:
        """Forgets the frames, not the regions nor the bad pixels."""
        self._prepared.clear()

    def cut(self, frames: deque[Frame]) -> tuple[Window, int]:
        """The window of the last frames, saturated pixels at their region's ceiling; how many regions were left out."""
        middle = len(frames) // 2
        reach = min(self.proposer.settings.average // 2, middle)
        near = [self._prepared[k] for k in range(middle - reach, middle + reach + 1) if k != middle]
        found = self.proposer.propose(self._prepared[middle], near)
        corners, numbers = self.regions.follow(found.middles)
        ceiling = frames[middle].full_scale - found.background
        patches, still = cut_out(frames, self._prepared, corners, ceiling), at_rest(len(corners), len(frames))
        stamp = frames[middle].stamp
        window = Window(stamp, corners.astype(float), patches, *still, numbers, found.noise, ceiling)
        return window, found.left_out


class RegionPlaces:
    """Where a sensor's groups are: a region keeps its place and its number while its group stays near its middle.

    A group that leaves it gets a region of another number, whole pixels further on.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        """shape: rows, columns of the frame."""
        self._shape, self._next = shape, 0
        self._corners, self._numbers = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)

    def follow(self, middles: Floats) -> tuple[Ints, Ints]:
        """Middles of groups (N, 2) x, y px to their regions' corners (N, 2) and numbers (N,)."""
        fresh = corners_of(middles, self._shape)
        away = np.abs(middles[:, None] - self._corners[None] - (np.array(PATCH[::-1]) - 1) / 2).max(-1)  # N M
        corners, numbers, taken = fresh.copy(), np.full(len(middles), -1), np.zeros(len(self._corners), bool)
        for k in np.argsort(away.min(1, initial=np.inf), kind="stable"):
            place = int(np.where(taken, np.inf, away[k]).argmin()) if len(taken) else -1
            if place >= 0 and not taken[place] and self._stays(away[k, place], fresh[k], self._corners[place]):
                corners[k], numbers[k], taken[place] = self._corners[place], self._numbers[place], True
        new = np.flatnonzero(numbers < 0)
        numbers[new] = self._next + np.arange(len(new))
        self._next += len(new)
        self._corners, self._numbers = corners, numbers
        return corners, numbers

    @staticmethod
    def _stays(away: float, fresh: Ints, held: Ints) -> bool:
        """At the frame's border a region stands as near to its group as it can."""
        return bool(away <= SLACK or (fresh == held).all())
