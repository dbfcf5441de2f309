"""Output files that follow one another: their names, when the next one begins, and which old ones are deleted.

A file that exists is never opened again, so that a restart loses nothing: the next number is taken, OUT-0002, OUT-0003 and
so on. "{start:%Y%m%dT%H%M%SZ}" in a name stands for the time at which the file begins, in UTC.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, TypeVar

from irst_stream.settings import about

__all__ = ["FileSeries", "SeriesSettings", "series_fault"]

BYTES_PER_MB = 1e6
DEFAULT_START = "%Y%m%dT%H%M%SZ"
PLACEHOLDER = re.compile(r"\{start(?::([^{}]*))?\}")
DIGITS = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2, "%j": 3}  # directives of strftime, and their width
MAX_TRIES = 1000  # at a name that another process takes at the same time
Opened = TypeVar("Opened")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeriesSettings:
    """Where a series of files goes, when the next file begins, and how long files are kept."""

    path: Annotated[
        str,
        about(
            "OUT. {start} or {start:%Y%m%dT%H%M%SZ} in its name stands for the time at which the file begins, UTC. A file"
            " that exists is never written over: the next is OUT-0002."
        ),
    ]
    rotate_mb: Annotated[float, about("Begin a new file after this many MB; 0: never.", ge=0, le=1e9)] = 0.0
    rotate_s: Annotated[float, about("Begin a new file after this many seconds; 0: never.", ge=0, le=1e9)] = 0.0
    keep_mb: Annotated[
        float,
        about("When a file begins, delete the oldest of this name beyond this many MB in all; 0: never.", ge=0, le=1e9),
    ] = 0.0
    keep_hours: Annotated[
        float,
        about("When a file begins, delete those of this name last written to so many hours ago; 0: never.", ge=0, le=1e6),
    ] = 0.0
    fsync: Annotated[
        bool,
        about(
            "Force what is written to the disk, at least every half second. false: a power failure costs what the system"
            " has not yet written, usually the last 30 s."
        ),
    ] = False


def series_fault(path: str) -> str:
    """Return what is wrong with the path of a series, "" if nothing is."""
    folder, _, name = path.rpartition("/")
    rest = PLACEHOLDER.sub("", name)
    directives = [d for form in PLACEHOLDER.findall(name) for d in re.findall(r"%.?", form)]
    if "{" in folder or "}" in folder:
        return f"expected {{start}} in the file's name only, got {path!r}"
    if "{" in rest or "}" in rest or not set(directives) <= set(DIGITS):
        return f"expected {{start}}, or {{start:FORMAT}} with {' '.join(DIGITS)}, got {path!r}"
    return "expected a file's name" if not name else ""


class FileSeries:
    """The files of one output. `current`: the path of the file that was opened last."""

    def __init__(self, settings: SeriesSettings) -> None:
        self.settings, self.current = settings, Path(settings.path)
        self._began_s = 0.0
        self._special = self.current.exists() and not self.current.is_file()  # a device or a pipe, such as /dev/stdout

    def open_next(self, open_new: Callable[[Path], Opened]) -> Opened:
        """Open the next file of the series; delete those that are to be kept no longer.

        open_new opens a path, and raises FileExistsError if there is a file already; a device or a pipe is opened as it is.
        """
        if self._special:
            return open_new(self.current)
        for _ in range(MAX_TRIES):
            path = self._next_path(datetime.now(timezone.utc))
            with suppress(FileExistsError):  # another process took the name
                opened = open_new(path)
                if self.settings.fsync:
                    sync_folder(path.parent)
                if str(path) != self.settings.path:
                    log.info("%s: writing %s", self.settings.path, path)
                self.current, self._began_s = path, time.monotonic()
                self._prune()
                return opened
        raise FileExistsError(f"{self.settings.path}: no free name after {MAX_TRIES} tries")

    def must_rotate(self, size: int) -> bool:
        """Return whether the next file is due; size: bytes in the current one."""
        limits = self.settings
        too_long = limits.rotate_s and time.monotonic() - self._began_s >= limits.rotate_s
        return not self._special and bool(too_long or (limits.rotate_mb and size >= limits.rotate_mb * BYTES_PER_MB))

    def _next_path(self, now: datetime) -> Path:
        """The name for a file that begins now, with the number after the highest that exists."""
        template = Path(self.settings.path)
        name = PLACEHOLDER.sub(lambda match: now.strftime(match[1] or DEFAULT_START), template.name)
        stem, suffix = Path(name).stem, Path(name).suffix
        pattern = re.compile(re.escape(stem) + r"(?:-(\d{4,9}))?" + re.escape(suffix))
        numbers = [int(found[1] or 1) for entry in _entries(template.parent) if (found := pattern.fullmatch(entry.name))]
        number = max(numbers, default=0) + 1
        return template.with_name(name if number == 1 else f"{stem}-{number:04d}{suffix}")

    def _prune(self) -> None:
        """Delete the oldest files of the series beyond keep_mb and keep_hours, never the current one."""
        keep_bytes, keep_s = self.settings.keep_mb * BYTES_PER_MB, self.settings.keep_hours * 3600
        if not (keep_bytes or keep_s):
            return
        template = Path(self.settings.path)
        pattern, kept, now = _series_pattern(template.name), 0, time.time()
        files = [e for e in _entries(template.parent) if pattern.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
        for entry in sorted(files, key=lambda e: (e.stat().st_mtime_ns, e.name), reverse=True):
            if entry.name == self.current.name:
                continue
            kept += entry.stat().st_size
            if (keep_bytes and kept > keep_bytes) or (keep_s and now - entry.stat().st_mtime > keep_s):
                with suppress(OSError):
                    Path(entry.path).unlink()
                    log.info("%s: deleted, older than what is to be kept", entry.path)


def sync_folder(folder: Path) -> None:
    """Force the names of new files in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder; none if it cannot be read, which opening a file in it will say."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _series_pattern(name: str) -> re.Pattern[str]:
    """What matches the names of a series: its placeholders as digits, its numbers, and nothing else."""
    stem, suffix = Path(name).stem, Path(name).suffix
    if "{" in suffix or "}" in suffix:  # the dot was in a placeholder's format
        stem, suffix = name, ""
    parts, end = "", 0
    for match in PLACEHOLDER.finditer(stem):
        parts += re.escape(stem[end : match.start()])
        for piece in re.split(r"(%.)", match[1] or DEFAULT_START):
            parts += rf"\d{{{DIGITS[piece]}}}" if piece in DIGITS else re.escape(piece)
        end = match.end()
    return re.compile(parts + re.escape(stem[end:]) + r"(?:-\d{4,9})?" + re.escape(suffix))
