"""Run an engine by TensorRT, whose plans are the programs of gpu_lanes.

Contexts on one stream never run at the same time, so they share scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from irst_stream.errors import MissingPackageError
from irst_stream.system.cuda import Device, Memory, Stream
from irst_stream.unmix.engine import EngineManifest
from irst_stream.unmix.gpu_lanes import GpuUnmixer, Placed, TensorKind
from irst_stream.unmix.plans import Plans
from irst_stream.unmix.tensorrt_build import call_tensorrt, tensorrt_logger

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingPackageError("tensorrt", "tensorrt", "the TensorRT backend") from error

__all__ = ["Plan", "TensorRtUnmixer", "scratch_bytes"]

LANES = 2

_call = partial(call_tensorrt, trt)


class TensorRtUnmixer(GpuUnmixer):
    """Runs the plans of an engine."""

    def __init__(self, plans: Plans, manifest: EngineManifest, *, with_map: bool = True) -> None:
        """with_map: whether a continuous head's map is downloaded besides its claims; if not, the map is NaN."""
        device, batches = Device(), plans.manifest.batches
        streams = [Stream() for _ in range(LANES)]
        runtime = _call("creates no runtime", trt.Runtime, tensorrt_logger(trt))
        engines = [_call("does not load the plan", runtime.deserialize_cuda_engine, p) for p in (plans.unfold, plans.fuse)]
        size = max(scratch_bytes(engine) for engine in engines)
        scratch = {stream: Memory(size) for stream in streams}
        programs = {name: Plan(one, batches, scratch) for name, one in zip(("unfold", "fuse"), engines, strict=True)}
        super().__init__(device, manifest, programs, batches, streams, with_map=with_map)


class Plan:
    """A loaded plan with one profile per batch size; a gpu_lanes.Program."""

    captured = True

    def __init__(self, engine: Any, batches: tuple[int, ...], scratch: Mapping[Stream, Memory]) -> None:
        """engine: TensorRT's. scratch: for each stream, at least scratch_bytes() of memory, which its contexts share."""
        self._engine, self._batches, self._scratch = engine, batches, scratch
        self.inputs: dict[str, TensorKind] = {}
        self.outputs: dict[str, TensorKind] = {}
        for name in (engine.get_tensor_name(k) for k in range(engine.num_io_tensors)):
            tensors = self.inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else self.outputs
            kind = np.int32 if engine.get_tensor_dtype(name) == trt.int32 else np.float32
            tensors[name] = TensorKind(tuple(engine.get_tensor_shape(name))[1:], kind)

    def bind(self, size: int, stream: Stream, tensors: Mapping[str, Placed]) -> Callable[[], None]:
        """Create a context for batches of one size on a stream; see gpu_lanes.Program."""
        context = _create_context(self._engine, self._scratch[stream])
        set_profile, profile = context.set_optimization_profile_async, self._batches.index(size)
        _call(f"has no profile for batches of {size}", set_profile, profile, stream.number)
        stream.synchronize()
        for name, (address, shape) in tensors.items():
            if name in self.inputs:
                _call(f"does not take {name} of {shape}", context.set_input_shape, name, shape)
            _call(f"does not take an address for {name}", context.set_tensor_address, name, address)
        return partial(_call, "does not run", context.execute_async_v3, stream.number)


def scratch_bytes(engine: Any) -> int:
    """Return the scratch memory that a context of a TensorRT engine needs at its largest batch size, in bytes."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def _create_context(engine: Any, scratch: Memory) -> Any:
    """Create an execution context that uses given scratch memory; the calls for that differ between TensorRT versions."""
    create: Callable[[], Any]
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        create = partial(engine.create_execution_context, trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        create = engine.create_execution_context_without_device_memory
    context = _call("creates no context", create)
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(scratch.address, scratch.bytes)
    else:
        context.device_memory = scratch.address
    return context
