"""TIFF: single images and multi-page stacks, read page by page."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from irst_stream.errors import MissingPackageError, SourceError
from irst_stream.io.media.medium import Clip, Medium, Page, colour

__all__ = ["SUFFIXES", "open_stack", "read_single"]

SUFFIXES = {".tif", ".tiff"}
WHITE_IS_ZERO, PALETTE = tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.PALETTE
MOST_PIXELS = 1 << 29  # of one page
FAULTS = (tifffile.TiffFileError, struct.error, zlib.error, ValueError, IndexError, KeyError, OSError, RuntimeError)


def open_stack(path: Path) -> Medium:
    """A multi-page TIFF as one sequence; the rate is taken from ImageJ's frame interval where it has one."""
    with _opened(path) as tif, _complaints():
        try:
            imagej, stated = tif.imagej_metadata or {}, _stated_length(tif)
            pages = len(tif.pages)
        except FAULTS as error:
            raise _unreadable(path, error) from error
    interval, images = imagej.get("finterval"), imagej.get("images", stated)
    rate = 1 / interval if isinstance(interval, int | float) and 1e-9 <= interval <= 1e6 else None
    if pages == 1 and isinstance(images, int) and images > 1:  # how ImageJ writes more than 4 GB
        return Medium("TIFF of one directory", lambda: iter([Clip(path.stem, lambda: _mapped(path, images))]), images, rate)
    return Medium("multi-page TIFF", lambda: iter([Clip(path.stem, lambda: _pages(path))]), pages, rate)


def read_single(path: Path) -> NDArray[Any]:
    """The one image of a TIFF file."""
    with _opened(path) as tif:
        if len(tif.pages) != 1:
            raise SourceError(f"{path}: {len(tif.pages)} pages; expected one image a file in a folder of images")
        return _image(tif, 0, path)


def _pages(path: Path) -> Iterator[Page]:
    with _opened(path) as tif:
        with _complaints() as complaints:
            pages = len(tif.pages)
        for number in range(pages):
            yield Page(_image(tif, number, path), path.name)
    if complaints:
        raise SourceError(f"{path}: truncated or damaged after page {pages - 1} ({complaints[0]})")


def _stated_length(tif: tifffile.TiffFile) -> int:
    """How many frames tifffile's own description of the file states, where it has one."""
    shape = (tif.shaped_metadata or ({},))[0].get("shape", ())
    return int(shape[0]) if len(shape) == 3 else 1


def _mapped(path: Path, images: int) -> Iterator[Page]:
    """Frames that stand one after another behind a single page directory."""
    with _opened(path) as tif:
        page = tif.pages.first
        shape, dtype = (page.imagelength, page.imagewidth), np.dtype(page.dtype).newbyteorder(tif.byteorder)
        start, compression = page.dataoffsets[0], page.compression
    size = shape[0] * shape[1] * dtype.itemsize
    there = min(images, (path.stat().st_size - start) // size) if compression == 1 else 0
    if there:
        yield from (Page(np.array(image), path.name) for image in np.memmap(path, dtype, "r", start, (there, *shape)))
    if there < images:
        raise SourceError(f"{path}: truncated or compressed: {there} of {images} images can be read")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collects what tifffile logs: it only logs that the chain of pages breaks off."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield said
    finally:
        logger.removeFilter(keep)


def _opened(path: Path) -> tifffile.TiffFile:
    try:
        with _complaints():
            return tifffile.TiffFile(path)
    except FAULTS as error:
        raise _unreadable(path, error) from error


def _image(tif: tifffile.TiffFile, number: int, path: Path) -> NDArray[Any]:
    try:
        with _complaints():
            page = tif.pages[number].aspage()
            if page.imagelength * page.imagewidth * page.samplesperpixel > MOST_PIXELS:
                raise SourceError(f"{path}: page {number} claims {page.imagewidth} x {page.imagelength} px; too large")
            image = np.asarray(page.asarray())
    except FAULTS as error:
        if "imagecodecs" in str(error):
            raise MissingPackageError("imagecodecs", "tiff", f"{path}: this TIFF's compression") from error
        raise SourceError(f"{path}: page {number} is truncated or damaged ({error})") from error
    if page.photometric == PALETTE or page.samplesperpixel > 1:
        raise SourceError(f"{path}: {colour(page.samplesperpixel)}")
    return np.invert(image) if page.photometric == WHITE_IS_ZERO and image.dtype.kind == "u" else image


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: not a TIFF that can be read ({error})")
