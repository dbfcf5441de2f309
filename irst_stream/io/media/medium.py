"""Common result of all file format readers: a Medium of clips of pages. io.files turns pages into checked frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
    "colour_image_message",
    "gray_pixels",
    "natural_key",
    "type_ceiling",
]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One image as stored in its file.

    source: the name of the file; time_ns: its time in the container, ns, None where the container states none.
    """

    pixels: NDArray[Any]
    source: str
    time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One sequence: its name and its pages in order. Iterating over pages() may raise a SourceError after any page."""

    name: str
    pages: Callable[[], Iterator[Page]]


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
    """User options for ambiguous paths: kind, the data set, "seqcsist" or "csist100k"; variable, the array to read."""

    kind: str | None = None
    variable: str | None = None


class Reader(NamedTuple):
    """Reader of one kind of file or folder with frames.

    expects: the kind in words, for errors that list the readable kinds; recognises(path, sidecar): whether a path is of
    this kind; open(path, sidecar, choice): open such a path.
    """

    expects: str
    recognises: Callable[[Path, Sidecar], bool]
    open: Callable[[Path, Sidecar, Choice], Medium]


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


def colour_image_message(channels: int) -> str:
    """Error message for a colour image, with the command that converts it to gray."""
    return (
        f"colour, {channels} channels; expected gray. Convert it first, for example: "
        "mogrify -colorspace Gray *.png, or ffmpeg -i IN -pix_fmt gray -c:v ffv1 OUT.mkv"
    )


def gray_pixels(image: NDArray[Any], where: str) -> Pixels:
    """Convert an image to the pixels of a Frame: (H, W), native byte order, uint8, uint16 or float32.

    Signed 8 and 16 bit integers and other floats become float32, booleans uint8. Any other type, a colour image and an
    empty image raise a SourceError; where: the file and page that it names.
    """
    if image.ndim == 3 and image.shape[-1] in (2, 3, 4):
        raise SourceError(f"{where}: {colour_image_message(image.shape[-1])}")
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
