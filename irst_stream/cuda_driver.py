"""Asks the CUDA driver which GPUs there are, in a process of its own, so that a broken driver cannot take ours down."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["CudaReport", "Gpu", "ask_cuda_driver"]

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # attributes of cuDeviceGetAttribute
LONGEST_S = 20.0


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


@lru_cache(maxsize=1)
def ask_cuda_driver() -> CudaReport:
    """Loads and initialises the driver in a child process, once in this one. Never raises, never hangs."""
    try:
        child = subprocess.run(
            [sys.executable, "-I", __file__], capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return CudaReport((), "", f"the driver did not answer ({error})")
    if child.returncode:
        return CudaReport((), "", f"the driver crashed when asked (exit code {child.returncode})")
    try:
        answer = json.loads(child.stdout.splitlines()[-1])
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
