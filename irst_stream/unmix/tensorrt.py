"""Run an engine by TensorRT: a protocols.Unmixer whose maps stay on the GPU.

Every batch size of a plan has two lanes, each with its own stream, execution context and pinned buffers, so that one
uploads while the other computes or downloads. Contexts on one stream never run at the same time, so they share scratch
memory. A lane's work is captured once (a CUDA graph) and then launched as a whole. The maps that `unfold` computes are
copied to slots of the store, from which `fuse` gathers each window's maps; they never reach the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import DeviceError, MissingPackageError
from irst_stream.system.cuda import CapturedGraph, Device, Event, Memory, Pinned, Stream
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.batches import Batches
from irst_stream.unmix.engine import EngineManifest
from irst_stream.unmix.plans import Plans
from irst_stream.unmix.store import SlotAllocator, StoredMap, contiguous_runs
from irst_stream.unmix.tensorrt_build import INITIAL_STORE_MAPS, MAX_STORE_MAPS, call_tensorrt, tensorrt_logger

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingPackageError("tensorrt", "tensorrt", "the TensorRT backend") from error

__all__ = ["PlanLanes", "TensorRtUnmixer", "scratch_bytes"]

LANES = 2
WARM_UP_RUNS, TIMED_RUNS = 5, 11  # of each batch size, when its lanes are made
FLOAT_BYTES = 4

_call = partial(call_tensorrt, trt)


class TensorRtUnmixer:
    """Runs the plans of an engine; one thread at a time may use it. Any failure on the GPU raises a DeviceError."""

    def __init__(self, plans: Plans, manifest: EngineManifest, *, with_map: bool = True) -> None:
        """with_map: whether a continuous head's map is downloaded besides its claims; if not, the map is NaN."""
        self._manifest, self._device = manifest, Device()
        self._streams = [Stream() for _ in range(LANES)]
        self._slots = SlotAllocator(INITIAL_STORE_MAPS, MAX_STORE_MAPS)
        self._store = Memory(INITIAL_STORE_MAPS * self._map_bytes)
        self._unfolded: set[Event] = set()  # the end of each lane's last unfolding since the last fusion
        runtime = _call("creates no runtime", trt.Runtime, tensorrt_logger(trt))
        engines = [_call("does not load the plan", runtime.deserialize_cuda_engine, p) for p in (plans.unfold, plans.fuse)]
        scratch = max(scratch_bytes(engine) for engine in engines)
        workspaces = [(stream, Memory(scratch)) for stream in self._streams]
        hidden = frozenset() if with_map or manifest.head == "map" else frozenset({"map"})
        self._parts = {
            "unfold": PlanLanes(engines[0], plans.manifest.batches, workspaces, frozenset({"maps"})),
            "fuse": PlanLanes(engines[1], plans.manifest.batches, workspaces, hidden),
        }
        for part in self._parts.values():
            part.make_lanes(self._preallocated)

    def unfold(self, patches: NDArray[np.float32]) -> list[StoredMap]:
        """Unfold patches (B, h, w) DN of single frames and return their maps, which stay on the GPU."""
        self._device.use()
        self._grow_store(len(patches))
        self._wait_for_unfolding()  # a slot may have been released before the copy to it has finished
        maps = self._slots.take(len(patches))
        slots = np.array([one.slot for one in maps], np.int64)
        for lane, rows in self._parts["unfold"].assign(len(patches)):
            lane.finished.wait()
            lane.inputs["patches"].array[: rows.stop - rows.start] = patches[rows]
            lane.start()
            source = lane.memory["maps"].address
            for row, slot, count in contiguous_runs(slots[rows]):
                target = self._store.address + slot * self._map_bytes
                lane.stream.copy(source + row * self._map_bytes, target, count * self._map_bytes)
            lane.stream.mark(lane.finished)
            self._unfolded.add(lane.finished)
        return maps

    def fuse(self, maps: Sequence[Sequence[StoredMap]], patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """Fuse the stored maps (B, 5), patches (B, 5, h, w) and time indices (B, 5) of windows; see protocols.Unmixer."""
        self._device.use()
        slots = np.array([[one.slot for one in window] for window in maps], np.int32)
        columns: dict[str, NDArray[Any]] = {"rows": slots, "patches": patches, "places": places}
        part = self._parts["fuse"]
        outputs = {name: np.empty((len(slots), *shape), np.float32) for name, shape in part.outputs.items()}
        running: list[tuple[_Lane, slice]] = []
        self._wait_for_unfolding()
        for lane, rows in part.assign(len(slots)):
            if len(running) == LANES:
                _collect(*running.pop(0), outputs)
            for name, pinned in lane.inputs.items():
                pinned.array[: rows.stop - rows.start] = columns[name][rows]
            lane.start()
            lane.stream.mark(lane.finished)
            running.append((lane, rows))
        for lane, rows in running:
            _collect(lane, rows, outputs)
        self._unfolded.clear()
        if "map" not in outputs:
            outputs["map"] = np.broadcast_to(np.float32(np.nan), (len(slots), *self._manifest.cells))
        return Unmixed(outputs["map"], outputs["claims"]) if "claims" in outputs else Unmixed.plain(outputs["map"])

    @property
    def costs(self) -> dict[str, dict[int, float]]:
        """The median time of a batch of each size, host to host, ms, by part."""
        return {name: part.costs for name, part in self._parts.items()}

    @property
    def _map_bytes(self) -> int:
        return int(np.prod(self._manifest.cells)) * FLOAT_BYTES

    @property
    def _preallocated(self) -> dict[str, tuple[int, int]]:
        """The store as an input that exists already: its address and its capacity in maps."""
        return {"store": (self._store.address, self._slots.count)}

    def _wait_for_unfolding(self) -> None:
        """Make all streams wait until every unfolded map has been copied to the store."""
        for stream in self._streams:
            for event in self._unfolded:
                stream.follow(event)

    def _grow_store(self, count: int) -> None:
        """Double the store's capacity until it has `count` free slots; a DeviceError beyond MAX_STORE_MAPS."""
        if self._slots.available >= count:
            return
        size = self._slots.count
        while size - self._slots.count + self._slots.available < count:
            size *= 2
        if size > MAX_STORE_MAPS:
            raise DeviceError(f"the store on the GPU holds at most {MAX_STORE_MAPS} maps; {count} more do not fit")
        for stream in self._streams:
            stream.synchronize()
        larger = Memory(size * self._map_bytes)
        self._streams[0].copy(self._store.address, larger.address, self._store.bytes)
        self._streams[0].synchronize()
        self._store, self._slots.count = larger, size
        self._parts["fuse"].make_lanes(self._preallocated)


class PlanLanes:
    """A plan and its lanes, LANES for each batch size.

    costs:   median time of a batch of each size, host to host, ms
    outputs: shapes of the downloaded outputs, without the batch dimension, by name
    """

    def __init__(
        self, engine: Any, batches: tuple[int, ...], workspaces: Sequence[tuple[Stream, Memory]], kept: frozenset[str]
    ) -> None:
        """engine: TensorRT's, with one profile per batch size. workspaces: the streams, each with at least scratch_bytes()
        of memory that all contexts on it share. kept: names of the outputs that stay on the GPU.
        """
        self.costs: dict[int, float] = {}
        self._engine, self._sizes, self._workspaces, self._kept = engine, batches, workspaces, kept
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT and n not in kept]
        self.outputs = {name: tuple(engine.get_tensor_shape(name))[1:] for name in outputs}
        self._lanes: dict[int, list[_Lane]] = {}
        self._batches = Batches(dict.fromkeys(batches, 1.0))

    def make_lanes(self, preallocated: dict[str, tuple[int, int]]) -> None:
        """Create and time all lanes; preallocated: address and first dimension of inputs that exist on the GPU, by name."""
        self._lanes.clear()
        for profile, size in enumerate(self._sizes):
            self._lanes[size] = [
                _Lane(self._engine, profile, size, workspace, preallocated, self._kept) for workspace in self._workspaces
            ]
            self.costs[size] = _median_run_ms(self._lanes[size][0])
        self._batches = Batches(self.costs)

    def assign(self, count: int) -> list[tuple[_Lane, slice]]:
        """Split `count` patches or windows into batches; return each batch's lane, in alternation, and its rows."""
        assigned, first = [], 0
        for k, size in enumerate(self._batches.split(count)):
            rows = slice(first, min(first + size, count))
            assigned.append((self._lanes[size][k % LANES], rows))
            first = rows.stop
        return assigned


