"""Encoding of frames, detections and tracks as messages, and decoding; PROTOCOL.md describes the format. No sockets here.

A message has three parts: a topic, a msgpack header, and one array as payload. The payload of a frame is its raw pixels;
that of detections and tracks is a table with one row per target, whose columns the header names. Arrays are not copied in
either direction, except pixels of foreign byte order.
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
    "MAX_HEADER_BYTES",
    "Buffer",
    "Header",
    "Message",
    "Received",
    "decode",
    "encode",
    "topic",
]

PROTOCOL = 1
MAX_HEADER_BYTES = 1 << 16
MAX_SIDE = 1 << 15  # px of a frame's side, and columns of a table
MAX_ROWS = 1 << 20  # of a table
MAX_POSE = 1e6  # largest shift, px, and roll, rad, of a pose that can be used
PART_COUNT = 3
Buffer: TypeAlias = bytes | memoryview
ByteOrder = Literal["little", "big"]
NATIVE: ByteOrder = "little" if sys.byteorder == "little" else "big"
ITEM_BYTES = {"uint8": 1, "uint16": 2, "float32": 4, "float64": 8}
DTYPE_NAMES = {np.dtype(name): name for name in ITEM_BYTES}  # a table, because dtype.name takes longer than sending a frame
WIRE_DTYPES = {(name, order): np.dtype(name).newbyteorder(order) for name in ITEM_BYTES for order in ("little", "big")}
PIXEL_DTYPES = ("uint8", "uint16", "float32")

SENSOR_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
SensorName = Annotated[str, msgspec.Meta(pattern=rf"^{SENSOR_NAME.pattern}\Z")]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
UInt63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Header(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Header, the second part of a message; unknown keys are ignored, so that later versions can add some.

    shape: rows, columns of the payload; crc32: CRC-32 of the payload as in zlib and PNG; full_scale: DN from which a pixel
    is saturated, absent if none ever is; columns, published_ns: of detections and tracks, see PROTOCOL.md.
    """

    protocol: int
    kind: Literal["frame", "detections", "tracks"]
    sensor: SensorName
    epoch: Int64 = 0
    index: UInt63
    time_ns: Int64
    clock: Clock = "sensor"
    dtype: Literal["uint8", "uint16", "float32", "float64"]
    byte_order: ByteOrder = "little"
    shape: tuple[UInt63, UInt63]
    crc32: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    full_scale: Annotated[float, msgspec.Meta(gt=0)] | None = None
    columns: tuple[str, ...] = ()
    published_ns: Int64 = 0
    metadata: msgspec.Raw = msgspec.Raw(b"")


class ProtocolVersion(msgspec.Struct):
    """The protocol version of a header, decoded first to decide whether the other keys can be read."""

    protocol: int


class Message(NamedTuple):
    """The three parts of a message, ready to send."""

    topic: bytes
    header: bytes
    payload: Buffer


class Received(NamedTuple):
    """A decoded message; published_ns: when it was published, ns since 1970 in UTC, 0 for frames."""

    record: Frame | Detections | Tracks
    published_ns: int


class WirePose(msgspec.Struct, omit_defaults=True):
    """Platform pose in a frame's metadata; see types.Pose."""

    x: float
    y: float
    roll_rad: float = 0.0
    sd_px: float = 0.0


class FrameMetadata(msgspec.Struct, omit_defaults=True):
    """The keys of a frame's metadata that are interpreted; other keys are passed on unread."""

    pose: WirePose | None = None


_header_decoder, _version_decoder, _metadata_decoder, _encoder = (
    msgspec.msgpack.Decoder(Header),
    msgspec.msgpack.Decoder(ProtocolVersion),
    msgspec.msgpack.Decoder(FrameMetadata),
    msgspec.msgpack.Encoder(),
)


def topic(kind: str, sensor: str = "") -> bytes:
    """Topic, the first part of a message: kind/sensor/. Without a sensor, the subscription prefix for all sensors."""
    return f"{kind}/{sensor}/".encode() if sensor else f"{kind}/".encode()


