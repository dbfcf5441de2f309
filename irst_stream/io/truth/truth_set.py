"""Common result of all readers of truth: a TruthSet. io.truth.pairing gives it the names of the frames that were scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from irst_stream.errors import FormatError
from irst_stream.io.media.medium import natural_key
from irst_stream.types import Floats, Truth

__all__ = ["TruthReader", "TruthSet", "check_boxes", "files_within", "image_name", "sequence_name"]

MARKS = (".boxes", ".truth", "_boxes", "_labels", "_gt", "_groundtruth")  # what truth files append to a sequence's name
PLAIN_NAMES = {"gt", "groundtruth", "groundtruth_rect", "labels", "boxes", "points", "truth"}  # named after the folder


class TruthSet(NamedTuple):
    """A path whose format of truth has been recognised.

    kind: the format in words; truths(): the truth of each frame; by_image: truth of single images, whose sequence is the
    image's name without suffix, with its folders, and whose index is 0; sparse: frames without an entry hold no targets;
    frames: the default of --frames; name: of the file or folder, set where it is opened.
    """

    kind: str
    truths: Callable[[], Iterator[Truth]]
    by_image: bool = False
    sparse: bool = False
    frames: str = "all"
    name: str = ""


class TruthReader(NamedTuple):
    """Reader of one format of truth.

    expects: the format in words, for errors that list the readable formats; recognises(path): whether an existing path is
    of this format; open(path): open such a path.
    """

    expects: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path], TruthSet]


def sequence_name(path: Path) -> str:
    """Name of the sequence whose truth a file holds: clip_7 for clip_7.boxes.csv, clip_7_LABELS.mat, clip_7/gt/gt.txt."""
    path = path.resolve()
    name = path.stem
    while name.lower() in PLAIN_NAMES and path.parent.name:
        path = path.parent
        name = path.name
    mark = next((mark for mark in MARKS if name.lower().endswith(mark)), "")
    return name[: len(name) - len(mark)] or name


def image_name(path: Path, folder: Path) -> str:
    """Name of an image, or of the file that describes it: its path within the folder, without suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def files_within(folder: Path, suffixes: set[str]) -> list[Path]:
    """The files of a folder with one of the suffixes, in natural order; where it has none, those of its own folders."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()]
    if found:
        return sorted(found, key=natural_key)
    folders = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_key)
    within = (p for sub in folders for p in sorted(sub.iterdir(), key=natural_key))
    return [p for p in within if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()]


def check_boxes(first: Floats, size: Floats, where: str) -> None:
    """Raise a FormatError unless all boxes, x, y of the first pixel (N, 2) and size (N, 2), are finite and not empty."""
    bad = ~(np.isfinite(first).all(axis=1) & np.isfinite(size).all(axis=1) & (size > 0).all(axis=1))
    if bad.any():
        (x, y), (width, height) = first[bad][0], size[bad][0]
        raise FormatError(
            f"{where}: expected a box of finite place and positive size, got {width:g} x {height:g} at {x:g}, {y:g}"
        )