class _Lane:
    """One batch size of a plan on one stream: its buffers and its recorded work.

    inputs, outputs: pinned host buffers that are uploaded and downloaded, by name
    memory:          buffers on the GPU, by name
    finished:        the event that is recorded after each run
    """

    def __init__(
        self,
        engine: Any,
        profile: int,
        size: int,
        workspace: tuple[Stream, Memory],
        preallocated: dict[str, tuple[int, int]],
        kept: frozenset[str],
    ) -> None:
        (self.stream, scratch), self.finished = workspace, Event()
        self.inputs: dict[str, Pinned] = {}
        self.outputs: dict[str, Pinned] = {}
        self.memory: dict[str, Memory] = {}
        self._context = _create_context(engine, scratch)
        set_profile = self._context.set_optimization_profile_async
        _call(f"has no profile for batches of {size}", set_profile, profile, self.stream.number)
        self.stream.synchronize()
        for k in range(engine.num_io_tensors):
            name = engine.get_tensor_name(k)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            address, first = preallocated.get(name, (0, size))
            shape = (first, *tuple(engine.get_tensor_shape(name))[1:])
            if is_input:
                _call(f"does not take {name} of {shape}", self._context.set_input_shape, name, shape)
            if name not in preallocated:
                kind = np.int32 if engine.get_tensor_dtype(name) == trt.int32 else np.float32
                address = self._allocate(name, shape, kind)
                if is_input or name not in kept:
                    (self.inputs if is_input else self.outputs)[name] = Pinned(shape, kind)
            _call(f"does not take an address for {name}", self._context.set_tensor_address, name, address)
        self._enqueue()  # TensorRT initialises itself on the first run, which must not be captured
        self.stream.synchronize()
        self._recording = CapturedGraph(self.stream, self._enqueue)
        self.stream.mark(self.finished)

    def start(self) -> None:
        """Start upload, computation and download without waiting for them."""
        self._recording.start(self.stream)

    def _allocate(self, name: str, shape: tuple[int, ...], kind: type[np.generic]) -> int:
        self.memory[name] = Memory(int(np.prod(shape)) * np.dtype(kind).itemsize)
        return self.memory[name].address

    def _enqueue(self) -> None:
        for name, pinned in self.inputs.items():
            self.stream.upload(pinned, self.memory[name], pinned.bytes)
        _call("does not run", self._context.execute_async_v3, self.stream.number)
        for name, pinned in self.outputs.items():
            self.stream.download(self.memory[name], pinned, pinned.bytes)


def _collect(lane: _Lane, rows: slice, outputs: dict[str, NDArray[np.float32]]) -> None:
    """Wait for a lane and copy its outputs to their rows."""
    lane.finished.wait()
    for name, pinned in lane.outputs.items():
        outputs[name][rows] = pinned.array[: rows.stop - rows.start]


def _median_run_ms(lane: _Lane) -> float:
    """Measure the median time of one run, ms."""
    times = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        began = time.perf_counter()
        lane.start()
        lane.stream.synchronize()
        times.append((time.perf_counter() - began) * 1e3)
    return float(np.median(times[WARM_UP_RUNS:]))


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
