"""The search for targets on an NVIDIA GPU: NVRTC compiles fit.cu for the GPU present, the CUDA driver runs it.

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
from irst_stream.fit.compiled import UNIFORM, FitPriors, PsfBank
from irst_stream.fit.cuda_layout import Kernel, Precision, read_source
from irst_stream.fit.search import FitResults, RegionBatch
from irst_stream.system.cuda import Device, Memory, Pinned, Stream, call, driver
from irst_stream.system.gpu_probe import ask_cuda_driver, nvrtc_mismatch, pip_extra
from irst_stream.system.private_files import cache_folder, read_private, write_private
from irst_stream.types import Ints

__all__ = ["CudaSearch", "architecture_of", "compile_kernel"]

LANES = 128  # threads of a block; a block searches one region
MAX_FLOAT64_COST = 4  # a GPU whose float64 is slower than its float32 by a larger factor runs in float32
MIN_BYTES = 2**16  # size of a buffer at first
RESERVED_REGIONS = 64  # of the shape given at construction: memory for these is reserved beforehand
OPTIONS = ("-std=c++17",)
log = logging.getLogger(__name__)
Buffer = TypeVar("Buffer", Pinned, Memory)


def compile_kernel(kernel: Kernel, architecture: str, *extra_options: str) -> tuple[bytes, str]:
    """Compile a kernel; return its image and the compiler's log.

    architecture: "sm_90" for instance gives a cubin, "compute_90" PTX; extra_options: of NVRTC.
    """
    nvrtc = _nvrtc()
    program = call(nvrtc.nvrtcCreateProgram, read_source().encode(), b"fit.cu", 0, [], [])
    options = [word.encode() for word in (f"-arch={architecture}", *OPTIONS, *kernel.macros, *extra_options)]
    code = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    text = bytearray(call(nvrtc.nvrtcGetProgramLogSize, program))
    call(nvrtc.nvrtcGetProgramLog, program, text)
    log_text = text.decode(errors="replace").strip("\0 \n")
    if int(code):
        raise DeviceError(f"nvrtcCompileProgram: {code.name}: {log_text.partition(chr(10))[0]}")
    is_ptx = architecture.startswith("compute_")
    size, get = (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX) if is_ptx else (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    image = bytearray(call(size, program))
    call(get, program, image)
    call(nvrtc.nvrtcDestroyProgram, program)
    return bytes(image), log_text


def _nvrtc() -> Any:
    from cuda.bindings import nvrtc

    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise MissingPackageError("NVRTC", pip_extra(ask_cuda_driver().cuda, "cuda"), "the fit on a GPU") from error
    return nvrtc


def architecture_of(capability: int) -> str:
    """The architecture for NVRTC to compile for, from a GPU's compute capability, for instance 90.

    For a GPU newer than NVRTC supports: PTX of the newest supported one, which the driver compiles for this GPU.
    """
    supported: list[int] = call(_nvrtc().nvrtcGetSupportedArchs)
    if capability in supported:
        return f"sm_{capability}"
    if capability < min(supported):
        raise DeviceError(f"compute capability {capability / 10:.1f}: NVRTC expects {min(supported) / 10:.1f} or newer")
    return f"compute_{max(architecture for architecture in supported if architecture < capability)}"


def _cached_cubin(kernel: Kernel, architecture: str, *, recompile: bool = False) -> bytes:
    """A kernel's cubin from this user's cache; compiled and stored where it is not there, or where recompile is set."""
    facts = (read_source(), repr(call(_nvrtc().nvrtcVersion)), architecture, *OPTIONS, *kernel.macros)
    key = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    path = cache_folder() / "kernels" / f"fit-{architecture}-{key}.cubin"
    if not recompile:
        with suppress(IrstError):
            return read_private(path)
    log.info("compiling the fit for %s and regions of %s, once on this machine", architecture, kernel.shape)
    image, _ = compile_kernel(kernel, architecture)
    try:
        write_private(path, image)
    except IrstError as error:
        log.info("cannot cache the compiled fit; every start compiles it again: %s", error)
    return image


def _module(kernel: Kernel, architecture: str) -> Any:
    """Load the kernel; recompile it where the cached cubin does not load."""
    try:
        return call(driver.cuModuleLoadData, _cached_cubin(kernel, architecture))
    except DeviceError as error:
        log.info("%s", error)
        return call(driver.cuModuleLoadData, _cached_cubin(kernel, architecture, recompile=True))


class _Loaded(NamedTuple):
    """A kernel on a GPU, and a block's bytes of shared memory, of scratch, and of working memory in global memory."""

    kernel: Kernel
    module: Any
    function: Any
    shared: int
    scratch: int
    global_work: int


