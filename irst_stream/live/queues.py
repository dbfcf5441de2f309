"""Bounded queues between the threads of a running pipeline.

Under "live", a full sensor queue is emptied at once in favour of the newest frame: a single missing frame already costs a
whole window. Where time is short each sensor gets as many frames computed as any other, however many it sends; one whose
frames take far longer than is usual gets fewer. Under "lossless", the thread that puts into a full queue waits, and frames
keep their order.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from threading import Condition, Lock
from typing import NamedTuple

from irst_stream.protocols import Record
from irst_stream.types import Frame, Policy

__all__ = ["OTHERS", "Arrival", "Intake", "Outbox", "QueuedRecord", "SensorCounts", "merge_into_others"]

STUCK_AFTER_S = 5.0  # under "lossless", a sink that blocks the pipeline this long counts as stuck
OTHERS = "(others)"  # stands for sensors that were forgotten or exceed the limit
BATCH_NS = 20_000_000  # computing time of the frames that are taken together, as far as it is known
MEMORY = 0.8  # of the last frames' computing time, in the expected one of the next
TOLERATED = 8.0  # computing time of a frame over the middle sensor's, beyond which it counts as several
MAX_WAITING_BYTES = 256 * 2**20  # in the queue of one sink


def merge_into_others(counts: Counter[tuple[str, str]], sensor: str) -> None:
    """Move a forgotten sensor's counts, by (sensor, reason), to OTHERS."""
    for name, reason in [key for key in counts if key[0] == sensor]:
        counts[OTHERS, reason] += counts.pop((name, reason))


