"""The last frames of each sensor of a running pipeline with their results; a sink that never holds the pipeline up.

It keeps references to frames that exist anyway, so that it costs no time worth measuring while nobody looks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any

from irst_stream.types import Detections, Frame, Stamp, Tracks
from irst_stream.web.views import Sensor, View

__all__ = ["History"]

SERIES_KEPT = 6000  # frames of a sensor whose numbers are kept for the plots: a minute at 100 frames/s
MOST_UNANSWERED = 32  # frames that the newest answered one may lag behind before frames are shown without results
TAIL_S = 2.0  # how far back a track's tail goes
TAIL_POINTS = 20
COMPARABLE_NS = 10**12  # a stamp farther than this from our clock is of a wrong clock
RECORD_BYTES = 4096  # that a frame's results and their objects count for
Key = tuple[int, int]  # a frame's epoch and index


@dataclass(slots=True, eq=False)
class _Entry:
    """A frame and its results, as far as they have come."""

    position: int
    frame: Frame
    arrived_ns: int
    detections: Detections | None = None
    tracks: Tracks | None = None
    latency_ms: float = float("nan")


class _SensorHistory:
    """One sensor's frames, oldest first, and the numbers of its answered frames."""

    def __init__(self) -> None:
        self.positions: dict[Key, int] = {}
        self.entries: dict[int, _Entry] = {}  # by position; these are consecutive
        self.count = 0  # frames so far: the next frame's position
        self.answered = -1  # position of the newest answered frame
        self.series: deque[tuple[int, float, float, int, int]] = deque(maxlen=SERIES_KEPT)

    @property
    def first(self) -> int:
        """Position of the oldest entry."""
        return self.count - len(self.entries)

    @property
    def is_behind(self) -> bool:
        """Whether the answers are far behind the frames, or none come."""
        return self.answered < self.first or self.count - 1 - self.answered > MOST_UNANSWERED

    def add(self, frame: Frame, arrived_ns: int) -> None:
        """Keep a frame; results of its number belong to it from now on, since a sensor may count anew in its epoch."""
        self.positions[frame.stamp.epoch, frame.stamp.index] = self.count
        self.entries[self.count] = _Entry(self.count, frame, arrived_ns)
        self.count += 1

    def drop_oldest(self) -> None:
        """Forget the oldest frame."""
        oldest = self.entries.pop(self.first)
        key = oldest.frame.stamp.epoch, oldest.frame.stamp.index
        if self.positions[key] == oldest.position:
            del self.positions[key]

    def at(self, position: int) -> _Entry | None:
        """The entry at a position, or the nearest; None if there is none."""
        return self.entries.get(min(max(position, self.first), self.count - 1))

    def newest(self) -> _Entry | None:
        """The newest answered entry; the newest of all if the answers are far behind."""
        return self.at(self.count - 1 if self.is_behind else self.answered)

    def rate_hz(self) -> float:
        """Frames/s of arrival; 0 for fewer than two frames."""
        if len(self.entries) < 2:
            return 0.0
        span_ns = self.entries[self.count - 1].arrived_ns - self.entries[self.first].arrived_ns
        return (len(self.entries) - 1) * 1e9 / span_ns if span_ns > 0 else 0.0

    def past(self, entry: _Entry) -> list[_Entry]:
        """At most TAIL_POINTS entries of the last TAIL_S up to an entry, newest first."""
        step = max(round(self.rate_hz() * TAIL_S / TAIL_POINTS), 1)
        positions = range(entry.position, entry.position - step * TAIL_POINTS, -step)
        return [self.entries[position] for position in positions if position in self.entries]


