"""Files that are whole or not there: a temporary file, then its name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from irst_stream.errors import OutputError

__all__ = ["part_path", "publish", "write_whole"]


def part_path(path: Path) -> Path:
    """Where a file is written until it is whole; two processes, on whatever machines, never write to the same one."""
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.part")


def publish(part: Path, path: Path) -> None:
    """Give a whole file its name; raise an OutputError if that fails."""
    try:
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically, in a folder that is made if it is missing; raise an OutputError if that fails."""
    part = part_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
