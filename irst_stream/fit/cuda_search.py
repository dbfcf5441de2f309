"""The search for targets on a GPU: fit.cu, compiled by NVRTC for the GPU at hand and run by the CUDA driver.

Needs the packages of the extra "cuda" and an NVIDIA driver.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import DeviceError, IrstError, MissingPackageError
from irst_stream.fit.cuda_layout import Kernel, Precision, read_source
from irst_stream.fit.search import FitPriors, FitResults, RegionBatch
from irst_stream.system.cuda import Device, Memory, Pinned, Stream, call, driver
from irst_stream.system.gpu_probe import ask_cuda_driver, compiler_fault, extra_for
from irst_stream.system.private_files import cache_folder, read_private, write_private
from irst_stream.types import Ints

__all__ = ["CudaSearch", "architecture_of", "compile_kernel"]

LANES = 128  # of a block, which searches one region
FULL_RATE = 4  # a GPU whose float64 is slower than its float32 by more than that is given float32
LOOK_ROOM = 1024  # bytes: where the regions begin in what is uploaded
SMALLEST_ROOM = 2**16  # bytes
READY = 64  # regions: so many, of the shape that is known beforehand, need no more memory
OPTIONS = ("-std=c++17",)
log = logging.getLogger(__name__)
WarmStart = TypeVar("WarmStart", Pinned, Memory)


def compile_kernel(kernel: Kernel, architecture: str, *more: str) -> tuple[bytes, str]:
    """A kernel for an architecture, and the compiler's log: the cubin for one such as "sm_90", the PTX for "compute_90".

    more: options of NVRTC.
    """
    nvrtc = _nvrtc()
    program = call(nvrtc.nvrtcCreateProgram, read_source().encode(), b"fit.cu", 0, [], [])
    options = [word.encode() for word in (f"-arch={architecture}", *OPTIONS, *kernel.macros, *more)]
    code = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    text = bytearray(call(nvrtc.nvrtcGetProgramLogSize, program))
    call(nvrtc.nvrtcGetProgramLog, program, text)
    said = text.decode(errors="replace").strip("\0 \n")
    if int(code):
        raise DeviceError(f"nvrtcCompileProgram: {code.name}: {said.partition(chr(10))[0]}")
    is_ptx = architecture.startswith("compute_")
    size, get = (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX) if is_ptx else (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    image = bytearray(call(size, program))
    call(get, program, image)
    call(nvrtc.nvrtcDestroyProgram, program)
    return bytes(image), said


def _nvrtc() -> Any:
    from cuda.bindings import nvrtc

    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise MissingPackageError("NVRTC", extra_for(ask_cuda_driver().cuda, "cuda"), "the fit on a GPU") from error
    return nvrtc


def architecture_of(capability: int) -> str:
    """What NVRTC is to compile for, by a GPU's compute capability, such as 90.

    For a GPU that is newer than it knows, the newest that is older, in PTX, which the driver compiles for this one.
    """
    known: list[int] = call(_nvrtc().nvrtcGetSupportedArchs)
    if capability in known:
        return f"sm_{capability}"
    if capability < min(known):
        raise DeviceError(f"compute capability {capability / 10:.1f}: NVRTC expects {min(known) / 10:.1f} or newer")
    return f"compute_{max(one for one in known if one < capability)}"


def _kept(kernel: Kernel, architecture: str, *, again: bool = False) -> bytes:
    """The same, from this user's cache where it was compiled before; again: compiled anew."""
    facts = (read_source(), repr(call(_nvrtc().nvrtcVersion)), architecture, *OPTIONS, *kernel.macros)
    key = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    path = cache_folder() / "kernels" / f"fit-{architecture}-{key}.cubin"
    if not again:
        with suppress(IrstError):
            return read_private(path)
    log.info("compiling the fit for %s and regions of %s, once on this machine", architecture, kernel.shape)
    image, _ = compile_kernel(kernel, architecture)
    try:
        write_private(path, image)
    except IrstError as error:
        log.info("the fit is compiled anew at each start: %s", error)
    return image


def _module(kernel: Kernel, architecture: str) -> Any:
    """The kernel, loaded; compiled anew where what was kept does not load."""
    try:
        return call(driver.cuModuleLoadData, _kept(kernel, architecture))
    except DeviceError as error:
        log.info("%s", error)
        return call(driver.cuModuleLoadData, _kept(kernel, architecture, again=True))


class _Loaded(NamedTuple):
    """A kernel on a GPU: its function, and the bytes of shared memory, scratch and outside memory that a block takes."""

    kernel: Kernel
    module: Any
    function: Any
    shared: int
    scratch: int
    outside: int


