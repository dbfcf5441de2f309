"""Common result of all file format readers: a Medium of clips of pages. io.files turns pages into checked frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.types import PIXEL_TYPES, Pixels, Truth

__all__ = [
    "Choice",
    "Clip",
    "Medium",
    "Page",
    "Reader",
    "gray_pixels",
    "natural_key",
    "type_ceiling",
]

# Fraction of full scale by which a lossy codec makes the channels of gray images differ: 24 DN of 8 bits
GRAY_CHANNEL_TOLERANCE = 24 / 255
COLOUR_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One image as stored in its file: (H, W), or (H, W, 3 or 4) for colour, red first, alpha last.

    source: the name of the file; time_ns: its time in the container, ns, None where the container states none; name: of
    the image as a sequence of its own, "" where its sequence's name and its number identify it.
    """

    pixels: NDArray[Any]
    source: str
    time_ns: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """One sequence: its name and its pages in order. Iterating over pages() may raise a SourceError after any page.

    frames: the number of pages, None where the medium alone says it, or nobody before they are read; pages_from(n): the
    pages from number n on, where these can be reached without reading those before them, else None.
    """

    name: str
    pages: Callable[[], Iterator[Page]]
    frames: int | None = None
    pages_from: Callable[[int], Iterator[Page]] | None = None

    def read(self, first: int = 0) -> Iterator[Page]:
        """Yield the pages from number `first` on."""
        if first and self.pages_from is not None:
            return self.pages_from(first)
        return islice(self.pages(), first, None)


@dataclass(frozen=True, slots=True)
class Medium:
    """A path whose file format has been recognised.

    kind: the format in words; clips(): the sequences in order; frames: their total number, None if it is known only after
    reading; rate_hz: frame rate stated by the container or a manifest, None if neither states one; full_scale: DN at which
    a pixel is saturated, None for the largest value of its type; dataset: "seqcsist", "csist100k", "scene", or "" for
    anything else; truths(): the truth of each frame in the same order, None where there is no truth.
    """

    kind: str
    clips: Callable[[], Iterator[Clip]]
    frames: int | None
    rate_hz: float | None = None
    full_scale: int | None = None
    dataset: str = ""
    truths: Callable[[], Iterator[Truth]] | None = None


class Choice(NamedTuple):
    """What the caller says of a path.

    kind: the data set, "seqcsist" or "csist100k"; variable: name of the array to read, or name or number of the FITS image;
    gray: convert colour by luminance; single: every image is a sequence of its own.
    """

    kind: str | None = None
    variable: str | None = None
    gray: bool = False
    single: bool = False


class Reader(NamedTuple):
    """Reader of one kind of file or folder with frames.

    expects: the kind of file or folder in words, for errors that list the readable kinds, "" for one that another tells;
    recognises(path, sidecar): whether a path is of this kind; open(path, sidecar, choice): open such a path;
    has_names(path): whether the arrays in it have names, so that Choice.variable can choose one; of_folders: True for a
    reader of folders, False for one of files.
    """

    expects: str
    recognises: Callable[[Path, Sidecar], bool]
    open: Callable[[Path, Sidecar, Choice], Medium]
    has_names: Callable[[Path], bool] = lambda _: False
    of_folders: bool = False


def type_ceiling(dtype: np.dtype[Any]) -> float:
    """Largest value of a pixel type, DN; infinite for floats."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else math.inf


def natural_key(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """Sort key for natural order: frame_2 before frame_10."""
    parts: list[str] = []
    for character in path.name:
        if parts and character.isdecimal() == parts[-1][-1].isdecimal():
            parts[-1] += character
        else:
            parts.append(character)
    return tuple((not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts)


def gray_pixels(image: NDArray[Any], where: str, *, convert: bool = False) -> Pixels:
    """Convert an image to the pixels of a Frame: (H, W), native byte order, uint8, uint16 or float32.

    Colour (H, W, 3 or 4) of 8 or 16 bits whose channels are nearly equal becomes gray by luminance; other colour does if
    convert is true. Signed 8 and 16 bit integers and other floats become float32, booleans uint8. Any other type, other
    colour and an empty image raise a SourceError; where: the file and page that it names.
    """
    if image.ndim == 3 and image.shape[-1] in (2, 3, 4):
        image = _luminance(image, where, convert)
    if image.ndim != 2 or 0 in image.shape:
        raise SourceError(f"{where}: expected an image of rows and columns, got shape {image.shape}")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.dtype in PIXEL_TYPES:
        return image
    if image.dtype.kind == "f" or image.dtype in (np.int8, np.int16):
        return image.astype(np.float32)
    if image.dtype == np.bool_:
        return image.astype(np.uint8)
    raise SourceError(f"{where}: pixels are {image.dtype}; expected uint8, uint16, int16 or a float")


def _luminance(image: NDArray[Any], where: str, convert: bool) -> Pixels:
    """The luminance (H, W) of a colour image; equal channels keep their values exactly."""
    channels = image.shape[-1]
    colour = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    if channels == 2 or colour.dtype not in COLOUR_TYPES:
        raise SourceError(f"{where}: {channels} channels of {image.dtype}; expected gray, or colour of 8 or 16 bits")
    if not (convert or _has_equal_channels(colour)):
        raise SourceError(f"{where}: colour, {channels} channels; expected gray. --gray (in Python gray=True) converts it")
    return np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY if channels == 3 else cv2.COLOR_RGBA2GRAY))


def _has_equal_channels(colour: NDArray[Any]) -> bool:
    """Whether the red, green and blue of a colour image (H, W, 3 or 4) differ by no more than a lossy codec makes them."""
    red, green, blue = cv2.split(colour)[:3]
    widest = max(cv2.absdiff(a, b).max(initial=0) for a, b in ((red, green), (green, blue), (blue, red)))
    return bool(widest <= GRAY_CHANNEL_TOLERANCE * type_ceiling(colour.dtype))
