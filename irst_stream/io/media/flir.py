"""FLIR's FFF container with raw 16-bit pixels: .fff, .seq and .csq files, and the FLIR segments of radiometric JPEGs.

A frame is a header, a directory of records, and the records. The record of type RAW holds the pixels, uncompressed, or as a
PNG or a JPEG-LS stream (.csq); a .seq or .csq holds one frame after another. Pixels are the camera's raw counts, DN.

The byte order of the directory and that of the pixels differ between cameras, so each is read off its own header: the
directory's off the version in the frame's header, the pixels' off the first word of their record, which is 2. Cameras pack
pixels into a PNG without turning them to PNG's big-endian order, so that word tells their order there too.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import MissingPackageError, SourceError
from irst_stream.io.media.encoded import JPEG_SIGNATURE, PNG_SIGNATURE, decode_image, jpeg_segments
from irst_stream.io.media.medium import Clip, Medium, Page, Reader

__all__ = ["READER", "read_single", "stated_rate_hz", "thermal_image"]

SUFFIXES = {".fff", ".seq", ".csq"}
MAGICS = (b"FFF\0", b"AFF\0")
VERSION_AT, VERSIONS = 0x14, range(100, 200)
HEADER_BYTES, ENTRY_BYTES, GEOMETRY_BYTES = 64, 32, 32
MAX_RECORDS = 1000
RAW, CAMERA = 1, 0x20  # types of records
RATE_AT = 0x464  # in the record of the camera: frames/s
MAX_RATE_HZ = 10_000
MAX_GAP = 4096  # bytes of padding after a frame
APP1 = 0xE1
SEGMENT_HEADER_BYTES = 8  # "FLIR\0", 1, number of the segment, number of the last segment

Bytes: TypeAlias = "bytes | mmap.mmap"
Order: TypeAlias = Literal["<", ">"]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a frame ends, and the start and end of its records by type, in bytes of the file."""

    end: int
    records: dict[int, tuple[int, int]]


def open_sequence(path: Path) -> Medium:
    """Open a .fff, .seq or .csq file as one sequence; the camera's frame rate, if it states one, gives the rate."""
    with _mapped(path) as data:
        frames, rate = 0, None
        try:
            for frame in _frames(data, str(path)):
                rate = rate if frames else _rate_hz(data, frame)
                frames += 1
        except SourceError:
            if not frames:
                raise
    return Medium("FLIR recording", lambda: iter([Clip(path.stem, lambda: _pages(path))]), frames, rate)


def stated_rate_hz(path: Path) -> float | None:
    """Return the frame rate that the camera states in a file's first frame; None if it states none or cannot be read."""
    try:
        with _mapped(path) as data:
            return _rate_hz(data, next(_frames(data, str(path))))
    except (OSError, ValueError, SourceError):  # ValueError: an empty file
        return None


def read_single(path: Path) -> NDArray[Any]:
    """Read the pixels of a .fff file with one frame; raise a SourceError for several."""
    with _mapped(path) as data:
        frames = list(islice(_frames(data, str(path)), 2))
        if len(frames) > 1:
            raise SourceError(f"{path}: several frames; expected one frame per file in a folder of images")
        return _raw_image(data, frames[0], str(path))


def thermal_image(data: bytes, where: str) -> NDArray[Any] | None:
    """Read the raw thermal image (H, W) of a radiometric JPEG; None for a JPEG without one.

    Raise a SourceError that names `where` if the image is damaged or truncated.
    """
    pieces: dict[int, bytes] = {}
    total = 0
    for marker, start, end in jpeg_segments(data):
        if marker == APP1 and data[start : start + 5] == b"FLIR\0" and start + SEGMENT_HEADER_BYTES <= min(end, len(data)):
            number, total = data[start + 6], data[start + 7] + 1
            if end <= len(data):
                pieces[number] = data[start + SEGMENT_HEADER_BYTES : end]
    if not total:
        return None
    if sorted(pieces) != list(range(total)):
        raise SourceError(f"{where}: truncated or damaged: {len(pieces)} of {total} segments of its thermal image")
    whole = b"".join(pieces[number] for number in range(total))
    frame = _parse_frame(whole, 0, where)
    return _raw_image(whole, frame, where) if RAW in frame.records else None


