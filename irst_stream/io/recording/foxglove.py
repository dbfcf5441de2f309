"""Frames as foxglove.RawImage, and detections and tracks as foxglove.ImageAnnotations, so that other viewers show them.

The messages are protobuf, written by hand: the pixels of a frame are the last field and are not copied. Our own header of a
frame, which has all that RawImage has no field for, is an unknown field before the standard ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from irst_stream.errors import WireError
from irst_stream.io.recording.protobuf import (
    Field,
    describe_enum,
    describe_file,
    describe_message,
    double_field,
    fixed32_field,
    int_field,
    read_fields,
    tag,
    text_field,
)
from irst_stream.io.zeromq import wire
from irst_stream.types import Detections, Floats, Frame, Stamp, Tracks

__all__ = ["ANNOTATIONS_SCHEMA", "IMAGE_SCHEMA", "encode_image", "encode_marks", "read_image"]

HEADER_FIELD = 15000  # bytes: CRC-32 of the header (4, little-endian), then the header
DATA_FIELD = 6
CRC_BYTES = 4
ENCODINGS = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16", np.dtype(np.float32): "32FC1"}
CORNER_PX = 0.5  # foxglove counts from the corner of the first pixel, we from its centre
LINE_LOOP, POINTS = 2, 1  # types of PointsAnnotation
CHI2_95 = 5.991  # of 2 degrees of freedom
ELLIPSE_POINTS = 24
TRACK_DIAMETER_PX, FONT_PX, THICKNESS_PX = 10.0, 12.0, 1.0
SECOND_NS = 10**9
CYAN, AMBER, FAINT = (0.2, 0.84, 1.0, 1.0), (1.0, 0.69, 0.18, 1.0), (1.0, 0.69, 0.18, 0.5)
Colour = tuple[float, float, float, float]


def encode_image(frame: Frame) -> list[wire.Buffer]:
    """Encode a frame in two parts: all that precedes the pixels, and the pixels, not copied."""
    _, header, pixels = wire.encode(frame)
    rows, columns = frame.pixels.shape
    head = b"".join(
        [
            text_field(HEADER_FIELD, zlib.crc32(header).to_bytes(CRC_BYTES, "little") + header),
            text_field(1, _timestamp(frame.stamp)),
            text_field(7, frame.stamp.sensor),
            fixed32_field(2, columns),
            fixed32_field(3, rows),
            text_field(4, ENCODINGS[frame.pixels.dtype]),
            fixed32_field(5, columns * frame.pixels.itemsize),
            tag(DATA_FIELD, len(pixels)),
        ]
    )
    return [head, pixels]


def read_image(data: memoryview) -> tuple[bytes, bytes]:
    """Our header of a frame, and a copy of its pixels; raise a WireError if the message is damaged or not ours."""
    header, pixels = memoryview(b""), memoryview(b"")
    try:
        for number, value in read_fields(data):
            if number == HEADER_FIELD and isinstance(value, memoryview):
                header = value
            elif number == DATA_FIELD and isinstance(value, memoryview):
                pixels = value
    except ValueError as error:
        raise WireError("header", str(error)) from error
    text = bytes(header[CRC_BYTES:])
    if len(header) < CRC_BYTES or zlib.crc32(text) != int.from_bytes(header[:CRC_BYTES], "little"):
        raise WireError("header", "header checksum mismatch")
    # Copied to align the pixels in memory as they were live, so that sums over them agree to the last bit.
    return text, bytes(pixels)


def encode_marks(record: Detections | Tracks) -> bytes:
    """Encode detections, with 95 % ellipses, or confirmed tracks with their ids, as marks on the image of their frame."""
    time = _timestamp(record.stamp)
    if isinstance(record, Tracks):
        return b"".join(_track_marks(record, time))
    marks = [_points(time, POINTS, record.xy, CYAN)] if len(record) else []
    for xy, cov in zip(record.xy, record.cov, strict=True):
        if np.isfinite(cov).all():
            marks.append(_points(time, LINE_LOOP, _ellipse(xy, cov), CYAN))
    return b"".join(text_field(2, mark) for mark in marks)


def _track_marks(tracks: Tracks, time: bytes) -> Iterable[bytes]:
    """A circle and a text for each confirmed track; faint ones coast."""
    rows = zip(tracks.id.tolist(), tracks.state.tolist(), tracks.confirmed, tracks.detection, strict=True)
    for number, (x, y, *_), confirmed, detection in rows:
        if not confirmed:
            continue
        colour = _colour(AMBER if detection >= 0 else FAINT)
        sizes = double_field(3, TRACK_DIAMETER_PX) + double_field(4, THICKNESS_PX)
        yield text_field(1, text_field(1, time) + text_field(2, _point(x, y)) + sizes + text_field(6, colour))
        reach = TRACK_DIAMETER_PX / 2
        text = text_field(2, _point(x + reach, y - reach)) + text_field(3, str(number)) + double_field(4, FONT_PX)
        yield text_field(3, text_field(1, time) + text + text_field(5, colour))


def _points(time: bytes, kind: int, xy: Floats, colour: Colour) -> bytes:
    """A PointsAnnotation."""
    points = b"".join(text_field(3, _point(x, y)) for x, y in xy.tolist())
    return (
        text_field(1, time) + int_field(2, kind) + points + text_field(4, _colour(colour)) + double_field(7, THICKNESS_PX)
    )


def _ellipse(xy: Floats, cov: Floats) -> Floats:
    """The points of the 95 % ellipse of a position."""
    variances, axes = np.linalg.eigh(cov)
    turns = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    reach = np.sqrt(np.maximum(variances, 0) * CHI2_95)
    points: Floats = xy + (reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)) @ axes.T
    return points


def _point(x: float, y: float) -> bytes:
    return double_field(1, x + CORNER_PX) + double_field(2, y + CORNER_PX)


def _colour(colour: Colour) -> bytes:
    return b"".join(double_field(number, value) for number, value in enumerate(colour, 1))


def _timestamp(stamp: Stamp) -> bytes:
    """A frame's time, the same for the image and its marks; a time before 1970 is 1970."""
    seconds, nanoseconds = divmod(max(stamp.time_ns, 0), SECOND_NS)
    return int_field(1, seconds) + int_field(2, nanoseconds)


