"""Message encoding: lossless both ways and without copies; an invalid message raises a WireError with its reason."""

import contextlib
import math
import struct
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from strategies import detections, frames, same, tracks

from irst_stream import Frame, Stamp, WireError
from irst_stream.io.zeromq import wire

HEADER = {
    "protocol": 1,
    "kind": "frame",
    "sensor": "cam-1",
    "epoch": 7,
    "index": 42,
    "time_ns": 1_700_000_000_000_000_000,
    "clock": "unix",
    "dtype": "uint16",
    "byte_order": "little",
    "shape": [2, 3],
    "full_scale": 16383,
    "metadata": {"pose": {"x": 0.5}},
}
PAYLOAD = struct.pack("<6H", 0, 1, 2, 300, 400, 16383)


def parts(payload=PAYLOAD, topic=b"frame/cam-1/", drop=(), **changes):
    header = HEADER | {"crc32": zlib.crc32(payload)} | changes
    return [topic, msgspec.msgpack.encode({k: v for k, v in header.items() if k not in drop}), payload]


@given(frames())
def test_frames_round_trip(frame):
    back = wire.decode(wire.encode(frame)).record
    same(frame, back)


@given(st.one_of(detections(sensor=True), tracks(sensor=True)), st.integers(0, 2**62))
def test_detections_and_tracks_round_trip(record, published):
    back, when = wire.decode(wire.encode(record, published))
    same(record, back)
    assert when == published


def test_pixels_are_not_copied():
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    message = wire.encode(Frame(Stamp("a", 0, 0, 0), pixels))
    assert np.shares_memory(np.frombuffer(message.payload, np.uint16), pixels)
    back = wire.decode(message).record
    assert np.shares_memory(back.pixels, pixels)


def test_a_message_written_by_hand_is_read():
    frame = wire.decode(parts()).record
    assert frame.stamp == Stamp("cam-1", 7, 42, 1_700_000_000_000_000_000, "", "unix")
    assert frame.pixels.tolist() == [[0, 1, 2], [300, 400, 16383]]
    assert frame.full_scale == 16383
    assert msgspec.msgpack.decode(frame.metadata) == {"pose": {"x": 0.5}}


def test_optional_keys_have_defaults_and_unknown_keys_are_ignored():
    drop = ("epoch", "clock", "byte_order", "full_scale", "metadata")
    frame = wire.decode(parts(drop=drop, later={"a": [1, 2]})).record
    assert (frame.stamp.epoch, frame.stamp.clock, frame.full_scale, frame.metadata) == (0, "sensor", math.inf, b"")


def test_foreign_byte_order_is_converted():
    frame = wire.decode(parts(struct.pack(">6H", 0, 1, 2, 300, 400, 16383), byte_order="big")).record
    assert frame.pixels.tolist() == [[0, 1, 2], [300, 400, 16383]]
    assert frame.pixels.dtype == np.uint16
    assert frame.pixels.dtype.isnative


INVALID = {
    "parts": parts()[:2],
    "header": [b"frame/cam-1/", b"\x00garbage", PAYLOAD],
    "header ": [b"frame/cam-1/", b"", PAYLOAD],
    "header  ": [b"frame/cam-1/", b"\x91" * 60000, PAYLOAD],
    "header   ": [b"frame/cam-1/", b"\0" * (wire.MAX_HEADER_BYTES + 1), PAYLOAD],
    "header    ": parts(sensor="a/b"),
    "header     ": parts(index=-1),
    "header      ": parts(time_ns="now"),
    "header       ": parts(kind="video"),
    "version": parts(protocol=2),
    "topic": parts(topic=b"frame/cam-10/"),
    "dtype": parts(dtype="int32"),
    "dtype ": parts(struct.pack("<6d", *range(6)), dtype="float64"),
    "shape": parts(shape=[2, 3, 1]),
    "shape ": parts(b"", shape=[0, 3]),
    "shape  ": parts(shape=[2**40, 2**40]),
    "shape   ": parts(shape=[-1, 3]),
    "shape    ": parts(shape=[2.5, 3]),
    "shape     ": parts(b"", topic=b"tracks/cam-1/", kind="tracks", dtype="float64", shape=[0, 2**62]),
    "shape      ": parts(b"", topic=b"tracks/cam-1/", kind="tracks", dtype="float64", shape=[2**62, 0]),
    "header        ": parts(
        struct.pack("<2d", 1, 2),
        topic=b"detections/cam-1/",
        kind="detections",
        dtype="float64",
        shape=[1, 2],
        columns=list(wire.DETECTION_COLUMNS),
    ),
    "length": parts(shape=[3, 3]),
    "length ": parts(PAYLOAD[:-1]),
    "crc": parts(crc32=1),
}


@pytest.mark.parametrize("reason", INVALID)
def test_an_invalid_message_raises_a_wire_error_with_its_reason(reason):
    with pytest.raises(WireError) as caught:
        wire.decode(INVALID[reason])
    assert caught.value.reason == reason.strip()
    assert "\n" not in str(caught.value)


def test_a_table_with_other_columns_is_refused():
    table = struct.pack("<9d", *range(9))
    wrong = parts(table, topic=b"detections/cam-1/", kind="detections", dtype="float64", shape=[1, 9], columns=["x"])
    with pytest.raises(WireError, match="expected x, y, cov_xx"):
        wire.decode(wrong)
    names = list(wire.DETECTION_COLUMNS)
    wrong = parts(
        struct.pack("<9d", *[0.0] * 8, math.nan),
        topic=b"detections/cam-1/",
        kind="detections",
        dtype="float64",
        shape=[1, 9],
        columns=names,
    )
    with pytest.raises(WireError, match="whole numbers"):
        wire.decode(wrong)


def test_an_invalid_sensor_name_is_refused():
    with pytest.raises(WireError, match="sensor"):
        wire.encode(Frame(Stamp("a/b", 0, 0, 0), np.zeros((2, 2), np.uint8)))


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_random_bytes_are_refused(message):
    with pytest.raises(WireError):
        wire.decode(message)


@given(st.data())
def test_a_header_with_any_byte_changed_is_read_or_refused(data):
    topic, header, payload = parts()
    at = data.draw(st.integers(0, len(header) - 1))
    changed = header[:at] + bytes([data.draw(st.integers(0, 255))]) + header[at + 1 :]
    with contextlib.suppress(WireError):  # any other error fails the test
        wire.decode([topic, changed, payload])


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_a_non_contiguous_view_round_trips(pixels):
    frame = Frame(Stamp("a", 0, 0, 0), pixels.T[::-1])
    assert (wire.decode(wire.encode(frame)).record.pixels == frame.pixels).all()
