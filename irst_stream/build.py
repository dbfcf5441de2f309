"""From a Config to the objects that run: the only factory."""

from __future__ import annotations

from irst_stream.config import Backend, Config
from irst_stream.errors import UsageError
from irst_stream.optics import FineGrid
from irst_stream.pipeline import Pipeline
from irst_stream.protocols import Unmixer
from irst_stream.resolve.fit import Fitter
from irst_stream.resolve.readouts import Fitted, Resolver, Unmixing
from irst_stream.resources import find_engine
from irst_stream.unmix.engine import Engine, EngineManifest, read_engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.stream import WindowUnmixer
from irst_stream.window import PatchWindows

__all__ = ["build_pipeline", "build_resolver", "build_unmixer"]


def build_pipeline(config: Config, full_scale: float | None = None) -> Pipeline:
    """full_scale: DN at which the sensor's pixels saturate, None where they never do."""
    windows = PatchWindows(config.window)
    if config.readout == "fit":
        return Pipeline(windows, lambda _: [], build_resolver(config, None, full_scale))
    if not config.engine:
        raise UsageError(f"engine: readout {config.readout!r} needs one; name a folder, or one that comes along")
    engine = read_engine(find_engine(config.engine))
    if config.window not in (1, engine.manifest.window):
        raise UsageError(f"window: {config.engine} needs {engine.manifest.window} frames, or 1, got {config.window}")
    unmix = WindowUnmixer(build_unmixer(engine, config.backend, config.threads), engine.manifest)
    return Pipeline(windows, unmix, build_resolver(config, engine.manifest, full_scale))


def build_resolver(config: Config, manifest: EngineManifest | None, full_scale: float | None = None) -> Resolver:
    """What reads a window's detections; manifest: of the engine that looked at it, None where there is none."""
    if config.readout == "fit" or manifest is None:
        return Fitted(Fitter(config.fit, full_scale))
    if config.readout in ("best", "network") and manifest.head != "continuous":
        raise UsageError(f"engine: {config.engine} has a plain head; readout {config.readout!r} needs a continuous one")
    fitter = Fitter(config.fit, full_scale) if config.readout == "best" else None
    grid = FineGrid(manifest.division, manifest.patch)
    return Unmixing(config.readout, grid, config.claims, config.fit.amplitude_dn, fitter)


def build_unmixer(engine: Engine, backend: Backend = "auto", threads: int = 0, form: str = "") -> Unmixer:
    """backend: see Config; threads: 0 for all cores; form: of the graphs, where ONNX Runtime is to take a certain one."""
    if backend == "numpy" or (backend == "auto" and not engine.manifest.graphs):
        return NumpyUnmixer(engine)
    if backend in ("openvino", "openvino-bf16"):
        from irst_stream.unmix.openvino import OpenVinoUnmixer

        return OpenVinoUnmixer(engine, threads, "bf16" if backend.endswith("bf16") else "fp32")
    from irst_stream.unmix.onnx import OnnxUnmixer

    return OnnxUnmixer(engine, threads, form)