TIME_FILE = describe_file(
    "google/protobuf/timestamp.proto",
    "google.protobuf",
    (),
    [describe_message("Timestamp", [Field("seconds", 1, "int64"), Field("nanos", 2, "int32")])],
)
TIME = Field("timestamp", 1, "message .google.protobuf.Timestamp")
IMAGE_FIELDS = [
    *(TIME, Field("width", 2, "fixed32"), Field("height", 3, "fixed32"), Field("encoding", 4, "string")),
    *(Field("step", 5, "fixed32"), Field("data", 6, "bytes"), Field("frame_id", 7, "string")),
]
IMAGE_SCHEMA = TIME_FILE + describe_file(
    "foxglove/RawImage.proto", "foxglove", ["google/protobuf/timestamp.proto"], [describe_message("RawImage", IMAGE_FIELDS)]
)
POSITION, COLOUR = "message .foxglove.Point2", "message .foxglove.Color"
CIRCLE_FIELDS = [
    *(TIME, Field("position", 2, POSITION), Field("diameter", 3, "double"), Field("thickness", 4, "double")),
    *(Field("fill_color", 5, COLOUR), Field("outline_color", 6, COLOUR)),
]
POINTS_FIELDS = [
    *(TIME, Field("type", 2, "enum .foxglove.PointsAnnotation.Type"), Field("points", 3, f"{POSITION}*")),
    *(Field("outline_color", 4, COLOUR), Field("outline_colors", 5, f"{COLOUR}*"), Field("fill_color", 6, COLOUR)),
    Field("thickness", 7, "double"),
]
TEXT_FIELDS = [
    *(TIME, Field("position", 2, POSITION), Field("text", 3, "string"), Field("font_size", 4, "double")),
    *(Field("text_color", 5, COLOUR), Field("background_color", 6, COLOUR)),
]
MARKS_FIELDS = [
    Field("circles", 1, "message .foxglove.CircleAnnotation*"),
    Field("points", 2, "message .foxglove.PointsAnnotation*"),
    Field("texts", 3, "message .foxglove.TextAnnotation*"),
]
ANNOTATIONS_SCHEMA = TIME_FILE + describe_file(
    "foxglove/ImageAnnotations.proto",
    "foxglove",
    ["google/protobuf/timestamp.proto"],
    [
        describe_message("Point2", [Field(name, k, "double") for k, name in enumerate("xy", 1)]),
        describe_message("Color", [Field(name, k, "double") for k, name in enumerate("rgba", 1)]),
        describe_message("CircleAnnotation", CIRCLE_FIELDS),
        describe_message(
            "PointsAnnotation",
            POINTS_FIELDS,
            [describe_enum("Type", ("UNKNOWN", "POINTS", "LINE_LOOP", "LINE_STRIP", "LINE_LIST"))],
        ),
        describe_message("TextAnnotation", TEXT_FIELDS),
        describe_message("ImageAnnotations", MARKS_FIELDS),
    ],
)
