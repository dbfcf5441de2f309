"""Run an exported engine by OpenVINO on the CPU: fast in bf16, on processors that support it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, IrstError, MissingPackageError
from irst_stream.protocols import WindowMaps
from irst_stream.system.machine import usable_cores
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import WEIGHTS, Engine
from irst_stream.unmix.single_frame import middle_maps

try:
    import openvino
except ImportError as error:
    raise MissingPackageError("openvino", "openvino", "the OpenVINO backend") from error

__all__ = ["OpenVinoUnmixer"]

FORM = "portable"  # OpenVINO does not read ONNX's DeformConv
HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoUnmixer:
    """Runs the graphs of an engine, compiled for a batch of one; a protocols.Unmixer.

    One thread at a time may use each part.
    """

    def __init__(self, engine: Engine, threads: int = 0, precision: Literal["fp32", "bf16"] = "fp32") -> None:
        """threads: CPU threads, 0 for all cores; precision: of the arithmetic, fp32 if the processor has no bf16.

        Raises a FormatError if the engine has no such graphs, an IrstError if OpenVINO cannot run them.
        """
        graphs = engine.graphs(FORM)
        if not graphs.keys() >= set(engine.manifest.parts):
            raise FormatError(f"{engine.folder}: no {FORM} graphs; make them with irst-stream engine export")
        hints = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # with pinning, several unmixers in one process would share a core
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "fp32" else "PERFORMANCE",
        }
        with TemporaryDirectory() as folder:  # private, so that the verified bytes are the ones that are read
            Path(folder, WEIGHTS).write_bytes(engine.data)
            try:
                compiled = {part: _Compiled(Path(folder), graphs[part], hints) for part in engine.manifest.parts}
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise IrstError(f"{engine.folder}: OpenVINO cannot run its graphs: {reason}") from error
        self._unfold, self._fuse = compiled["unfold"], compiled.get("fuse")

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn patches (B, h, w) DN of single frames into maps (B, H, W) DN; B is at least 1."""
        return np.concatenate([self._unfold({"patches": patch[None]})[0] for patch in patches])

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """Fuse the maps (B, 5, H, W), patches (B, 5, h, w) and time indices (B, 5) of windows; see protocols.Unmixer."""
        if self._fuse is None:
            return middle_maps(maps)
        columns = {"maps": np.asarray(maps, np.float32), "patches": patches, "places": places.astype(np.float32)}
        each = [self._fuse({name: column[k : k + 1] for name, column in columns.items()}) for k in range(len(patches))]
        images = np.concatenate([outputs[0] for outputs in each])
        if len(each[0]) < 2:
            return Unmixed.plain(images)
        return Unmixed(images, np.concatenate([outputs[1] for outputs in each]))


class _Compiled:
    """A graph compiled for a batch of one; a call takes inputs by name and returns copies of the outputs."""

    def __init__(self, folder: Path, graph: bytes, hints: dict[str, Any]) -> None:
        path = folder / "graph.onnx"
        path.write_bytes(graph)
        core = openvino.Core()
        model = core.read_model(path)
        shapes = {
            node.any_name: [1, *(side.get_length() for side in list(node.partial_shape)[1:])] for node in model.inputs
        }
        model.reshape(shapes)
        self._names = list(shapes)
        self._request = core.compile_model(model, "CPU", hints).create_infer_request()

    def __call__(self, columns: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        outputs = self._request.infer({name: columns[name] for name in self._names})
        return [np.array(value) for value in outputs.values()]
