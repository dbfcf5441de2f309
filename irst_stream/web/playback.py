"""The feed of irst-stream look: recorded frames by their position, with results and truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any, Literal, Protocol

from irst_stream.errors import IrstError
from irst_stream.io.files import FileSource
from irst_stream.io.recording.random_access import RandomAccess
from irst_stream.types import Detections, Frame, Stamp, Tracks, Truth
from irst_stream.web.views import Sensor, View

__all__ = ["FileFrames", "FrameStore", "Playback", "RecordedFrames", "Results"]

KEPT_BYTES = 256 * 2**20  # of decoded frames
TAIL_S = 2.0
TAIL_POINTS = 20
DEFAULT_RATE_HZ = 25.0  # where nothing tells a rate
Key = tuple[str, int, int]


def _key(stamp: Stamp) -> Key:
    return stamp.sensor, stamp.epoch, stamp.index


@dataclass(frozen=True)
class Results:
    """What was found in frames, and their truth, by sensor, epoch and index. detections: by the name of what found them."""

    detections: Mapping[str, Mapping[Key, Detections]] = field(default_factory=dict)
    tracks: Mapping[Key, Tracks] | None = None
    truth: Mapping[Key, Truth] | None = None


class FrameStore(Protocol):
    """Frames by sequence and position, with what is recorded of them; thread-safe."""

    def sensors(self) -> list[Sensor]:
        """All sequences."""

    def frame(self, sensor: str, position: int) -> Frame | None:
        """The frame at a position; None if the sequence has none there."""

    def recorded(self, sensor: str, position: int) -> tuple[Detections | None, Tracks | None]:
        """The results recorded with the frame at a position."""


class RecordedFrames:
    """The frames and results of a recording; a FrameStore."""

    def __init__(self, recording: RandomAccess) -> None:
        self._recording = recording
        self._sensors = [
            Sensor(name, 0, count - 1, recording.rate_hz(name), is_complete=True)
            for name, count in recording.frames.items()
        ]

    def sensors(self) -> list[Sensor]:
        """All sensors."""
        return self._sensors

    def frame(self, sensor: str, position: int) -> Frame | None:
        """The frame at a position."""
        return self._recording.frame(sensor, position) if 0 <= position < self._recording.frames[sensor] else None

    def recorded(self, sensor: str, position: int) -> tuple[Detections | None, Tracks | None]:
        """The results recorded with the frame."""
        return self._recording.detections(sensor, position), self._recording.tracks(sensor, position)


class FileFrames:
    """The frames of files and folders; a FrameStore.

    Most of these can only be read from front to back: a reader goes on from the last frame that was asked for, frames that
    have been read are kept up to KEPT_BYTES, and what lies before them is read again from the first frame on. How many
    frames a sequence has shows when it has been read, which a thread does once it is first asked for.
    """

    def __init__(self, source: FileSource) -> None:
        rate_hz = source.rate_hz or DEFAULT_RATE_HZ
        self._sequences = {name: _Sequence(name, read, rate_hz) for name, read in source.sequences()}

    def sensors(self) -> list[Sensor]:
        """All sequences; their last frame as far as it is known."""
        return [sequence.sensor for sequence in self._sequences.values()]

    def frame(self, sensor: str, position: int) -> Frame | None:
        """The frame at a position."""
        return self._sequences[sensor].frame(position)

    def recorded(self, sensor: str, position: int) -> tuple[Detections | None, Tracks | None]:  # noqa: ARG002 - see FrameStore
        """Nothing."""
        return None, None


class _Sequence:
    """One sequence of files."""

    def __init__(self, name: str, read: Callable[[], Iterator[Frame]], rate_hz: float) -> None:
        self.sensor = Sensor(name, 0, 0, rate_hz)
        self._read = read
        self._reader: Iterator[Frame] = iter(())
        self._next = -1  # position that the reader gives next; -1 before it is opened
        self._kept: dict[int, Frame] = {}
        self._lock = Lock()
        self._counting: Thread | None = None

    def frame(self, position: int) -> Frame | None:
        """The frame at a position; None if the sequence ends before it, or cannot be read there."""
        with self._lock:
            if self._counting is None:
                self._counting = Thread(target=self._count, name="count frames", daemon=True)
                self._counting.start()
            if position in self._kept:
                return self._kept[position]
            if self._next < 0 or position < self._next:
                self._reader, self._next = self._read(), 0
            while self._next <= position:
                frame = next(self._reader, None)
                if frame is None:
                    self._next = -1
                    return None
                self._keep(self._next, frame)
                self._next += 1
            return self._kept[position]

    def _keep(self, position: int, frame: Frame) -> None:
        self._kept[position] = frame
        most = max(KEPT_BYTES // max(frame.pixels.nbytes, 1), 1)
        while len(self._kept) > most:
            del self._kept[next(iter(self._kept))]

    def _count(self) -> None:
        """Read the sequence once, for its number of frames; it ends where it cannot be read."""
        count = 0
        try:
            for count, _ in enumerate(self._read(), 1):
                self.sensor = self.sensor._replace(last=count - 1)
        except IrstError:
            pass
        self.sensor = self.sensor._replace(last=max(count - 1, 0), is_complete=True)


class Playback:
    """Recorded frames with results; a views.Feed. title: what the page calls them."""

    kind: Literal["live", "playback"] = "playback"

    def __init__(self, store: FrameStore, results: Results, title: str) -> None:
        self.title = title
        self._store, self._results = store, results

    def sensors(self) -> list[Sensor]:
        """All sequences."""
        return self._store.sensors()

    def newest(self, sensor: str, after: int, timeout_s: float) -> View | None:  # noqa: ARG002 - see Feed
        """Nothing: a recording has no newest frame."""
        return None

    def at(self, sensor: str, position: int) -> View | None:
        """The frame at a position, or the nearest."""
        known = next(one for one in self.sensors() if one.name == sensor)
        position = max(position, 0) if not known.is_complete else min(max(position, 0), known.last)
        frame = self._store.frame(sensor, position)
        if frame is None:
            return None
        recorded, tracks = self._found(sensor, position, frame)
        detections = {} if recorded is None else {"recorded": recorded}
        key = _key(frame.stamp)
        detections |= {name: found[key] for name, found in self._results.detections.items() if key in found}
        truth = self._results.truth.get(key) if self._results.truth else None
        tails = {} if tracks is None else self._tails(sensor, position, tracks, known.rate_hz)
        return View(position, frame, detections, tracks, truth, tails)

    def status(self, sensor: str, series_after: int, log_after: int) -> dict[str, Any]:  # noqa: ARG002 - see Feed
        """Nothing besides the sensors."""
        return {}

    def _found(self, sensor: str, position: int, frame: Frame) -> tuple[Detections | None, Tracks | None]:
        """What is recorded with a frame; tracks of a file take the place of recorded ones."""
        recorded, tracks = self._store.recorded(sensor, position)
        return recorded, self._results.tracks.get(_key(frame.stamp)) if self._results.tracks is not None else tracks

    def _tails(
        self, sensor: str, position: int, tracks: Tracks, rate_hz: float
    ) -> Mapping[int, Sequence[tuple[float, float]]]:
        """Past places of tracks, oldest first; of files by the frames' numbers, which are consecutive there."""
        step = max(round((rate_hz or DEFAULT_RATE_HZ) * TAIL_S / TAIL_POINTS), 1)
        tails: dict[int, list[tuple[float, float]]] = {number: [] for number in tracks.id.tolist()}
        for steps in reversed(range(TAIL_POINTS)):
            back = steps * step
            if back > position:
                continue
            if self._results.tracks is not None:
                name, epoch, index = _key(tracks.stamp)
                earlier = self._results.tracks.get((name, epoch, index - back))
            else:
                earlier = self._store.recorded(sensor, position - back)[1]
            if earlier is None:
                continue
            for number, (x, y) in zip(earlier.id.tolist(), earlier.state[:, :2].round(2).tolist(), strict=True):
                if number in tails:
                    tails[number].append((x, y))
        return tails
