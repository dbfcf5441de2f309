"""The lines of the interchange format: the structs that define its schema. See INTERCHANGE.md."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from irst_stream.types import Clock

__all__ = [
    "DetectionLine",
    "DetectionRow",
    "OptionalFloat",
    "PoseLine",
    "PoseRow",
    "TrackLine",
    "TrackRow",
    "TruthLine",
    "TruthRow",
]

Pair = tuple[float, float]
Quad = tuple[float, float, float, float]
OptionalFloat = float | None
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
FrameIndex = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
FrameSide = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every line says: the frame."""

    sequence: str
    index: FrameIndex
    time_ns: Int64 = 0
    source: str = ""
    epoch: Int64 | UnsetType = UNSET
    clock: Clock | UnsetType = UNSET


class DetectionRow(msgspec.Struct, forbid_unknown_fields=True):
    """One detection: x (column) and y (row), px; amplitude, DN; covariance of (x, y), px^2; the region it was found in;
    standard deviations of an extended target's own light along x and y, px.
    """

    x: float
    y: float
    amplitude: OptionalFloat
    score: float
    cov: tuple[Pair, Pair] | UnsetType | None = UNSET
    amplitude_sd: float | UnsetType = UNSET
    region: Int64 | UnsetType = UNSET
    size: Pair | UnsetType = UNSET


class TrackRow(msgspec.Struct, forbid_unknown_fields=True):
    """One track: like a detection, with vx, vy in px/s, the covariance of (x, y, vx, vy) and the row of its detection."""

    id: Int64
    x: float
    y: float
    vx: float
    vy: float
    amplitude: OptionalFloat
    score: float
    confirmed: bool = True
    detection: Int64 = -1
    cov: tuple[Quad, Quad, Quad, Quad] | UnsetType | None = UNSET


class TruthRow(msgspec.Struct, forbid_unknown_fields=True):
    """One true target; w and h, both or neither: width and height of the box centred at x, y, px."""

    id: Int64
    x: float
    y: float
    amplitude: OptionalFloat
    group: Int64 = 0
    w: PositiveFloat | UnsetType = UNSET
    h: PositiveFloat | UnsetType = UNSET


class PoseRow(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Platform pose: shift, px, roll, rad, and the standard deviation of where it places a still object, px."""

    x: float
    y: float
    roll_rad: float
    sd_px: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class DetectionLine(Line, kw_only=True):
    """All detections of one frame."""

    detections: list[DetectionRow]


class TrackLine(Line, kw_only=True):
    """The tracks alive at one frame."""

    tracks: list[TrackRow]


class TruthLine(Line, kw_only=True):
    """The true targets of one frame, and the frame's width and height, px."""

    width: FrameSide | UnsetType = UNSET
    height: FrameSide | UnsetType = UNSET
    truth: list[TruthRow]


class PoseLine(Line, kw_only=True):
    """The platform pose at one frame."""

    pose: PoseRow
