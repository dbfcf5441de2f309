"""What comes into each convolution of an engine, at most: the ranges by which it is quantised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Ints
from irst_stream.unmix.engine import WINDOW, Engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import Drawing, Style

__all__ = ["ranges_of"]

SHARE = 99.999  # % of all values that are to be within the range
KEPT = "head."  # the continuous head is not quantised: it cost `general` 0.95 of CSO-mAP, all else 0.05
BATCH = 32  # windows


def ranges_of(engine: Engine, windows: NDArray[np.float32], places: Ints) -> dict[str, float]:
    """The largest magnitude that comes into each convolution that is to be quantised, by the name of its weight.

    windows (N, 5, h, w) DN, as the network sees them, of all that it was made for; places (N, 5) of their frames.
    """
    drawings = build_for_gpu(engine.manifest, engine.data, Style(whole=True))
    unfold, fuse = (_Look(drawings[part], part) for part in ("unfold", "fuse"))
    for first in range(0, len(windows), BATCH):
        some = slice(first, first + BATCH)
        patches = np.ascontiguousarray(windows[some])
        maps = unfold({"patches": patches[:, :WINDOW].reshape(-1, *patches.shape[2:])})
        rows = np.arange(len(maps), dtype=np.int32).reshape(-1, WINDOW)
        fuse({"store": maps, "rows": rows, "patches": patches, "places": places[some].astype(np.float32)})
    return {name: size for name, size in (unfold.largest | fuse.largest).items() if not name.startswith(KEPT)}


class _Look:
    """A graph that also tells what comes into its convolutions; `largest` is that of all runs, by the weight's name."""

    def __init__(self, drawing: Drawing, part: str) -> None:
        import onnxruntime as ort

        self.largest: dict[str, float] = {}
        self._into = drawing.inputs_of
        options = ort.SessionOptions()
        options.log_severity_level = 3
        wanted = sorted({value for values in self._into.values() for value in values} - {"patches"})
        self._session = ort.InferenceSession(drawing.serialise(part, *wanted), options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, given: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Runs it; its first output."""
        found = self._session.run(None, {name: given[name] for name in self._inputs})
        seen = {**given, **dict(zip(self._outputs, found, strict=True))}
        for kernel, values in self._into.items():
            largest = max(float(np.percentile(np.abs(seen[value]), SHARE)) for value in values)
            self.largest[kernel] = max(self.largest.get(kernel, 0.0), largest)
        first: NDArray[np.float32] = found[0]
        return first
