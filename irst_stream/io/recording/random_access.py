"""Frames and results of a recording by their position, without reading what lies before them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np

from irst_stream.errors import SourceError, WireError
from irst_stream.io import jsonl
from irst_stream.io.recording.chunk_reader import ChunkReader, MessagePlace
from irst_stream.io.recording.recorder import DETECTIONS, FRAME, TRACKS, decode_frame, message_kind, recording_fault
from irst_stream.types import Detections, Frame, Ints, Tracks

__all__ = ["RandomAccess"]

Result = TypeVar("Result", Detections, Tracks)
MAX_RATE_SAMPLES = 1000  # frames whose times give a sensor's rate


class _Position(NamedTuple):
    """Where a frame and its results are; None for a result that is not recorded."""

    frame: MessagePlace
    detections: MessagePlace | None = None
    tracks: MessagePlace | None = None


class RandomAccess:
    """A recording with an index of its frames, made on opening; thread-safe, a context manager.

    frames: number of frames by sensor, in the order of their first frames; config: TOML of the configuration. What cannot
    be read of a damaged file is left out. Raise a SourceError if the file is not a recording or holds no frame.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, Lock()
        self._reader = ChunkReader(path)
        try:
            if fault := recording_fault(self._reader):
                raise SourceError(f"{path}: {fault}")
            self.config = self._reader.config
            self._positions = _index(self._reader)
            if not self._positions:
                raise SourceError(f"{path}: a recording without a single frame")
        except BaseException:
            self._reader.close()
            raise
        self.frames = {sensor: len(positions) for sensor, positions in self._positions.items()}

    def frame(self, sensor: str, position: int) -> Frame:
        """The frame at a position from 0 on; raise a SourceError if it is damaged."""
        place = self._positions[sensor][position].frame
        try:
            with self._lock:
                return decode_frame(self._reader.message(place))
        except WireError as error:
            raise SourceError(f"{self.path}: {place.topic} {place.sequence}: {error}") from error

    def detections(self, sensor: str, position: int) -> Detections | None:
        """The detections of the frame at a position; None if there are none recorded."""
        return self._result(self._positions[sensor][position].detections, Detections)

    def tracks(self, sensor: str, position: int) -> Tracks | None:
        """The tracks at the frame at a position; None if there are none recorded."""
        return self._result(self._positions[sensor][position].tracks, Tracks)

    def numbers(self, sensor: str) -> Ints:
        """The indices (N,) of a sensor's frames, modulo 2^32."""
        return np.array([position.frame.sequence for position in self._positions[sensor]], np.int64)

    def rate_hz(self, sensor: str) -> float:
        """A sensor's frames/s by the times of arrival; 0 for fewer than two frames."""
        times = [position.frame.log_ns for position in self._positions[sensor][:MAX_RATE_SAMPLES]]
        period = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        return 1e9 / period if period > 0 else 0.0

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._reader.close()

    def __enter__(self) -> RandomAccess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _result(self, place: MessagePlace | None, kind: type[Result]) -> Result | None:
        if place is None:
            return None
        with self._lock:
            message = self._reader.message(place)
        return jsonl.decode(bytes(message.data), kind, f"{self.path}: {place.topic} {place.sequence}")


def _index(reader: ChunkReader) -> dict[str, list[_Position]]:
    """The positions of each sensor; a result belongs to the last frame before it of the same number."""
    positions: dict[str, list[_Position]] = defaultdict(list)
    by_number: dict[tuple[str, int], int] = {}
    for place in reader.places():
        kind, _, sensor = place.topic.partition("/")
        if not message_kind(place.topic, place.encoding):
            continue
        if kind == FRAME:
            by_number[sensor, place.sequence] = len(positions[sensor])
            positions[sensor].append(_Position(place))
        elif (position := by_number.get((sensor, place.sequence))) is not None:
            known = positions[sensor][position]
            positions[sensor][position] = known._replace(**{DETECTIONS: place} if kind == DETECTIONS else {TRACKS: place})
    return dict(positions)
