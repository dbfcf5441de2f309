"""Single images, PNG, BMP or TIFF with 8 or 16 bits per pixel, and folders of images in natural order."""

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
from irst_stream.io.media.medium import Choice, Clip, Medium, Page, Reader, natural_key
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.types import Pixels

__all__ = ["FOLDERS_READER", "FOLDER_READER", "READER", "SUFFIXES", "encode_png"]

SUFFIXES = {".png", ".bmp", *tiff.SUFFIXES}
MAX_SIDE = 1 << 15  # px
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def _read_image(path: Path) -> NDArray[Any]:
    """Read an image as stored: (H, W), or (H, W, channels) for colour. Raise a SourceError if it cannot be decoded."""
    if path.suffix.lower() in tiff.SUFFIXES:
        return tiff.read_single(path)
    data = path.read_bytes()
    fault = _file_fault(data)
    try:
        image = None if fault else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise SourceError(f"{path}: not an image that can be decoded ({error.err})") from error
    if image is None:
        raise SourceError(f"{path}: {fault or 'not an image that can be decoded'}")
    return np.asarray(image)


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W) uint8 or uint16 pixels as a PNG file; equal pixels give equal bytes."""
    return cv2.imencode(".png", pixels, PNG_OPTIONS)[1].tobytes()


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder in natural order: frame_2 before frame_10."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=natural_key)


def open_folder(folder: Path) -> Medium:
    """Open a folder of images as one sequence, named after the folder."""
    files = image_files(folder)
    return Medium(_kind(files), lambda: iter([Clip(folder.name, lambda: read_pages(files))]), len(files))


def open_folders(parent: Path, folders: list[Path]) -> Medium:
    """Open a folder of image folders; each image folder is one sequence, named after the folder."""
    files = {folder: image_files(folder) for folder in sorted(folders, key=natural_key)}
    clips = [Clip(folder.relative_to(parent).as_posix(), partial(read_pages, found)) for folder, found in files.items()]
    kind = f"{len(files)} folders, each a {_kind(next(iter(files.values())))}"
    return Medium(kind, lambda: iter(clips), sum(map(len, files.values())))


def read_pages(files: Iterable[Path]) -> Iterator[Page]:
    """Yield the image of each file as a page; an image is read when it is requested."""
    return (Page(_read_image(path), path.name) for path in files)


def _kind(files: list[Path]) -> str:
    suffixes = sorted({path.suffix.lower().lstrip(".").upper() for path in files})
    return f"folder of {' and '.join(suffixes)} images"


def _file_fault(data: bytes) -> str | None:
    """What is wrong with an image file, None if nothing is found without decoding the pixels."""
    if not data:
        return "empty file"
    if data.startswith(PNG_SIGNATURE):
        return _png_fault(data)
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


def _folders(path: Path) -> list[Path]:
    """The subfolders of a folder that contain images."""
    return [p for p in path.iterdir() if p.is_dir() and image_files(p)]


def _open_image(path: Path, _: Sidecar, __: Choice) -> Medium:
    return Medium("single image", lambda: iter([Clip(path.stem, lambda: read_pages([path]))]), 1)


READER = Reader("a PNG or BMP image", lambda path, _: path.is_file() and path.suffix.lower() in SUFFIXES, _open_image)
FOLDER_READER = Reader(
    "a folder of PNG, BMP or TIFF images",
    lambda path, _: path.is_dir() and bool(image_files(path)),
    lambda path, _, __: open_folder(path.resolve()),
)
FOLDERS_READER = Reader(
    "a folder of such folders",
    lambda path, _: path.is_dir() and bool(_folders(path)),
    lambda path, _, __: open_folders(path, _folders(path)),
)
