"""Asks the CUDA driver which GPUs there are, in a process of its own, so that a broken driver cannot take ours down; and
what its version asks of the packages.
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

__all__ = ["Child", "CudaReport", "Gpu", "ask_child", "ask_cuda_driver", "compiler_fault", "extra_for"]

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # attributes of cuDeviceGetAttribute
OLDEST_CUDA = 12
LONGEST_S = 60.0  # a machine of many GPUs takes long to wake them
LONGEST_END_S = 1.0  # what is killed may hang in its driver, and never end


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name, memory in bytes, compute capability such as "9.0"."""

    name: str
    memory: int
    capability: str


@dataclass(frozen=True, slots=True)
class CudaReport:
    """The GPUs, the CUDA version the driver speaks ("" without one), and why there are none ("" where there are).

    version: the driver's own, "" where the system does not tell.
    """

    gpus: tuple[Gpu, ...]
    cuda: str
    reason: str
    version: str = ""


class Child(NamedTuple):
    """How a program ended, and what it said."""

    code: int
    said: str
    complained: str


def ask_child(command: Sequence[str], longest_s: float) -> Child:
    """Runs a program to its end. Raises OSError, or TimeoutExpired, also where it does not even end when it is killed."""
    pipe = subprocess.PIPE
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace")
    try:
        said, complained = running.communicate(timeout=longest_s)
    except subprocess.TimeoutExpired:
        running.kill()
        with suppress(subprocess.TimeoutExpired):
            running.wait(LONGEST_END_S)
        for stream in filter(None, (running.stdout, running.stderr)):
            stream.close()
        raise
    return Child(running.returncode, said, complained)


def extra_for(cuda: str, name: str) -> str:
    """The extra of that name for a driver that speaks this version of CUDA, such as "12.8"; "" where there is none."""
    return f"{name}12" if cuda.startswith("12.") else name


def compiler_fault(nvrtc: Sequence[int], cuda: str) -> str:
    """Why a driver that speaks this version of CUDA loads nothing that this version of NVRTC makes; "" where it does."""
    (major, minor), spoken = nvrtc, int(cuda.partition(".")[0])
    if spoken < OLDEST_CUDA:
        return f"the driver is of CUDA {cuda}; expected {OLDEST_CUDA} or newer"
    if major <= spoken:
        return ""
    return (
        f"NVRTC {major}.{minor} makes kernels for drivers of CUDA {major}, this one is of CUDA {cuda}: "
        f"pip uninstall nvidia-cuda-nvrtc, then pip install 'irst-stream[{extra_for(cuda, 'cuda')}]'"
    )


@lru_cache(maxsize=1)
def ask_cuda_driver() -> CudaReport:
    """Loads and initialises the driver in a child process, once in this one. Never raises, never hangs."""
    try:
        child = ask_child([sys.executable, "-I", __file__], LONGEST_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return CudaReport((), "", f"the driver did not answer ({error})")
    if child.code:
        return CudaReport((), "", f"the driver crashed when asked (exit code {child.code})")
    try:
        answer = json.loads(child.said.splitlines()[-1])
        gpus = tuple(Gpu(**gpu) for gpu in answer["gpus"])
        return CudaReport(gpus, answer["cuda"], answer["reason"], _driver_version())
    except (ValueError, IndexError, KeyError, TypeError) as error:
        return CudaReport((), "", f"the driver's answer makes no sense ({error})")


def _driver_version() -> str:
    """As the kernel tells it, such as "580.65.06"; "" where it does not, as on a Jetson."""
    try:
        told = Path("/proc/driver/nvidia/version").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", told)
    return found.group() if found else ""


def _load() -> ctypes.CDLL | None:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _answer() -> dict[str, object]:
    driver = _load()
    if driver is None:
        return {"gpus": [], "cuda": "", "reason": "no NVIDIA driver is installed"}
    code = driver.cuInit(0)
    if code:
        return {"gpus": [], "cuda": "", "reason": f"the NVIDIA driver does not start (cuInit says {code})"}
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
    print(json.dumps(_answer()))
