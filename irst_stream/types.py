"""The vocabulary: what flows from a source to a track.

Frozen, slotted, struct-of-arrays; arrays are read-only views. x is the column, y the row, pixel centres are integers,
everywhere. Positions are in pixels of the sensor's frame, amplitudes in digital numbers (DN), times in nanoseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PIXEL_TYPES",
    "Clock",
    "Detections",
    "Floats",
    "Frame",
    "Ints",
    "Pixels",
    "Policy",
    "Pose",
    "RegionOutput",
    "Stamp",
    "Tracks",
    "Truth",
    "Unmixed",
    "Window",
    "at_rest",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[Any]  # uint8, uint16 or float32: see PIXEL_TYPES
Clock = Literal["sensor", "unix", "monotonic"]
Policy = Literal[
    "live", "lossless"
]  # what gives way where something is too slow: the oldest frames, or whoever brings more
PIXEL_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which frame this is, and when the sensor took it.

    sensor:  the sensor's name; for files, the sequence's
    epoch:   changes when a sensor restarts; 0 for files
    index:   the frame's number within the epoch, from 0
    time_ns: sensor time, ns
    source:  the file the frame came from, "" where there is none
    clock:   what time_ns counts: "unix", since 1970 in UTC, which other machines can compare with theirs; "monotonic", the
             steady clock of the machine itself; "sensor", one that only the sensor knows
    """

    sensor: str
    epoch: int
    index: int
    time_ns: int
    source: str = ""
    clock: Clock = "sensor"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image: pixels (H, W) uint8, uint16 or float32, DN.

    full_scale: DN from which a pixel is saturated, infinite where none ever is. metadata: the sensor's own, msgpack as it
    came, b"" for none. pose: where the platform pointed, None where nobody says; its numbers are NaN where what the sensor
    says of it cannot be used.
    """

    stamp: Stamp
    pixels: Pixels
    full_scale: float = math.inf
    metadata: bytes = b""
    pose: Pose | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype not in PIXEL_TYPES:
            raise ValueError(
                f"pixels: expected (H, W) uint8, uint16 or float32, got {self.pixels.shape} {self.pixels.dtype}"
            )
        object.__setattr__(self, "pixels", _read_only(self.pixels))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The same regions of several frames around a centre frame, whose stamp it bears.

    corners (N, 2) x, y of each region's first pixel, px of the sensor's frame; patches (N, T, H, W) DN, NaN or infinite
    where a pixel holds no measurement. frame_times (T,): when each frame was taken, in frames from the centre one.
    platform_shifts (N, T, 2): x, y px by which the platform's motion moves still objects in each frame from their place in
    the centre frame, 0 where nobody knows. region (N,): the same number in the next window is the same region, at the same
    place; noise (N,) a pixel's standard deviation, DN, NaN where nobody measured it; ceiling (N,) DN from which a pixel is
    saturated, infinite where none ever is.
    """

    stamp: Stamp
    corners: Floats
    patches: NDArray[np.float32]
    frame_times: Floats
    platform_shifts: Floats
    region: Ints
    noise: Floats
    ceiling: Floats

    def __post_init__(self) -> None:
        if self.patches.ndim != 4:
            raise ValueError(f"patches: expected (N, T, H, W), got {self.patches.shape}")
        frames = self.patches.shape[1]
        if self.frame_times.shape != (frames,):
            raise ValueError(f"frame_times: expected ({frames},), got {self.frame_times.shape}")
        _shape(self, corners=(2,), platform_shifts=(frames, 2), noise=(), ceiling=())
        _shape(self, np.int64, region=())
        object.__setattr__(self, "patches", _read_only(self.patches))


def at_rest(regions: int, frames: int) -> tuple[Floats, Floats]:
    """Of an odd number of consecutive frames and a platform at rest, a window's times (T,) and shifts (N, T, 2), px."""
    return np.arange(float(frames)) - frames // 2, np.zeros((regions, frames, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Unmixed:
    """What a network sees in B windows, on the fine grid of their centre frames.

    map (B, H, W) DN, each target's amplitude in its cell; claims (B, 7, H, W), what each cell says of a target in it: the
    probability that there is one, x and y px from the cell's centre, their deviations px, amplitude and its deviation DN;
    (B, 0, H, W) of a network without a continuous head.
    """

    map: NDArray[np.float32]
    claims: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = (self.map.shape[0], self.claims.shape[1], *self.map.shape[1:])
        if self.map.ndim != 3 or self.claims.shape != shape or shape[1] not in (0, 7):
            raise ValueError(f"claims: expected (B, 7 or 0, H, W) beside {self.map.shape}, got {self.claims.shape}")
        object.__setattr__(self, "map", _read_only(self.map))
        object.__setattr__(self, "claims", _read_only(self.claims))

    @classmethod
    def plain(cls, fine_map: NDArray[np.float32]) -> Unmixed:
        """Of a network without a continuous head: the map (B, H, W) DN alone."""
        return cls(fine_map, np.zeros((len(fine_map), 0, *fine_map.shape[1:]), np.float32))


