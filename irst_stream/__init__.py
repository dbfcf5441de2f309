"""irst-stream: closely spaced infrared targets, from frames to sub-pixel detections, tracks and scores.

>>> from irst_stream import Detections, open_pipeline, open_source
>>> pipeline = open_pipeline("seqcsist")
>>> for result in pipeline.run(open_source("DATA/test")):
...     if isinstance(result, Detections):
...         print(result.stamp.sensor, result.stamp.index, result.xy)
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from irst_stream.errors import (
    DeviceError,
    FormatError,
    IrstError,
    LossError,
    MissingPackageError,
    OutputError,
    SourceError,
    UsageError,
    WireError,
)
from irst_stream.version import __version__

if TYPE_CHECKING:
    from irst_stream.build import open_pipeline
    from irst_stream.chain.pipeline import Pipeline
    from irst_stream.config import Config, read_config
    from irst_stream.fit.settings import FitSettings
    from irst_stream.io.files import open_source
    from irst_stream.score import cso_map, score_detections, score_tracks
    from irst_stream.sim import csist100k, seqcsist
    from irst_stream.track.settings import TrackSettings
    from irst_stream.track.tracker import Tracker
    from irst_stream.types import Detections, Frame, Pose, Stamp, Tracks, Truth

__all__ = [
    "Config",
    "Detections",
    "DeviceError",
    "FitSettings",
    "FormatError",
    "Frame",
    "IrstError",
    "LossError",
    "MissingPackageError",
    "OutputError",
    "Pipeline",
    "Pose",
    "SourceError",
    "Stamp",
    "TrackSettings",
    "Tracker",
    "Tracks",
    "Truth",
    "UsageError",
    "WireError",
    "__version__",
    "csist100k",
    "cso_map",
    "open_pipeline",
    "open_source",
    "read_config",
    "score_detections",
    "score_tracks",
    "seqcsist",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # who uses the library decides what is shown

_HOMES = {
    "Config": "config",
    "Detections": "types",
    "FitSettings": "fit.settings",
    "Frame": "types",
    "Pipeline": "chain.pipeline",
    "Pose": "types",
    "Stamp": "types",
    "TrackSettings": "track.settings",
    "Tracker": "track.tracker",
    "Tracks": "types",
    "Truth": "types",
    "csist100k": "sim",
    "cso_map": "score",
    "open_pipeline": "build",
    "open_source": "io.files",
    "read_config": "config",
    "score_detections": "score",
    "score_tracks": "score",
    "seqcsist": "sim",
}


def __getattr__(name: str) -> Any:
    """Load a name's module when it is first asked for, so that importing the package stays fast."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
