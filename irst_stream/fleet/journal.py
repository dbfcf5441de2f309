"""How far a sensor's results have come, in a file that outlives the process, so that a loss can be counted.

A worker that dies tells nobody what it held. The next one compares its first frame with a result with the last one that
every sink had before: the frames between have no result, or not in every sink, and count as lost with the worker.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from irst_stream.protocols import Record
from irst_stream.types import Frame

__all__ = ["Journal", "Position"]

FORM = struct.Struct("<2q")
log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """The epoch and index of a frame."""

    epoch: int
    index: int


class Journal:
    """The position of the last frame whose results every sink has, in a file; used by the sinks' threads.

    before: the last position that the supervisor knows; of the same epoch the later one of file and supervisor counts.
    `last`: of this run, None at first; `unanswered`: frames between the last run's last result and this one's first, 0
    until that has come. A file that cannot be kept costs nothing but the count.
    """

    def __init__(self, path: Path, before: Position | None = None) -> None:
        self.last: Position | None = None
        self.unanswered = 0
        self._path, self._before, self._handle = path, before, -1
        self._done: dict[tuple[str, type[Record]], Position] = {}  # by sink and kind of result
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open the file, which an earlier run has let go of by now."""
        try:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            data = os.pread(self._handle, FORM.size, 0)
        except OSError as error:
            self._give_up(error)
            return
        found, before = Position(*FORM.unpack(data)) if len(data) == FORM.size else None, self._before
        same = found is not None and before is not None and found.epoch == before.epoch
        self._before = max(found, before) if same and found and before else before or found

    def note(self, sink: str, record: Record) -> None:
        """Note that a sink is done with a result; the system writes the file to the disk when it likes."""
        if isinstance(record, Frame):
            return
        position = Position(record.stamp.epoch, record.stamp.index)
        with self._lock:
            if not self._done and self._before is not None and position.epoch == self._before.epoch:
                self.unanswered = max(position.index - self._before.index - 1, 0)
            self._done[sink, type(record)] = position
            last = min(self._done.values())
            if last == self.last:
                return
            self.last = last
            try:
                if self._handle >= 0:
                    os.pwrite(self._handle, FORM.pack(last.epoch, last.index), 0)
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the file; may be called twice, and while sinks still write."""
        with self._lock:
            self._close()

    def discard(self) -> None:
        """Delete the file."""
        with suppress(FileNotFoundError):
            self._path.unlink()

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def _give_up(self, error: OSError) -> None:
        why = error.strerror or error
        log.error("%s: %s; if this worker dies, the frames lost with it may be counted wrongly", self._path, why)
        self._close()
