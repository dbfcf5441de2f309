"""What is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from irst_stream.io.file_series import SeriesSettings
from irst_stream.settings import about

__all__ = ["Compression", "RecordSettings"]

Compression = Literal["none", "lz4", "zstd"]


@dataclass(frozen=True)
class RecordSettings(SeriesSettings):
    """A recording, OUT.mcap."""

    frames: Annotated[bool, about("Record raw frames too, not only results.")] = True
    annotations: Annotated[
        bool, about("Record detections and tracks as foxglove.ImageAnnotations too, for viewers that draw these.")
    ] = False
    keep_free_mb: Annotated[
        float,
        about("Stop recording rather than leave less than this on the disk, MB; go on once more is free.", ge=0, le=1e9),
    ] = 1000.0
    compression: Annotated[
        Compression, about('Of chunks: "lz4" is fast; "zstd" makes smaller files and takes more time.')
    ] = "none"
