"""Results as JSON lines while a pipeline runs, in a series of files; a protocols.Sink."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from irst_stream.errors import OutputError
from irst_stream.io import jsonl
from irst_stream.io.file_series import FileSeries, SeriesSettings
from irst_stream.settings import about
from irst_stream.types import Detections, Frame, Tracks

__all__ = ["LinesSink", "WriteSettings"]

SYNC_S = 0.4  # between two fsyncs


@dataclass(frozen=True)
class WriteSettings(SeriesSettings):
    """A file of JSON lines."""

    what: Annotated[Literal["detections", "tracks"], about("What is written.")] = "detections"


class LinesSink:
    """Write results as JSON lines; each line reaches the operating system before write returns.

    A line that cannot be written whole leaves no part of itself, so that a later one may be tried. Raise an OutputError for
    one that cannot be written, or if no file can be begun.
    """

    alarm, lost = "", 0

    def __init__(self, settings: WriteSettings, takes: type[Detections | Tracks]) -> None:
        self.takes: tuple[type[Frame | Detections | Tracks], ...] = (takes,)
        self._series = FileSeries(settings)
        self._synced_s, self._unsynced = 0.0, False
        self._file = self._open()

    def start(self, status: Callable[[], Any]) -> None:
        """Do nothing: this sink does not use the pipeline's status."""

    def write(self, record: Frame | Detections | Tracks, published_ns: int) -> None:  # noqa: ARG002 - see protocols.Sink
        """Write one record as one line, without its publication time, so that a replay writes the same bytes."""
        if isinstance(record, Frame):
            return
        line = jsonl.encode(record)
        if self._file.size and self._series.must_rotate(self._file.size + len(line)):
            self._sync()
            self._file.close()
            self._file = self._open()
        try:
            self._file.append(line)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._error(error) from error
        self._unsynced = True
        self.idle()

    def idle(self) -> None:
        """Force lines to the disk that have waited for SYNC_S, with the setting fsync."""
        if self._unsynced and time.monotonic() - self._synced_s >= SYNC_S:
            self._sync()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._sync()
        self._file.close()

    def _open(self) -> _LineFile:
        try:
            return self._series.open_next(_LineFile)
        except OSError as error:
            raise self._error(error) from error

    def _sync(self) -> None:
        if self._unsynced and self._series.settings.fsync:
            self._file.sync()
        self._synced_s, self._unsynced = time.monotonic(), False

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._series.current}: cannot be written: {error.strerror or error}")


class _LineFile:
    """A file that only ever holds whole lines; an existing regular file is refused. size: bytes written."""

    def __init__(self, path: Path) -> None:
        new = not path.exists() or path.is_file()
        self.size = 0
        self._handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0), 0o666)

    def append(self, line: bytes) -> None:
        """Write a line; after an OSError the file ends with the line before it."""
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            with suppress(OSError):  # a device cannot be truncated; the first error is the one to report
                os.ftruncate(self._handle, self.size)
                os.lseek(self._handle, self.size, os.SEEK_SET)
            raise
        self.size += len(line)

    def sync(self) -> None:
        """Force everything to the disk, if it is a file."""
        with suppress(OSError):
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
