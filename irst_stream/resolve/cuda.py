"""The search for targets on a GPU: fit.cu, compiled by NVRTC for the GPU at hand, loaded and run by the CUDA driver.

Needs the packages cuda-bindings and nvidia-cuda-nvrtc, of the extra "cuda", and an NVIDIA driver; nothing of them is
touched before a search is made, or something is compiled.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import DeviceError, MissingPackageError
from irst_stream.machine import cache_folder
from irst_stream.resolve.kernel import Kernel, Precision, read_source
from irst_stream.resolve.search import Answers, Known, Regions
from irst_stream.types import Ints

__all__ = ["CudaSearch", "compile_kernel"]

PURPOSE = "the fit on a GPU"
LANES = 128  # of a block, which searches one region
FULL_RATE = 4  # a device whose float64 is slower than its float32 by more than that is given float32
LOOK_ROOM = 1024  # bytes: where the regions begin in what is uploaded
SMALLEST_ROOM = 2**16  # bytes
OPTIONS = ("-std=c++17",)
log = logging.getLogger(__name__)


def compile_kernel(kernel: Kernel, architecture: str, *more: str) -> tuple[bytes, str]:
    """The cubin of a kernel for an architecture such as "sm_90", and the compiler's log; more: options of NVRTC."""
    nvrtc = _nvrtc()
    program = _call(nvrtc.nvrtcCreateProgram, read_source().encode(), b"fit.cu", 0, [], [])
    options = [word.encode() for word in (f"-arch={architecture}", *OPTIONS, *kernel.macros, *more)]
    code = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    text = bytearray(_call(nvrtc.nvrtcGetProgramLogSize, program))
    _call(nvrtc.nvrtcGetProgramLog, program, text)
    said = text.decode(errors="replace").strip("\0 \n")
    if int(code):
        raise DeviceError(f"nvrtcCompileProgram: {code.name} ({int(code)}): {' '.join(said.splitlines()[:1])}")
    cubin = bytearray(_call(nvrtc.nvrtcGetCUBINSize, program))
    _call(nvrtc.nvrtcGetCUBIN, program, cubin)
    _call(nvrtc.nvrtcDestroyProgram, program)
    return bytes(cubin), said


def _kept(kernel: Kernel, architecture: str) -> bytes:
    """The same cubin, from this user's cache where it was compiled before."""
    version = _call(_nvrtc().nvrtcVersion)
    key = "\0".join((read_source(), repr(version), architecture, *OPTIONS, *kernel.macros))
    folder = cache_folder()
    if folder is None:
        return compile_kernel(kernel, architecture)[0]
    file = folder / "kernels" / f"fit-{architecture}-{hashlib.sha256(key.encode()).hexdigest()}.cubin"
    try:
        return file.read_bytes()
    except OSError:
        log.info("compiling the fit for %s, once for regions of this shape", architecture)
    cubin, _ = compile_kernel(kernel, architecture)
    _keep(file, cubin)
    return cubin


def _keep(file: Path, data: bytes) -> None:
    """Writes a file whole or not at all; where it cannot be written, the next run makes it anew."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as half:
            half.write(data)
        Path(half.name).replace(file)
    except OSError as error:
        log.info("%s cannot be kept: %s", file, error)


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise MissingPackageError("cuda-bindings", "cuda", PURPOSE) from error
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise MissingPackageError("nvidia-cuda-nvrtc", "cuda", PURPOSE) from error
    return nvrtc


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise MissingPackageError("cuda-bindings", "cuda", PURPOSE) from error
    try:
        _call(driver.cuInit, 0)
    except RuntimeError as error:
        raise DeviceError("cuInit: no NVIDIA driver is installed") from error
    return driver


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of CUDA gives beside its error code; that is raised where it is one."""
    code, *values = function(*arguments)
    if int(code):
        raise DeviceError(f"{function.__name__}: {code.name} ({int(code)})")
    return values[0] if len(values) == 1 else tuple(values)


