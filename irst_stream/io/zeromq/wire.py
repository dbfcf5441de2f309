"""Bytes to frames, detections and tracks, and back: what a message is. PROTOCOL.md in io/ describes it; no sockets here.

A message has three parts: a topic, a msgpack header, and one array as a payload. A frame's payload is its raw pixels; that
of detections and tracks is a table with a row each, whose columns the header names. Nothing is copied on either way, but
pixels of foreign byte order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from irst_stream.errors import WireError
from irst_stream.types import Clock, Detections, Floats, Frame, Ints, Pose, Stamp, Tracks

__all__ = [
    "LARGEST_HEADER",
    "Buffer",
    "Header",
    "Message",
    "Received",
    "decode",
    "encode",
    "topic",
]

PROTOCOL = 1
LARGEST_HEADER = 1 << 16  # bytes
LARGEST_SIDE = 1 << 15  # px, and columns of a table
MOST_ROWS = 1 << 20  # of a table
FARTHEST = 1e6  # px or rad, of a pose
PARTS = 3
Buffer: TypeAlias = bytes | memoryview
ByteOrder = Literal["little", "big"]
NATIVE: ByteOrder = "little" if sys.byteorder == "little" else "big"
WIDTHS = {"uint8": 1, "uint16": 2, "float32": 4, "float64": 8}
NAMES = {np.dtype(name): name for name in WIDTHS}  # NumPy takes longer to name a type than to send it
STORED = {(name, order): np.dtype(name).newbyteorder(order) for name in WIDTHS for order in ("little", "big")}
PIXELS = ("uint8", "uint16", "float32")

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
SensorName = Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Header(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The second part of a message; keys it does not know are left alone, for later versions to use.

    shape: rows, columns of the payload; crc32: of the payload, as zlib and PNG compute it; full_scale: DN from which pixels
    saturate, absent where they never do; columns, published_ns: of detections and tracks, see PROTOCOL.md.
    """

    protocol: int
    kind: Literal["frame", "detections", "tracks"]
    sensor: SensorName
    epoch: Int64 = 0
    index: Count
    time_ns: Int64
    clock: Clock = "sensor"
    dtype: Literal["uint8", "uint16", "float32", "float64"]
    byte_order: ByteOrder = "little"
    shape: tuple[Count, Count]
    crc32: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    full_scale: Annotated[float, msgspec.Meta(gt=0)] | None = None
    columns: tuple[str, ...] = ()
    published_ns: Int64 = 0
    metadata: msgspec.Raw = msgspec.Raw(b"")


class Version(msgspec.Struct):
    """Enough of a header to know whether the rest of it can be understood."""

    protocol: int


class Message(NamedTuple):
    """The three parts, ready to be sent."""

    topic: bytes
    header: bytes
    payload: Buffer


class Received(NamedTuple):
    """What a message says, and when it was published, ns since 1970 in UTC, 0 for frames."""

    record: Frame | Detections | Tracks
    published_ns: int


class Pointing(msgspec.Struct):
    """What a frame's metadata says of the platform: types.Pose in numbers."""

    x: float
    y: float
    roll_rad: float = 0.0


class Metadata(msgspec.Struct, omit_defaults=True):
    """What of a frame's metadata is understood here."""

    pose: Pointing | None = None


_header, _version, _metadata, _encoder = (
    msgspec.msgpack.Decoder(Header),
    msgspec.msgpack.Decoder(Version),
    msgspec.msgpack.Decoder(Metadata),
    msgspec.msgpack.Encoder(),
)


def topic(kind: str, sensor: str = "") -> bytes:
    """The first part: kind/sensor/; without a sensor what a subscriber to all of them asks for."""
    return f"{kind}/{sensor}/".encode() if sensor else f"{kind}/".encode()


def encode(record: Frame | Detections | Tracks, published_ns: int = 0) -> Message:
    """A record as a message; a frame's pixels are not copied. A WireError where the sensor's name cannot travel."""
    if isinstance(record, Frame):
        kind, array, extra = "frame", record.pixels, _frame_fields(record)
    else:
        kind, columns, write, _ = _TABLES[type(record)]
        array, extra = write(record), {"columns": columns, "published_ns": published_ns}
    return _pack(record.stamp, kind, np.ascontiguousarray(array), extra)