def encode(record: Frame | Detections | Tracks, published_ns: int = 0) -> Message:
    """Encode a record as a message; a frame's pixels are not copied. Raise a WireError if the sensor's name is invalid."""
    if isinstance(record, Frame):
        kind, array, extra = "frame", record.pixels, _frame_fields(record)
    else:
        kind, columns, write, _ = _TABLE_FORMATS[type(record)]
        array = write(record)
        extra = {"columns": (*columns, *SIZE_COLUMNS)[: array.shape[1]], "published_ns": published_ns}
    return _pack(record.stamp, kind, np.ascontiguousarray(array), extra)


def decode(parts: Sequence[Buffer]) -> Received:
    """Decode the parts of a message; arrays are views into the payload. Raise a WireError with the reason if invalid."""
    header = _read_header(parts)
    array = _array(header, memoryview(parts[2]))
    stamp = Stamp(header.sensor, header.epoch, header.index, header.time_ns, "", header.clock)
    if header.kind == "frame":
        full_scale = np.inf if header.full_scale is None else header.full_scale
        metadata = bytes(header.metadata)
        return Received(Frame(stamp, array, full_scale, metadata, _pose_of(stamp, metadata)), 0)
    record, columns, read = next((t, names, read) for t, (k, names, _, read) in _TABLE_FORMATS.items() if k == header.kind)
    known = columns, *([(*columns, *SIZE_COLUMNS)] if record is Detections else [])
    if header.columns not in known or header.shape[1] != len(header.columns) or array.dtype != np.float64:
        raise WireError("header", f"columns: expected {', '.join(columns)} of float64, got {', '.join(header.columns)}")
    try:
        return Received(record(stamp, *read(np.asarray(array))), header.published_ns)
    except (ValueError, OverflowError) as error:
        raise WireError("header", f"{header.kind}: {error}") from error


def _pose_of(stamp: Stamp, metadata: bytes) -> Pose | None:
    """Decode the pose in a frame's metadata: None if absent, all NaN if invalid."""
    if not metadata:
        return None
    try:
        pose = _metadata_decoder.decode(metadata).pose
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Pose(stamp, np.nan, np.nan, np.nan)
    if pose is None:
        return None
    if not all(abs(number) <= MAX_POSE for number in (pose.x, pose.y, pose.roll_rad)) or not 0 <= pose.sd_px <= MAX_POSE:
        return Pose(stamp, np.nan, np.nan, np.nan)
    return Pose(stamp, pose.x, pose.y, pose.roll_rad, pose.sd_px)


def _frame_fields(frame: Frame) -> dict[str, Any]:
    metadata, pose = frame.metadata, frame.pose
    if not metadata and pose is not None:
        metadata = _encoder.encode(FrameMetadata(WirePose(pose.x, pose.y, pose.roll_rad, pose.sd_px)))
    fields: dict[str, Any] = {"metadata": msgspec.Raw(metadata)} if metadata else {}
    return fields if np.isinf(frame.full_scale) else fields | {"full_scale": float(frame.full_scale)}


def _pack(stamp: Stamp, kind: Any, array: NDArray[Any], extra: dict[str, Any]) -> Message:
    """Build the message of a contiguous array in native byte order."""
    if not SENSOR_NAME.fullmatch(stamp.sensor):
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
        dtype=DTYPE_NAMES[array.dtype],  # type: ignore[arg-type]
        byte_order=NATIVE,
        shape=(array.shape[0], array.shape[1]),
        crc32=isal_zlib.crc32(payload),
        **extra,
    )
    return Message(topic(kind, stamp.sensor), _encoder.encode(header), payload)