class _Device:
    """One GPU, by the context that all of a process share, with a stream of its own."""

    def __init__(self, ordinal: int) -> None:
        self.driver = driver = _driver()
        self._gpu = _call(driver.cuDeviceGet, ordinal)
        self._context = _call(driver.cuDevicePrimaryCtxRetain, self._gpu)
        self.enter()
        self.stream = _call(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self.architecture = f"sm_{self._about('COMPUTE_CAPABILITY_MAJOR')}{self._about('COMPUTE_CAPABILITY_MINOR')}"
        self.shared_bytes = self._about("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        slower = self._about("SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO")
        self.precision: Precision = "float64" if slower <= FULL_RATE else "float32"

    def enter(self) -> None:
        """Makes the calling thread's calls go to this GPU."""
        _call(self.driver.cuCtxSetCurrent, self._context)

    def close(self) -> None:
        _call(self.driver.cuStreamDestroy, self.stream)
        _call(self.driver.cuDevicePrimaryCtxRelease, self._gpu)

    def _about(self, attribute: str) -> int:
        name = getattr(self.driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{attribute}")
        return int(_call(self.driver.cuDeviceGetAttribute, name, self._gpu))


class _Room:
    """Memory that is kept from call to call, and grows by doubling; pinned on the host, or the device's."""

    def __init__(self, device: _Device, *, pinned: bool) -> None:
        self._driver, self._pinned = device.driver, pinned
        self._size = 0
        self.address = 0

    def at_least(self, size: int) -> int:
        """Its address, once it has so many bytes."""
        if size > self._size:
            self.close()
            wanted = max(SMALLEST_ROOM, 1 << (size - 1).bit_length())
            if self._pinned:
                self.address = int(_call(self._driver.cuMemHostAlloc, wanted, 0))
            else:
                self.address = int(_call(self._driver.cuMemAlloc, wanted))
            self._size = wanted
        return self.address

    def view(self, dtype: np.dtype[Any], count: int, offset: int = 0) -> NDArray[Any]:
        """Pinned memory as an array (count,) that begins at a byte."""
        return np.ndarray(count, dtype, memoryview((ctypes.c_ubyte * self._size).from_address(self.address)), offset)

    def close(self) -> None:
        if self._size:
            _call(self._driver.cuMemFreeHost if self._pinned else self._driver.cuMemFree, self.address)
        self.address = self._size = 0


class _Loaded(NamedTuple):
    """A kernel on a device: its function, and the bytes of shared memory, scratch and outside memory that a block takes."""

    kernel: Kernel
    function: Any
    shared: int
    scratch: int
    outside: int


class CudaSearch:
    """The search on an NVIDIA GPU, a block of threads a region; a search.Search, for one thread at a time.

    Regions of a new shape (T, H, W) are compiled for when they come first, which takes seconds, once on a machine.
    """

    def __init__(
        self,
        known: Known,
        shape: tuple[int, int, int] | None = None,
        precision: Precision | None = None,
        device: int = 0,
        lanes: int = LANES,
    ) -> None:
        """shape: (T, H, W) to be ready for; precision: of the arithmetic, None: float64 where the device is fast at it."""
        self._known, self._lanes = known, lanes
        self._device = _Device(device)
        self._precision = precision or self._device.precision
        self._sent, self._received = (_Room(self._device, pinned=True) for _ in range(2))
        self._regions, self._answers, self._scratch, self._outside = (_Room(self._device, pinned=False) for _ in range(4))
        self._arguments = np.zeros(5, np.uint64)  # what the kernel is called with, and where each of these stands
        self._pointers = self._arguments.ctypes.data + self._arguments.itemsize * np.arange(5, dtype=np.uint64)
        self._loaded: dict[tuple[int, ...], _Loaded] = {}
        if shape is not None:
            self._load(shape)

    def __call__(self, which: Ints, regions: Regions, answers: Answers) -> None:
        """Fills the rows `which` (n,) of the answers; none where it raises DeviceError."""
        if not len(which):
            return
        self._device.enter()
        loaded = self._loaded.get(regions.images.shape[1:]) or self._load(regions.images.shape[1:])
        found = self._run(loaded, which, regions)
        loaded.kernel.read_answers(found, which, answers)

    def close(self) -> None:
        """Gives back what it holds of the device."""
        self._device.enter()
        for room in (self._sent, self._received, self._regions, self._answers, self._scratch, self._outside):
            room.close()
        self._device.close()

    def _run(self, loaded: _Loaded, which: Ints, regions: Regions) -> NDArray[Any]:
        """The answers (n,), in pinned memory, of the regions `which` (n,)."""
        kernel, count, driver, stream = loaded.kernel, len(which), self._device.driver, self._device.stream
        sent, received = LOOK_ROOM + count * kernel.region.itemsize, count * kernel.answer.itemsize
        self._sent.at_least(sent)
        kernel.write_look(regions.times, self._sent.view(kernel.look, 1))
        kernel.write_regions(which, regions, self._sent.view(kernel.region, count, LOOK_ROOM))
        there, back = self._regions.at_least(sent), self._answers.at_least(received)
        scratch, outside = self._scratch.at_least(count * loaded.scratch), self._outside.at_least(count * loaded.outside)
        self._arguments[:] = there, there + LOOK_ROOM, back, scratch, outside
        here = self._received.at_least(received)
        _call(driver.cuMemcpyHtoDAsync, there, self._sent.address, sent, stream)
        grid, block = (count, 1, 1), (self._lanes, 1, 1)
        _call(driver.cuLaunchKernel, loaded.function, *grid, *block, loaded.shared, stream, self._pointers.ctypes.data, 0)
        _call(driver.cuMemcpyDtoHAsync, here, back, received, stream)
        _call(driver.cuStreamSynchronize, stream)
        return self._received.view(kernel.answer, count)

    def _load(self, shape: tuple[int, ...]) -> _Loaded:
        """The kernel for regions of this shape, with its working memory where there is room for it."""
        frames, height, width = shape
        for in_shared in (True, False):
            kernel = Kernel(self._known, (frames, height, width), self._precision, self._lanes, in_shared)
            module = _call(self._device.driver.cuModuleLoadData, _kept(kernel, self._device.architecture))
            scratch, work = self._sizes(module, kernel)
            if work <= self._device.shared_bytes or not in_shared:
                break
            _call(self._device.driver.cuModuleUnload, module)
        function = _call(self._device.driver.cuModuleGetFunction, module, b"search_each")
        if kernel.in_shared:
            name = self._device.driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _call(self._device.driver.cuFuncSetAttribute, function, name, work)
        loaded = _Loaded(kernel, function, work if kernel.in_shared else 0, scratch, 0 if kernel.in_shared else work)
        self._loaded[shape] = loaded
        return loaded

    def _sizes(self, module: Any, kernel: Kernel) -> tuple[int, int]:
        """Bytes of a block's scratch and working memory, once all else lies as is believed here."""
        address, size = _call(self._device.driver.cuModuleGetGlobal, module, b"sizes")
        sizes = np.zeros(int(size) // 4, np.uint32)
        _call(self._device.driver.cuMemcpyDtoH, sizes.ctypes.data, address, size)
        expected = [kernel.look.itemsize, kernel.region.itemsize, kernel.answer.itemsize]
        if sizes[:3].tolist() != expected:
            raise DeviceError(f"fit.cu: expected records of {expected} bytes, it has {sizes[:3].tolist()}")
        return int(sizes[3]), int(sizes[4])