class _OnDevice:
    """All that a search has on a GPU."""

    def __init__(self) -> None:
        self.device = Device()
        fault = compiler_fault(call(_nvrtc().nvrtcVersion), ask_cuda_driver().cuda)
        if fault:
            raise DeviceError(fault)
        major, minor = (self.device.about(f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        self.architecture = architecture_of(10 * major + minor)
        self.stream = Stream()
        self.sent, self.received = Pinned((SMALLEST_ROOM,), np.uint8), Pinned((SMALLEST_ROOM,), np.uint8)
        self.regions, self.answers, self.scratch, self.outside = (Memory(SMALLEST_ROOM) for _ in range(4))
        self.loaded: dict[tuple[int, ...], _Loaded] = {}

    def make_room(self, loaded: _Loaded, count: int) -> tuple[int, int]:
        """Room for so many regions; what is larger already stays. The bytes that are sent and received for them."""
        sent, received = LOOK_ROOM + count * loaded.kernel.region.itemsize, count * loaded.kernel.answer.itemsize
        self.sent, self.received = _grown(self.sent, sent, _pinned), _grown(self.received, received, _pinned)
        self.regions, self.answers = _grown(self.regions, sent, Memory), _grown(self.answers, received, Memory)
        self.scratch = _grown(self.scratch, count * loaded.scratch, Memory)
        self.outside = _grown(self.outside, count * loaded.outside, Memory)
        return sent, received


def _grown(held: WarmStart, size: int, make: Callable[[int], WarmStart]) -> WarmStart:
    """Memory of so many bytes at least: what is held, or twice as much or more."""
    return held if held.bytes >= size else make(1 << (size - 1).bit_length())


def _pinned(size: int) -> Pinned:
    return Pinned((size,), np.uint8)


class CudaSearch:
    """The search on an NVIDIA GPU, a block of threads a region; a search.Search, for one thread at a time.

    RegionBatch of a new shape (T, H, W) are compiled for when they first come, which takes seconds, once on a machine.
    """

    def __init__(
        self,
        known: FitPriors,
        shape: tuple[int, int, int] | None = None,
        precision: Precision | None = None,
        lanes: int = LANES,
    ) -> None:
        """shape: (T, H, W) to be ready for; precision: of the arithmetic, None: float64 where the GPU is fast at it."""
        self._known, self._lanes = known, lanes
        self._there = _OnDevice()
        slower = self._there.device.about("SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO")
        self._precision: Precision = precision or ("float64" if slower <= FULL_RATE else "float32")
        self._arguments = np.zeros(5, np.uint64)  # what the kernel is called with, and where each of these stands
        self._pointers = self._arguments.ctypes.data + self._arguments.itemsize * np.arange(5, dtype=np.uint64)
        if shape is not None:
            self._there.make_room(self._load(shape), READY)

    def __call__(self, which: Ints, regions: RegionBatch, answers: FitResults) -> None:
        """Fills the rows `which` (n,) of the answers; none where it raises DeviceError."""
        if not len(which):
            return
        self._there.device.use()
        shape = regions.images.shape[1:]
        loaded = self._there.loaded.get(shape) or self._load(shape)
        loaded.kernel.read_answers(self._run(loaded, which, regions), which, answers)

    def _run(self, loaded: _Loaded, which: Ints, regions: RegionBatch) -> NDArray[Any]:
        """The answers (n,), in pinned memory, of the regions `which` (n,)."""
        kernel, count, there = loaded.kernel, len(which), self._there
        sent, received = there.make_room(loaded, count)
        kernel.write_look(there.sent.array[: kernel.look.itemsize].view(kernel.look))
        kernel.write_regions(which, regions, there.sent.array[LOOK_ROOM:sent].view(kernel.region))
        memories = there.answers.address, there.scratch.address, there.outside.address
        self._arguments[:] = there.regions.address, there.regions.address + LOOK_ROOM, *memories
        there.stream.upload(there.sent, there.regions, sent)
        grid, block, where = (count, 1, 1), (self._lanes, 1, 1), (loaded.shared, there.stream.handle)
        call(driver.cuLaunchKernel, loaded.function, *grid, *block, *where, self._pointers.ctypes.data, 0)
        there.stream.download(there.answers, there.received, received)
        there.stream.synchronize()
        return there.received.array[:received].view(kernel.answer)

    def _load(self, shape: tuple[int, ...]) -> _Loaded:
        """The kernel for regions of this shape, with its working memory in shared memory where that has room for it."""
        frames, height, width = shape
        room = self._there.device.about("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        for in_shared in (True, False):
            kernel = Kernel(self._known, (frames, height, width), self._precision, self._lanes, in_shared)
            module = _module(kernel, self._there.architecture)
            scratch, work = _sizes(module, kernel)
            if work <= room or not in_shared:
                break
            call(driver.cuModuleUnload, module)
        function = call(driver.cuModuleGetFunction, module, b"search_each")
        if kernel.in_shared:
            largest = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            call(driver.cuFuncSetAttribute, function, largest, work)
        shared, outside = (work, 0) if kernel.in_shared else (0, work)
        self._there.loaded[shape] = loaded = _Loaded(kernel, module, function, shared, scratch, outside)
        return loaded


def _sizes(module: Any, kernel: Kernel) -> tuple[int, int]:
    """Bytes of a block's scratch and working memory, once all else lies as is believed here."""
    address, size = call(driver.cuModuleGetGlobal, module, b"sizes")
    sizes = np.zeros(int(size) // 4, np.uint32)
    call(driver.cuMemcpyDtoH, sizes.ctypes.data, address, size)
    expected = [kernel.look.itemsize, kernel.region.itemsize, kernel.answer.itemsize]
    if sizes[:3].tolist() != expected:
        raise DeviceError(f"fit.cu: expected records of {expected} bytes, it has {sizes[:3].tolist()}")
    return int(sizes[3]), int(sizes[4])
