"""The data types that flow from a source to a track.

All are frozen and slotted structs of arrays; arrays are read-only views. x is the column and y the row; pixel centres are
integers. Positions are in px of the sensor's frame, amplitudes in digital numbers (DN), times in ns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
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
    "frames_after_centre",
    "place_weights",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[Any]  # uint8, uint16 or float32: see PIXEL_TYPES
Clock = Literal["sensor", "unix", "monotonic"]
Policy = Literal["live", "lossless"]  # if a stage is too slow: drop the oldest frames, or make the sender wait
PIXEL_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identity of a frame, and when the sensor took it.

    sensor:  the sensor's name; for files, the sequence's name
    epoch:   changes when a sensor restarts; 0 for files
    index:   the frame's number within the epoch, from 0
    time_ns: sensor time, ns
    source:  the file the frame came from, "" if none
    clock:   the clock of time_ns: "unix", since 1970 in UTC, comparable between machines; "monotonic", the steady clock of
             this machine; "sensor", a clock with an unknown origin
    """

    sensor: str
    epoch: int
    index: int
    time_ns: int
    source: str = ""
    clock: Clock = "sensor"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image: pixels (H, W) uint8, uint16 or float32, DN; of any memory layout and byte order, and then copied.

    full_scale: DN at and above which a pixel is saturated, infinite if none can be. metadata: the sensor's own, unchanged
    msgpack, b"" for none. pose: where the platform pointed, None if unknown; NaN values if the sensor's pose is unusable.
    step_dn: DN between neighbouring values that a pixel can have; None: 1 for integers, 0 for float32.
    """

    stamp: Stamp
    pixels: Pixels
    full_scale: float = math.inf
    metadata: bytes = b""
    pose: Pose | None = None
    step_dn: float | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype.newbyteorder("=") not in PIXEL_TYPES:
            raise ValueError(
                f"pixels: expected (H, W) uint8, uint16 or float32, got {self.pixels.shape} {self.pixels.dtype}"
            )
        object.__setattr__(self, "pixels", _read_only(_plain(self.pixels)))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The same N regions in T consecutive frames, measured at their centre frame, whose stamp it carries.

    corners (N, 2): x, y of each region's first pixel, px of the sensor's frame. patches (N, T, H, W) DN: NaN or infinite
    where a pixel holds no measurement. frame_times (T,): when each frame was taken, in frames from the centre frame.
    platform_shifts (N, T, 2): x, y px by which platform motion moves static objects in each frame relative to the centre
    frame, 0 if unknown. region (N,): the same number in the next window is the same region at the same place. noise (N,):
    standard deviation of a pixel, DN, NaN if not measured. ceiling (N,): DN at and above which a pixel is saturated,
    infinite if none can be. strength (N,): of the light that raised the region, in units of the search's threshold, NaN
    where regions are not searched for. large: the centre frame's lights that are too large for a region, None without any.
    """

    stamp: Stamp
    corners: Floats
    patches: NDArray[np.float32]
    frame_times: Floats
    platform_shifts: Floats
    region: Ints
    noise: Floats
    ceiling: Floats
    strength: Floats = field(default_factory=lambda: np.zeros(0))
    large: Detections | None = None

    def __post_init__(self) -> None:
        if len(self.strength) != len(self.corners):
            object.__setattr__(self, "strength", np.full(len(self.corners), np.nan))
        if self.patches.ndim != 4:
            raise ValueError(f"patches: expected (N, T, H, W), got {self.patches.shape}")
        frames = self.patches.shape[1]
        if self.frame_times.shape != (frames,):
            raise ValueError(f"frame_times: expected ({frames},), got {self.frame_times.shape}")
        _check_columns(self, corners=(2,), platform_shifts=(frames, 2), noise=(), ceiling=(), strength=())
        _check_columns(self, np.int64, region=())
        object.__setattr__(self, "patches", _read_only(self.patches))

    @property
    def centre(self) -> int:
        """Which of the T frames is the centre frame."""
        return int(np.abs(self.frame_times).argmin())


