"""An exported engine run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, IrstError
from irst_stream.protocols import WindowMaps
from irst_stream.system.machine import usable_cores
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import Engine

__all__ = ["OnnxUnmixer", "WholeOnCpu", "forms"]


def forms() -> tuple[str, ...]:
    """The forms of graphs that the installed ONNX Runtime has CPU kernels for, the faster first."""
    import onnxruntime as ort

    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    return ("deform", "portable") if version >= (1, 31) else ("portable",)


class OnnxUnmixer:
    """Both graphs of an engine, ready to run; a protocols.Unmixer, to be used by one thread at a time."""

    def __init__(self, engine: Engine, threads: int = 0, form: str = "") -> None:
        """threads: of the CPU, 0 for all; form: "deform" or "portable", "" for the first of them that runs here."""
        import onnxruntime as ort

        fault: Exception | None = None
        for name in (form,) if form else forms():
            graphs = engine.graphs(name)
            if len(graphs) < 2:
                continue
            try:
                self._unfold, self._fuse = (
                    _session(ort, engine, part, graphs[part], threads) for part in ("unfold", "fuse")
                )
            except Exception as error:  # ONNX Runtime's own kinds, of which it exports none
                fault = error
                continue
            self._inputs = {node.name for node in self._fuse.get_inputs()}
            return
        if fault is None:
            raise FormatError(f"{engine.folder}: has no {form or 'ONNX'} graphs; make them with irst-stream engine export")
        raise IrstError(f"{engine.folder}: ONNX Runtime {ort.__version__} cannot run its graphs: {_first_line(fault)}")

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches (B, h, w) DN to maps (B, H, W) DN: each frame by itself."""
        maps: NDArray[np.float32] = self._unfold.run(None, {"patches": patches})[0]
        return maps

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """The maps (B, 5, H, W) and patches (B, 5, h, w) of windows, and their frames' places (B, 5)."""
        given = {"maps": np.asarray(maps, np.float32), "patches": patches}
        if "places" in self._inputs:
            given["places"] = places.astype(np.float32)
        found = self._fuse.run(None, {name: given[name] for name in self._inputs})
        return Unmixed(*found) if len(found) > 1 else Unmixed.plain(found[0])


class WholeOnCpu:
    """The graphs that TensorRT takes (graph.build_for_gpu), serialised, by part, run by ONNX Runtime on the CPU.

    What has no kernel in half precision is computed in single precision and rounded after each step, so this tells how a
    GPU's answers will be rounded, and nothing of its speed.
    """

    def __init__(self, graphs: Mapping[str, bytes], threads: int = 0) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        self._unfold, self._fuse = (
            ort.InferenceSession(graphs[part], options, providers=["CPUExecutionProvider"]) for part in ("unfold", "fuse")
        )
        self._inputs = {node.name for node in self._fuse.get_inputs()}

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches (B, h, w) DN to maps (B, H, W) DN: each frame by itself."""
        maps: NDArray[np.float32] = self._unfold.run(None, {"patches": patches})[0]
        return maps

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """The maps (B, 5, H, W) and patches (B, 5, h, w) of windows, and their frames' places (B, 5)."""
        stack = np.asarray(maps, np.float32)
        rows = np.arange(stack.shape[0] * stack.shape[1], dtype=np.int32).reshape(stack.shape[:2])
        given = {"store": stack.reshape(-1, *stack.shape[2:]), "rows": rows}
        given |= {"patches": patches, "places": places.astype(np.float32)}
        found = self._fuse.run(None, {name: given[name] for name in self._inputs})
        return Unmixed(*found) if len(found) > 1 else Unmixed.plain(found[0])


def _session(ort: Any, engine: Engine, part: str, graph: bytes, threads: int) -> Any:
    """A graph with the engine's weights put in from memory: what was hashed is what is run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    mine = {n: a for n, a in engine.weights.items() if a.ndim and n.startswith("unfold.") == (part == "unfold")}
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in mine.items()}
    options.add_external_initializers(list(values), list(values.values()))
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
