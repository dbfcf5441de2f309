"""Files in the user's cache that may hold executable code: written and read only where no other user can write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from irst_stream.errors import OutputError, SourceError
from irst_stream.system.bounded_files import MAX_DATA_BYTES, read_bounded

__all__ = ["cache_folder", "private_folder", "read_private", "write_private"]


def cache_folder() -> Path:
    """Return the cache folder: irst-stream in XDG_CACHE_HOME if that is an absolute path, else in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "irst-stream"


def read_private(path: Path) -> bytes:
    """Read a file, after checking that no other user but root can have written it; raises a SourceError."""
    _check_private(path)
    try:
        return read_bounded(path, MAX_DATA_BYTES)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


def private_folder(path: Path) -> Path:
    """Return a folder, made where it is missing, after checking that no other user but root can write to it or its files.

    Raises an OutputError if it cannot be made, a SourceError if others can write there.
    """
    try:
        _make(path)
        for one in (path, *path.iterdir()):
            _check_private(one)
    except OSError as error:
        raise OutputError(f"{error.filename or path}: {error.strerror or error}") from error
    return path


def write_private(path: Path, data: bytes) -> None:
    """Write a file atomically, writable by this user only; missing folders are created, private too.

    Raises an OutputError if it cannot be written, a SourceError if another user can write to the folder.
    """
    try:
        _make(path.parent)
        _check_private(path.parent)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{error.filename or path}: {error.strerror or error}") from error


def _make(path: Path) -> None:
    """Make missing folders, private to the user, one by one: mkdir applies its mode only to the last one."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def _check_private(path: Path) -> None:
    """Raise a SourceError if anybody but the user or root could change or replace a file or folder."""
    try:
        real = path.resolve(strict=True)
        for place in (real, *real.parents):
            facts = place.stat()
            owned = facts.st_uid in (os.getuid(), 0)
            shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            sticky = place != real and facts.st_mode & stat.S_ISVTX  # like /tmp: only owners can replace their files
            if not owned or (shared and not sticky):
                fault = "other users can write to it" if owned else "belongs to another user"
                raise SourceError(f"{place}: {fault}; code is loaded only from files that no other user can change")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
