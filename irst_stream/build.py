"""From a Config to the objects that run: the only factory."""

from __future__ import annotations

from irst_stream.config import Config
from irst_stream.pipeline import Pipeline
from irst_stream.protocols import Unmixer
from irst_stream.unmix.engine import Engine
from irst_stream.unmix.numpy import NumpyUnmixer

__all__ = ["build_pipeline", "build_unmixer"]


def build_pipeline(config: Config, full_scale: float | None = None) -> Pipeline:
    """full_scale: DN at which the sensor's pixels saturate, None where they never do."""
    return Pipeline(config.fit, config.window, full_scale)


def build_unmixer(engine: Engine, backend: str, threads: int = 0, form: str = "") -> Unmixer:
    """backend: "numpy" or "onnx"; threads (0: all cores) and the graphs' form are ONNX Runtime's."""
    if backend == "numpy":
        return NumpyUnmixer(engine)
    from irst_stream.unmix.onnx import OnnxUnmixer

    return OnnxUnmixer(engine, threads, form)
