"""What this machine can do, and what is missing for what. Nothing that could crash is imported into this process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from irst_stream.errors import IrstError
from irst_stream.system.gpu_probe import CudaReport, ask_child, ask_cuda_driver, compiler_fault, extra_for
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import engines_folder
from irst_stream.unmix.backends import choose_backend
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.tensorrt_here import look_for_tensorrt
from irst_stream.version import __version__

__all__ = ["Ability", "Diagnosis", "diagnose"]

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "opencv-python-headless",
    "tifffile",
    "h5py",
    "msgspec",
    "pyzmq",
    "mcap",
    "isal",
    "prometheus-client",
    "psutil",
    "rich",
    "matplotlib",
    "imagecodecs",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-cu12",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-nvrtc-cu12",
)
VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx512_vnni", "avx2", "asimd", "sve")  # instruction sets worth naming
LONGEST_S = 30.0


@dataclass(frozen=True, slots=True)
class Ability:
    """Something irst-stream does, and what is missing for it here, "" where nothing is."""

    name: str
    missing: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """facts: (name, value) of the machine; packages: (name, version or ""); abilities."""

    facts: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    abilities: tuple[Ability, ...]


def diagnose() -> Diagnosis:
    """Looks around. Takes a second or two, since the driver and ONNX Runtime are asked in child processes."""
    packages = {name: _version(name) for name in PACKAGES}
    cuda, here = ask_cuda_driver(), look_for_tensorrt()
    tensorrt = here.place.tensorrt if here.place else packages["tensorrt"] or packages["tensorrt-cu12"]
    facts = (
        ("irst-stream", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
        ("processor", _processor()),
        ("cores", f"{usable_cores()} usable of {os.cpu_count()}"),
        ("memory", _memory()),
        ("GPU", _describe(cuda)),
        ("NVIDIA driver", cuda.version or ("of no known version" if cuda.gpus else "not loaded")),
        ("ONNX Runtime", _providers() if packages["onnxruntime"] or packages["onnxruntime-gpu"] else "not installed"),
        ("TensorRT", tensorrt or "not installed"),
        ("networks run by", _backend()),
    )
    return Diagnosis(facts, tuple(packages.items()), tuple(_abilities(packages, here.missing)))


def _abilities(packages: dict[str, str], tensorrt: str) -> list[Ability]:
    """tensorrt: what is missing for that."""

    def need(package: str, extra: str) -> str:
        return "" if packages[package] else f"{package}: pip install 'irst-stream[{extra}]'"

    return [
        Ability("generate, read, record and score data; find targets by network and fit, live too", ""),
        Ability("draw pictures", need("matplotlib", "plot")),
        Ability("read compressed TIFF", need("imagecodecs", "tiff")),
        Ability("train and import engines, run them by PyTorch", need("torch", "train")),
        Ability("export engines", need("onnx", "onnx")),
        Ability("run engines by OpenVINO, in half precision too", need("openvino", "openvino")),
        Ability("fit many regions on an NVIDIA GPU", _fit_on_gpu()),
        Ability("build TensorRT plans and run them", tensorrt and f"a GPU that TensorRT works on: {tensorrt}"),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, *names: str) -> str:
    """The value of the first line "name : value" with one of these names."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _processor() -> str:
    text = _read("/proc/cpuinfo")
    flags = set(_field(text, "flags", "Features").split())
    vectors = ", ".join(name for name in VECTORS if name in flags)
    name = _field(text, "model name", "Model") or platform.processor() or platform.machine()
    return f"{name} ({vectors})" if vectors else name


def _memory() -> str:
    text = _read("/proc/meminfo")
    total, free = (int(_field(text, name).split()[0]) if _field(text, name) else 0 for name in ("MemTotal", "MemAvailable"))
    return f"{total / 2**20:.1f} GiB, {free / 2**20:.1f} GiB available" if total else "unknown"


def _backend() -> str:
    """What backend "auto" takes for the engines that come along, and why."""
    told = {}
    for folder in sorted(path.parent for path in engines_folder().glob("*/manifest.toml")):
        try:
            told[folder.name] = choose_backend(read_engine(folder), "auto").words
        except IrstError as error:
            told[folder.name] = str(error)
    same = set(told.values())
    return same.pop() if len(same) == 1 else "; ".join(f"{name} by {words}" for name, words in told.items())


def _describe(cuda: CudaReport) -> str:
    if not cuda.gpus:
        return f"none: {cuda.reason}"
    gpus = (f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, compute {gpu.capability}" for gpu in cuda.gpus)
    return f"{'; '.join(gpus)}; CUDA {cuda.cuda}"


def _fit_on_gpu() -> str:
    """What is missing for that."""
    cuda = ask_cuda_driver()
    if not cuda.gpus:
        return f"a GPU: {cuda.reason}"
    version, missing = _told("from cuda.bindings import nvrtc; print(*nvrtc.nvrtcVersion()[1:])")
    if missing:
        return f"cuda-bindings and NVRTC: pip install 'irst-stream[{extra_for(cuda.cuda, 'cuda')}]'"
    fault = compiler_fault([int(part) for part in version], cuda.cuda)
    return fault and f"a driver and an NVRTC that go together: {fault}"


def _providers() -> str:
    """ONNX Runtime's execution providers."""
    told, fault = _told("import onnxruntime as o; print(o.__version__, *o.get_available_providers())")
    if fault:
        return f"installed, but does not start ({fault})"
    version, *providers = told or ["installed"]
    return f"{version}: {', '.join(providers)}"


def _told(code: str) -> tuple[list[str], str]:
    """The words that a few lines of Python print in a process of their own, or why they print none."""
    try:
        child = ask_child([sys.executable, "-I", "-c", code], LONGEST_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return [], str(error)
    return ([], f"exit code {child.code}") if child.code else (child.said.split(), "")
