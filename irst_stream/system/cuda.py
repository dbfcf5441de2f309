"""CUDA's driver API, as much of it as short batches need: memory, streams, events and recorded work.

Everything here belongs to one GPU's primary context, which TensorRT uses too. What fails is a DeviceError that names the
call. After a fault in a kernel nothing of the context works any more for as long as the process lives.
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
    """What a function of the driver gives beside its code; a DeviceError where that is not success."""
    try:
        code, *found = function(*given)
    except (RuntimeError, ValueError) as error:  # no driver; one that lacks the function, or gives codes we do not know
        raise DeviceError(f"{function.__name__}: {error}") from error
    if int(code):
        raise DeviceError(f"{function.__name__}: {getattr(code, 'name', code)}")
    return found[0] if len(found) == 1 else tuple(found)


class Device:
    """A GPU's primary context; use() makes it the calling thread's."""

    def __init__(self, ordinal: int = 0) -> None:
        call(driver.cuInit, 0)
        self._device = call(driver.cuDeviceGet, ordinal)
        self._context = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self.use()

    def use(self) -> None:
        """Makes it the calling thread's."""
        call(driver.cuCtxSetCurrent, self._context)

    def about(self, attribute: str) -> int:
        """What the driver knows of the GPU: CU_DEVICE_ATTRIBUTE_..."""
        name = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{attribute}")
        return int(call(driver.cuDeviceGetAttribute, name, self._device))


def _free_with(owner: Any, function: Callable[[Any], Any], held: Any) -> None:
    """Has a function free what an owner holds, when that goes, in whatever thread.

    Not at the end of the process, where other threads may still use it: all of it goes with that.
    """
    context = call(driver.cuCtxGetCurrent)

    def free() -> None:
        if not int(driver.cuCtxPushCurrent(context)[0]):
            function(held)
            driver.cuCtxPopCurrent()

    weakref.finalize(owner, free).atexit = False


class Pinned:
    """Host memory that the GPU reads and writes by itself, set to zero; `array` is a view of it."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        kind = np.dtype(dtype)
        self.bytes = max(int(np.prod(shape)) * kind.itemsize, 1)
        self.address = int(call(driver.cuMemHostAlloc, self.bytes, 0))
        held = memoryview((ctypes.c_byte * self.bytes).from_address(self.address))
        self.array: NDArray[Any] = np.frombuffer(held, kind, int(np.prod(shape))).reshape(shape)
        self.array.fill(0)
        _free_with(self, driver.cuMemFreeHost, self.address)


class Memory:
    """Memory of the GPU, set to zero."""

    def __init__(self, size: int) -> None:
        """size: in bytes."""
        self.bytes = max(size, 1)
        self.address = int(call(driver.cuMemAlloc, self.bytes))
        _free_with(self, driver.cuMemFree, self.address)
        stream = Stream()  # the usual one waits for all others, which spoils what another thread may be recording
        call(driver.cuMemsetD8Async, self.address, 0, self.bytes, stream.handle)
        stream.synchronize()


class Event:
    """A point in a stream's work."""

    def __init__(self) -> None:
        self.handle = call(driver.cuEventCreate, int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        _free_with(self, driver.cuEventDestroy, self.handle)

    def wait(self) -> None:
        """Returns when that point has been reached; at once, where it was never set."""
        call(driver.cuEventSynchronize, self.handle)


class Stream:
    """Work that is done in order, beside that of other streams."""

    def __init__(self) -> None:
        self.handle = call(driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.number = int(self.handle)
        _free_with(self, driver.cuStreamDestroy, self.handle)

    def upload(self, source: Pinned, target: Memory, size: int) -> None:
        """Copies the first bytes of one to the other."""
        call(driver.cuMemcpyHtoDAsync, target.address, source.address, size, self.handle)

    def download(self, source: Memory, target: Pinned, size: int) -> None:
        """Copies the first bytes of one to the other."""
        call(driver.cuMemcpyDtoHAsync, target.address, source.address, size, self.handle)

    def copy(self, source: int, target: int, size: int) -> None:
        """Copies bytes from one address of the GPU to another."""
        call(driver.cuMemcpyDtoDAsync, target, source, size, self.handle)

    def mark(self, event: Event) -> None:
        """Sets the event behind all work so far."""
        call(driver.cuEventRecord, event.handle, self.handle)

    def follow(self, event: Event) -> None:
        """Does nothing more before that point of another stream."""
        call(driver.cuStreamWaitEvent, self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Returns when all work has been done."""
        call(driver.cuStreamSynchronize, self.handle)


class CapturedGraph:
    """Work of a stream, recorded once and then started as a whole (a CUDA graph)."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        """work: what puts it into the stream."""
        with _captured(stream) as graphs:
            work()
        graph = graphs[0]
        self._executable = call(driver.cuGraphInstantiate, graph, 0)
        _free_with(self, driver.cuGraphExecDestroy, self._executable)
        call(driver.cuGraphDestroy, graph)

    def start(self, stream: Stream) -> None:
        """Puts it into a stream."""
        call(driver.cuGraphLaunch, self._executable, stream.handle)


@contextmanager
def _captured(stream: Stream) -> Iterator[list[Any]]:
    """Gives a list that holds the graph of what was put into the stream in between; ends the capture whatever happens."""
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED  # what is let go meanwhile may be freed
    graphs: list[Any] = []
    call(driver.cuStreamBeginCapture, stream.handle, mode)
    try:
        yield graphs
    except BaseException:
        driver.cuStreamEndCapture(stream.handle)
        raise
    graphs.append(call(driver.cuStreamEndCapture, stream.handle))
