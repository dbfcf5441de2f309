"""Wrap the part of CUDA's driver API that short batches need: memory, streams, events and captured graphs.

Everything here belongs to one GPU's primary context, which TensorRT uses too. A failed call raises a DeviceError that names
it. After a fault in a kernel the context is unusable for the rest of the process.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irst_stream.errors import DeviceError, MissingPackageError

try:
    from cuda.bindings import driver
except ImportError as error:
    raise MissingPackageError("cuda-bindings", "cuda", "work on a GPU") from error

__all__ = ["CapturedGraph", "Device", "Event", "Memory", "Pinned", "Stream", "call", "driver"]


def call(function: Callable[..., Any], *given: Any) -> Any:
    """Call a driver function and return its results without the status code; raise a DeviceError unless it succeeded.

    One result is returned as it is, none or several as a tuple.
    """
    try:
        code, *results = function(*given)
    except (RuntimeError, ValueError) as error:  # no driver, a driver without the function, or an unknown status code
        raise DeviceError(f"{function.__name__}: {error}") from error
    if int(code):
        raise DeviceError(f"{function.__name__}: {getattr(code, 'name', code)}")
    return results[0] if len(results) == 1 else tuple(results)


class Device:
    """A GPU's primary context, made current in the thread that creates it; other threads call use()."""

    def __init__(self, ordinal: int = 0) -> None:
        call(driver.cuInit, 0)
        self._device = call(driver.cuDeviceGet, ordinal)
        self._context = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self.use()

    def use(self) -> None:
        """Make the context current in the calling thread."""
        call(driver.cuCtxSetCurrent, self._context)

    def attribute(self, name: str) -> int:
        """Return the value of CU_DEVICE_ATTRIBUTE_<name> for the GPU."""
        attribute = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call(driver.cuDeviceGetAttribute, attribute, self._device))


def _free_with(owner: Any, function: Callable[[Any], Any], resource: Any) -> None:
    """Free a resource when its owner is garbage-collected, in any thread.

    Resources are not freed at the end of the process, when other threads may still use them; the driver frees them then.
    """
    context = call(driver.cuCtxGetCurrent)

    def free() -> None:
        if not int(driver.cuCtxPushCurrent(context)[0]):
            function(resource)
            driver.cuCtxPopCurrent()

    weakref.finalize(owner, free).atexit = False


class Pinned:
    """Pinned host memory, which the GPU reads and writes directly, initially zero; `array` is a view of it."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        element = np.dtype(dtype)
        self.bytes = max(int(np.prod(shape)) * element.itemsize, 1)
        self.address = int(call(driver.cuMemHostAlloc, self.bytes, 0))
        memory = memoryview((ctypes.c_byte * self.bytes).from_address(self.address))
        self.array: NDArray[Any] = np.frombuffer(memory, element, int(np.prod(shape))).reshape(shape)
        self.array.fill(0)
        _free_with(self, driver.cuMemFreeHost, self.address)


class Memory:
    """Memory on the GPU, initially zero."""

    def __init__(self, size: int) -> None:
        """size: in bytes."""
        self.bytes = max(size, 1)
        self.address = int(call(driver.cuMemAlloc, self.bytes))
        _free_with(self, driver.cuMemFree, self.address)
        stream = Stream()  # the default stream synchronises with all others, which breaks another thread's capture
        call(driver.cuMemsetD8Async, self.address, 0, self.bytes, stream.handle)
        stream.synchronize()


class Event:
    """A point in a stream's work, set by Stream.mark."""

    def __init__(self) -> None:
        self.handle = call(driver.cuEventCreate, int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        _free_with(self, driver.cuEventDestroy, self.handle)

    def wait(self) -> None:
        """Block until the stream has reached the event; return at once if it was never set."""
        call(driver.cuEventSynchronize, self.handle)


class Stream:
    """A queue of GPU work that runs in order, concurrently with other streams."""

    def __init__(self) -> None:
        self.handle = call(driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.number = int(self.handle)
        _free_with(self, driver.cuStreamDestroy, self.handle)

    def upload(self, source: Pinned, target: Memory, size: int) -> None:
        """Copy the first `size` bytes from the host to the GPU."""
        call(driver.cuMemcpyHtoDAsync, target.address, source.address, size, self.handle)

    def download(self, source: Memory, target: Pinned, size: int) -> None:
        """Copy the first `size` bytes from the GPU to the host."""
        call(driver.cuMemcpyDtoHAsync, target.address, source.address, size, self.handle)

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy `size` bytes from one GPU address to another."""
        call(driver.cuMemcpyDtoDAsync, target, source, size, self.handle)

    def mark(self, event: Event) -> None:
        """Record an event after all work queued so far."""
        call(driver.cuEventRecord, event.handle, self.handle)

    def follow(self, event: Event) -> None:
        """Make later work wait for an event of another stream."""
        call(driver.cuStreamWaitEvent, self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Block until all queued work has finished."""
        call(driver.cuStreamSynchronize, self.handle)


class CapturedGraph:
    """Work of a stream, captured once and then launched as a whole (a CUDA graph)."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        """work: a function that queues the work on the stream."""
        with _captured(stream) as graphs:
            work()
        graph = graphs[0]
        self._executable = call(driver.cuGraphInstantiate, graph, 0)
        _free_with(self, driver.cuGraphExecDestroy, self._executable)
        call(driver.cuGraphDestroy, graph)

    def start(self, stream: Stream) -> None:
        """Queue the captured work on a stream."""
        call(driver.cuGraphLaunch, self._executable, stream.handle)


@contextmanager
def _captured(stream: Stream) -> Iterator[list[Any]]:
    """Capture the work queued inside the context; yields a list that holds its graph afterwards.

    The capture is ended also if the context raises.
    """
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED  # garbage collection may free memory meanwhile
    graphs: list[Any] = []
    call(driver.cuStreamBeginCapture, stream.handle, mode)
    try:
        yield graphs
    except BaseException:
        driver.cuStreamEndCapture(stream.handle)
        raise
    graphs.append(call(driver.cuStreamEndCapture, stream.handle))
