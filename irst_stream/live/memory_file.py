"""What a run has learnt of its sensors, in files that the next run begins with: track ids in use, bad pixels, clutter.

No id is used twice, however a run ends: the file holds an id that no track has reached, and is written anew, on the disk,
before a track with a higher id is published.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from irst_stream.chain.pipeline import Result
from irst_stream.chain.sensor import SensorMemory
from irst_stream.errors import FormatError, OutputError
from irst_stream.live.kept_file import read_kept
from irst_stream.propose.clutter import ClutterMap, read_clutter_map, write_clutter_map
from irst_stream.types import Tracks

__all__ = ["MemoryFile"]

RESERVED_IDS = 1000  # written ahead, so that the file is not written for every new track
SAVE_EVERY_S = 60.0
MAX_BYTES = 256 << 20
VERSION = 1
log = logging.getLogger(__name__)


class _Sensor(msgspec.Struct):
    next_id: int
    shape: tuple[int, int] = (0, 0)
    bad_pixels: list[tuple[int, int]] = []


class _Content(msgspec.Struct):
    version: int
    sensors: dict[str, _Sensor]
    first_id: int = 1  # of sensors that are not listed


class MemoryFile:
    """Reads a file of memories, and keeps it up to date while a pipeline runs; used by one thread.

    `memories`: what it held of each sensor; `first_id`: of the first track of any other sensor, 1 unless the file could not
    be read. Such a file is kept under another name, and ids then go on from the time in s, which no run has reached.
    least_id: of the first track of every sensor, at least.
    Raise an OutputError if the file cannot be written, or another run keeps it.
    """

    def __init__(self, path: Path, least_id: int = 1) -> None:
        self._path, self._least_id, self._saved_s = path, least_id, time.monotonic()
        self._lock = _lock(path)
        self._reserved: dict[str, int] = {}
        self._latest: dict[str, SensorMemory] = {}
        try:
            self._begin(self._read())
        except OutputError:
            self.close()
            raise

    def close(self) -> None:
        """Let another run have the file; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _begin(self, content: _Content) -> None:
        self.first_id = max(content.first_id, self._least_id)
        self.memories = {
            name: SensorMemory(
                max(one.next_id, self._least_id),
                one.shape,
                np.array(one.bad_pixels, np.int64).reshape(-1, 2),
                self._read_clutter(name),
            )
            for name, one in content.sensors.items()
        }
        self._latest.update(self.memories)
        self._write(RESERVED_IDS)

    def before_publishing(self, result: Result, memories: Callable[[], dict[str, SensorMemory]]) -> None:
        """Write the file first if a result holds a track whose id is not reserved in it."""
        if isinstance(result, Tracks) and len(result):
            sensor, largest = result.stamp.sensor, int(result.id.max())
            if largest >= self._reserved.get(sensor, 0):
                self.save(memories())

    def save_if_due(self, memories: Callable[[], dict[str, SensorMemory]]) -> None:
        """Write the file if SAVE_EVERY_S have passed."""
        if time.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self.save(memories(), clutter=True)

    def save(self, memories: dict[str, SensorMemory], *, final: bool = False, clutter: bool = False) -> None:
        """Write the file; log an error if that fails.

        final: no further track will begin, so that no id is reserved; clutter: write the sensors' clutter, as at the end.
        """
        self._latest.update(memories)
        try:
            self._write(0 if final else RESERVED_IDS)
            if final or clutter:
                self._write_clutter()
        except OutputError as error:
            log.error("%s; after a crash track ids may be used again", error)

    def _write(self, reserved: int) -> None:
        self._saved_s = time.monotonic()
        self._reserved = {name: memory.next_id + reserved for name, memory in self._latest.items()}
        sensors = {
            name: _Sensor(self._reserved[name], memory.shape, [(x, y) for x, y in memory.bad_pixels.tolist()])
            for name, memory in self._latest.items()
        }
        data = msgspec.json.encode(_Content(VERSION, sensors, self.first_id)) + b"\n"
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
            folder = os.open(self._path.resolve().parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    def _clutter_path(self, sensor: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{sensor}.npz")

    def _write_clutter(self) -> None:
        """Write the clutter of each sensor that learns it into a file of its own."""
        for name, memory in self._latest.items():
            if memory.clutter is not None:
                path = self._clutter_path(name)
                part = path.with_name(f"{path.name}.part")
                try:
                    write_clutter_map(part, memory.clutter, compress=False)
                    part.replace(path)
                except OSError as error:
                    raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error

    def _read_clutter(self, sensor: str) -> ClutterMap | None:
        """Read the clutter of a sensor; None if there is none, or if it cannot be read, and is to be learnt again."""
        path = self._clutter_path(sensor)
        if "/" in sensor or not path.is_file():
            return None
        try:
            return read_clutter_map(path)
        except FormatError as error:
            log.error("%s; clutter is learnt again", error)
            return None

    def _read(self) -> _Content:
        """Read the file; set it aside if that fails."""
        first_id = int(time.time())
        content, damaged = read_kept(self._path, _Content, VERSION, MAX_BYTES, f"track ids begin at {first_id}")
        return content or _Content(VERSION, {}, first_id if damaged else 1)


def _lock(path: Path) -> int:
    """Lock the file's name for this process, in a file beside it; a process that ends, however it does, lets go of it."""
    place = path.with_name(f"{path.name}.lock")
    handle = -1
    try:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if handle >= 0:
            os.close(handle)
        reason = (
            "another run keeps it"
            if isinstance(error, BlockingIOError)
            else f"cannot be written: {error.strerror or error}"
        )
        raise OutputError(f"{path}: {reason}") from error
    return handle
