"""A stand-in for the CUDA driver: its memory is the host's, its one kernel the search's source compiled by gcc.

For tests of what the host does with a driver: what memory it asks for, what it copies where, what it launches with.
"""

import ctypes
from functools import partial

from cuda.bindings import driver
from kernel_on_cpu import compile_by_gcc

ABOUT = {"COMPUTE_CAPABILITY_MAJOR": 9, "COMPUTE_CAPABILITY_MINOR": 0, "SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO": 2}
GIVES = {"cuDeviceGet": [0], "cuDevicePrimaryCtxRetain": ["context"], "cuStreamCreate": [driver.CUstream(7)]}
GIVES |= {name: [] for name in ("cuInit", "cuCtxSetCurrent", "cuStreamDestroy", "cuStreamSynchronize", "cuMemsetD8Async")}


class DriverOnCpu:
    """One device; fails_at: the name of a call that gives an error, "" for none; launched: blocks, lanes, shared memory."""

    CUdevice_attribute = driver.CUdevice_attribute
    CUfunction_attribute = driver.CUfunction_attribute
    CUstream_flags = driver.CUstream_flags

    def __init__(self):
        self.shared_bytes, self.fails_at, self.launched = 232448, "", []
        self.memory, self.shared_of = {}, {}

    def compile_into(self, folder):
        """What gives a kernel's "cubin": the path of a library."""

        def kept(kernel, architecture):
            assert architecture == "sm_90"
            out = folder / f"{hash(kernel)}.so"
            return str(out if out.exists() else compile_by_gcc(kernel, out, "-shared", "-fPIC")).encode()

        return kept

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)
        call = partial(self._call, name)
        call.__name__ = name
        return call

    def _call(self, name, *given):
        if name == self.fails_at:
            return (driver.CUresult.CUDA_ERROR_LAUNCH_FAILED, None)
        if name.startswith("cuMemcpy"):
            return self._copy(*given)
        if name in GIVES:
            return (driver.CUresult.CUDA_SUCCESS, *GIVES[name])
        answer = getattr(self, f"_{name[2:].lower()}")(*given)
        return (driver.CUresult.CUDA_SUCCESS, *answer)

    def _deviceprimaryctxreset(self, _):
        self.memory.clear()
        return []

    def _devicegetattribute(self, attribute, _):
        name = attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        return [self.shared_bytes if name == "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN" else ABOUT[name]]

    def _memalloc(self, size, *_):
        memory = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(memory)] = memory
        return [ctypes.addressof(memory)]

    _memhostalloc = _memalloc

    def _memfree(self, address):
        del self.memory[address]
        return []

    _memfreehost = _memfree

    def _copy(self, to, source, size, *stream):
        if stream:  # not of what a module has of its own
            assert all(self._is_allocated(address, size) for address in (to, source))
        ctypes.memmove(to, source, size)
        return [driver.CUresult.CUDA_SUCCESS]

    def _is_allocated(self, address, size):
        return any(start <= address and address + size <= start + len(m) for start, m in self.memory.items())

    def _moduleloaddata(self, path):
        return [ctypes.CDLL(path.decode())]

    def _moduleunload(self, _):
        return []

    def _modulegetglobal(self, library, name):
        sizes = (ctypes.c_uint * 5).in_dll(library, name.decode())
        return ctypes.addressof(sizes), ctypes.sizeof(sizes)

    def _modulegetfunction(self, library, name):
        assert name == b"search_each"
        return [library.launch]

    def _funcsetattribute(self, function, attribute, value):
        assert attribute == driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self.shared_of[id(function)] = value
        return []

    def _launchkernel(self, function, *given):
        blocks, _, _, lanes, _, _, shared, _, arguments, _ = given
        assert shared == self.shared_of.get(id(function), 0) <= self.shared_bytes
        function(blocks, ctypes.c_void_p(arguments))
        self.launched.append((blocks, lanes, shared))
        return []
