"""irst-stream: closely spaced infrared targets, from frames to sub-pixel detections, tracks and scores."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from irst_stream.errors import (
    DeviceError,
    FormatError,
    IrstError,
    MissingPackageError,
    OutputError,
    SourceError,
    UsageError,
    WireError,
)
from irst_stream.version import __version__

if TYPE_CHECKING:
    from irst_stream.io.files import open_source
    from irst_stream.types import Detections, Frame, Pose, Stamp, Tracks, Truth

__all__ = [
    "Detections",
    "DeviceError",
    "FormatError",
    "Frame",
    "IrstError",
    "MissingPackageError",
    "OutputError",
    "Pose",
    "SourceError",
    "Stamp",
    "Tracks",
    "Truth",
    "UsageError",
    "WireError",
    "__version__",
    "open_source",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # who uses the library decides what is shown


_TYPES = ("Detections", "Frame", "Pose", "Stamp", "Tracks", "Truth")


def __getattr__(name: str) -> Any:
    """Loads NumPy when somebody asks for a type, OpenCV and the file readers when somebody opens a source."""
    if name == "open_source":
        return import_module("irst_stream.io.files").open_source
    if name in _TYPES:
        return getattr(import_module("irst_stream.types"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