class History:
    """Keeps the last frames and results of every sensor; a protocols.Sink. Reading methods are thread-safe.

    max_bytes: pixels kept, of all sensors together; at least one frame is kept.
    """

    takes: tuple[type[Frame | Detections | Tracks], ...] = (Frame, Detections, Tracks)
    alarm, lost = "", 0

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._sensors: dict[str, _SensorHistory] = {}
        self._order: deque[tuple[_SensorHistory, str, int]] = deque()  # sensor and bytes of all entries, by arrival
        self._changed = Condition()

    def start(self, status: Callable[[], Any]) -> None:
        """Do nothing: the page asks the runner itself."""

    def write(self, record: Frame | Detections | Tracks, published_ns: int) -> None:
        """Keep a frame, or add a result to its frame; a result whose frame is gone is dropped."""
        with self._changed:
            if isinstance(record, Frame):
                if self._keep(record, published_ns).is_behind:
                    self._changed.notify_all()
                return
            sensor = self._sensors.get(record.stamp.sensor)
            position = sensor.positions.get((record.stamp.epoch, record.stamp.index)) if sensor else None
            if sensor is None or position is None:
                return
            entry = sensor.entries[position]
            if isinstance(record, Detections):
                entry.detections = record
                return
            entry.tracks, sensor.answered = record, position
            entry.latency_ms = (published_ns - _since_ns(record.stamp, entry.arrived_ns)) / 1e6
            found = len(entry.detections) if entry.detections else 0
            confirmed = int(record.confirmed.sum())
            sensor.series.append((entry.position, entry.arrived_ns / 1e9, entry.latency_ms, found, confirmed))
            self._changed.notify_all()

    def idle(self) -> None:
        """Do nothing: nothing waits here."""

    def close(self) -> None:
        """Wake everybody who waits; may be called twice."""
        with self._changed:
            self._changed.notify_all()

    def sensors(self) -> list[Sensor]:
        """All sensors with a frame, by name."""
        with self._changed:
            known = [(n, s.first, s.count - 1, s.rate_hz()) for n, s in self._sensors.items() if s.entries]
        return [Sensor(*facts) for facts in sorted(known)]

    def newest(self, sensor: str, after: int, timeout_s: float) -> View | None:
        """The newest answered frame of a sensor; None if none later than position `after` comes in time."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while True:
                known = self._sensors.get(sensor)
                entry = known.newest() if known else None
                if known and entry and entry.position != after and not 0 <= after - entry.position <= MOST_UNANSWERED:
                    break
                if not self._changed.wait(until - time.monotonic()):
                    return None
            past = known.past(entry)
        return _view(entry, past)

    def at(self, sensor: str, position: int) -> View | None:
        """The frame at a position, or the nearest that is kept; None if the sensor has none."""
        with self._changed:
            known = self._sensors.get(sensor)
            entry = known.at(position) if known else None
            past = known.past(entry) if known and entry else []
        return _view(entry, past) if entry else None

    def series(self, sensor: str, after: int) -> list[tuple[int, float, float, int, int]]:
        """Position, arrival s, latency ms, detections and confirmed tracks of the answered frames after a position."""
        with self._changed:
            known = self._sensors.get(sensor)
            rows = list(known.series) if known else []
        start = len(rows)
        while start and rows[start - 1][0] > after:
            start -= 1
        return rows[start:]

    def _keep(self, frame: Frame, arrived_ns: int) -> _SensorHistory:
        """Add a frame, and drop the oldest ones beyond the limit; return its sensor's history."""
        stamp = frame.stamp
        known = self._sensors.setdefault(stamp.sensor, _SensorHistory())
        known.add(frame, arrived_ns)
        size = frame.pixels.nbytes + RECORD_BYTES
        self._order.append((known, stamp.sensor, size))
        self._bytes += size
        while self._bytes > self._max_bytes and len(self._order) > 1:
            oldest, name, size = self._order.popleft()
            self._bytes -= size
            oldest.drop_oldest()
            if not oldest.entries:  # silent for so long that others took its room
                del self._sensors[name]
        return known


def _view(entry: _Entry, past: list[_Entry]) -> View:
    found = {} if entry.detections is None else {"detections": entry.detections}
    tails = _tails(entry, past)
    return View(entry.position, entry.frame, found, entry.tracks, None, tails, entry.latency_ms)


def _tails(entry: _Entry, past: list[_Entry]) -> dict[int, list[tuple[float, float]]]:
    """Past places of the entry's tracks, oldest first."""
    if entry.tracks is None:
        return {}
    tails: dict[int, list[tuple[float, float]]] = {number: [] for number in entry.tracks.id.tolist()}
    for earlier in reversed(past):
        if earlier.tracks is None:
            continue
        for number, (x, y) in zip(earlier.tracks.id.tolist(), earlier.tracks.state[:, :2].round(2).tolist(), strict=True):
            if number in tails:
                tails[number].append((x, y))
    return tails


def _since_ns(stamp: Stamp, arrived_ns: int) -> int:
    """When a frame was taken, as far as its clock can be compared with ours; else when it arrived."""
    comparable = stamp.clock == "unix" and abs(arrived_ns - stamp.time_ns) < COMPARABLE_NS
    return stamp.time_ns if comparable else arrived_ns
