"""Choose the backend that runs an engine, by name or the best available one, and build its Unmixers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from irst_stream.errors import UsageError
from irst_stream.protocols import Unmixer
from irst_stream.unmix.engine import DEREFNET, Engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.plans import GpuPlatform, Plans, Precision, find_plans, read_plans
from irst_stream.unmix.settings import Backend
from irst_stream.unmix.single_frame import GraphUnmixer
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

__all__ = ["TENSORRT_PRECISIONS", "BackendChoice", "build_unmixer", "choose_backend", "fallback_unmixers"]


TENSORRT_PRECISIONS: Mapping[str, Precision] = {  # the precision of each TensorRT backend
    "tensorrt": "fp16",
    "tensorrt-fp32": "fp32",
    "tensorrt-int8": "int8",
}


def _onnx(engine: Engine, threads: int, form: str) -> Unmixer:
    from irst_stream.unmix.onnx import OnnxUnmixer

    return OnnxUnmixer(engine, threads, form)


def _openvino(engine: Engine, threads: int, _: str) -> Unmixer:
    from irst_stream.unmix.openvino import OpenVinoUnmixer

    return OpenVinoUnmixer(engine, threads, "fp32")


def _openvino_bf16(engine: Engine, threads: int, _: str) -> Unmixer:
    from irst_stream.unmix.openvino import OpenVinoUnmixer

    return OpenVinoUnmixer(engine, threads, "bf16")


def _numpy(engine: Engine, _: int, __: str) -> Unmixer:
    return NumpyUnmixer(engine) if engine.manifest.network == DEREFNET else GraphUnmixer(engine)


class CpuBackend(NamedTuple):
    """A backend in words, and its builder: engine, threads (0: all cores), form of graphs ("": the fastest)."""

    description: str
    build: Callable[[Engine, int, str], Unmixer]


CPU_BACKENDS = {  # a new one also has its name in unmix.settings.Backend
    "onnx": CpuBackend("ONNX Runtime on the CPU", _onnx),
    "openvino": CpuBackend("OpenVINO on the CPU", _openvino),
    "openvino-bf16": CpuBackend("OpenVINO on the CPU, in bf16 where the processor supports it", _openvino_bf16),
    "numpy": CpuBackend("NumPy", _numpy),
}


class BackendChoice(NamedTuple):
    """A concrete backend, never "auto".

    description: the backend and, where another one would be better, why that one was not chosen, for a reader.
    plans: TensorRT plans or the folder that holds them; None for other backends.
    """

    backend: Backend
    description: str
    plans: Plans | Path | None = None


def choose_backend(engine: Engine, backend: Backend) -> BackendChoice:
    """Resolve a backend name; "auto" picks TensorRT if it works here and has plans, else ONNX Runtime, else NumPy.

    Raises a UsageError where a TensorRT backend is named but TensorRT does not work here or has no plans for this GPU.
    """
    if backend in TENSORRT_PRECISIONS:
        return _require_tensorrt(engine, backend)
    if backend != "auto":
        return BackendChoice(backend, CPU_BACKENDS[backend].description)
    if not engine.manifest.graphs:
        return BackendChoice("numpy", "NumPy, since the engine has no ONNX graphs; irst-stream engine export makes them")
    if engine.manifest.network != DEREFNET:
        return BackendChoice("onnx", CPU_BACKENDS["onnx"].description)
    here = look_for_tensorrt()
    if here.platform is None:
        return BackendChoice("onnx", f"ONNX Runtime on the CPU, since {here.missing}")
    folder = _find_plans(engine, "tensorrt", here.platform)
    if folder is None:
        reason = f"there are no plans for this GPU; {_build_hint(engine, 'tensorrt')}"
        return BackendChoice("onnx", f"ONNX Runtime on the CPU, since {reason}")
    return _tensorrt_choice("tensorrt", here.platform, folder)


def build_unmixer(
    engine: Engine, choice: BackendChoice, threads: int = 0, form: str = "", *, with_map: bool = True
) -> Unmixer:
    """Build the Unmixer of a chosen backend.

    threads: CPU threads, 0 for all cores. form: the form of graphs that ONNX Runtime must take, "" for the fastest one.
    with_map: whether a continuous head also returns its map, which takes time to download from a GPU.
    """
    if choice.plans is not None:
        from irst_stream.unmix.tensorrt import TensorRtUnmixer

        plans = read_plans(choice.plans) if isinstance(choice.plans, Path) else choice.plans
        return TensorRtUnmixer(plans, engine.manifest, with_map=with_map)
    return CPU_BACKENDS[choice.backend].build(engine, threads, form)


def fallback_unmixers(
    engine: Engine, choice: BackendChoice, threads: int, *, with_map: bool
) -> Iterator[tuple[str, Callable[[], Unmixer]]]:
    """Yield the replacements for a failed GPU backend, in order: the same backend rebuilt once, then the CPU.

    Each is a description for the alarm and a function that builds the Unmixer. CPU backends yield none.
    """
    if choice.plans is None:
        return
    yield "rebuilt on the same GPU", lambda: build_unmixer(engine, choice, threads, with_map=with_map)
    cpu = choose_backend(engine, "onnx" if engine.manifest.graphs else "numpy")
    yield f"replaced by {cpu.description}", lambda: build_unmixer(engine, cpu, threads)


def _require_tensorrt(engine: Engine, backend: Backend) -> BackendChoice:
    """Choose a TensorRT backend, or raise a UsageError that says what is missing."""
    if engine.manifest.network != DEREFNET:
        raise UsageError(f"backend {backend!r}: runs DeRefNet alone; {engine.manifest.network} runs by onnx or openvino")
    here = look_for_tensorrt()
    if here.platform is None:
        raise UsageError(f"backend {backend!r}: {here.missing}")
    folder = _find_plans(engine, backend, here.platform)
    if folder is None:
        raise UsageError(f"backend {backend!r}: no plans for this GPU; {_build_hint(engine, backend)}")
    return _tensorrt_choice(backend, here.platform, folder)


def _find_plans(engine: Engine, backend: Backend, platform: GpuPlatform) -> Path | None:
    return find_plans(engine.manifest.sha256, platform, TENSORRT_PRECISIONS[backend])


def _tensorrt_choice(backend: Backend, platform: GpuPlatform, folder: Path) -> BackendChoice:
    precision = TENSORRT_PRECISIONS[backend]
    return BackendChoice(backend, f"TensorRT {platform.tensorrt} in {precision} on {platform.gpu}", folder)


def _build_hint(engine: Engine, backend: Backend) -> str:
    return f"irst-stream engine build {engine.folder} --precision {TENSORRT_PRECISIONS[backend]} makes them"
