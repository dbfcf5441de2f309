"""Ask the CUDA driver for its GPUs in a child process, so that a broken driver cannot crash this one.

Also says which packages fit the driver's CUDA version.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["ChildResult", "CudaReport", "Gpu", "ask_cuda_driver", "nvrtc_mismatch", "pip_extra", "run_child", "try_library"]

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # attributes of cuDeviceGetAttribute
OLDEST_CUDA = 12
TIMEOUT_S = 60.0  # initialising many GPUs takes long
KILL_TIMEOUT_S = 1.0  # a killed process may hang in the driver and never end


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name, memory in bytes, compute capability like "9.0"."""

    name: str
    memory: int
    capability: str


@dataclass(frozen=True, slots=True)
class CudaReport:
    """What the CUDA driver reports.

    gpus:    empty if there is none that works
    cuda:    the CUDA version that the driver supports, "" without a driver
    reason:  why there are no GPUs, "" if there are
    version: the driver's own version, "" if the system does not report it
    """

    gpus: tuple[Gpu, ...]
    cuda: str
    reason: str
    version: str = ""


class ChildResult(NamedTuple):
    """The exit code and output of a child process."""

    exit_code: int
    stdout: str
    stderr: str


def run_child(command: Sequence[str], timeout_s: float) -> ChildResult:
    """Run a program to its end; raise OSError if it cannot start, TimeoutExpired if it does not end within timeout_s.

    A program that times out is killed, but not waited for if it hangs even then.
    """
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace")
    try:
        stdout, stderr = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(KILL_TIMEOUT_S)
        for stream in filter(None, (child.stdout, child.stderr)):
            stream.close()
        raise
    return ChildResult(child.returncode, stdout, stderr)


def try_library(code: str, name: str, timeout_s: float) -> tuple[str, str]:
    """Run Python code that uses a GPU's library in a child process: the last line that it prints, and why it failed.

    The first is "" where it failed, the second where it did not. name: the library's, for the reason.
    """
    try:
        child = run_child([sys.executable, "-c", code], timeout_s)
    except (subprocess.TimeoutExpired, OSError) as error:
        return "", f"{name} did not answer ({error})"
    output = (child.stderr if child.exit_code else child.stdout).split("\n")
    last_line = next((line.strip() for line in reversed(output) if line.strip()), "")
    if child.exit_code:
        return "", f"{name} does not start ({last_line or 'no error message'}; exit code {child.exit_code})"
    return last_line, ""


def pip_extra(cuda: str, name: str) -> str:
    """Return the name of a pip extra for the driver's CUDA version ("12.8", "" without a driver): suffix 12 for CUDA 12."""
    return f"{name}12" if cuda.startswith("12.") else name


def nvrtc_mismatch(nvrtc: Sequence[int], cuda: str) -> str:
    """Explain why a driver of a CUDA version cannot load kernels compiled by a version of NVRTC; "" if it can."""
    (major, minor), driver_major = nvrtc, int(cuda.partition(".")[0])
    if driver_major < OLDEST_CUDA:
        return f"the driver supports CUDA {cuda}; expected {OLDEST_CUDA} or newer"
    if major <= driver_major:
        return ""
    return (
        f"NVRTC {major}.{minor} compiles for drivers of CUDA {major}, but this driver supports CUDA {cuda}: "
        f"pip uninstall nvidia-cuda-nvrtc, then pip install 'irst-stream[{pip_extra(cuda, 'cuda')}]'"
    )


@lru_cache(maxsize=1)
def ask_cuda_driver() -> CudaReport:
    """Report the driver's GPUs, found by a child process, once in this process. Never raises, never hangs."""
    try:
        child = run_child([sys.executable, "-I", __file__], TIMEOUT_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return CudaReport((), "", f"the NVIDIA driver did not answer ({error})")
    if child.exit_code:
        return CudaReport((), "", f"the GPU probe crashed in the driver (exit code {child.exit_code})")
    try:
        answer = json.loads(child.stdout.splitlines()[-1])
        gpus = tuple(Gpu(**gpu) for gpu in answer["gpus"])
        return CudaReport(gpus, answer["cuda"], answer["reason"], _driver_version())
    except (ValueError, IndexError, KeyError, TypeError) as error:
        return CudaReport((), "", f"unexpected output from the GPU probe ({error})")


def _driver_version() -> str:
    """Return the driver's version from /proc, like "580.65.06"; "" if it is not there, as on a Jetson."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return found.group() if found else ""


def _load_driver() -> ctypes.CDLL | None:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _probe() -> dict[str, object]:
    driver = _load_driver()
    if driver is None:
        return {"gpus": [], "cuda": "", "reason": "no NVIDIA driver is installed"}
    code = driver.cuInit(0)
    if code:
        return {"gpus": [], "cuda": "", "reason": f"the NVIDIA driver does not start (cuInit returned {code})"}
    version, devices = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(devices))
    gpus = [_gpu(driver, k) for k in range(devices.value)]
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return {"gpus": gpus, "cuda": cuda, "reason": "" if gpus else "the NVIDIA driver sees no GPU"}


def _gpu(driver: ctypes.CDLL, ordinal: int) -> dict[str, object]:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), ordinal)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    parts = []
    for attribute in (COMPUTE_MAJOR, COMPUTE_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(str(value.value))
    return {"name": name.value.decode(errors="replace"), "memory": memory.value, "capability": ".".join(parts)}


if __name__ == "__main__":
    print(json.dumps(_probe()))