def decode(parts: Sequence[Buffer]) -> Received:
    """A message's parts as what they say; arrays are views into the payload. A WireError names the reason otherwise."""
    header = _read_header(parts)
    array = _array(header, memoryview(parts[2]))
    stamp = Stamp(header.sensor, header.epoch, header.index, header.time_ns, "", header.clock)
    if header.kind == "frame":
        full_scale = np.inf if header.full_scale is None else header.full_scale
        metadata = bytes(header.metadata)
        return Received(Frame(stamp, array, full_scale, metadata, _pose_of(stamp, metadata)), 0)
    record, columns, read = next((t, names, read) for t, (k, names, _, read) in _TABLES.items() if k == header.kind)
    if header.columns != columns or header.shape[1] != len(columns) or array.dtype != np.float64:
        raise WireError("header", f"columns: expected {', '.join(columns)} of float64, got {', '.join(header.columns)}")
    try:
        return Received(record(stamp, *read(np.asarray(array))), header.published_ns)
    except (ValueError, OverflowError) as error:
        raise WireError("header", f"{header.kind}: {error}") from error


def _pose_of(stamp: Stamp, metadata: bytes) -> Pose | None:
    """The pose in a frame's metadata, None where there is none; of NaN where what is said of it cannot be used."""
    if not metadata:
        return None
    try:
        pose = _metadata.decode(metadata).pose
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Pose(stamp, np.nan, np.nan, np.nan)
    if pose is None:
        return None
    if not all(abs(number) <= FARTHEST for number in (pose.x, pose.y, pose.roll_rad)):
        return Pose(stamp, np.nan, np.nan, np.nan)
    return Pose(stamp, pose.x, pose.y, pose.roll_rad)


def _frame_fields(frame: Frame) -> dict[str, Any]:
    metadata, pose = frame.metadata, frame.pose
    if not metadata and pose is not None:
        metadata = _encoder.encode(Metadata(Pointing(pose.x, pose.y, pose.roll_rad)))
    fields: dict[str, Any] = {"metadata": msgspec.Raw(metadata)} if metadata else {}
    return fields if np.isinf(frame.full_scale) else fields | {"full_scale": float(frame.full_scale)}


def _pack(stamp: Stamp, kind: Any, array: NDArray[Any], extra: dict[str, Any]) -> Message:
    """The message of an array that is contiguous and of native byte order."""
    if not NAME.fullmatch(stamp.sensor):
        raise WireError("sensor", f"sensor {stamp.sensor!r}: expected 1 to 64 letters, digits or any of _ . : -")
    payload = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    header = Header(
        protocol=PROTOCOL,
        kind=kind,
        sensor=stamp.sensor,
        epoch=stamp.epoch,
        index=stamp.index,
        time_ns=stamp.time_ns,
        clock=stamp.clock,
        dtype=NAMES[array.dtype],  # type: ignore[arg-type]
        byte_order=NATIVE,
        shape=(array.shape[0], array.shape[1]),
        crc32=isal_zlib.crc32(payload),
        **extra,
    )
    return Message(topic(kind, stamp.sensor), _encoder.encode(header), payload)


