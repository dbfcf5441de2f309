"""The sliding windows of all sensors: frames in, windows of an odd number of frames out.

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

Each touches its own sensor only. Frames of up to PATCH_LIMIT px a side are one region, a patch; in larger ones the regions
that may hold a group are found, cut out and followed (Regions).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import NamedTuple

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH
from irst_stream.propose import Prepared, Proposer, ProposeSettings, corners_of, cut_out, warm_up
from irst_stream.types import Floats, Frame, Ints, Stamp, Window, at_rest

__all__ = ["Order", "Regions", "Windows"]

PATCH_LIMIT = 64  # px: a frame that is no larger is one region
MOST_SENSORS = 256  # whose frames are held; one that comes back after more others starts anew
SLACK = 2.0  # px along each axis: how far a group may be from the middle of its region before that moves
LONGEST_PAUSE_S = 10.0
FAR = 100  # frames: an index that rises by more may be a mistake
RESTARTED = 5  # frames: so many older ones that follow each other are those of a sensor that counts anew
MOST_MISSING = 1_000_000
DROPPED = ("duplicate", "late", "small")


class Order:
    """Judges whether a frame follows its sensor's last one, by the rules above. `events` counts by sensor and name."""

    def __init__(self, smallest: tuple[int, int] = (1, 1)) -> None:
        """smallest: rows, columns that a frame must have."""
        self.events: Counter[tuple[str, str]] = Counter()
        self._smallest = smallest
        self._last: dict[str, Frame] = {}
        self._before: dict[str, Stamp] = {}  # what came before a last frame that is far ahead of it
        self._older: dict[str, tuple[int, int]] = {}  # of late frames in a row the last index, and how many there are

    def judge(self, frame: Frame) -> str:
        """One of the names above; "next" of a frame that follows, "first" of a new sensor's."""
        verdict = self._compare(frame, self._last.get(frame.stamp.sensor))
        if verdict == "late":
            verdict = self._judge_late(frame)
        if verdict not in ("first", "next"):
            self.count(frame, verdict)
        if verdict not in DROPPED:
            self._take_note(frame, verdict)
        return verdict

    def count(self, frame: Frame, event: str, times: int = 1) -> None:
        """Counts something that happened to a frame of this sensor."""
        if times:
            self.events[frame.stamp.sensor, event] += times

    def forget(self, sensor: str) -> None:
        """The sensor's next frame is a first one."""
        for held in (self._last, self._before, self._older):
            held.pop(sensor, None)

    def _judge_late(self, frame: Frame) -> str:
        """A frame with an older index is late, unless the newest was a stray one, or the sensor counts anew."""
        sensor, index = frame.stamp.sensor, frame.stamp.index
        before = self._before.get(sensor)
        if before is not None and before.index < index <= before.index + FAR:
            self.count(frame, "missing", index - before.index - 1)
            return "stray"
        last, row = self._older.get(sensor, (-1, 0))
        row = row + 1 if row and index == last + 1 else 1
        self._older[sensor] = index, row
        return "late" if row < RESTARTED else "restart"

    def _take_note(self, frame: Frame, verdict: str) -> None:
        """Keeps a frame that is used, and what is to be known of it when the next ones come."""
        sensor, last = frame.stamp.sensor, self._last.get(frame.stamp.sensor)
        before = self._before.pop(sensor, None)
        if last is not None and verdict == "gap" and frame.stamp.index - last.stamp.index > FAR:
            self._before[sensor] = before or last.stamp
        elif before is not None and last is not None and verdict in ("next", "gap", "pause", "size"):
            self.count(frame, "missing", min(last.stamp.index - before.index - 1, MOST_MISSING))
        self._older.pop(sensor, None)
        self._last[sensor] = frame

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


