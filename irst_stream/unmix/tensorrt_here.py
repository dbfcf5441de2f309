"""Whether TensorRT truly works on this machine, asked in child processes, so that what crashes does not take us along.

Without a GPU or a driver, TensorRT's objects exist and crash the process that uses them; so the CUDA driver is asked first.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

from irst_stream.system.gpu_probe import ask_child, ask_cuda_driver, extra_for
from irst_stream.unmix.plans import Place

__all__ = ["TensorRt", "look_for_tensorrt"]

LONGEST_S = 60.0
ASK = """
import sys
sys.path[:] = [path for path in sys.path if path]
import tensorrt
assert tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR)), "no builder"
print(tensorrt.__version__)
"""


class TensorRt(NamedTuple):
    """Where plans would run; where they cannot, None and why not, in words."""

    place: Place | None
    missing: str


@lru_cache(maxsize=1)
def look_for_tensorrt() -> TensorRt:
    """Asked once in a process. Never raises, never hangs."""
    cuda = ask_cuda_driver()
    if not cuda.gpus:
        return TensorRt(None, cuda.reason)
    gpu = cuda.gpus[0]
    for package, wheel in (("tensorrt", "tensorrt"), ("cuda.bindings", "cuda-bindings")):
        if not _is_installed(package):
            extra = extra_for(cuda.cuda, "tensorrt")
            return TensorRt(None, f"{wheel} is not installed: pip install 'irst-stream[{extra}]'")
    version, fault = _ask_tensorrt()
    if fault:
        return TensorRt(None, fault)
    driver = ", ".join(filter(None, (cuda.version, f"CUDA {cuda.cuda}")))
    return TensorRt(Place(version, gpu.name, gpu.capability, driver), "")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _ask_tensorrt() -> tuple[str, str]:
    """Its version, or why it does not work."""
    try:
        child = ask_child([sys.executable, "-c", ASK], LONGEST_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return "", f"TensorRT did not answer ({error})"
    said = (child.complained if child.code else child.said).split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    if child.code:
        return "", f"TensorRT does not start ({last or 'no word'}; exit code {child.code})"
    return last, ""
