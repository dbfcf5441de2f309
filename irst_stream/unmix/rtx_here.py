"""Find out whether TensorRT for RTX, by ONNX Runtime's plug-in, runs on this machine's GPU; a child process tries it."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from irst_stream.system.gpu_probe import ask_cuda_driver, pip_extra, try_library

__all__ = ["PACKAGE", "RtxPlatform", "RtxReport", "look_for_rtx", "runs_on"]

PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
WHEELS = ("onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime-ep-nv-tensorrt-rtx-cu12")
MACHINES = ("x86_64", "AMD64")
OLDEST_ONNX_RUNTIME = (1, 24)  # the first that takes plug-ins of this kind
CAPABILITIES = ((8, 6), (8, 9))  # that it runs on, besides all from 12.0 on: RTX 30, RTX 40; not 8.7 or 9.0
ALL_FROM = (12, 0)  # RTX 50
TIMEOUT_S = 60.0
PROBE = """
import sys
sys.path[:] = [path for path in sys.path if path]
from irst_stream.unmix.rtx import plugin_device
plugin_device()
"""
SERVES = "8.6, 8.9, or 12.0 and newer"


class RtxPlatform(NamedTuple):
    """What compiled kernels belong to: the plug-in's version, GPU name, compute capability, driver."""

    plugin: str
    gpu: str
    capability: str
    driver: str


class RtxReport(NamedTuple):
    """platform: None where the plug-in does not run; missing: why it does not, "" where it does.

    suited: whether the GPU is one that it runs on, so that only what is missing keeps it from running.
    """

    platform: RtxPlatform | None
    missing: str
    suited: bool


def runs_on(capability: str) -> bool:
    """Return whether TensorRT for RTX runs on GPUs of a compute capability like "8.9"."""
    major, _, minor = capability.partition(".")
    found = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
    return found in CAPABILITIES or found >= ALL_FROM


@lru_cache(maxsize=1)
def look_for_rtx() -> RtxReport:
    """Report whether the plug-in can run here; asked once per process. Never raises, never hangs."""
    cuda = ask_cuda_driver()
    if not cuda.gpus:
        return RtxReport(None, cuda.reason, suited=False)
    gpu = cuda.gpus[0]
    if not runs_on(gpu.capability):
        reason = f"{gpu.name} has compute capability {gpu.capability}; TensorRT for RTX needs {SERVES}"
        return RtxReport(None, reason, suited=False)
    extra = pip_extra(cuda.cuda, "rtx")
    plugin = next(filter(None, map(_version, WHEELS)), "")
    if find_spec(PACKAGE) is None and platform.machine() not in MACHINES:
        reason = f"ONNX Runtime's plug-in for RTX is made for {MACHINES[0]} alone; this machine is {platform.machine()}"
        return RtxReport(None, reason, suited=True)
    for package, name in ((PACKAGE, "ONNX Runtime's plug-in for RTX"), ("cuda", "cuda-bindings"), ("onnx", "onnx")):
        if find_spec(package) is None:
            return RtxReport(None, f"{name} is not installed: pip install 'irst-stream[{extra}]'", suited=True)
    installed = _version("onnxruntime") or _version("onnxruntime-gpu")
    if tuple(int(part) for part in installed.split(".")[:2] if part.isdecimal()) < OLDEST_ONNX_RUNTIME:
        oldest = ".".join(map(str, OLDEST_ONNX_RUNTIME))
        reason = f"ONNX Runtime {installed} takes no plug-ins; expected {oldest} or newer, on Python 3.11 or newer"
        return RtxReport(None, reason, suited=True)
    _, fault = try_library(PROBE, "ONNX Runtime's plug-in for RTX", TIMEOUT_S)
    if fault:
        return RtxReport(None, fault, suited=True)
    driver = ", ".join(filter(None, (cuda.version, f"CUDA {cuda.cuda}")))
    return RtxReport(RtxPlatform(plugin, gpu.name, gpu.capability, driver), "", suited=True)


def _version(wheel: str) -> str:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return ""