def at_rest(regions: int, frames: int, lag: int | None = None) -> tuple[Floats, Floats]:
    """Return frame_times (T,) and platform_shifts (N, T, 2) px of a window of T frames, T odd, with a platform at rest.

    lag: frames that follow the centre frame; None puts it in the middle.
    """
    return np.arange(float(frames)) - (frames - 1 - frames_after_centre(frames, lag)), np.zeros((regions, frames, 2))


def frames_after_centre(frames: int, lag: int | None) -> int:
    """Return how many of a window's frames follow its centre frame: `lag`, or half of them where it is None."""
    return frames // 2 if lag is None else lag


def place_weights(times: Floats) -> Floats:
    """Return how far an error of each frame's place moves a target's place at time 0; (T,), of sum 1.

    times (T,): of a window's frames. A straight path at constant speed is fitted to the places: about the middle frame the
    weights are equal, beyond it the newer frames have more.
    """
    away = times - times.mean()
    lever = away * times.mean() / max(float(away @ away), 1e-12)
    return np.asarray(1.0 / len(times) - lever)


@dataclass(frozen=True, slots=True, eq=False)
class Unmixed:
    """Network output for B windows, on the fine grid of their centre frames.

    map (B, H, W) DN: each target's amplitude in its cell. claims (B, 7, H, W), for a target in each cell: detection
    probability, x and y px from the cell's centre, their standard deviations px, amplitude DN and its standard deviation
    DN; (B, 0, H, W) from a network without a continuous head.
    """

    map: NDArray[np.float32]
    claims: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = (self.map.shape[0], self.claims.shape[1], *self.map.shape[1:])
        if self.map.ndim != 3 or self.claims.shape != shape or shape[1] not in (0, 7):
            raise ValueError(f"claims: expected (B, 7 or 0, H, W) for a map {self.map.shape}, got {self.claims.shape}")
        object.__setattr__(self, "map", _read_only(self.map))
        object.__setattr__(self, "claims", _read_only(self.claims))

    @classmethod
    def plain(cls, fine_map: NDArray[np.float32]) -> Unmixed:
        """Create the output of a network without a continuous head: the map (B, H, W) DN alone."""
        return cls(fine_map, np.zeros((len(fine_map), 0, *fine_map.shape[1:]), np.float32))


