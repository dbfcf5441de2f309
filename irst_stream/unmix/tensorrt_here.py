"""Find out whether TensorRT works on this machine, in child processes, so that a crash cannot take this process down.

Without a GPU or a driver, TensorRT's objects exist but crash the process that uses them; so the CUDA driver is asked first.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

from irst_stream.system.gpu_probe import ask_cuda_driver, pip_extra, try_library
from irst_stream.unmix.plans import GpuPlatform

__all__ = ["TensorRtReport", "look_for_tensorrt"]

TIMEOUT_S = 60.0
PROBE = """
import sys
sys.path[:] = [path for path in sys.path if path]
import tensorrt
assert tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR)), "no builder"
print(tensorrt.__version__)
"""


class TensorRtReport(NamedTuple):
    """platform: where plans would run, None where TensorRT does not work; missing: why it does not, "" where it does."""

    platform: GpuPlatform | None
    missing: str


@lru_cache(maxsize=1)
def look_for_tensorrt() -> TensorRtReport:
    """Report whether TensorRT works here; probed once per process. Never raises, never hangs."""
    cuda = ask_cuda_driver()
    if not cuda.gpus:
        return TensorRtReport(None, cuda.reason)
    gpu = cuda.gpus[0]
    for package, wheel in (("tensorrt", "tensorrt"), ("cuda.bindings", "cuda-bindings")):
        if not _is_installed(package):
            extra = pip_extra(cuda.cuda, "tensorrt")
            return TensorRtReport(None, f"{wheel} is not installed: pip install 'irst-stream[{extra}]'")
    version, fault = try_library(PROBE, "TensorRT", TIMEOUT_S)
    if fault:
        return TensorRtReport(None, fault)
    driver = ", ".join(filter(None, (cuda.version, f"CUDA {cuda.cuda}")))
    return TensorRtReport(GpuPlatform(version, gpu.name, gpu.capability, driver), "")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
