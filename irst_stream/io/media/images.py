"""Single images, PNG, BMP, TIFF, JPEG, FITS or FLIR's .fff, and folders of images in natural order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from irst_stream.io.media import fits, flir, tiff
from irst_stream.io.media.encoded import decode_image
from irst_stream.io.media.medium import Choice, Clip, Medium, Page, Reader, natural_key
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.system.bounded_files import MAX_DATA_BYTES, read_bounded
from irst_stream.types import Pixels

__all__ = ["FOLDERS_READER", "FOLDER_READER", "READER", "SUFFIXES", "encode_png"]

JPEG_SUFFIXES = {".jpg", ".jpeg"}
SUFFIXES = {".png", ".bmp", ".fff", *JPEG_SUFFIXES, *tiff.SUFFIXES, *fits.SUFFIXES}
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def _read_image(path: Path) -> NDArray[Any]:
    """Read an image as stored, the raw thermal image of a radiometric JPEG: (H, W), or (H, W, 3 or 4) for colour.

    Raise a SourceError if it cannot be decoded.
    """
    suffix = path.suffix.lower()
    if suffix in tiff.SUFFIXES:
        return tiff.read_single(path)
    if suffix in fits.SUFFIXES:
        return fits.read_single(path)
    if suffix == ".fff":
        return flir.read_single(path)
    data = read_bounded(path, MAX_DATA_BYTES)
    thermal = flir.thermal_image(data, str(path)) if suffix in JPEG_SUFFIXES else None
    return decode_image(data, str(path)) if thermal is None else thermal


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W) uint8 or uint16 pixels as a PNG file; equal pixels give equal bytes."""
    return cv2.imencode(".png", pixels, PNG_OPTIONS)[1].tobytes()


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder in natural order: frame_2 before frame_10."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=natural_key)


def open_folder(folder: Path) -> Medium:
    """Open a folder of images as one sequence, named after the folder; the camera's rate, if .fff files state it."""
    files = image_files(folder)
    clip = image_clip(folder.name, files, _image_names(files))
    return Medium(_kind(files), lambda: iter([clip]), len(files), _stated_rate_hz(files))


def open_folders(parent: Path, folders: list[Path]) -> Medium:
    """Open a folder of image folders; each image folder is one sequence, named after the folder."""
    files = {folder: image_files(folder) for folder in sorted(folders, key=natural_key)}
    clips = []
    for folder, found in files.items():
        name = folder.relative_to(parent).as_posix()
        clips.append(image_clip(name, found, [f"{name}/{image}" for image in _image_names(found)]))
    kind = f"{len(files)} folders, each a {_kind(next(iter(files.values())))}"
    rates = {_stated_rate_hz(found) for found in files.values()}
    return Medium(kind, lambda: iter(clips), sum(map(len, files.values())), rates.pop() if len(rates) == 1 else None)


def image_clip(name: str, files: Sequence[Path], names: Sequence[str] | None = None) -> Clip:
    """One sequence of images; names: see read_pages."""

    def pages_from(first: int) -> Iterator[Page]:
        return read_pages(files[first:], None if names is None else names[first:])

    return Clip(name, partial(pages_from, 0), len(files), pages_from)


def read_pages(files: Iterable[Path], names: Iterable[str] | None = None) -> Iterator[Page]:
    """Yield the image of each file as a page; an image is read when it is requested.

    names: of the images as sequences of their own, None where their sequence's name and their number identify them.
    """
    named = zip(files, names or repeat(""), strict=False)
    return (Page(_read_image(path), path.name, name=name) for path, name in named)


def _image_names(files: list[Path]) -> list[str]:
    """The name of each image: its file's name without the suffix, or with it where several files differ in it alone."""
    stems = Counter(path.stem for path in files)
    return [path.stem if stems[path.stem] == 1 else path.name for path in files]


def _stated_rate_hz(files: list[Path]) -> float | None:
    """The frame rate that the camera of a sequence states, frames/s; None if its first file states none."""
    return flir.stated_rate_hz(files[0]) if files[0].suffix.lower() == ".fff" else None


def _kind(files: list[Path]) -> str:
    suffixes = sorted({path.suffix.lower().lstrip(".").upper() for path in files})
    return f"folder of {' and '.join(suffixes)} images"


def _folders(path: Path) -> list[Path]:
    """The subfolders of a folder that contain images."""
    return [p for p in path.iterdir() if p.is_dir() and image_files(p)]


def _open_image(path: Path, _: Sidecar, __: Choice) -> Medium:
    return Medium("single image", lambda: iter([Clip(path.stem, lambda: read_pages([path], [path.stem]))]), 1)


READER = Reader(".png, .bmp, .jpg, .jpeg", lambda path, _: path.is_file() and path.suffix.lower() in SUFFIXES, _open_image)
FOLDER_READER = Reader(
    "PNG, BMP, JPEG, TIFF, FITS or .fff images",
    lambda path, _: path.is_dir() and bool(image_files(path)),
    lambda path, _, __: open_folder(path.resolve()),
    of_folders=True,
)
FOLDERS_READER = Reader(
    "",
    lambda path, _: path.is_dir() and bool(_folders(path)),
    lambda path, _, __: open_folders(path, _folders(path)),
    of_folders=True,
)