def _read_header(parts: Sequence[Buffer]) -> Header:
    if len(parts) != PART_COUNT:
        raise WireError("parts", f"expected 3 parts (topic, header, payload), got {len(parts)}")
    if len(parts[1]) > MAX_HEADER_BYTES:
        raise WireError("header", f"expected a header of at most {MAX_HEADER_BYTES} bytes, got {len(parts[1])}")
    try:
        version = _version_decoder.decode(parts[1]).protocol
        if version != PROTOCOL:
            raise WireError("version", f"expected protocol {PROTOCOL}, got {version}")
        header = _header_decoder.decode(parts[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        field = str(error).rpartition("`$.")[2].rstrip("`").partition("[")[0]
        reason = field if field in ("dtype", "shape") else "header"
        raise WireError(reason, f"header: {error}") from error
    if bytes(parts[0]) != topic(header.kind, header.sensor):
        raise WireError("topic", f"expected topic {topic(header.kind, header.sensor)!r}, got {bytes(parts[0])[:80]!r}")
    return header


def _array(header: Header, payload: memoryview) -> NDArray[Any]:
    rows, columns = header.shape
    if header.kind == "frame":
        if header.dtype not in PIXEL_DTYPES:
            raise WireError("dtype", f"expected pixels of {', '.join(PIXEL_DTYPES)}, got {header.dtype}")
        if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE):
            raise WireError("shape", f"expected sides of 1 to {MAX_SIDE} px, got {rows} x {columns}")
    elif rows > MAX_ROWS or columns > MAX_SIDE:
        raise WireError("shape", f"expected a table of at most {MAX_ROWS} x {MAX_SIDE}, got {rows} x {columns}")
    expected = rows * columns * ITEM_BYTES[header.dtype]
    if payload.nbytes != expected:
        raise WireError("length", f"expected {expected} bytes for {rows} x {columns} {header.dtype}, got {payload.nbytes}")
    if isal_zlib.crc32(payload) != header.crc32:
        raise WireError("crc", "payload checksum mismatch")
    array = np.frombuffer(payload, WIRE_DTYPES[header.dtype, header.byte_order]).reshape(rows, columns)
    return array if header.byte_order == NATIVE else array.astype(header.dtype)


COV_ROWS, COV_COLUMNS = np.triu_indices(4)  # the upper triangle of a track's covariance is sent


def _write_detections(record: Detections) -> Floats:
    cov = record.cov
    columns = (cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1], record.amplitude, record.amplitude_sd, record.score)
    sizes = [record.size] if record.size.any() else []  # points alone need no more columns
    return np.column_stack([record.xy, *columns, record.region, *sizes])


def _read_detections(table: Floats) -> tuple[Any, ...]:
    cov = table[:, [2, 3, 3, 4]].reshape(-1, 2, 2)
    factor, size = np.zeros((len(table), 2, 0)), table[:, 9:11] if table.shape[1] > 9 else np.zeros((len(table), 2))
    return table[:, :2], cov, table[:, 5], table[:, 6], table[:, 7], _integers(table[:, 8]), factor, size


def _write_tracks(tracks: Tracks) -> Floats:
    columns = (tracks.cov[:, COV_ROWS, COV_COLUMNS], tracks.amplitude, tracks.score, tracks.confirmed, tracks.detection)
    return np.column_stack([tracks.id, tracks.state, *columns])


def _read_tracks(table: Floats) -> tuple[Any, ...]:
    cov = np.empty((len(table), 4, 4))
    cov[:, COV_ROWS, COV_COLUMNS] = cov[:, COV_COLUMNS, COV_ROWS] = table[:, 5:15]
    rest = (table[:, 15], table[:, 16], table[:, 17] != 0, _integers(table[:, 18]))
    return _integers(table[:, 0]), table[:, 1:5], cov, *rest


def _integers(column: Floats) -> Ints:
    if not (np.abs(column) <= 2**53).all():  # also false for NaN
        raise ValueError("expected whole numbers of at most 2^53")
    return column.astype(np.int64)


DETECTION_COLUMNS = ("x", "y", "cov_xx", "cov_xy", "cov_yy", "amplitude", "amplitude_sd", "score", "region")
SIZE_COLUMNS = ("size_x", "size_y")  # of detections, where any target is extended
TRACK_COLUMNS = (
    *("id", "x", "y", "vx", "vy"),
    *("cov_xx", "cov_xy", "cov_xvx", "cov_xvy", "cov_yy", "cov_yvx", "cov_yvy", "cov_vxvx", "cov_vxvy", "cov_vyvy"),
    *("amplitude", "score", "confirmed", "detection"),
)
_TableFormat = tuple[str, tuple[str, ...], Callable[[Any], Floats], Callable[[Floats], tuple[Any, ...]]]
_TABLE_FORMATS: dict[type[Any], _TableFormat] = {
    Detections: ("detections", DETECTION_COLUMNS, _write_detections, _read_detections),
    Tracks: ("tracks", TRACK_COLUMNS, _write_tracks, _read_tracks),
}
