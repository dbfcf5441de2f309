"""What the stages of the pipeline ask of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Frame, Ints, Unmixed

__all__ = ["Source", "Unmixer"]


class Source(Protocol):
    """Frames in order, one sequence after another.

    A failure raises a SourceError after every frame that was readable before it has been delivered.
    """

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Releases files and sockets; may be called twice."""


class Unmixer(Protocol):
    """A network in two halves, so that a stream computes each frame's map once. Light in and out is in DN."""

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches (B, h, w) of single frames to maps (B, H, W) on the fine grid, each by itself."""

    def fuse(self, maps: NDArray[np.float32], patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """The maps (B, 5, H, W) and patches (B, 5, h, w) of windows, and their frames' places in time (B, 5)."""