class RegionOutput(NamedTuple):
    """Network output for one region's window; corner (2,): x, y px in the patch of the crop that the network saw."""

    unmixed: Unmixed
    corner: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The N detections of one frame, in no particular order.

    xy (N, 2) px; cov (N, 2, 2) px^2, NaN if the method gives none; amplitude and amplitude_sd (N,) DN, NaN if unknown;
    score (N,), higher is more certain; region (N,): the region of the frame it was found in, 0 for patches, negative for a
    light too large for a region. size (N, 2) px: standard deviations of an extended target's own light along x and y, 0 for
    points.

    factor (N, 2, R) px: square-root factors of the joint error covariance. Errors of two detections in one region covary by
    factor[i] @ factor[j].T, px^2, because their targets illuminate the same pixels. R is 0 if unknown.
    """

    stamp: Stamp
    xy: Floats
    cov: Floats
    amplitude: Floats
    amplitude_sd: Floats
    score: Floats
    region: Ints
    factor: Floats = field(default_factory=lambda: np.zeros((0, 2, 0)))
    size: Floats = field(default_factory=lambda: np.zeros((0, 2)))

    def __post_init__(self) -> None:
        if not self.factor.shape[2]:
            object.__setattr__(self, "factor", np.zeros((len(self.xy), 2, 0)))
        if len(self.size) != len(self.xy):
            object.__setattr__(self, "size", np.zeros((len(self.xy), 2)))
        parts = self.factor.shape[1:]
        _check_columns(self, xy=(2,), cov=(2, 2), amplitude=(), amplitude_sd=(), score=(), factor=parts, size=(2,))
        _check_columns(self, np.int64, region=())

    @classmethod
    def bare(cls, stamp: Stamp, xy: Floats, amplitude: Floats, score: Floats) -> Detections:
        """Create detections without covariance or amplitude deviation, all in region 0."""
        n = len(xy)
        return cls(stamp, xy, np.full((n, 2, 2), np.nan), amplitude, np.full(n, np.nan), score, np.zeros(n, np.int64))

    def of(self, which: NDArray[Any]) -> Detections:
        """Select these detections."""
        names = ("xy", "cov", "amplitude", "amplitude_sd", "score", "region", "factor", "size")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    def joined(self, others: Detections) -> Detections:
        """Append other detections of the same frame, whose errors are their own."""
        names = ("xy", "cov", "amplitude", "amplitude_sd", "score", "region", "size")
        columns: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(others, name)]) for name in names}
        factor = np.zeros((len(self) + len(others), 2, self.factor.shape[2]))
        factor[: len(self)] = self.factor
        return replace(self, **columns, factor=factor)

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The tracks alive at one frame.

    id (N,); state (N, 4) x, y, vx, vy in px and px/s; cov (N, 4, 4), NaN if unknown; amplitude (N,) DN, NaN if unknown;
    score (N,); confirmed (N,) bool; detection (N,): index of the frame's detection that updated the track, -1 if it coasts.
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
        _check_columns(self, np.int64, id=(), detection=())
        _check_columns(self, np.bool_, confirmed=())
        _check_columns(self, state=(4,), cov=(4, 4), amplitude=(), score=())

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The true targets of one frame.

    id (N,); group (N,) it belongs to; xy (N, 2) px; amplitude (N,) DN, NaN if unknown; size (N, 2) px: width and height of
    a box centred at xy, NaN for a point. A box covers whole pixels: one of 3 px around x = 5 has its edges at 3.5 and 6.5.
    frame_size: width and height of the frame, px, (0, 0) if unknown.
    """

    stamp: Stamp
    id: Ints
    group: Ints
    xy: Floats
    amplitude: Floats
    size: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    frame_size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if not len(self.size):
            object.__setattr__(self, "size", np.full((len(self.id), 2), np.nan))
        _check_columns(self, np.int64, id=(), group=())
        _check_columns(self, xy=(2,), amplitude=(), size=(2,))

    @classmethod
    def boxes(
        cls, stamp: Stamp, first: Floats, size: Floats, frame_size: tuple[int, int] = (0, 0), id_: Ints | None = None
    ) -> Truth:
        """Create targets of unknown amplitude from boxes: first (N, 2) x, y of the first pixel, px; size (N, 2) px."""
        n = len(first)
        numbers = np.arange(n) if id_ is None else id_
        xy = first + (size - 1) / 2
        return cls(stamp, numbers, np.zeros(n, np.int64), xy, np.full(n, np.nan), size, frame_size)

    @property
    def has_boxes(self) -> bool:
        """Whether a target has a box."""
        return bool(np.isfinite(self.size).any())

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Pose:
    """Platform pointing: frame = R(roll) (world - centre) + centre + shift.

    x, y: shift, px; roll_rad: rotates x towards y, about the frame's centre ((W - 1) / 2, (H - 1) / 2). sd_px: standard
    deviation along each axis of where it places a still object, px; 0 where it counts as exact.
    """

    stamp: Stamp
    x: float
    y: float
    roll_rad: float
    sd_px: float = 0.0


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array in row order, aligned and in native byte order, as compiled code takes it; copied only if it is not."""
    return np.require(array, array.dtype.newbyteorder("="), ("C", "A"))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view; the data is not copied."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check_columns(record: Any, dtype: type = np.float64, **columns: tuple[int, ...]) -> None:
    """Convert each named column to dtype and check its shape (N, *tail); N is the length of the record's first column."""
    for name, tail in columns.items():
        array: NDArray[Any] = np.asarray(getattr(record, name), dtype)
        rows = len(getattr(record, record.__slots__[1]))
        if array.shape != (rows, *tail):
            raise ValueError(f"{type(record).__name__}.{name}: expected shape {(rows, *tail)}, got {array.shape}")
        object.__setattr__(record, name, _read_only(array))
