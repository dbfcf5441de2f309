"""How far a sensor's results have come, in a file that outlives the process, so that a loss can be counted.

A worker that dies tells nobody what it held. The next one compares the first frame that it answers with the last one that
was answered before: the frames between have no result, and count as lost with the worker.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irst_stream.protocols import Record
from irst_stream.types import Detections

__all__ = ["Journal", "Position"]

FORM = struct.Struct("<2q")


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """The epoch and index of a frame."""

    epoch: int
    index: int


class Journal:
    """A protocols.Sink that keeps the position of the last answered frame in a file.

    before: the last position that the supervisor knows; of the same epoch the later one of file and supervisor counts.
    `last`: of this run, None at first; `lost`, as of any sink, counts records that could not be kept, and is 0 here;
    `unanswered`: frames between the last run's last result and this one's first, 0 until that has come.
    """

    takes: tuple[type[Record], ...] = (Detections,)
    lost, alarm = 0, ""

    def __init__(self, path: Path, before: Position | None = None) -> None:
        self.last: Position | None = None
        self.unanswered = 0
        self._path, self._before, self._handle = path, before, -1

    def start(self, status: Callable[[], Any]) -> None:  # noqa: ARG002 - see protocols.Sink
        """Open the file, which an earlier run has let go of by now."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        data = os.pread(self._handle, FORM.size, 0)
        found, before = Position(*FORM.unpack(data)) if len(data) == FORM.size else None, self._before
        same = found is not None and before is not None and found.epoch == before.epoch
        self._before = max(found, before) if same and found and before else before or found

    def write(self, record: Record, published_ns: int) -> None:  # noqa: ARG002 - see protocols.Sink
        """Keep the position of an answered frame; the system writes it to the disk when it likes."""
        stamp = record.stamp
        if self.last is None and self._before is not None and stamp.epoch == self._before.epoch:
            self.unanswered = max(stamp.index - self._before.index - 1, 0)
        self.last = Position(stamp.epoch, stamp.index)
        os.pwrite(self._handle, FORM.pack(self.last.epoch, self.last.index), 0)

    def idle(self) -> None:
        """Do nothing: nothing waits here."""

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def discard(self) -> None:
        """Delete the file."""
        with suppress(FileNotFoundError):
            self._path.unlink()
