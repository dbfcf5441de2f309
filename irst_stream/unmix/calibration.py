"""Measure the activation ranges of an engine's convolutions, by which they are quantised to 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Ints
from irst_stream.unmix.engine import WINDOW, Engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import GraphOptions, GraphWriter

__all__ = ["activation_ranges"]

PERCENTILE = 99.999  # of each batch's magnitudes that the range must cover
NOT_QUANTISED = "head."  # quantising the continuous head cost `general` 0.95 of CSO-mAP, everything else 0.05
BATCH = 32  # windows


def activation_ranges(engine: Engine, windows: NDArray[np.float32], places: Ints) -> dict[str, float]:
    """Return the largest input magnitude of each convolution to be quantised, by the name of its weight.

    windows (N, 5, h, w) DN, as the network takes them, must cover everything that the network was made for; places (N, 5)
    are their frames' time indices.
    """
    writers = build_for_gpu(engine.manifest, engine.data, GraphOptions(self_contained=True))
    unfold, fuse = (_RangeRecorder(writers[part], part) for part in ("unfold", "fuse"))
    for first in range(0, len(windows), BATCH):
        batch = slice(first, first + BATCH)
        patches = np.ascontiguousarray(windows[batch])
        maps = unfold({"patches": patches[:, :WINDOW].reshape(-1, *patches.shape[2:])})
        rows = np.arange(len(maps), dtype=np.int32).reshape(-1, WINDOW)
        fuse({"store": maps, "rows": rows, "patches": patches, "places": places[batch].astype(np.float32)})
    return {name: size for name, size in (unfold.largest | fuse.largest).items() if not name.startswith(NOT_QUANTISED)}


class _RangeRecorder:
    """Runs a graph and records the largest input of each convolution over all runs, `largest`, by the weight's name."""

    def __init__(self, writer: GraphWriter, part: str) -> None:
        import onnxruntime as ort

        self.largest: dict[str, float] = {}
        self._convolution_inputs = writer.convolution_inputs
        options = ort.SessionOptions()
        options.log_severity_level = 3
        recorded = sorted({value for values in self._convolution_inputs.values() for value in values} - {"patches"})
        model = writer.serialise(part, *recorded)
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Run the graph and return its first output; inputs that the graph does not take are ignored."""
        outputs = self._session.run(None, {name: inputs[name] for name in self._inputs})
        values_by_name = {**inputs, **dict(zip(self._outputs, outputs, strict=True))}
        for kernel, values in self._convolution_inputs.items():
            largest = max(float(np.percentile(np.abs(values_by_name[value]), PERCENTILE)) for value in values)
            self.largest[kernel] = max(self.largest.get(kernel, 0.0), largest)
        first: NDArray[np.float32] = outputs[0]
        return first