class _GpuState:
    """A search's resources on a GPU: stream, buffers, and loaded kernels by shape."""

    def __init__(self) -> None:
        self.device = Device()
        fault = nvrtc_mismatch(call(_nvrtc().nvrtcVersion), ask_cuda_driver().cuda)
        if fault:
            raise DeviceError(fault)
        major, minor = (self.device.attribute(f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        self.architecture = architecture_of(10 * major + minor)
        self.stream = Stream()
        self.sent, self.received = Pinned((MIN_BYTES,), np.uint8), Pinned((MIN_BYTES,), np.uint8)
        self.regions, self.results, self.scratch, self.global_work = (Memory(MIN_BYTES) for _ in range(4))
        self.loaded: dict[tuple[tuple[int, ...], tuple[int, int]], _Loaded] = {}  # by the shape and the PSFs' size

    def reserve(self, loaded: _Loaded, count: int, psfs: int = 1) -> tuple[int, int]:
        """Grow the buffers for regions and PSFs where they are smaller; return the bytes to send and to receive."""
        sent, received = (
            loaded.kernel.header_bytes(psfs) + count * loaded.kernel.region_dtype.itemsize,
            count * loaded.kernel.result_dtype.itemsize,
        )
        self.sent, self.received = _at_least(self.sent, sent, _pinned), _at_least(self.received, received, _pinned)
        self.regions, self.results = _at_least(self.regions, sent, Memory), _at_least(self.results, received, Memory)
        self.scratch = _at_least(self.scratch, count * loaded.scratch, Memory)
        self.global_work = _at_least(self.global_work, count * loaded.global_work, Memory)
        return sent, received


def _at_least(buffer: Buffer, size: int, make: Callable[[int], Buffer]) -> Buffer:
    """The buffer, or a new one of the next power of two where it has fewer than `size` bytes."""
    return buffer if buffer.bytes >= size else make(1 << (size - 1).bit_length())


def _pinned(size: int) -> Pinned:
    return Pinned((size,), np.uint8)


class CudaSearch:
    """The search on an NVIDIA GPU, one block of threads per region; a search.Search, for one thread at a time.

    The first batch of a new shape (T, H, W) compiles a kernel for it, which takes seconds, once on a machine.
    """

    def __init__(
        self,
        fit_priors: FitPriors,
        shape: tuple[int, int, int] | None = None,
        precision: Precision | None = None,
        lanes: int = LANES,
    ) -> None:
        """shape: (T, H, W) to prepare for; precision: of the arithmetic, None for float64 where the GPU is fast at it."""
        self._fit_priors, self._lanes = fit_priors, lanes
        self._gpu = _GpuState()
        float64_cost = self._gpu.device.attribute("SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO")
        self._precision: Precision = precision or ("float64" if float64_cost <= MAX_FLOAT64_COST else "float32")
        self._arguments = np.zeros(5, np.uint64)  # the kernel's arguments, and a pointer to each
        self._pointers = self._arguments.ctypes.data + self._arguments.itemsize * np.arange(5, dtype=np.uint64)
        if shape is not None:
            self._gpu.reserve(self._load(shape, self._psf_size(UNIFORM)), RESERVED_REGIONS)

    def __call__(self, which: Ints, regions: RegionBatch, results: FitResults) -> None:
        """Fill the rows `which` (n,) of the results; where it raises DeviceError it fills none."""
        if not len(which):
            return
        self._gpu.device.use()
        shape, size = regions.images.shape[1:], self._psf_size(regions.psfs)
        loaded = self._gpu.loaded.get((shape, size)) or self._load(shape, size)
        loaded.kernel.read_results(self._run(loaded, which, regions), which, results)

    def _run(self, loaded: _Loaded, which: Ints, regions: RegionBatch) -> NDArray[Any]:
        """Search the regions `which` (n,); return their results (n,) of result_dtype, in pinned memory."""
        kernel, count, gpu, psfs = loaded.kernel, len(which), self._gpu, max(len(regions.psfs.sigma), 1)
        sent, received = gpu.reserve(loaded, count, psfs)
        header = kernel.header_bytes(psfs)
        priors = gpu.sent.array[: psfs * kernel.priors_dtype.itemsize].view(kernel.priors_dtype)
        kernel.write_priors(regions.psfs, priors)
        kernel.write_regions(which, regions, gpu.sent.array[header:sent].view(kernel.region_dtype))
        memories = gpu.results.address, gpu.scratch.address, gpu.global_work.address
        self._arguments[:] = gpu.regions.address, gpu.regions.address + header, *memories
        gpu.stream.upload(gpu.sent, gpu.regions, sent)
        grid, block, where = (count, 1, 1), (self._lanes, 1, 1), (loaded.shared, gpu.stream.handle)
        call(driver.cuLaunchKernel, loaded.function, *grid, *block, *where, self._pointers.ctypes.data, 0)
        gpu.stream.download(gpu.results, gpu.received, received)
        gpu.stream.synchronize()
        return gpu.received.array[:received].view(kernel.result_dtype)

    def _psf_size(self, psfs: PsfBank) -> tuple[int, int]:
        """The terms of each PSF of a bank, or of the priors' where it holds none, and the pieces of their profiles."""
        terms, pieces = psfs.columns.shape[1:3] if len(psfs.sigma) else self._fit_priors.shape.columns.shape[:2]
        return terms, pieces

    def _load(self, shape: tuple[int, ...], psf_size: tuple[int, int]) -> _Loaded:
        """Load the kernel for regions of this shape and PSFs of this size.

        Its working memory is in shared memory where that is large enough.
        """
        frames, height, width = shape
        room = self._gpu.device.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        for in_shared in (True, False):
            kernel = Kernel(self._fit_priors, (frames, height, width), self._precision, self._lanes, in_shared, psf_size)
            module = _module(kernel, self._gpu.architecture)
            scratch, work = _sizes(module, kernel)
            if work <= room or not in_shared:
                break
            call(driver.cuModuleUnload, module)
        function = call(driver.cuModuleGetFunction, module, b"search_regions")
        if kernel.in_shared:
            largest = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            call(driver.cuFuncSetAttribute, function, largest, work)
        shared, global_work = (work, 0) if kernel.in_shared else (0, work)
        self._gpu.loaded[shape, psf_size] = loaded = _Loaded(kernel, module, function, shared, scratch, global_work)
        return loaded


def _sizes(module: Any, kernel: Kernel) -> tuple[int, int]:
    """Return the bytes of a block's scratch and working memory; check that the structs have the sizes assumed here."""
    address, size = call(driver.cuModuleGetGlobal, module, b"sizes")
    sizes = np.zeros(int(size) // 4, np.uint32)
    call(driver.cuMemcpyDtoH, sizes.ctypes.data, address, size)
    expected = [kernel.priors_dtype.itemsize, kernel.region_dtype.itemsize, kernel.result_dtype.itemsize]
    if sizes[:3].tolist() != expected:
        raise DeviceError(f"fit.cu: expected structs of {expected} bytes, got {sizes[:3].tolist()}")
    return int(sizes[3]), int(sizes[4])