class RegionOutput(NamedTuple):
    """What a network sees in one region's window; corner (2,), x and y px, of the part of the patch that it was shown."""

    unmixed: Unmixed
    corner: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What one frame shows: N targets, strongest claim not necessarily first.

    xy (N, 2) px; cov (N, 2, 2) px^2, NaN where the method gives none; amplitude and amplitude_sd (N,) DN, NaN where
    unknown; score (N,), higher is surer; region (N,) which region of the frame they were found in, 0 for patches.

    factor (N, 2, R) px: what their errors are made of, R independent parts of variance 1, which those of one region share:
    the errors of two of them covary by factor[i] @ factor[j].T, px^2, as targets do that shine into the same pixels. R is 0
    where nothing of the kind is known.
    """

    stamp: Stamp
    xy: Floats
    cov: Floats
    amplitude: Floats
    amplitude_sd: Floats
    score: Floats
    region: Ints
    factor: Floats = field(default_factory=lambda: np.zeros((0, 2, 0)))

    def __post_init__(self) -> None:
        if not self.factor.shape[2]:
            object.__setattr__(self, "factor", np.zeros((len(self.xy), 2, 0)))
        _shape(self, xy=(2,), cov=(2, 2), amplitude=(), amplitude_sd=(), score=(), factor=self.factor.shape[1:])
        _shape(self, np.int64, region=())

    @classmethod
    def bare(cls, stamp: Stamp, xy: Floats, amplitude: Floats, score: Floats) -> Detections:
        """Detections of a method that gives no covariance and knows one region only."""
        n = len(xy)
        return cls(stamp, xy, np.full((n, 2, 2), np.nan), amplitude, np.full(n, np.nan), score, np.zeros(n, np.int64))

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The tracks alive at one frame.

    id (N,); state (N, 4) x, y, vx, vy in px and px/s; cov (N, 4, 4), NaN where unknown; amplitude (N,) DN, NaN where
    unknown; score (N,); confirmed (N,) bool; detection (N,) row of the frame's detections that updated it, or -1.
    """

    stamp: Stamp
    id: Ints
    state: Floats
    cov: Floats
    amplitude: Floats
    score: Floats
    confirmed: NDArray[np.bool_]
    detection: Ints

    def __post_init__(self) -> None:
        _shape(self, np.int64, id=(), detection=())
        _shape(self, np.bool_, confirmed=())
        _shape(self, state=(4,), cov=(4, 4), amplitude=(), score=())

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What really was in one frame: id (N,) of the target, group (N,) it belongs to, xy (N, 2) px, amplitude (N,) DN."""

    stamp: Stamp
    id: Ints
    group: Ints
    xy: Floats
    amplitude: Floats

    def __post_init__(self) -> None:
        _shape(self, np.int64, id=(), group=())
        _shape(self, xy=(2,), amplitude=())

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the platform pointed: frame = R(roll) (world - centre) + centre + shift.

    x, y: shift in px; roll_rad: turns x towards y, about the frame's centre ((W - 1) / 2, (H - 1) / 2).
    """

    stamp: Stamp
    x: float
    y: float
    roll_rad: float


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _shape(record: Any, dtype: type = np.float64, **columns: tuple[int, ...]) -> None:
    """Gives each named column its dtype and checks that it is (N, *tail), N being the record's first column's."""
    for name, tail in columns.items():
        array: NDArray[Any] = np.asarray(getattr(record, name), dtype)
        rows = len(getattr(record, record.__slots__[1]))
        if array.shape != (rows, *tail):
            raise ValueError(f"{type(record).__name__}.{name}: expected shape {(rows, *tail)}, got {array.shape}")
        object.__setattr__(record, name, _read_only(array))