class Windows:
    """The windows of any number of sensors.

    length: frames of a window, odd; 1 gives each frame alone. `events` counts what is named above by sensor and name, and
    "regions", those that were left out because there were too many.
    """

    def __init__(self, length: int = 5, search: ProposeSettings | None = None, smallest: tuple[int, int] = (1, 1)) -> None:
        """search: for groups in full frames; smallest: rows, columns that a patch must have."""
        if length < 1 or length % 2 == 0:
            raise UsageError(f"window: expected an odd number of frames, got {length}")
        self.length = length
        self._order = Order(smallest)
        self._search = search or ProposeSettings()
        self._sensors: OrderedDict[str, _Sensor] = OrderedDict()
        self._restarted: set[str] = set()
        warm_up()

    @property
    def events(self) -> Counter[tuple[str, str]]:
        """How often what happened, by sensor and name."""
        return self._order.events

    def push(self, frame: Frame) -> Window | None:
        """Takes the next frame of any sensor; the window it completes, centred (length - 1) / 2 frames ago, or None."""
        verdict = self._order.judge(frame)
        if verdict in DROPPED:
            return None
        if verdict == "restart":
            self._restarted.add(frame.stamp.sensor)
        sensor = self._sensor(frame, verdict)
        sensor.frames.append(frame)
        if sensor.cutter is not None:
            sensor.cutter.prepare(frame)
        if len(sensor.frames) < self.length:
            return None
        if sensor.cutter is None:
            return _patch_window(sensor.frames)
        window, left_out = sensor.cutter.cut(sensor.frames)
        self._order.count(frame, "regions", left_out)
        return window

    def count(self, frame: Frame, event: str) -> None:
        """Counts something else that happened to a frame."""
        self._order.count(frame, event)

    def restarted(self) -> set[str]:
        """The sensors that have counted anew since this was last asked: nothing that is known by their old stamps holds."""
        names, self._restarted = self._restarted, set()
        return names

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self._sensors.pop(sensor, None)
        self._order.forget(sensor)

    def bad_pixels(self, sensor: str) -> Ints:
        """(N, 2) x, y of the pixels that a sensor of full frames was seen to have broken."""
        held = self._sensors.get(sensor)
        return np.zeros((0, 2), np.int64) if held is None or held.cutter is None else held.cutter.proposer.bad

    def _sensor(self, frame: Frame, verdict: str) -> _Sensor:
        """What is held of the frame's sensor; emptied where it starts anew, but for what was learnt of its pixels."""
        name = frame.stamp.sensor
        known = self._sensors.get(name)
        if known is None or verdict in ("size", "restart", "first"):
            self._sensors[name] = known = _Sensor(deque(maxlen=self.length), self._cutter(frame))
        elif verdict != "next":
            known.frames.clear()
            if known.cutter is not None:
                known.cutter.clear()
        self._sensors.move_to_end(name)
        if len(self._sensors) > MOST_SENSORS:
            self.forget(next(iter(self._sensors)))
        return known

    def _cutter(self, frame: Frame) -> _Cutter | None:
        """Of full frames; None of patches."""
        rows, columns = frame.pixels.shape
        if max(rows, columns) <= PATCH_LIMIT:
            return None
        return _Cutter(Proposer(self._search, (rows, columns)), (rows, columns), self.length)


class _Sensor(NamedTuple):
    """A sensor's last frames; of full frames, what cuts the regions out of them."""

    frames: deque[Frame]
    cutter: _Cutter | None


def _patch_window(frames: deque[Frame]) -> Window:
    """Frames that are one region each, as they are."""
    patches = np.stack([f.pixels for f in frames]).astype(np.float32, copy=False)[None]
    middle = frames[len(frames) // 2]
    region, unknown, ceiling = np.zeros(1, np.int64), np.full(1, np.nan), np.full(1, middle.full_scale)
    return Window(middle.stamp, np.zeros((1, 2)), patches, at_rest(1, len(frames)), region, unknown, ceiling)


class _Cutter:
    """One sensor of full frames: finds the regions of the centre frame and cuts them out of all frames of the window."""

    def __init__(self, proposer: Proposer, shape: tuple[int, int], length: int) -> None:
        self.proposer, self.regions = proposer, Regions(shape)
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
        patches, course = cut_out(frames, self._prepared, corners, ceiling), at_rest(len(corners), len(frames))
        window = Window(frames[middle].stamp, corners.astype(float), patches, course, numbers, found.noise, ceiling)
        return window, found.left_out


class Regions:
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
