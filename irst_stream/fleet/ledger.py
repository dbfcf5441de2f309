"""How often each sensor was started, kept on the disk, so that no two starts of a sensor share a range of track ids.

A sensor that moves to a machine with another disk finds no memory there. Its start number then gives its tracks a range of
ids of their own. The file is written before the start that it numbers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

import msgspec

from irst_stream.errors import OutputError
from irst_stream.live.kept_file import read_kept

__all__ = ["IDS_A_START", "Ledger"]

IDS_A_START = 10**9  # track ids of one start of a sensor
MAX_BYTES = 16 << 20
VERSION = 1
log = logging.getLogger(__name__)


class _Content(msgspec.Struct):
    version: int
    starts: dict[str, int]
    least: int = 0  # starts of sensors that are not listed


class Ledger:
    """The number of starts of each sensor, in a file that one supervisor keeps; used by one thread.

    A file that cannot be read is set aside, and numbers go on from the minutes since 1970, which no count reaches. Raise an
    OutputError if the folder cannot be written, or another fleet keeps it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fleet.json"
        self._lock = _locked(folder)
        self._content = self._read()

    def next_start(self, sensor: str) -> int:
        """Number the next start of a sensor, from 1 on, on the disk before it returns; an OutputError if that fails."""
        number = self._content.starts.get(sensor, self._content.least) + 1
        self._content.starts[sensor] = number
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with part.open("wb") as file:
                file.write(msgspec.json.encode(self._content) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        return number

    def close(self) -> None:
        """Let another supervisor have the folder; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _read(self) -> _Content:
        least = int(time.time()) // 60
        try:
            content, damaged = read_kept(self._path, _Content, VERSION, MAX_BYTES, f"starts count from {least}")
        except OutputError:
            self.close()
            raise
        return content or _Content(VERSION, {}, least if damaged else 0)


def _locked(folder: Path) -> int:
    """Make the folder and lock it for this process, which lets go of it however it ends."""
    handle = -1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "fleet.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if handle >= 0:
            os.close(handle)
        taken = isinstance(error, BlockingIOError)
        raise OutputError(
            f"fleet.state: {folder}: {'another fleet keeps it' if taken else error.strerror or error}"
        ) from error
    return handle
