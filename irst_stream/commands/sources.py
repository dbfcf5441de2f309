"""Options and readers shared by the commands that read frames or truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.commands.console import positive_float
from irst_stream.config import Config, parse_config, read_config
from irst_stream.errors import SourceError, UsageError
from irst_stream.io.files import FileSource, open_source
from irst_stream.io.media.csist import KINDS
from irst_stream.io.recording.recorder import Recording
from irst_stream.system.shipped import find_config

__all__ = ["add_source_options", "choose_config", "load_array", "open_input"]


DATASET_CONFIGS = {name: name for name in KINDS} | {"scene": "camera"}  # bundled configuration by data set


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add PATH and the options that describe it."""
    parser.add_argument("path", metavar="PATH", type=Path, help="file or folder of frames, or a recording (.mcap)")
    parser.add_argument("--kind", choices=sorted(KINDS), help="kind of data set, if the folder does not identify it")
    parser.add_argument("--variable", metavar="NAME", help="name of the array in a .mat or .npz file")
    parser.add_argument("--rate", type=positive_float, metavar="HZ", help="frame rate in frames/s, overrides the file's")


def open_input(args: argparse.Namespace) -> FileSource | Recording:
    """Open the frame files or the recording that the options of add_source_options name."""
    return open_source(args.path, kind=args.kind, variable=args.variable, rate_hz=args.rate)


def choose_config(name: str | None, source: FileSource | Recording) -> Config:
    """Read the named configuration, or if name is None that of the recording or data set."""
    if name is None and isinstance(source, Recording) and source.config:
        return parse_config(source.config, f"{source.path}: its configuration")
    name = name or DATASET_CONFIGS.get(source.dataset)
    if name is None:
        raise UsageError(f"{source.path}: {source.kind}; name a configuration with --config")
    return read_config(find_config(name))


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
