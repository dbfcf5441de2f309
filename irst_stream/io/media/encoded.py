"""Encoded images in memory: PNG, BMP and JPEG, checked for damage and decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError

__all__ = ["JPEG_SIGNATURE", "PNG_SIGNATURE", "decode_image", "jpeg_segments"]

MAX_SIDE = 1 << 15  # px
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"
STANDALONE_MARKERS = {0x01, *range(0xD0, 0xD9)}  # without a length


def decode_image(data: bytes, where: str) -> NDArray[Any]:
    """Decode an image as stored: (H, W), or (H, W, 3 or 4) for colour, red first.

    Raise a SourceError that names `where` if it is damaged, truncated or of another format.
    """
    fault = _fault(data)
    try:
        image = None if fault else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise SourceError(f"{where}: not an image that can be decoded ({error.err})") from error
    if image is None:
        raise SourceError(f"{where}: {fault or 'not an image that can be decoded'}")
    if image.ndim == 2:
        return np.asarray(image)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments of a JPEG file up to its first scan: marker, and where their content starts and ends.

    A segment that ends beyond the file is yielded as it is stated.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in STANDALONE_MARKERS:  # 0xff: padding
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        if marker == START_OF_SCAN:
            return
        at = end


def _fault(data: bytes) -> str | None:
    """What is wrong with an encoded image, None if nothing is found without decoding the pixels."""
    if not data:
        return "empty file"
    if data.startswith(PNG_SIGNATURE):
        return _png_fault(data)
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg_fault(data)
    if data.startswith(b"BM") and len(data) >= 6 and struct.unpack_from("<I", data, 2)[0] > len(data):
        return f"truncated: its header says {struct.unpack_from('<I', data, 2)[0]} bytes, the file has {len(data)}"
    return None


def _png_fault(data: bytes) -> str | None:
    """What is wrong with a PNG file: too large, damaged or truncated; None if all of its chunks are intact."""
    sides = struct.unpack_from(">II", data, 16) if len(data) >= 24 else (0, 0)
    if max(sides) > MAX_SIDE:
        return f"too large: its header says {sides[0]} x {sides[1]} px; expected at most {MAX_SIDE} px per side"
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"damaged: checksum mismatch in its {name.decode('latin-1')} chunk at byte {at}"
        if name == b"IEND":
            return None
        at = end
    return f"truncated: the file ends at byte {len(data)}, before the end of the image"


def _jpeg_fault(data: bytes) -> str | None:
    """What is wrong with a JPEG file: truncated or without a scan; None if its scan begins and ends.

    A JPEG has no checksums, so that damage within the scan passes.
    """
    scan = next((end for marker, _, end in jpeg_segments(data) if marker == START_OF_SCAN), None)
    if scan is None or data.find(END_OF_IMAGE, scan) < 0:  # in a scan, 0xff is followed by 0 or a restart marker
        return f"truncated or damaged: no end of the image in {len(data)} bytes"
    return None
