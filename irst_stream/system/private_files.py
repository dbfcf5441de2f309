"""What can be made anew, kept for this user; code among it is read from places only that nobody else can write to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from irst_stream.errors import OutputError, SourceError

__all__ = ["cache_folder", "read_private", "write_private"]


def cache_folder() -> Path:
    """Below which all of this is kept: irst-stream in XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "irst-stream"


def read_private(path: Path) -> bytes:
    """The content of a file that nobody else can have written."""
    _check_private(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


def write_private(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all, that nobody else can write to; folders are made if need be."""
    try:
        for folder in reversed((path.parent, *path.parent.parents)):  # each by itself: mkdir's mode is the last one's only
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        _check_private(path.parent)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{error.filename or path}: {error.strerror or error}") from error


def _check_private(path: Path) -> None:
    """Raises a SourceError where anybody but the user or root could change a file, or put another one in its place."""
    try:
        real = path.resolve(strict=True)
        for place in (real, *real.parents):
            facts = place.stat()
            mine = facts.st_uid in (os.getuid(), 0)
            shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            kept_apart = place != real and facts.st_mode & stat.S_ISVTX  # as /tmp is: nobody can replace another's files
            if not mine or (shared and not kept_apart):
                whose = "belongs to somebody else" if not mine else "others may write to it"
                raise SourceError(f"{place}: {whose}; code is loaded from folders of yours alone")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
