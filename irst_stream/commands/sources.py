"""Options and help that the commands which read frames or truth share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.commands.console import positive
from irst_stream.config import Config, parse_config, read_config
from irst_stream.errors import SourceError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.files import FileSource, open_source
from irst_stream.io.media.csist import KINDS
from irst_stream.io.recording.recorder import Recording, open_recording
from irst_stream.system.shipped import find_config
from irst_stream.types import Truth

__all__ = ["add_source_options", "configuration", "load_array", "open_any", "read_truths"]


BROUGHT = {name: name for name in KINDS} | {"scene": "camera"}  # the configuration that goes with a data set


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """PATH and what may have to be said about it."""
    parser.add_argument("path", metavar="PATH", type=Path, help="file or folder of frames, or a recording")
    parser.add_argument("--kind", choices=sorted(KINDS), help="which of the two sets, where the folder does not tell")
    parser.add_argument("--variable", metavar="NAME", help="which array of a .mat or .npz file")
    parser.add_argument("--rate", type=positive, metavar="HZ", help="frames a second, in place of what the file states")


def _open_from(args: argparse.Namespace) -> FileSource:
    """The source those options name."""
    return open_source(args.path, kind=args.kind, variable=args.variable, rate_hz=args.rate)


def open_any(args: argparse.Namespace) -> FileSource | Recording:
    """The source those options name, recordings among them."""
    return open_recording(args.path) if args.path.suffix == ".mcap" else _open_from(args)


def read_truths(path: Path) -> tuple[Iterable[Truth], str]:
    """The truth at a path, a file of JSON lines or a folder that has it, and the frames usually scored of it.

    Of SeqCSIST these are 2 to 17 of each 20, the centres of whole windows of five.
    """
    if path.is_file() and path.suffix == ".jsonl":
        return jsonl.read(path, Truth), "all"
    source = open_source(path)
    if not source.has_truth:
        raise UsageError(f"{path}: {source.kind}, without truth; expected JSON lines, or a folder with annotations")
    return source.truths(), "2:-2" if source.dataset == "seqcsist" else "all"


def configuration(name: str | None, source: FileSource | Recording) -> Config:
    """The configuration that is asked for, or the one that goes with what is read."""
    if name is None and isinstance(source, Recording) and source.config:
        return parse_config(source.config, f"{source.path}: its configuration")
    name = name or BROUGHT.get(source.dataset)
    if name is None:
        raise UsageError(f"{source.path}: {source.kind}; say what is known of its targets with --config")
    return read_config(find_config(name))


def load_array(path: Path) -> NDArray[Any]:
    """The one array of a .npy file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = str(error).partition(". ")[0].rstrip(".")
        raise SourceError(f"{path}: not a .npy array that can be read ({reason})") from error
    if not isinstance(array, np.ndarray):
        raise SourceError(f"{path}: expected one .npy array, got an archive")
    return array