class SensorCounts:
    """Frames received, frames answered and detections by sensor. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, tuple[int, int, int]] = {}

    def add(self, sensor: str, frames: int = 0, answered: int = 0, detections: int = 0) -> None:
        """Add to a sensor's counts."""
        with self._lock:
            old_frames, old_answered, old_detections = self._counts.get(sensor, (0, 0, 0))
            self._counts[sensor] = old_frames + frames, old_answered + answered, old_detections + detections

    def forget(self, sensor: str) -> None:
        """Move a sensor's counts to OTHERS, so that the number of names stays bounded."""
        with self._lock:
            counts = self._counts.pop(sensor, None)
        if counts is not None:
            self.add(OTHERS, *counts)

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Return a copy: (frames, answered, detections) by sensor."""
        with self._lock:
            return dict(self._counts)


class Arrival(NamedTuple):
    """A frame with its arrival time: time_ns since 1970 in UTC, steady_ns of the monotonic clock."""

    frame: Frame
    time_ns: int
    steady_ns: int


class Intake:
    """Queue of frames between the receiving threads and the computing thread.

    depth: most waiting frames, per sensor under "live", in total under "lossless". `dropped` counts frames by sensor and
    reason: "overrun", "sensors" (the sensor exceeds most_sensors), "unanswered" (waiting or received when the queue was
    cleared or closed). `seen` is the monotonic time of each sensor's last frame, ns.

    Fairness is start-time fair queueing (Goyal, Vin and Cheng 1996): a sensor's virtual time is the number of frames that
    it has had computed, and who was silent has saved up nothing.
    """

    def __init__(self, policy: Policy, depth: int, most_sensors: int) -> None:
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.seen: dict[str, int] = {}
        self.waiting = 0
        self._policy, self._depth, self._most_sensors = policy, depth, most_sensors
        self._queues: dict[str, deque[Arrival]] = {}
        self._order: deque[str] = deque()  # sensors in order of arrival, under "lossless"
        self._had: dict[str, float] = {}  # virtual times
        self._now = 0.0  # virtual time of the sensor that was taken first at last
        self._expected_ns: dict[str, float] = {}  # computing time of a frame
        self._changed, self._closed = Condition(), False

    def admits(self, arrival: Arrival) -> bool:
        """Accept the frame's sensor and note its arrival; return False and count a drop if there are too many sensors."""
        sensor = arrival.frame.stamp.sensor
        with self._changed:
            if sensor not in self.seen and len(self.seen) >= self._most_sensors:
                self.dropped[sensor if len(self.dropped) < self._most_sensors else OTHERS, "sensors"] += 1
                return False
            self.seen[sensor] = arrival.steady_ns
        return True

    def put(self, arrival: Arrival) -> None:
        """Queue a frame; if full, drop the sensor's queue ("live") or wait ("lossless"). After close() it is dropped."""
        sensor = arrival.frame.stamp.sensor
        with self._changed:
            while self._policy == "lossless" and self.waiting >= self._depth and not self._closed:
                self._changed.wait()
            if not self.admits(arrival):
                return
            if self._closed:
                self.dropped[sensor, "unanswered"] += 1
                return
            queue = self._queues.setdefault(sensor, deque())
            if not queue:
                self._had[sensor] = max(self._had.get(sensor, 0.0), self._now)
            if self._policy == "live" and len(queue) >= self._depth:
                self.dropped[sensor, "overrun"] += len(queue)
                self.waiting -= len(queue)
                queue.clear()
            queue.append(arrival)
            if self._policy == "lossless":
                self._order.append(sensor)
            self.waiting += 1
            self._changed.notify_all()

    def take(self) -> list[Arrival]:
        """Wait for frames: under "lossless" the oldest of all; under "live" the oldest of each sensor that has any, those
        first that have had the fewest, and no more of them than BATCH_NS are expected to do for.

        Returns an empty list once the queue is closed and empty.
        """
        with self._changed:
            while not self.waiting and not self._closed:
                self._changed.wait()
            sensors = [self._order.popleft()] if self._order else self._next_sensors()
            taken = [self._queues[sensor].popleft() for sensor in sensors]
            self.waiting -= len(taken)
            self._changed.notify_all()
        return taken

    def charge(self, spent_ns: Mapping[str, int]) -> None:
        """Note the computing time that the last frame of each sensor took."""
        with self._changed:
            for sensor, spent in spent_ns.items():
                expected = self._expected_ns.get(sensor, spent)
                self._expected_ns[sensor] = MEMORY * expected + (1 - MEMORY) * spent
            usual = sorted(self._expected_ns.values())
            limit = TOLERATED * usual[(len(usual) - 1) // 2] if usual else 0.0
            for sensor in spent_ns:
                frames = max(self._expected_ns[sensor] / limit, 1.0) if limit else 1.0
                self._had[sensor] = self._had.get(sensor, self._now) + frames

    def _next_sensors(self) -> list[str]:
        """The sensors whose frames are taken next; the caller holds the lock."""
        waiting = sorted((s for s, queue in self._queues.items() if queue), key=lambda s: self._had[s])
        if not waiting:
            return []
        self._now = max(self._now, self._had[waiting[0]])
        taken, expected = waiting[:1], self._expected_ns.get(waiting[0], 0.0)
        for sensor in waiting[1:]:
            expected += self._expected_ns.get(sensor, 0.0)
            if expected > BATCH_NS:
                break
            taken.append(sensor)
        return taken

    def forget(self, silent_ns: int) -> list[str]:
        """Forget sensors silent for more than silent_ns that have no frame waiting; return their names."""
        with self._changed:
            now = time.monotonic_ns()
            silent = [s for s, seen in self.seen.items() if now - seen > silent_ns and not self._queues.get(s)]
            for sensor in silent:
                del self.seen[sensor]
                for known in (self._queues, self._had, self._expected_ns):
                    known.pop(sensor, None)
                merge_into_others(self.dropped, sensor)
        return silent

    def close(self) -> None:
        """Accept no more frames; waiting ones are still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self.waiting

    def clear(self) -> None:
        """Drop all waiting frames and close."""
        with self._changed:
            for sensor, queue in self._queues.items():
                if queue:
                    self.dropped[sensor, "unanswered"] += len(queue)
            self._queues.clear()
            self._order.clear()
            self.waiting = 0
        self.close()


class QueuedRecord(NamedTuple):
    """A record on its way to a sink.

    time_ns: arrival in UTC, 0 to use the time of writing; since_ns: UTC time the frame was taken, or arrived if its clock
    is not comparable; ready_ns: monotonic time the result was ready. since_ns and ready_ns are 0 for frames.
    """

    record: Record
    time_ns: int
    since_ns: int = 0
    ready_ns: int = 0


class Outbox:
    """Queue of records to one sink; `lost` counts records that did not fit."""

    def __init__(self, policy: Policy, depth: int = 4096) -> None:
        self.lost = 0
        self._policy, self._depth = policy, depth
        self._items: deque[QueuedRecord] = deque()
        self._bytes = 0
        self._changed, self._closed, self._stuck = Condition(), False, False
        self._writing = False  # whether the sink has the last record taken still in hand

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: QueuedRecord) -> None:
        """Queue a record; if full it is lost, under "lossless" only after STUCK_AFTER_S, waited once per stuck sink."""
        with self._changed:
            if self._policy == "lossless" and not self._stuck:
                self._stuck = not self._changed.wait_for(lambda: self._has_room(item) or self._closed, STUCK_AFTER_S)
            if not self._has_room(item):
                self.lost += 1
                return
            self._stuck = False
            self._items.append(item)
            self._bytes += _byte_count(item)
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the queue is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    def take(self, seconds: float | None = None) -> QueuedRecord | None:
        """Wait for a record, at most `seconds`; None if there is none, as once the queue has ended.

        Whoever takes another has written the last one.
        """
        with self._changed:
            if self._writing:
                self._writing = False
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._items or self._closed, seconds)
            if not self._items:
                return None
            item = self._items.popleft()
            self._bytes -= _byte_count(item)
            self._writing = True
            self._changed.notify_all()
        return item

    def settle(self, seconds: float) -> None:
        """Wait until all records are written, at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items and not self._writing, seconds)

    def close(self) -> None:
        """End the queue; waiting records are still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, item: QueuedRecord) -> bool:
        return len(self._items) < self._depth and (self._bytes + _byte_count(item) <= MAX_WAITING_BYTES or not self._items)


def _byte_count(item: QueuedRecord) -> int:
    """Bytes that a record counts for: its pixels, or 1 KiB for results."""
    return item.record.pixels.nbytes if isinstance(item.record, Frame) else 1024