def _pages(path: Path) -> Iterator[Page]:
    with _mapped(path) as data:
        for number, frame in enumerate(_frames(data, str(path))):
            yield Page(_raw_image(data, frame, f"{path}: frame {number}"), path.name)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _frames(data: Bytes, where: str) -> Iterator[_Frame]:
    """Yield the frames of a file in order; raise a SourceError where another kind of content begins."""
    at, number = 0, 0
    while True:
        frame = _parse_frame(data, at, f"{where}: frame {number}")
        yield frame
        number += 1
        if frame.end >= len(data):
            return
        at = _next_frame(data, frame.end)
        if at < 0:
            if len(data) - frame.end > MAX_GAP:
                raise SourceError(f"{where}: damaged: expected frame {number} at byte {frame.end}")
            return


def _next_frame(data: Bytes, end: int) -> int:
    """Where the next frame starts, at most MAX_GAP bytes after the last one's end; -1 if none does."""
    last = end + MAX_GAP + len(MAGICS[0])
    found = (at for at in (data.find(magic, end, last) for magic in MAGICS) if at >= 0)
    return min(found, default=-1)


def _parse_frame(data: Bytes, at: int, where: str) -> _Frame:
    """Read the header and the directory of the frame at byte `at`."""
    header = data[at : at + HEADER_BYTES]
    if header[:4] not in MAGICS:
        raise SourceError(f"{where}: not a FLIR frame: expected it to start with FFF, got {header[:4]!r}")
    if len(header) < HEADER_BYTES:
        raise SourceError(f"{where}: truncated in its header")
    order: Order
    for order in ("<", ">"):
        version, directory, count = struct.unpack_from(f"{order}3I", header, VERSION_AT)
        if version in VERSIONS:
            break
    else:
        raise SourceError(f"{where}: damaged header: expected a version from 100 to 199 in either byte order")
    if count > MAX_RECORDS:
        raise SourceError(f"{where}: damaged header: {count} records; expected at most {MAX_RECORDS}")
    first = at + directory
    end = first + count * ENTRY_BYTES
    if end > len(data):
        raise SourceError(f"{where}: truncated in its directory of records")
    records: dict[int, tuple[int, int]] = {}
    for entry in range(first, end, ENTRY_BYTES):
        (kind,) = struct.unpack_from(f"{order}H", data, entry)
        offset, length = struct.unpack_from(f"{order}2I", data, entry + 12)
        records.setdefault(kind, (at + offset, at + offset + length))
    ends = [stop for kind, (_, stop) in records.items() if kind]  # type 0: an empty entry
    return _Frame(max(end, at + HEADER_BYTES, *ends), records)


def _raw_image(data: Bytes, frame: _Frame, where: str) -> NDArray[Any]:
    """The pixels (H, W) of a frame, uint16 unless its PNG has 8 bits."""
    if RAW not in frame.records:
        raise SourceError(f"{where}: no raw thermal image among its records")
    start, end = frame.records[RAW]
    if end > len(data) or end - start < GEOMETRY_BYTES:
        raise SourceError(
            f"{where}: truncated in its raw thermal image: {max(len(data) - start, 0)} of {end - start} bytes"
        )
    record = data[start:end]
    order = _record_order(record)
    width, height = struct.unpack_from(f"{order}2H", record, 2)
    content = record[GEOMETRY_BYTES:]
    if content.startswith(PNG_SIGNATURE):
        image = decode_image(content, where)
        return image.byteswap() if order == "<" else image
    if content.startswith(JPEG_SIGNATURE):
        return _decode_jpegls(content, where)
    if not 0 < 2 * width * height <= len(content):
        raise SourceError(f"{where}: damaged: {width} x {height} px of 16 bits in {len(content)} bytes")
    return np.frombuffer(content, f"{order}u2", width * height).reshape(height, width)


def _record_order(record: bytes) -> Order:
    """The byte order of a record, whose first word is 2."""
    return "<" if record[1] == 0 else ">"


def _decode_jpegls(content: bytes, where: str) -> NDArray[Any]:
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingPackageError("imagecodecs", "flir", f"{where}: JPEG-LS compression") from error
    try:
        return np.asarray(imagecodecs.jpegls_decode(content))
    except (RuntimeError, ValueError) as error:
        raise SourceError(f"{where}: damaged JPEG-LS stream ({error})") from error


def _rate_hz(data: Bytes, frame: _Frame) -> float | None:
    """The frame rate that the camera states, None if it states none."""
    start, end = frame.records.get(CAMERA, (0, 0))
    if end > len(data) or end - start < RATE_AT + 2:
        return None
    (rate,) = struct.unpack_from(f"{_record_order(data[start : start + 2])}H", data, start + RATE_AT)
    return float(rate) if 0 < rate <= MAX_RATE_HZ else None


READER = Reader(
    ".fff, .seq, .csq",
    lambda path, sidecar: path.is_file() and path.suffix.lower() in SUFFIXES and sidecar.width is None,
    lambda path, _, __: open_sequence(path),
)
