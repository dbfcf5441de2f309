"""TIFF: single images and multi-page stacks, read page by page."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from irst_stream.errors import MissingPackageError, SourceError
from irst_stream.io.media.medium import Clip, Medium, Page, Reader

__all__ = ["READER", "SUFFIXES", "read_single"]

SUFFIXES = {".tif", ".tiff"}
WHITE_IS_ZERO, PALETTE = tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.PALETTE
COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
MAX_PAGE_PIXELS = 1 << 29
READ_ERRORS = (tifffile.TiffFileError, struct.error, zlib.error, ValueError, IndexError, KeyError, OSError, RuntimeError)


def open_stack(path: Path) -> Medium:
    """Open a TIFF of one or more pages as one sequence; ImageJ's frame interval, if present, gives the rate."""
    with _open_tiff(path) as tif, _tifffile_messages():
        try:
            imagej, stated = tif.imagej_metadata or {}, _stated_length(tif)
            pages = len(tif.pages)
        except READ_ERRORS as error:
            raise _unreadable(path, error) from error
    interval, images = imagej.get("finterval"), imagej.get("images", stated)
    rate = 1 / interval if isinstance(interval, int | float) and 1e-9 <= interval <= 1e6 else None
    if pages == 1 and isinstance(images, int) and images > 1:  # ImageJ's layout for stacks above 4 GB
        return Medium(
            "TIFF of one directory", lambda: iter([Clip(path.stem, lambda: _contiguous_pages(path, images))]), images, rate
        )
    kind = "multi-page TIFF" if pages > 1 else "TIFF of one page"
    return Medium(kind, lambda: iter([Clip(path.stem, partial(_pages, path), pages, partial(_pages, path))]), pages, rate)


def read_single(path: Path) -> NDArray[Any]:
    """Read the image of a TIFF file with a single page; raise a SourceError for several pages."""
    with _open_tiff(path) as tif:
        if len(tif.pages) != 1:
            raise SourceError(f"{path}: {len(tif.pages)} pages; expected one page per file in a folder of images")
        return _read_page(tif, 0, path)


def _pages(path: Path, first: int = 0) -> Iterator[Page]:
    with _open_tiff(path) as tif:
        with _tifffile_messages() as messages:
            pages = len(tif.pages)
        for number in range(first, pages):
            yield Page(_read_page(tif, number, path), path.name)
    if messages:
        raise SourceError(f"{path}: truncated or damaged after page {pages - 1} ({messages[0]})")


def _stated_length(tif: tifffile.TiffFile) -> int:
    """Number of frames stated by tifffile's own metadata; 1 if there is none, or if pages have several samples."""
    shape = (tif.shaped_metadata or ({},))[0].get("shape", ())
    return int(shape[0]) if len(shape) == 3 and tif.pages.first.samplesperpixel == 1 else 1


def _contiguous_pages(path: Path, images: int) -> Iterator[Page]:
    """Read frames stored one after another behind a single page directory."""
    with _open_tiff(path) as tif:
        page = tif.pages.first
        shape, dtype = (page.imagelength, page.imagewidth), np.dtype(page.dtype).newbyteorder(tif.byteorder)
        start, compression = page.dataoffsets[0], page.compression
    size = shape[0] * shape[1] * dtype.itemsize
    available = min(images, (path.stat().st_size - start) // size) if compression == 1 else 0
    if available:
        yield from (Page(np.array(image), path.name) for image in np.memmap(path, dtype, "r", start, (available, *shape)))
    if available < images:
        raise SourceError(f"{path}: truncated or compressed: {available} of {images} images can be read")


@contextmanager
def _tifffile_messages() -> Iterator[list[str]]:
    """Collect tifffile's log messages: a broken chain of pages is only logged, not raised."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(collect)
    try:
        yield messages
    finally:
        logger.removeFilter(collect)


def _open_tiff(path: Path) -> tifffile.TiffFile:
    try:
        with _tifffile_messages():
            return tifffile.TiffFile(path)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error


def _read_page(tif: tifffile.TiffFile, number: int, path: Path) -> NDArray[Any]:
    try:
        with _tifffile_messages():
            page = tif.pages[number].aspage()
            if page.imagelength * page.imagewidth * page.samplesperpixel > MAX_PAGE_PIXELS:
                raise SourceError(
                    f"{path}: page {number} states {page.imagewidth} x {page.imagelength} px; "
                    f"expected at most {MAX_PAGE_PIXELS} values"
                )
            image = np.asarray(page.asarray())
    except READ_ERRORS as error:
        if "imagecodecs" in str(error):
            raise MissingPackageError("imagecodecs", "tiff", f"{path}: this TIFF's compression") from error
        raise SourceError(f"{path}: page {number} is truncated or damaged ({error})") from error
    if page.photometric == PALETTE:
        return np.moveaxis(np.asarray(page.colormap)[:, image], 0, -1)  # (3, colours) uint16 -> (H, W, 3)
    if page.samplesperpixel > 1:
        return _colour(page, image, f"{path}: page {number}")
    return np.invert(image) if page.photometric == WHITE_IS_ZERO and image.dtype.kind == "u" else image


def _colour(page: tifffile.TiffPage, image: NDArray[Any], where: str) -> NDArray[Any]:
    """The colour image (H, W, samples) of a page; raise a SourceError for samples that are not red, green and blue."""
    if page.photometric not in COLOURS:
        kind = getattr(page.photometric, "name", page.photometric)
        raise SourceError(f"{where}: {page.samplesperpixel} samples a pixel ({kind}); expected gray or RGB")
    return np.moveaxis(image, 0, -1) if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else image


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: not a TIFF that can be read ({error})")


READER = Reader(
    ".tif, .tiff", lambda path, _: path.is_file() and path.suffix.lower() in SUFFIXES, lambda path, _, __: open_stack(path)
)
