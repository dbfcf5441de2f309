"""Protocols between the stages of the pipeline: sources, networks, sinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Detections, Frame, Ints, Tracks, Unmixed

__all__ = ["Map", "Record", "Sink", "Source", "Unmixer", "WindowMaps"]

Map: TypeAlias = Any  # see Unmixer
WindowMaps: TypeAlias = Any  # five maps for each of B windows: nested lists, or an array if maps are arrays
Record: TypeAlias = Frame | Detections | Tracks


class Source(Protocol):
    """An iterable of frames: each sensor's in order; sensors one after another, or interleaved as they arrive.

    A failure raises SourceError, after every frame that was readable before it. `rejected` counts invalid messages by
    reason.
    """

    rejected: Counter[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def stop(self) -> None:
        """End the iteration soon, after frames already received; any thread may call it."""

    def close(self) -> None:
        """Release files and sockets; may be called twice."""


class Sink(Protocol):
    """A destination of records, used by one thread. An exception costs the record; a later record tries again.

    `takes`: the kinds of records it accepts; `lost`: number of records it could not keep; `alarm`: why it takes no records
    at present, "" if it does.
    """

    takes: tuple[type[Record], ...]
    lost: int
    alarm: str

    def start(self, status: Callable[[], Any]) -> None:
        """Called once before the first record. status() returns the pipeline's live.status.Status; thread-safe."""

    def write(self, record: Record, published_ns: int) -> None:
        """Write one record; published_ns: time of publication, ns since 1970 in UTC."""

    def idle(self) -> None:
        """Called a few times a second while no record comes: the moment to write what waits in buffers."""

    def close(self) -> None:
        """Flush buffers and release files and sockets; may be called twice."""


class Unmixer(Protocol):
    """A network in two parts, so that a stream computes each frame's map once. Intensities in and out are in DN.

    A map is the output of unfold for one frame and the input of fuse of the same unmixer: an array (H, W) on the fine grid,
    or a handle to values that stay on a GPU for the lifetime of the handle. On the CPU, one thread may unfold while another
    fuses.
    """

    def unfold(self, patches: NDArray[np.float32]) -> Iterable[Map]:
        """Compute the B maps of patches (B, h, w) DN of single frames, each independently."""

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """Combine the five maps of each of B windows into its network output.

        patches (B, 5, h, w) DN, followed by the sensor planes of unmix.told if the network takes them; places (B, 5): the
        frames' places in time.
        """
