"""Run the two parts of a network on a GPU by compiled programs: a protocols.Unmixer whose maps stay on the GPU.

Every batch size of a program has one lane a stream, each with its own pinned buffers, so that one uploads while the other
computes or downloads. The maps that `unfold` computes are copied to slots of the store, from which `fuse` gathers each
window's maps; they never reach the host. What compiles and runs the programs is a module each: tensorrt.py, rtx.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import DeviceError
from irst_stream.system.cuda import CapturedGraph, Device, Event, Memory, Pinned, Stream
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.batches import Batches
from irst_stream.unmix.engine import EngineManifest
from irst_stream.unmix.store import SlotAllocator, StoredMap, contiguous_runs
from irst_stream.unmix.tensorrt_build import INITIAL_STORE_MAPS, MAX_STORE_MAPS

__all__ = ["GpuUnmixer", "Lanes", "Placed", "Program", "TensorKind"]

WARM_UP_RUNS, TIMED_RUNS = 5, 11  # of each batch size, when its lanes are made
FLOAT_BYTES = 4


class TensorKind(NamedTuple):
    """What a program takes or returns: its shape without the batch dimension, and its type."""

    shape: tuple[int, ...]
    dtype: type[np.generic]


class Placed(NamedTuple):
    """A tensor on the GPU: its address and its whole shape."""

    address: int
    shape: tuple[int, ...]


class Program(Protocol):
    """A part of a network, compiled for batches of a few sizes.

    inputs, outputs: by name
    captured:        whether a lane may record the work that the program queues, and launch it as a whole (a CUDA graph)
    """

    captured: bool

    @property
    def inputs(self) -> Mapping[str, TensorKind]: ...

    @property
    def outputs(self) -> Mapping[str, TensorKind]: ...

    def bind(self, size: int, stream: Stream, tensors: Mapping[str, Placed]) -> Callable[[], None]:
        """Prepare batches of one size on a stream; return a function that queues the work without waiting for it."""


class GpuUnmixer:
    """Runs the programs of an engine; one thread at a time may use it. Any failure on the GPU raises a DeviceError."""

    def __init__(
        self,
        device: Device,
        manifest: EngineManifest,
        programs: Mapping[str, Program],
        batches: tuple[int, ...],
        streams: Sequence[Stream],
        *,
        with_map: bool,
    ) -> None:
        """programs: "unfold" and "fuse", for these batch sizes. streams: of which each batch size has a lane.

        with_map: whether a continuous head's map is downloaded besides its claims; if not, the map is NaN.
        """
        self._manifest, self._device, self._streams = manifest, device, streams
        self._slots = SlotAllocator(INITIAL_STORE_MAPS, MAX_STORE_MAPS)
        self._store = Memory(INITIAL_STORE_MAPS * self._map_bytes)
        self._unfolded: set[Event] = set()  # the end of each lane's last unfolding since the last fusion
        hidden = frozenset() if with_map or manifest.head == "map" else frozenset({"map"})
        kept = {"unfold": frozenset({"maps"}), "fuse": hidden}
        self._parts = {part: Lanes(programs[part], batches, streams, kept[part]) for part in ("unfold", "fuse")}
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
            if len(running) == len(self._streams):
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
    def _preallocated(self) -> dict[str, Placed]:
        """The store, an input that exists already."""
        return {"store": Placed(self._store.address, (self._slots.count, *self._manifest.cells))}

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


class Lanes:
    """A program and its lanes, one a stream for each batch size.

    costs:   median time of a batch of each size, host to host, ms
    outputs: shapes of the downloaded outputs, without the batch dimension, by name
    """

    def __init__(self, program: Program, batches: tuple[int, ...], streams: Sequence[Stream], kept: frozenset[str]) -> None:
        """kept: names of the outputs that stay on the GPU."""
        self.costs: dict[int, float] = {}
        self._program, self._sizes, self._streams, self._kept = program, batches, streams, kept
        self.outputs = {name: kind.shape for name, kind in program.outputs.items() if name not in kept}
        self._lanes: dict[int, list[_Lane]] = {}
        self._batches = Batches(dict.fromkeys(batches, 1.0))

    def make_lanes(self, preallocated: Mapping[str, Placed]) -> None:
        """Create and time all lanes; preallocated: inputs that exist on the GPU, by name."""
        self._lanes.clear()
        for size in self._sizes:
            self._lanes[size] = [_Lane(self._program, size, one, preallocated, self._kept) for one in self._streams]
            self.costs[size] = _median_run_ms(self._lanes[size][0])
        self._batches = Batches(self.costs)

    def assign(self, count: int) -> list[tuple[_Lane, slice]]:
        """Split `count` patches or windows into batches; return each batch's lane, in alternation, and its rows."""
        assigned, first = [], 0
        for k, size in enumerate(self._batches.split(count)):
            rows = slice(first, min(first + size, count))
            assigned.append((self._lanes[size][k % len(self._streams)], rows))
            first = rows.stop
        return assigned


class _Lane:
    """One batch size of a program on one stream: its buffers and its work.

    inputs, outputs: pinned host buffers that are uploaded and downloaded, by name
    memory:          buffers on the GPU, by name
    finished:        the event that is recorded after each run
    """

    def __init__(
        self, program: Program, size: int, stream: Stream, preallocated: Mapping[str, Placed], kept: frozenset[str]
    ) -> None:
        self.stream, self.finished = stream, Event()
        self.inputs: dict[str, Pinned] = {}
        self.outputs: dict[str, Pinned] = {}
        self.memory: dict[str, Memory] = {}
        placed = dict(preallocated)
        for kinds, buffers in ((program.inputs, self.inputs), (program.outputs, self.outputs)):
            for name, kind in kinds.items():
                if name in preallocated:
                    continue
                shape = (size, *kind.shape)
                self.memory[name] = Memory(int(np.prod(shape)) * np.dtype(kind.dtype).itemsize)
                placed[name] = Placed(self.memory[name].address, shape)
                if name not in kept:
                    buffers[name] = Pinned(shape, kind.dtype)
        self._run = program.bind(size, stream, {name: placed[name] for name in (*program.inputs, *program.outputs)})
        self._enqueue()  # programs initialise themselves on the first run, which must not be captured
        self.stream.synchronize()
        self._recording = CapturedGraph(stream, self._enqueue) if program.captured else None
        self.stream.mark(self.finished)

    def start(self) -> None:
        """Start upload, computation and download without waiting for them."""
        if self._recording:
            self._recording.start(self.stream)
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        for name, pinned in self.inputs.items():
            self.stream.upload(pinned, self.memory[name], pinned.bytes)
        self._run()
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
