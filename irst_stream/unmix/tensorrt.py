"""An engine run by TensorRT: a protocols.Unmixer whose maps stay on the GPU.

Every batch size of a plan has two lanes, each with a stream, an execution context and pinned buffers of its own, so that
one uploads while the other computes or downloads. Contexts on one stream never run at once, so they share the memory that
they compute in. All that a lane does is recorded once (a CUDA graph) and then started as a whole. Frames' maps are copied
from where `unfold` leaves them into the store, from which `fuse` takes those of a window by their places; the host sees
neither.
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
from irst_stream.unmix.store import HeldMap, Places, runs
from irst_stream.unmix.tensorrt_build import FIRST_MAPS, MOST_MAPS, ask, listen

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingPackageError("tensorrt", "tensorrt", "the TensorRT backend") from error

__all__ = ["PlanLanes", "TensorRtUnmixer", "scratch_bytes"]

LANES = 2
WARM_UP, TIMED = 5, 11  # runs of each batch size, when it is made
FLOAT = 4  # bytes

_ask = partial(ask, trt)


class TensorRtUnmixer:
    """The plans of an engine, ready to run, to be used by one thread at a time."""

    def __init__(self, plans: Plans, manifest: EngineManifest, *, with_map: bool = True) -> None:
        """with_map: whether the map comes back beside the claims of a continuous head; where it does not, it is NaN."""
        self._manifest, self._device = manifest, Device()
        self._streams = [Stream() for _ in range(LANES)]
        self._places, self._store = Places(FIRST_MAPS, MOST_MAPS), Memory(FIRST_MAPS * self._map_bytes)
        self._unfolded: set[Event] = set()  # of one lane the last counts
        runtime = _ask("makes no runtime", trt.Runtime, listen(trt))
        engines = [_ask("does not load the plan", runtime.deserialize_cuda_engine, p) for p in (plans.unfold, plans.fuse)]
        scratch = max(scratch_bytes(engine) for engine in engines)
        rooms = [(stream, Memory(scratch)) for stream in self._streams]
        hidden = frozenset() if with_map or manifest.head == "map" else frozenset({"map"})
        self._parts = {
            "unfold": PlanLanes(engines[0], plans.manifest.batches, rooms, frozenset({"maps"})),
            "fuse": PlanLanes(engines[1], plans.manifest.batches, rooms, hidden),
        }
        for part in self._parts.values():
            part.make(self._fixed)

    def unfold(self, patches: NDArray[np.float32]) -> list[HeldMap]:
        """Patches (B, h, w) DN of single frames to what holds their maps on the GPU."""
        self._device.use()
        self._make_room(len(patches))
        self._catch_up()  # with copies to places that nobody held long enough to fuse
        held = self._places.take(len(patches))
        places = np.array([one.place for one in held], np.int64)
        for lane, some in self._parts["unfold"].share(len(patches)):
            lane.finished.wait()
            lane.given["patches"].array[: some.stop - some.start] = patches[some]
            lane.start()
            source = lane.memory["maps"].address
            for row, place, count in runs(places[some]):
                target = self._store.address + place * self._map_bytes
                lane.stream.copy(source + row * self._map_bytes, target, count * self._map_bytes)
            lane.stream.mark(lane.finished)
            self._unfolded.add(lane.finished)
        return held

    def fuse(self, maps: Sequence[Sequence[HeldMap]], patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """What holds the maps of windows' frames (B, 5), the patches (B, 5, h, w), and the frames' places (B, 5)."""
        self._device.use()
        rows = np.array([[one.place for one in window] for window in maps], np.int32)
        columns: dict[str, NDArray[Any]] = {"rows": rows, "patches": patches, "places": places}
        part = self._parts["fuse"]
        found = {name: np.empty((len(rows), *shape), np.float32) for name, shape in part.outputs.items()}
        running: list[tuple[_Lane, slice]] = []
        self._catch_up()
        for lane, some in part.share(len(rows)):
            if len(running) == LANES:
                _take(*running.pop(0), found)
            for name, pinned in lane.given.items():
                pinned.array[: some.stop - some.start] = columns[name][some]
            lane.start()
            lane.stream.mark(lane.finished)
            running.append((lane, some))
        for lane, some in running:
            _take(lane, some, found)
        self._unfolded.clear()
        if "map" not in found:
            found["map"] = np.broadcast_to(np.float32(np.nan), (len(rows), *self._manifest.cells))
        return Unmixed(found["map"], found["claims"]) if "claims" in found else Unmixed.plain(found["map"])

    @property
    def costs(self) -> dict[str, dict[int, float]]:
        """What each batch size takes, host to host, ms, by part."""
        return {name: part.costs for name, part in self._parts.items()}

    @property
    def _map_bytes(self) -> int:
        return int(np.prod(self._manifest.cells)) * FLOAT

    @property
    def _fixed(self) -> dict[str, tuple[int, int]]:
        """The store's address and how many maps it has room for."""
        return {"store": (self._store.address, self._places.count)}

    def _catch_up(self) -> None:
        """Has all streams do nothing more before what has been unfolded is in the store."""
        for stream in self._streams:
            for event in self._unfolded:
                stream.follow(event)

    def _make_room(self, count: int) -> None:
        """Has the store hold so many more maps: twice its size, or more, where it does not."""
        if self._places.free >= count:
            return
        size = self._places.count
        while size - self._places.count + self._places.free < count:
            size *= 2
        if size > MOST_MAPS:
            raise DeviceError(f"the store on the GPU holds {MOST_MAPS} maps at most; {count} more are wanted")
        for stream in self._streams:
            stream.synchronize()
        larger = Memory(size * self._map_bytes)
        self._streams[0].copy(self._store.address, larger.address, self._store.bytes)
        self._streams[0].synchronize()
        self._store, self._places.count = larger, size
        self._parts["fuse"].make(self._fixed)


