"""The bounded queues between the threads of a running pipeline, and what happens when they are full.

Under "live" the newest wins: when a sensor's queue is full, everything that waits in it is dropped at once, since one frame
that is missing costs a whole window anyway. Under "lossless" whoever brings more waits.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from threading import Condition, Lock
from typing import NamedTuple

from irst_stream.protocols import Record
from irst_stream.types import Frame, Policy

__all__ = ["OTHERS", "Arrival", "Intake", "Item", "Outbox", "Tally", "fold"]

PATIENCE_S = 5.0  # how long a full outbox may hold up the pipeline under "lossless", before its sink counts as stuck
OTHERS = "(others)"  # whatever sensors there are beyond those that are served
LARGEST = 256 * 2**20  # bytes that wait for one sink


def fold(counts: Counter[tuple[str, str]], sensor: str) -> None:
    """Counts by sensor and reason: those of a sensor that is forgotten become those of OTHERS."""
    for name, reason in [key for key in counts if key[0] == sensor]:
        counts[OTHERS, reason] += counts.pop((name, reason))


class Tally:
    """How many frames came of each sensor, how many were answered, how many targets were found. For any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, tuple[int, int, int]] = {}

    def add(self, sensor: str, frames: int = 0, answered: int = 0, detections: int = 0) -> None:
        """Counts what has come since."""
        with self._lock:
            a, b, c = self._counts.get(sensor, (0, 0, 0))
            self._counts[sensor] = a + frames, b + answered, c + detections

    def forget(self, sensor: str) -> None:
        """Counts what was counted of a sensor as that of OTHERS, so that names do not heap up."""
        with self._lock:
            counts = self._counts.pop(sensor, None)
        if counts is not None:
            self.add(OTHERS, *counts)

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Frames, answered ones and detections by sensor, as they are now."""
        with self._lock:
            return dict(self._counts)


class Arrival(NamedTuple):
    """A frame, and when it came: since 1970 in UTC, and by the steady clock."""

    frame: Frame
    time_ns: int
    steady_ns: int


class Intake:
    """Frames between those who receive and the one who computes.

    depth: frames that wait, of each sensor under "live", of all under "lossless". `dropped` counts frames by sensor and
    reason: "overrun", "sensors" (of more sensors than most_sensors), "unanswered" (they waited at the end, or came after
    it); `seen` is when each sensor was last heard, by the steady clock, ns.
    """

    def __init__(self, policy: Policy, depth: int, most_sensors: int) -> None:
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.seen: dict[str, int] = {}
        self.waiting = 0
        self._policy, self._depth, self._most_sensors = policy, depth, most_sensors
        self._queues: dict[str, deque[Arrival]] = {}
        self._order: deque[str] = deque()  # whose turn it is, under "lossless"
        self._changed, self._closed = Condition(), False

    def admits(self, arrival: Arrival) -> bool:
        """Whether a frame's sensor is served, as it is from now on; a frame of one too many is counted."""
        sensor = arrival.frame.stamp.sensor
        with self._changed:
            if sensor not in self.seen and len(self.seen) >= self._most_sensors:
                self.dropped[sensor if len(self.dropped) < self._most_sensors else OTHERS, "sensors"] += 1
                return False
            self.seen[sensor] = arrival.steady_ns
        return True

    def put(self, arrival: Arrival) -> None:
        """Takes a frame in, or drops some, or waits, as the policy says; after close() it is dropped."""
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
        """Waits for frames: under "live" one of each sensor that has any, under "lossless" the first that came.

        None at all once it is closed and empty.
        """
        with self._changed:
            while not self.waiting and not self._closed:
                self._changed.wait()
            sensors = [self._order.popleft()] if self._order else [s for s, queue in self._queues.items() if queue]
            taken = [self._queues[sensor].popleft() for sensor in sensors]
            self.waiting -= len(taken)
            self._changed.notify_all()
        return taken

    def forget(self, silent_ns: int) -> list[str]:
        """Forgets the sensors that have been silent for so long, and have nothing waiting; their names."""
        with self._changed:
            now = time.monotonic_ns()
            gone = [s for s, seen in self.seen.items() if now - seen > silent_ns and not self._queues.get(s)]
            for sensor in gone:
                del self.seen[sensor]
                self._queues.pop(sensor, None)
                fold(self.dropped, sensor)
        return gone

    def close(self) -> None:
        """No frames come any more; those that wait are still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Drops all that waits, and closes."""
        with self._changed:
            for sensor, queue in self._queues.items():
                if queue:
                    self.dropped[sensor, "unanswered"] += len(queue)
            self._queues.clear()
            self._order.clear()
            self.waiting = 0
        self.close()


class Item(NamedTuple):
    """A record on its way to a sink.

    time_ns: when it came, 0 where the sink says; since_ns: when its frame was taken, or came; ready_ns: when it was ready,
    by the steady clock; both 0 of frames.
    """

    record: Record
    time_ns: int
    since_ns: int = 0
    ready_ns: int = 0


class Outbox:
    """Records between the one who computes, or receives, and one sink. `lost` counts what did not fit."""

    def __init__(self, policy: Policy, depth: int = 4096) -> None:
        self.lost = 0
        self._policy, self._depth = policy, depth
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._changed, self._closed, self._stuck = Condition(), False, False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Takes a record in; where there is no room it is lost, under "lossless" after PATIENCE_S of waiting, but once."""
        with self._changed:
            if self._policy == "lossless" and not self._stuck:
                self._stuck = not self._changed.wait_for(lambda: self._room(item) or self._closed, PATIENCE_S)
            if not self._room(item):
                self.lost += 1
                return
            self._stuck = False
            self._items.append(item)
            self._bytes += _weight(item)
            self._changed.notify_all()

    def take(self) -> Item | None:
        """Waits for a record; None once it is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                return None
            item = self._items.popleft()
            self._bytes -= _weight(item)
            self._changed.notify_all()
        return item

    def close(self) -> None:
        """Nothing comes any more; what waits is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _room(self, item: Item) -> bool:
        return len(self._items) < self._depth and (self._bytes + _weight(item) <= LARGEST or not self._items)


def _weight(item: Item) -> int:
    return item.record.pixels.nbytes if isinstance(item.record, Frame) else 1024
