"""Single images: PNG, BMP and TIFF of 8 or 16 bits, and folders of them in natural order."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.io.media import tiff
from irst_stream.io.media.medium import Clip, Medium, Page, natural_key
from irst_stream.types import Pixels

__all__ = ["SUFFIXES", "encode_png", "image_files", "open_folder", "open_folders"]

SUFFIXES = {".png", ".bmp", *tiff.SUFFIXES}
LARGEST_SIDE = 1 << 15  # px
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def _read_image(path: Path) -> NDArray[Any]:
    """The image as stored: (H, W), or (H, W, channels) for colour."""
    if path.suffix.lower() in tiff.SUFFIXES:
        return tiff.read_single(path)
    data = path.read_bytes()
    fault = _fault(data)
    try:
        image = None if fault else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise SourceError(f"{path}: not an image that can be decoded ({error.err})") from error
    if image is None:
        raise SourceError(f"{path}: {fault or 'not an image that can be decoded'}")
    return np.asarray(image)


def encode_png(pixels: Pixels) -> bytes:
    """(H, W) uint8 or uint16 to a PNG file's bytes, always the same ones for the same pixels."""
    return cv2.imencode(".png", pixels, PNG_OPTIONS)[1].tobytes()


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, frame_2 before frame_10."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=natural_key)


def open_folder(folder: Path) -> Medium:
    """A folder of images as one sequence, named after the folder."""
    files = image_files(folder)
    return Medium(_kind(files), lambda: iter([Clip(folder.name, lambda: read_pages(files))]), len(files))


def open_folders(parent: Path, folders: list[Path]) -> Medium:
    """A folder of folders of images, each one a sequence of its own name."""
    files = {folder: image_files(folder) for folder in sorted(folders, key=natural_key)}
    clips = [Clip(folder.relative_to(parent).as_posix(), partial(read_pages, found)) for folder, found in files.items()]
    kind = f"{len(files)} folders, each a {_kind(next(iter(files.values())))}"
    return Medium(kind, lambda: iter(clips), sum(map(len, files.values())))


def read_pages(files: Iterable[Path]) -> Iterator[Page]:
    """Reads images one by one."""
    return (Page(_read_image(path), path.name) for path in files)


def _kind(files: list[Path]) -> str:
    suffixes = sorted({path.suffix.lower().lstrip(".").upper() for path in files})
    return f"folder of {' and '.join(suffixes)} images"


def _fault(data: bytes) -> str | None:
    """What is wrong with an image file's bytes, as far as can be told without decoding them."""
    if not data:
        return "empty file"
    if data.startswith(PNG_SIGNATURE):
        return _png_fault(data)
    if data.startswith(b"BM") and len(data) >= 6 and struct.unpack_from("<I", data, 2)[0] > len(data):
        return f"truncated: its header says {struct.unpack_from('<I', data, 2)[0]} bytes, the file has {len(data)}"
    return None


def _png_fault(data: bytes) -> str | None:
    sides = struct.unpack_from(">II", data, 16) if len(data) >= 24 else (0, 0)
    if max(sides) > LARGEST_SIDE:
        return f"its header says {sides[0]} x {sides[1]} px; at most {LARGEST_SIDE} a side are read"
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"damaged: the checksum of its {name.decode('latin-1')} part, at byte {at}, does not agree"
        if name == b"IEND":
            return None
        at = end
    return f"truncated: the file ends at byte {len(data)}, before the image does"