def _read_header(parts: Sequence[Buffer]) -> Header:
    if len(parts) != PARTS:
        raise WireError("parts", f"expected 3 parts, topic, header and payload, got {len(parts)}")
    if len(parts[1]) > LARGEST_HEADER:
        raise WireError("header", f"expected a header of at most {LARGEST_HEADER} bytes, got {len(parts[1])}")
    try:
        version = _version.decode(parts[1]).protocol
        if version != PROTOCOL:
            raise WireError("version", f"protocol {version}; this is protocol {PROTOCOL}")
        header = _header.decode(parts[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        field = str(error).rpartition("`$.")[2].rstrip("`").partition("[")[0]
        reason = field if field in ("dtype", "shape") else "header"
        raise WireError(reason, f"header: {error}") from error
    if bytes(parts[0]) != topic(header.kind, header.sensor):
        raise WireError("topic", f"topic {bytes(parts[0])[:80]!r}; expected {topic(header.kind, header.sensor)!r}")
    return header


def _array(header: Header, payload: memoryview) -> NDArray[Any]:
    rows, columns = header.shape
    if header.kind == "frame":
        if header.dtype not in PIXELS:
            raise WireError("dtype", f"pixels are {header.dtype}; expected {', '.join(PIXELS)}")
        if not (1 <= rows <= LARGEST_SIDE and 1 <= columns <= LARGEST_SIDE):
            raise WireError("shape", f"{rows} x {columns} px; expected 1 to {LARGEST_SIDE} a side")
    elif rows > MOST_ROWS or columns > LARGEST_SIDE:
        raise WireError("shape", f"a table of {rows} x {columns}; expected at most {MOST_ROWS} x {LARGEST_SIDE}")
    expected = rows * columns * WIDTHS[header.dtype]
    if payload.nbytes != expected:
        raise WireError("length", f"payload of {payload.nbytes} bytes; {rows} x {columns} {header.dtype} are {expected}")
    if isal_zlib.crc32(payload) != header.crc32:
        raise WireError("crc", "the payload is not what its checksum says")
    array = np.frombuffer(payload, STORED[header.dtype, header.byte_order]).reshape(rows, columns)
    return array if header.byte_order == NATIVE else array.astype(header.dtype)


COV_ROWS, COV_COLUMNS = np.triu_indices(4)


def _write_detections(found: Detections) -> Floats:
    columns = (found.cov[:, 0, 0], found.cov[:, 0, 1], found.cov[:, 1, 1], found.amplitude, found.amplitude_sd, found.score)
    return np.column_stack([found.xy, *columns, found.region])


def _read_detections(table: Floats) -> tuple[Any, ...]:
    cov = table[:, [2, 3, 3, 4]].reshape(-1, 2, 2)
    return table[:, :2], cov, table[:, 5], table[:, 6], table[:, 7], _whole(table[:, 8])


def _write_tracks(tracks: Tracks) -> Floats:
    columns = (tracks.cov[:, COV_ROWS, COV_COLUMNS], tracks.amplitude, tracks.score, tracks.confirmed, tracks.detection)
    return np.column_stack([tracks.id, tracks.state, *columns])


def _read_tracks(table: Floats) -> tuple[Any, ...]:
    cov = np.empty((len(table), 4, 4))
    cov[:, COV_ROWS, COV_COLUMNS] = cov[:, COV_COLUMNS, COV_ROWS] = table[:, 5:15]
    rest = (table[:, 15], table[:, 16], table[:, 17] != 0, _whole(table[:, 18]))
    return _whole(table[:, 0]), table[:, 1:5], cov, *rest


def _whole(column: Floats) -> Ints:
    if not (np.abs(column) <= 2**53).all():  # NaN is not either
        raise ValueError("expected whole numbers of at most 2^53")
    return column.astype(np.int64)


DETECTION_COLUMNS = ("x", "y", "cov_xx", "cov_xy", "cov_yy", "amplitude", "amplitude_sd", "score", "region")
TRACK_COLUMNS = (
    *("id", "x", "y", "vx", "vy"),
    *("cov_xx", "cov_xy", "cov_xvx", "cov_xvy", "cov_yy", "cov_yvx", "cov_yvy", "cov_vxvx", "cov_vxvy", "cov_vyvy"),
    *("amplitude", "score", "confirmed", "detection"),
)
_Table = tuple[str, tuple[str, ...], Callable[[Any], Floats], Callable[[Floats], tuple[Any, ...]]]
_TABLES: dict[type[Any], _Table] = {
    Detections: ("detections", DETECTION_COLUMNS, _write_detections, _read_detections),
    Tracks: ("tracks", TRACK_COLUMNS, _write_tracks, _read_tracks),
}
