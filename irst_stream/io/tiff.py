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
from irst_stream.io.medium import Clip, Medium, Page

__all__ = ["SUFFIXES", "open_stack", "read_single"]

SUFFIXES = {".tif", ".tiff"}
FAULTS = (tifffile.TiffFileError, struct.error, zlib.error, ValueError, IndexError, KeyError, OSError, RuntimeError)


def open_stack(path: Path) -> Medium:
    """A multi-page TIFF as one sequence; the rate is taken from ImageJ's frame interval where it has one."""
    with _opened(path) as tif, _complaints():
        try:
            pages = len(tif.pages)
            interval = (tif.imagej_metadata or {}).get("finterval")
        except FAULTS as error:
            raise _unreadable(path, error) from error
    rate = 1 / float(interval) if interval else None
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
            return np.asarray(tif.pages[number].asarray())
    except FAULTS as error:
        if "imagecodecs" in str(error):
            raise MissingPackageError("imagecodecs", "tiff", f"{path}: this TIFF's compression") from error
        raise SourceError(f"{path}: page {number} is truncated or damaged ({error})") from error


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: not a TIFF that can be read ({error})")
