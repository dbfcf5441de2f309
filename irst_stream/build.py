"""From a Config to the objects that run: the only factory."""

from __future__ import annotations

from irst_stream.config import Config
from irst_stream.pipeline import Pipeline

__all__ = ["build_pipeline"]


def build_pipeline(config: Config, full_scale: float | None = None) -> Pipeline:
    """full_scale: DN at which the sensor's pixels saturate, None where they never do."""
    return Pipeline(config.fit, config.window, full_scale)