class PlanLanes:
    """A plan with all its lanes."""

    def __init__(
        self, engine: Any, batches: tuple[int, ...], rooms: Sequence[tuple[Stream, Memory]], kept: frozenset[str]
    ) -> None:
        """rooms: the streams, each with scratch_bytes() or more that all contexts on it share; kept: the outputs that stay
        on the GPU.
        """
        self.costs: dict[int, float] = {}
        self._engine, self._sizes, self._rooms, self._kept = engine, batches, rooms, kept
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT and n not in kept]
        self.outputs = {name: tuple(engine.get_tensor_shape(name))[1:] for name in outputs}
        self._lanes: dict[int, list[_Lane]] = {}
        self._batches = Batches(dict.fromkeys(batches, 1.0))

    def make(self, fixed: dict[str, tuple[int, int]]) -> None:
        """Makes all lanes, and times them; fixed: addresses and first dimensions of inputs that are there already."""
        self._lanes.clear()
        for profile, size in enumerate(self._sizes):
            self._lanes[size] = [_Lane(self._engine, profile, size, room, fixed, self._kept) for room in self._rooms]
            self.costs[size] = _timed(self._lanes[size][0])
        self._batches = Batches(self.costs)

    def share(self, count: int) -> list[tuple[_Lane, slice]]:
        """The lanes that so many patches or windows go through, in turns, and which of these each takes."""
        shares, first = [], 0
        for k, size in enumerate(self._batches.split(count)):
            some = slice(first, min(first + size, count))
            shares.append((self._lanes[size][k % LANES], some))
            first = some.stop
        return shares


class _Lane:
    """One batch size of a plan on one stream: its buffers, and its work, recorded.

    given, found: what is uploaded and downloaded, by name; memory: all that is on the GPU; finished: set behind each run.
    """

    def __init__(
        self,
        engine: Any,
        profile: int,
        size: int,
        room: tuple[Stream, Memory],
        fixed: dict[str, tuple[int, int]],
        kept: frozenset[str],
    ) -> None:
        (self.stream, scratch), self.finished = room, Event()
        self.given: dict[str, Pinned] = {}
        self.found: dict[str, Pinned] = {}
        self.memory: dict[str, Memory] = {}
        self._context = _context(engine, scratch)
        choose = self._context.set_optimization_profile_async
        _ask(f"has no profile for batches of {size}", choose, profile, self.stream.number)
        self.stream.synchronize()
        for k in range(engine.num_io_tensors):
            name = engine.get_tensor_name(k)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            address, first = fixed.get(name, (0, size))
            shape = (first, *tuple(engine.get_tensor_shape(name))[1:])
            if is_input:
                _ask(f"does not take {name} of {shape}", self._context.set_input_shape, name, shape)
            if name not in fixed:
                kind = np.int32 if engine.get_tensor_dtype(name) == trt.int32 else np.float32
                address = self._hold(name, shape, kind)
                if is_input or name not in kept:
                    (self.given if is_input else self.found)[name] = Pinned(shape, kind)
            _ask(f"does not take an address for {name}", self._context.set_tensor_address, name, address)
        self._work()  # once before it is recorded: TensorRT makes ready what it needs
        self.stream.synchronize()
        self._recording = CapturedGraph(self.stream, self._work)
        self.stream.mark(self.finished)

    def start(self) -> None:
        """Uploads, computes, downloads; does not wait."""
        self._recording.start(self.stream)

    def _hold(self, name: str, shape: tuple[int, ...], kind: type[np.generic]) -> int:
        self.memory[name] = Memory(int(np.prod(shape)) * np.dtype(kind).itemsize)
        return self.memory[name].address

    def _work(self) -> None:
        for name, pinned in self.given.items():
            self.stream.upload(pinned, self.memory[name], pinned.bytes)
        _ask("does not run", self._context.execute_async_v3, self.stream.number)
        for name, pinned in self.found.items():
            self.stream.download(self.memory[name], pinned, pinned.bytes)


def _take(lane: _Lane, some: slice, found: dict[str, NDArray[np.float32]]) -> None:
    """Waits for a lane, and copies out what it has found."""
    lane.finished.wait()
    for name, pinned in lane.found.items():
        found[name][some] = pinned.array[: some.stop - some.start]


def _timed(lane: _Lane) -> float:
    """What one run usually takes, ms."""
    took = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        lane.start()
        lane.stream.synchronize()
        took.append((time.perf_counter() - began) * 1e3)
    return float(np.median(took[WARM_UP:]))


def scratch_bytes(engine: Any) -> int:
    """What a context of it computes in, at its largest batch size."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def _context(engine: Any, scratch: Memory) -> Any:
    """A context that computes in memory that is there; how that is said differs from version to version."""
    make: Callable[[], Any]
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        make = partial(engine.create_execution_context, trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        make = engine.create_execution_context_without_device_memory
    context = _ask("makes no context", make)
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(scratch.address, scratch.bytes)
    else:
        context.device_memory = scratch.address
    return context
