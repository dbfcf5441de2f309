"""What the stages of the pipeline ask of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from irst_stream.types import Frame

__all__ = ["Source"]


class Source(Protocol):
    """Frames in order, one sequence after another.

    A failure raises a SourceError after every frame that was readable before it has been delivered.
    """

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Releases files and sockets; may be called twice."""
