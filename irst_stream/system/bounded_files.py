"""Reading whole files that may be anything: too large, endless, or growing."""

from __future__ import annotations

import os
from pathlib import Path

from irst_stream.errors import SourceError

__all__ = ["MAX_DATA_BYTES", "MAX_TEXT_BYTES", "read_bounded"]

MAX_TEXT_BYTES = 64 << 20  # of tables, manifests and settings
MAX_DATA_BYTES = 2 << 30  # of images, labels, weights and graphs
BLOCK_BYTES = 1 << 20


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a whole file; raise a SourceError if it holds more than max_bytes, OSError as open() does.

    Of a larger file, or of a device that never ends, at most max_bytes + 1 are read.
    """
    data = bytearray()
    with path.open("rb") as file:
        block_bytes = max(os.fstat(file.fileno()).st_size + 1, BLOCK_BYTES)
        while len(data) <= max_bytes and (block := file.read(min(block_bytes, max_bytes + 1 - len(data)))):
            data += block
    if len(data) > max_bytes:
        raise SourceError(f"{path}: too large; expected at most {max_bytes:,} bytes")
    return bytes(data)
