"""The configuration of a source: the one that is named, its own, or a guess."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from irst_stream.chain.window import PATCH_LIMIT
from irst_stream.config import FILE_SETTINGS, Config, check_files, parse_config, read_config, with_files
from irst_stream.io.files import FileSource
from irst_stream.io.media.csist import KINDS
from irst_stream.io.recording.recorder import Recording
from irst_stream.system.shipped import find_config

__all__ = ["GUESSED_CONFIG", "choose_config", "read_named_config", "unpack_files"]

GUESSED_CONFIG = "camera"
CALIBRATE_FIRST = "irst-stream calibrate {source} --output C.toml measures the sensor, then --config C.toml"
log = logging.getLogger(__name__)
DATASET_CONFIGS = {name: name for name in KINDS} | {"scene": "scene"}  # bundled configuration by data set


def choose_config(name: str | None, source: FileSource | Recording, *, calibrates: bool = False) -> Config:
    """Read the named configuration, or if name is None that of the recording or data set.

    A source that has none gets a bundled one, and a warning that this is a guess; calibrates: --calibrate avoids it.
    """
    if name is None and isinstance(source, Recording) and source.config:
        return unpack_files(parse_config(source.config, f"{source.path}: its configuration"), source.files)
    name = name or DATASET_CONFIGS.get(source.dataset)
    if name is not None:
        return read_named_config(name)
    first = next(iter(source), None)
    patches = first is not None and max(first.pixels.shape) <= PATCH_LIMIT
    name = "general" if patches else GUESSED_CONFIG
    how = "--config names another" if patches else CALIBRATE_FIRST.format(source=source.path)
    how += "; or --calibrate does both" if calibrates and not patches else ""
    log.warning("%s: no configuration; guessing, by %s, which was not made for this sensor. %s", source.path, name, how)
    return read_config(find_config(name))


def read_named_config(name: str) -> Config:
    """Read a bundled configuration, or a file; raise unless the files that it rests on are there."""
    path = find_config(name)
    config = read_config(path)
    check_files(config, path)
    return config


def unpack_files(config: Config, given: Mapping[str, bytes]) -> Config:
    """The configuration with the files that it rests on, by setting, in a folder that lasts as long as the process."""
    files = {setting: data for setting, data in given.items() if setting in FILE_SETTINGS}
    if not files:
        return config
    folder = Path(mkdtemp(prefix="irst-stream-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    for setting, data in files.items():
        (folder / setting).write_bytes(data)
    return with_files(config, {setting: folder / setting for setting in files})
