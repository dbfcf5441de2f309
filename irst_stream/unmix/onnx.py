"""Run an exported engine by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, IrstError
from irst_stream.protocols import WindowMaps
from irst_stream.system.machine import usable_cores
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import Engine, refers_to
from irst_stream.unmix.single_frame import middle_maps

__all__ = ["GpuGraphsOnCpu", "OnnxUnmixer", "cpu_session", "first_line", "supported_forms"]


def supported_forms() -> tuple[str, ...]:
    """Return the forms of graphs that the installed ONNX Runtime has CPU kernels for, the fastest first."""
    import onnxruntime as ort

    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    return ("deform", "portable") if version >= (1, 31) else ("portable",)


class OnnxUnmixer:
    """Runs the graphs of an engine; a protocols.Unmixer. One thread at a time may use each part."""

    def __init__(self, engine: Engine, threads: int = 0, form: str = "") -> None:
        """threads: CPU threads, 0 for all cores; form: "deform" or "portable", "" for the fastest one that runs here.

        Raises a FormatError if the engine has no such graphs, an IrstError if ONNX Runtime cannot run them.
        """
        import onnxruntime as ort

        fault: Exception | None = None
        for name in (form,) if form else supported_forms():
            graphs = engine.graphs(name)
            if not graphs:
                continue
            try:
                sessions = {part: _session(ort, engine, graphs[part], threads) for part in engine.manifest.parts}
            except KeyError as error:
                raise FormatError(f"{engine.folder}: no graph {error} in the form {name}") from error
            except Exception as error:  # ONNX Runtime does not export its exception types
                fault = error
                continue
            self._unfold, self._fuse = sessions["unfold"], sessions.get("fuse")
            self._inputs = {node.name for node in self._fuse.get_inputs()} if self._fuse else set()
            return
        if fault is None:
            raise FormatError(f"{engine.folder}: no {form or 'ONNX'} graphs; make them with irst-stream engine export")
        raise IrstError(f"{engine.folder}: ONNX Runtime {ort.__version__} cannot run its graphs: {first_line(fault)}")

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn patches (B, h, w) DN of single frames into maps (B, H, W) DN."""
        maps: NDArray[np.float32] = self._unfold.run(None, {"patches": patches})[0]
        return maps

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """Fuse the maps (B, 5, H, W), patches (B, 5, h, w) and time indices (B, 5) of windows; see protocols.Unmixer."""
        if self._fuse is None:
            return middle_maps(maps)
        inputs = {"maps": np.asarray(maps, np.float32), "patches": patches}
        if "places" in self._inputs:
            inputs["places"] = places.astype(np.float32)
        return _unmixed(self._fuse.run(None, {name: inputs[name] for name in self._inputs}))


class GpuGraphsOnCpu:
    """Runs the graphs for TensorRT (graph.build_for_gpu) by ONNX Runtime on the CPU; a protocols.Unmixer.

    Operators without a kernel in half precision are computed in single precision and rounded after each step. So this
    predicts the rounding of a GPU's results, but not its speed.
    """

    def __init__(self, graphs: Mapping[str, bytes], threads: int = 0) -> None:
        """graphs: serialised, by part; threads: CPU threads, 0 for all cores."""
        self._unfold, self._fuse = (cpu_session(graphs[part], threads) for part in ("unfold", "fuse"))
        self._inputs = {node.name for node in self._fuse.get_inputs()}

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn patches (B, h, w) DN of single frames into maps (B, H, W) DN."""
        maps: NDArray[np.float32] = self._unfold.run(None, {"patches": patches})[0]
        return maps

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """Fuse the maps (B, 5, H, W), patches (B, 5, h, w) and time indices (B, 5) of windows; see protocols.Unmixer."""
        stack = np.asarray(maps, np.float32)
        rows = np.arange(stack.shape[0] * stack.shape[1], dtype=np.int32).reshape(stack.shape[:2])
        inputs = {"store": stack.reshape(-1, *stack.shape[2:]), "rows": rows}
        inputs |= {"patches": patches, "places": places.astype(np.float32)}
        return _unmixed(self._fuse.run(None, {name: inputs[name] for name in self._inputs}))


def cpu_session(graph: bytes, threads: int) -> Any:
    """Open a session of a graph that contains its weights, on the CPU; threads: 0 for all cores."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _unmixed(outputs: list[NDArray[np.float32]]) -> Unmixed:
    """Wrap the outputs of `fuse`: the map and, of a continuous head, the claims."""
    return Unmixed(*outputs) if len(outputs) > 1 else Unmixed.plain(outputs[0])


def _session(ort: Any, engine: Engine, graph: bytes, threads: int) -> Any:
    """Create the session of a graph with weights from memory, so that the verified bytes are the ones that run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    weights = {name: array for name, array in engine.weights.items() if array.ndim and refers_to(graph, name)}
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in weights.items()}
    options.add_external_initializers(list(values), list(values.values()))
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).partition("\n")[0]
