"""What every file format gives: a Medium of clips of pages. io.files turns pages into checked, stamped frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.types import PIXEL_TYPES, Pixels, Truth

__all__ = ["Clip", "Medium", "Page", "colour", "gray_pixels", "natural_key", "type_ceiling"]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One image as its file holds it; time_ns where the container states one; source names the file."""

    pixels: NDArray[Any]
    source: str
    time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One sequence: its name and its pages in order. pages() may raise a SourceError after any page."""

    name: str
    pages: Callable[[], Iterator[Page]]


@dataclass(frozen=True, slots=True)
class Medium:
    """One path understood.

    kind: in words; clips(): its sequences in order; frames: how many there are in all, None where only reading tells;
    rate_hz: as the container or a manifest states it; full_scale: DN at which a pixel is saturated, None for its type's
    largest value; dataset: "seqcsist", "csist100k", "scene", or "" for anything else; truths(): the truth of each frame
    in the same order, None where there is none.
    """

    kind: str
    clips: Callable[[], Iterator[Clip]]
    frames: int | None
    rate_hz: float | None = None
    full_scale: int | None = None
    dataset: str = ""
    truths: Callable[[], Iterator[Truth]] | None = None


def type_ceiling(dtype: np.dtype[Any]) -> float:
    """What a type of pixels holds at most, DN; infinite for floats."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else math.inf


def natural_key(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """Sorts frame_2 before frame_10."""
    parts: list[str] = []
    for character in path.name:
        if parts and character.isdecimal() == parts[-1][-1].isdecimal():
            parts[-1] += character
        else:
            parts.append(character)
    return tuple((not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts)


def colour(channels: int) -> str:
    """What is wrong with a colour image, and how to mend it."""
    return (
        f"colour, {channels} channels; expected gray. Convert it first, for example: "
        "mogrify -colorspace Gray *.png, or ffmpeg -i IN -pix_fmt gray -c:v ffv1 OUT.mkv"
    )


def gray_pixels(image: NDArray[Any], where: str) -> Pixels:
    """An image as a Frame holds it: (H, W), native byte order, uint8, uint16 or float32.

    Signed 8 and 16 bit integers and other floats become float32. Everything else is refused by name.
    """
    if image.ndim == 3 and image.shape[-1] in (2, 3, 4):
        raise SourceError(f"{where}: {colour(image.shape[-1])}")
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
