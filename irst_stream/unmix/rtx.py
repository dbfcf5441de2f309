"""Run an engine by ONNX Runtime's plug-in for RTX GPUs, which has TensorRT for RTX inside: no plans need to be built.

The graphs are those that TensorRT is given. Each batch size of a part is a session with one profile, bound to memory that
gpu_lanes holds on the GPU and to its stream; the plug-in captures the work as a CUDA graph by itself. What it compiles for
the GPU is kept in the user's cache, where nobody else can write. The plug-in is ONNX Runtime's, the rest needs only its
interface, so that tests run it on the CPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.errors import DeviceError, IrstError, MissingPackageError
from irst_stream.system.cuda import Device, Stream
from irst_stream.system.private_files import cache_folder, private_folder
from irst_stream.unmix.engine import Engine
from irst_stream.unmix.gpu_lanes import GpuUnmixer, Placed, TensorKind
from irst_stream.unmix.onnx import first_line
from irst_stream.unmix.plans import Precision
from irst_stream.unmix.rtx_here import PACKAGE, RtxPlatform
from irst_stream.unmix.tensorrt_build import STRONGLY_TYPED, graphs_to_build, profile_shapes, recipe_for

__all__ = ["BATCHES", "OnnxProgram", "RtxUnmixer", "call_plugin", "plugin_device", "plugin_options"]

BATCHES = (1, 8, 64)  # sessions are made whenever a program starts, which takes about a second each
OpenSession = Callable[[bytes, int, Stream], Any]  # graph, batch size, stream


class RtxUnmixer(GpuUnmixer):
    """Runs the graphs of an engine by the plug-in."""

    def __init__(
        self, engine: Engine, platform: RtxPlatform, precision: Precision = "fp16", *, with_map: bool = True
    ) -> None:
        """with_map: whether a continuous head's map is downloaded besides its claims; if not, the map is NaN.

        Raises a DeviceError if the plug-in does not take the graphs.
        """
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # the plug-in allows TF32, too coarse for the imaging model's products
        device, stream = Device(), Stream()
        facts = json.dumps([engine.manifest.sha256, engine.manifest.irst_stream, precision, *platform])
        kernels = cache_folder() / "rtx" / hashlib.sha256(facts.encode()).hexdigest()[:20]
        programs = {
            build.part: OnnxProgram(build.graph, partial(_plugin_session, kernels / build.part), "cuda")
            for build in graphs_to_build(engine, recipe_for(STRONGLY_TYPED, precision), BATCHES)
        }
        super().__init__(device, engine.manifest, programs, BATCHES, [stream], with_map=with_map)


class OnnxProgram:
    """A graph run by ONNX Runtime on memory of a device; a gpu_lanes.Program."""

    captured = False  # a session's run does more than queue work; the plug-in captures what it queues

    def __init__(self, graph: bytes, open_session: OpenSession, device: str) -> None:
        """device: of the memory, as ONNX Runtime names it: "cuda"; "cpu" in tests."""
        import onnx

        self._graph, self._open, self._device = graph, open_session, device
        model = onnx.load_from_string(graph).graph
        self.inputs, self.outputs = (
            {one.name: _kind(onnx, one.type.tensor_type) for one in values} for values in (model.input, model.output)
        )

    def bind(self, size: int, stream: Stream, tensors: Mapping[str, Placed]) -> Callable[[], None]:
        """Open a session for batches of one size and bind it to memory; see gpu_lanes.Program."""
        import onnxruntime as ort

        session = call_plugin(self._open, self._graph, size, stream)
        binding = session.io_binding()
        for name, (address, shape) in tensors.items():
            kinds, bind = (self.inputs, binding.bind_input) if name in self.inputs else (self.outputs, binding.bind_output)
            call_plugin(bind, name, self._device, 0, kinds[name].dtype, list(shape), address)
        options = ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")  # the stream's order is enough
        return partial(call_plugin, session.run_with_iobinding, binding, options)


def plugin_options(inputs: Mapping[str, tuple[int, ...]], size: int, stream: int, kernels: Path) -> dict[str, str]:
    """Return the plug-in's options for batches of one size.

    inputs: shapes without the first dimension, by name; stream: the CUDA stream's handle; kernels: where it keeps what it
    compiles.
    """
    shapes = profile_shapes(inputs, size)
    smallest, typical, largest = (
        ",".join(f"{name}:{'x'.join(map(str, triple[k]))}" for name, triple in shapes.items()) for k in range(3)
    )
    return {
        "has_user_compute_stream": "1",
        "user_compute_stream": str(stream),
        "enable_cuda_graph": "1",
        "nv_profile_min_shapes": smallest,
        "nv_profile_opt_shapes": typical,
        "nv_profile_max_shapes": largest,
        "nv_runtime_cache_path": str(kernels),
        "nv_persistent_context_memory": "1",  # memory that a captured graph refers to must stay
    }


def _plugin_session(kernels: Path, graph: bytes, size: int, stream: Stream) -> Any:
    """Open a session that the plug-in runs whole; a node that it does not take is an error, never run on the CPU unsaid."""
    import onnx
    import onnxruntime as ort

    values = onnx.load_from_string(graph).graph.input
    inputs = {one.name: _kind(onnx, one.type.tensor_type).shape for one in values}
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    folder = private_folder(kernels / str(size))
    options.add_provider_for_devices([plugin_device()], plugin_options(inputs, size, stream.number, folder))
    return ort.InferenceSession(graph, options)


@cache
def plugin_device() -> Any:
    """Register the plug-in, once in a process, and return its device for the first GPU."""
    import onnxruntime as ort

    try:
        package: Any = import_module(PACKAGE)  # makes most of its libraries known to the loader
    except ImportError as error:
        raise MissingPackageError(PACKAGE, "rtx", "the backend rtx") from error
    for runtime in Path(package.__file__).parent.glob("libcudart.so.*"):
        ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)  # the one that the package forgets
    name = package.get_ep_name()
    call_plugin(ort.register_execution_provider_library, name, package.get_library_path())
    devices = [one for one in ort.get_ep_devices() if one.ep_name == name]
    first = [one for one in devices if one.memory_info(ort.OrtDeviceMemoryType.DEFAULT).device_id == 0]
    if not first:
        raise DeviceError(f"ONNX Runtime's plug-in finds {len(devices)} GPUs that it runs on, and not the first one")
    return first[0]


def _kind(onnx: Any, tensor: Any) -> TensorKind:
    shape = tuple(side.dim_value for side in tensor.shape.dim[1:])
    return TensorKind(shape, np.int32 if tensor.elem_type == onnx.TensorProto.INT32 else np.float32)


def call_plugin(function: Callable[..., Any], *given: Any) -> Any:
    """Call a function of ONNX Runtime; its errors, whose types it does not export, become a DeviceError."""
    try:
        return function(*given)
    except IrstError:
        raise
    except Exception as error:
        raise DeviceError(f"ONNX Runtime's plug-in: {first_line(error)}") from error
