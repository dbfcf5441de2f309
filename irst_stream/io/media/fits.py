"""FITS images, plain or gzipped: 2-D, or 3-D as (frames, rows, columns), read frame by frame.

Row 0 is the first row of the file, which most viewers draw at the bottom. Values are physical, BZERO + BSCALE x stored:
unsigned 8 and 16 bits stay so, other integers become float32 where that holds them exactly, and BLANK pixels NaN: no
measurement. Plain images need no package: astropy with what it needs takes 80 MB.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Clip, Medium, Page, Reader

__all__ = ["READER", "SUFFIXES", "read_single"]

SUFFIXES = {".fits", ".fit", ".fts"}
BLOCK, CARD = 2880, 80  # bytes
MAX_HEADER_BLOCKS = 4096
MAX_PAGE_PIXELS = 1 << 29
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
UNSIGNED_16_ZERO = 1 << 15  # BZERO that makes signed 16 bits unsigned
GZIP_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)

Cards: TypeAlias = dict[str, "str | bool | int | float"]


@dataclass(frozen=True, slots=True)
class _Image:
    """An image in a FITS file: its number, name, first byte, shape (frames, rows, columns), and how a value is stored."""

    number: int
    name: str
    start: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    scale: float
    zero: float
    blank: int | None

    @property
    def frame_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def open_fits(path: Path, variable: str | None) -> Medium:
    """Open one image of a FITS file: the first, or the one with the name (EXTNAME) or number (0: primary) `variable`."""
    image = _choose(path, variable)
    stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    return Medium("FITS image", lambda: iter([Clip(stem, lambda: _pages(path, image))]), image.shape[0])


def read_single(path: Path) -> NDArray[Any]:
    """Read the first image of a FITS file, (H, W); raise a SourceError for several frames."""
    image = _choose(path, None)
    if image.shape[0] > 1:
        raise SourceError(f"{path}: {image.shape[0]} frames; expected one frame per file in a folder of images")
    return next(_pages(path, image)).pixels


def _choose(path: Path, variable: str | None) -> _Image:
    """The chosen image; raise a SourceError if there is none, listing those that there are."""
    seen: list[_Image] = []
    packed = False
    with _open(path) as file:
        for found in _images(file, path):
            if found is None:
                packed = True
                continue
            if variable is None or variable == str(found.number) or variable.upper() == found.name.upper():
                return found
            seen.append(found)
    known = ", ".join(f"{i.number} {i.name}".strip() + f" ({'x'.join(map(str, i.shape))})" for i in seen)
    wanted = "of 2 or 3 axes" if variable is None else repr(variable)
    hint = ". Unpack its compressed images first, for example with funpack" if packed else ""
    raise SourceError(f"{path}: no image {wanted}. Images in the file: {known or 'none'}{hint}")


def _images(file: IO[bytes], path: Path) -> Iterator[_Image | None]:
    """Yield the images of a file in order, None for a compressed one."""
    number = 0
    while (cards := _read_header(file, path, number)) is not None:
        start, size = file.tell(), _data_bytes(cards)
        if cards.get("ZIMAGE") is True:
            yield None
        elif (number == 0 or cards.get("XTENSION") == "IMAGE") and (image := _describe(cards, number, start, path)):
            yield image
        try:
            file.seek(start + -(-size // BLOCK) * BLOCK)
        except GZIP_ERRORS:
            return
        number += 1


def _describe(cards: Cards, number: int, start: int, path: Path) -> _Image | None:
    """The image of a header; None where the header has no image of 2 or 3 axes, or has an axis of 0."""
    axes = _axes(cards)
    while len(axes) > 3 and axes[0] == 1:
        axes = axes[1:]
    if len(axes) not in (2, 3) or 0 in axes:
        return None
    frames, rows, columns = axes if len(axes) == 3 else (1, *axes)
    bits = cards.get("BITPIX")
    if bits not in DTYPES:
        raise SourceError(f"{path}: HDU {number}: BITPIX: expected one of 8, 16, 32, 64, -32, -64, got {bits!r}")
    if rows * columns > MAX_PAGE_PIXELS:
        raise SourceError(f"{path}: HDU {number} states {columns} x {rows} px; expected at most {MAX_PAGE_PIXELS} in all")
    scale, zero, blank = cards.get("BSCALE", 1), cards.get("BZERO", 0), cards.get("BLANK")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in (scale, zero)):
        raise SourceError(f"{path}: HDU {number}: BSCALE, BZERO: expected numbers, got {scale!r}, {zero!r}")
    dtype = np.dtype(DTYPES[cast("int", bits)])
    return _Image(
        number,
        str(cards.get("EXTNAME", "")),
        start,
        (frames, rows, columns),
        dtype,
        float(scale),
        float(zero),
        blank if isinstance(blank, int) and dtype.kind in "iu" else None,
    )


def _axes(cards: Cards) -> tuple[int, ...]:
    """The lengths of the axes, the slowest first, which FITS numbers last; empty where a header has none."""
    count = cards.get("NAXIS", 0)
    lengths = [cards.get(f"NAXIS{k}", 0) for k in range(count if isinstance(count, int) and count < 1000 else 0, 0, -1)]
    return tuple(length if isinstance(length, int) and length > 0 else 0 for length in lengths)


def _data_bytes(cards: Cards) -> int:
    """Bytes of data that follow a header, without their padding."""
    axes = _axes(cards)
    if cards.get("GROUPS") is True and axes[-1:] == (0,):  # random groups have no first axis
        axes = axes[:-1]
    bits, groups, extra = (cards.get(name, default) for name, default in (("BITPIX", 8), ("GCOUNT", 1), ("PCOUNT", 0)))
    if not (isinstance(bits, int) and isinstance(groups, int) and isinstance(extra, int)):
        return 0
    return max(abs(bits) // 8 * groups * (extra + math.prod(axes)), 0) if axes else 0


def _read_header(file: IO[bytes], path: Path, number: int) -> Cards | None:
    """The cards of the next header, the first of each keyword; None at the end of the file."""
    cards: Cards = {}
    for block in range(MAX_HEADER_BLOCKS):
        try:
            data = file.read(BLOCK)
        except GZIP_ERRORS as error:
            raise SourceError(f"{path}: truncated or damaged in the header of HDU {number} ({error})") from error
        if block == 0 and number == 0 and not data.startswith(b"SIMPLE  ="):
            raise SourceError(f"{path}: not a FITS file: expected it to start with SIMPLE, got {data[:8]!r}")
        if block == 0 and number and not data.startswith(b"XTENSION"):  # the end, or special records, which are no images
            return None
        for at in range(0, len(data), CARD):
            card = data[at : at + CARD].decode("latin-1")
            if card.rstrip() == "END":
                return cards
            if card[8:10] == "= ":
                cards.setdefault(card[:8].strip(), _value(card[10:]))
        if len(data) < BLOCK:
            break
    raise SourceError(f"{path}: truncated or damaged: no end of the header of HDU {number}")


def _value(text: str) -> str | bool | int | float:
    """The value of a card; text that is no logical value or number stays text."""
    text = text.strip()
    if text.startswith("'"):
        return text[1:].replace("''", "\0").partition("'")[0].replace("\0", "'").rstrip()
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    for convert in (int, float):
        try:
            return convert(text.replace("D", "E"))
        except ValueError:
            continue
    return text


def _pages(path: Path, image: _Image) -> Iterator[Page]:
    frames, rows, columns = image.shape
    with _open(path) as file:
        for number in range(frames):
            try:
                if number == 0:
                    file.seek(image.start)
                data = file.read(image.frame_bytes)
            except GZIP_ERRORS as error:
                raise SourceError(f"{path}: truncated or damaged in frame {number} of {frames} ({error})") from error
            if len(data) < image.frame_bytes:
                raise SourceError(f"{path}: truncated in frame {number} of {frames}")
            stored = np.frombuffer(data, image.dtype).reshape(rows, columns)
            yield Page(_physical(stored, image, f"{path}: frame {number}"), path.name)


def _physical(stored: NDArray[Any], image: _Image, where: str) -> NDArray[Any]:
    """The physical values of stored ones (H, W)."""
    plain = image.scale == 1 and image.blank is None
    if plain and image.zero == UNSIGNED_16_ZERO and image.dtype.itemsize == 2:
        return stored.view(">u2").astype(np.uint16) ^ np.uint16(UNSIGNED_16_ZERO)
    if plain and image.zero == 0 and (image.dtype.itemsize < 4 or image.dtype == ">f4"):
        return stored
    with np.errstate(over="ignore", invalid="ignore"):  # doubles beyond float32 become infinite: no measurement
        values = np.where(stored == image.blank, np.nan, stored * image.scale + image.zero)
        pixels = values.astype(np.float32)
    whole = image.dtype.kind == "i" and image.scale == 1 and image.zero.is_integer()
    if whole and not np.array_equal(pixels, values, equal_nan=True):
        raise SourceError(f"{where}: integers above 16,777,216, which float32 does not hold; expected fewer bits")
    return pixels


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _is_fits(path: Path) -> bool:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix in SUFFIXES


READER = Reader(
    ".fits, .fit, .fts",
    lambda path, sidecar: path.is_file() and _is_fits(path) and sidecar.width is None,
    lambda path, _, choice: open_fits(path, choice.variable),
    lambda _: True,
)
