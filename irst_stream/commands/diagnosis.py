"""What this machine can do, and what each missing ability needs. Drivers are probed in child processes: they may crash."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from irst_stream.errors import IrstError
from irst_stream.system.gpu_probe import CudaReport, ask_cuda_driver, nvrtc_mismatch, pip_extra, run_child
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import engines_folder
from irst_stream.unmix.backends import choose_backend
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.rtx_here import look_for_rtx
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
    "mcos-decoder",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-cu12",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "onnxruntime-ep-nv-tensorrt-rtx-cu12",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-nvrtc-cu12",
)
INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx512_vnni", "avx2", "asimd", "sve")  # that decide the speed
PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Ability:
    """Something irst-stream can do, and what it lacks on this machine; missing is "" if it works."""

    name: str
    missing: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The machine's facts (name, value), packages (name, version, "" if not installed), and abilities."""

    facts: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    abilities: tuple[Ability, ...]


def diagnose() -> Diagnosis:
    """Examine this machine. Takes a second or two: the driver and ONNX Runtime are probed in child processes."""
    packages = {name: _version(name) for name in PACKAGES}
    cuda, here = ask_cuda_driver(), look_for_tensorrt()
    tensorrt = here.platform.tensorrt if here.platform else packages["tensorrt"] or packages["tensorrt-cu12"]
    facts = (
        ("irst-stream", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
        ("processor", _processor()),
        ("cores", f"{usable_cores()} usable of {os.cpu_count()}"),
        ("memory", _memory()),
        ("GPU", _describe_gpus(cuda)),
        ("NVIDIA driver", cuda.version or ("unknown version" if cuda.gpus else "not loaded")),
        ("ONNX Runtime", _providers() if packages["onnxruntime"] or packages["onnxruntime-gpu"] else "not installed"),
        ("TensorRT", tensorrt or "not installed"),
        ("networks run by", _backend()),
    )
    return Diagnosis(facts, tuple(packages.items()), tuple(_abilities(packages, here.missing)))


def _abilities(packages: dict[str, str], tensorrt: str) -> list[Ability]:
    """List the abilities; tensorrt: what TensorRT lacks, "" if it works."""

    def need(package: str, extra: str) -> str:
        return "" if packages[package] else f"{package}: pip install 'irst-stream[{extra}]'"

    return [
        Ability("generate, read, record and score data; find targets by network and fit, live too", ""),
        Ability("draw pictures", need("matplotlib", "plot")),
        Ability("read compressed TIFF", need("imagecodecs", "tiff")),
        Ability("read FLIR's .csq recordings", need("imagecodecs", "flir")),
        Ability("read truth from MATLAB's groundTruth objects", need("mcos-decoder", "matlab")),
        Ability("train and import engines, run them with PyTorch", need("torch", "train")),
        Ability("export engines", need("onnx", "onnx")),
        Ability("run engines with OpenVINO, also in half precision", need("openvino", "openvino")),
        Ability("fit many regions on an NVIDIA GPU", _fit_on_gpu()),
        Ability("run engines on an RTX GPU, without plans", _rtx()),
        Ability("build and run TensorRT plans", tensorrt and f"a GPU that TensorRT works on: {tensorrt}"),
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
    """Return the value of the first line "name : value" with one of these names, "" if there is none."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _processor() -> str:
    """The processor's name and its instruction sets."""
    text = _read("/proc/cpuinfo")
    flags = set(_field(text, "flags", "Features").split())
    instruction_sets = ", ".join(name for name in INSTRUCTION_SETS if name in flags)
    name = _field(text, "model name", "Model") or platform.processor() or platform.machine()
    return f"{name} ({instruction_sets})" if instruction_sets else name


def _memory() -> str:
    text = _read("/proc/meminfo")
    total, free = (int(_field(text, name).split()[0]) if _field(text, name) else 0 for name in ("MemTotal", "MemAvailable"))
    return f"{total / 2**20:.1f} GiB, {free / 2**20:.1f} GiB available" if total else "unknown"


def _backend() -> str:
    """The backend that "auto" chooses for the bundled engines, and why, with the engines' names where they differ."""
    reasons: dict[str, list[str]] = {}
    for folder in sorted(path.parent for path in engines_folder().glob("*/manifest.toml")):
        try:
            reason = choose_backend(read_engine(folder), "auto").description
        except IrstError as error:
            reason = str(error)
        reasons.setdefault(reason, []).append(folder.name)
    if len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())


def _describe_gpus(cuda: CudaReport) -> str:
    """The GPUs with memory and compute capability, or why there are none."""
    if not cuda.gpus:
        return f"none: {cuda.reason}"
    gpus = (f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, compute {gpu.capability}" for gpu in cuda.gpus)
    return f"{'; '.join(gpus)}; CUDA {cuda.cuda}"


def _fit_on_gpu() -> str:
    """What the fit on a GPU lacks, "" if it works."""
    cuda = ask_cuda_driver()
    if not cuda.gpus:
        return f"a GPU: {cuda.reason}"
    version, missing = _run_python("from cuda.bindings import nvrtc; print(*nvrtc.nvrtcVersion()[1:])")
    if missing:
        return f"cuda-bindings and NVRTC: pip install 'irst-stream[{pip_extra(cuda.cuda, 'cuda')}]'"
    fault = nvrtc_mismatch([int(part) for part in version], cuda.cuda)
    return fault and f"a matching NVIDIA driver and NVRTC: {fault}"


def _rtx() -> str:
    """What TensorRT for RTX lacks, "" if it runs here."""
    here = look_for_rtx()
    return here.missing and f"{'TensorRT for RTX' if here.suited else 'an RTX GPU'}: {here.missing}"


def _providers() -> str:
    """ONNX Runtime's version and execution providers, or why it fails."""
    output, fault = _run_python("import onnxruntime as o; print(o.__version__, *o.get_available_providers())")
    if fault:
        return f"installed, but fails to start ({fault})"
    version, *providers = output or ["installed"]
    return f"{version}: {', '.join(providers)}"


def _run_python(code: str) -> tuple[list[str], str]:
    """Run Python code in a child process: the words it prints, and why it failed ("" if it did not)."""
    try:
        child = run_child([sys.executable, "-I", "-c", code], PROBE_TIMEOUT_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return [], str(error)
    return ([], f"exit code {child.exit_code}") if child.exit_code else (child.stdout.split(), "")
