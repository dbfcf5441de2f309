"""Options and readers shared by the commands that read frames or truth."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.chain.window import PATCH_LIMIT
from irst_stream.commands.console import positive_float
from irst_stream.config import Config
from irst_stream.errors import SourceError
from irst_stream.io.files import FileSource, open_source
from irst_stream.io.media.csist import KINDS
from irst_stream.io.recording.recorder import Recording
from irst_stream.propose.mask import excluded_pixels

__all__ = [
    "add_image_options",
    "add_source_options",
    "check_mask",
    "load_array",
    "open_input",
    "single_frames",
]


def add_source_options(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    """Add PATH and the options that describe it; needed: whether there is no other source."""
    what = "file or folder of frames, or a recording (.mcap)"
    parser.add_argument("path", metavar="PATH", type=Path, nargs=None if needed else "?", help=what)
    parser.add_argument("--kind", choices=sorted(KINDS), help="kind of data set, if the folder does not identify it")
    parser.add_argument(
        "--variable",
        metavar="NAME|NUMBER",
        help="name of the array in a .mat or .npz file; name or number of the image in a FITS file (0: the primary one)",
    )
    parser.add_argument("--rate", type=positive_float, metavar="HZ", help="frame rate in frames/s, overrides the file's")
    add_image_options(parser)


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how images become sequences of gray frames."""
    parser.add_argument("--gray", action="store_true", help="convert colour images and video by luminance")
    parser.add_argument(
        "--single",
        action="store_true",
        help="every image is a sequence of its own, of any size, named as its file, or NAME_00012 in a stack NAME",
    )


def open_input(args: argparse.Namespace) -> FileSource | Recording:
    """Open the frame files or the recording that the options of add_source_options name."""
    choices = {"gray": args.gray, "single": args.single}
    return open_source(args.path, kind=args.kind, variable=args.variable, rate_hz=args.rate, **choices)


def single_frames(config: Config) -> Config:
    """The same configuration for single images: windows of one frame, which the search averages with no other."""
    return replace(config, window=1, lag=None, propose=replace(config.propose, average=1))


def check_mask(config: Config, source: FileSource | Recording) -> None:
    """Raise an IrstError where what is searched does not fit a source's frames."""
    search = config.propose
    if not (search.mask or search.include or search.exclude):
        return
    first = next(iter(source), None)
    if first is not None and max(first.pixels.shape) > PATCH_LIMIT:
        rows, columns = first.pixels.shape
        excluded_pixels(search, (rows, columns))


def load_array(path: Path) -> NDArray[Any]:
    """Read the array of a .npy file; raise SourceError for anything else."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = str(error).partition(". ")[0].rstrip(".")
        raise SourceError(f"{path}: not a .npy array ({reason})") from error
    if not isinstance(array, np.ndarray):
        raise SourceError(f"{path}: expected one .npy array, got an archive")
    return array
