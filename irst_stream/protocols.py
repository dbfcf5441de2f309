"""What the stages of the pipeline ask of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Detections, Frame, Ints, Tracks, Unmixed

__all__ = ["Map", "Record", "Sink", "Source", "Unmixer", "WindowMaps"]

Map: TypeAlias = Any  # see Unmixer
WindowMaps: TypeAlias = Any  # of B windows, five maps each: nested lists, or an array where a map is its values
Record: TypeAlias = Frame | Detections | Tracks


class Source(Protocol):
    """Frames, each sensor's in order, one sequence after another or as they come.

    A failure raises a SourceError after every frame that was readable before it has been delivered. `rejected` counts
    messages that were no frames, by reason.
    """

    rejected: Counter[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def stop(self) -> None:
        """Ends the iteration soon, after what has come already; any thread may call it."""

    def close(self) -> None:
        """Releases files and sockets; may be called twice."""


class Sink(Protocol):
    """A place where results go. One thread uses it; whatever it raises means that it is out of order for good.

    `takes` are the kinds of records it wants; `lost` counts those it had to let go of; `alarm` says why it takes none for
    now, "" where it does.
    """

    takes: tuple[type[Record], ...]
    lost: int
    alarm: str

    def write(self, record: Record, published_ns: int) -> None:
        """Takes one record; published_ns: when, since 1970 in UTC."""

    def close(self) -> None:
        """Writes out what is held and releases files and sockets; may be called twice."""


class Unmixer(Protocol):
    """A network in two halves, so that a stream computes each frame's map once. Light in and out is in DN.

    A map is what unfold makes of one frame, for the same unmixer's fuse: its values (H, W) on the fine grid, or whatever
    else stands for them where they stay on a GPU. What it stands for is held as long as it is.
    """

    def unfold(self, patches: NDArray[np.float32]) -> Iterable[Map]:
        """Patches (B, h, w) of single frames to their B maps, each by itself."""

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """The five maps of each of B windows, their patches (B, 5, h, w), with the planes of what the network is told after
        them where it is told anything (unmix.told), and their frames' places in time (B, 5).
        """
