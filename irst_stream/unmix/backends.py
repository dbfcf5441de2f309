"""Choose the backend that runs an engine, by name or the best available one, and build its Unmixers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from irst_stream.errors import DeviceError, UsageError
from irst_stream.protocols import Unmixer
from irst_stream.unmix.engine import DEREFNET, Engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.parity import difference_on_noise
from irst_stream.unmix.plans import GpuPlatform, Plans, Precision, find_plans, read_plans
from irst_stream.unmix.rtx_here import RtxPlatform, look_for_rtx
from irst_stream.unmix.settings import Backend
from irst_stream.unmix.single_frame import GraphUnmixer
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

__all__ = ["GPU_BACKENDS", "TENSORRT_PRECISIONS", "BackendChoice", "build_unmixer", "choose_backend", "fallback_unmixers"]


TENSORRT_PRECISIONS: Mapping[str, Precision] = {  # the precision of each TensorRT backend
    "tensorrt": "fp16",
    "tensorrt-fp32": "fp32",
    "tensorrt-int8": "int8",
}
RTX_PRECISION: Precision = "fp16"
GPU_BACKENDS: Mapping[str, Precision] = {**TENSORRT_PRECISIONS, "rtx": RTX_PRECISION}


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
    """Resolve a backend name.

    "auto" picks TensorRT if it works here and has plans, TensorRT for RTX if it runs here, else ONNX Runtime, else NumPy.
    Raises a UsageError where a backend is named that does not work here, or has no plans for this GPU.
    """
    if backend in TENSORRT_PRECISIONS:
        return _require_tensorrt(engine, backend)
    if backend == "rtx":
        return _require_rtx(engine)
    if backend != "auto":
        return BackendChoice(backend, CPU_BACKENDS[backend].description)
    if not engine.manifest.graphs:
        return BackendChoice("numpy", "NumPy, since the engine has no ONNX graphs; irst-stream engine export makes them")
    if engine.manifest.network != DEREFNET:
        return BackendChoice("onnx", CPU_BACKENDS["onnx"].description)
    here, rtx = look_for_tensorrt(), look_for_rtx()
    folder = here.platform and _find_plans(engine, "tensorrt", here.platform)
    if here.platform and folder:
        return _tensorrt_choice("tensorrt", here.platform, folder)
    if rtx.platform:
        return _rtx_choice(rtx.platform)
    no_plans = f"there are no plans for this GPU; {_build_hint(engine, 'tensorrt')}"
    reason = no_plans if here.platform else rtx.missing if rtx.suited else here.missing
    return BackendChoice("onnx", f"ONNX Runtime on the CPU, since {reason}")


def build_unmixer(
    engine: Engine, choice: BackendChoice, threads: int = 0, form: str = "", *, with_map: bool = True
) -> Unmixer:
    """Build the Unmixer of a chosen backend; a DeviceError if it fails on its GPU.

    threads: CPU threads, 0 for all cores. form: the form of graphs that ONNX Runtime must take, "" for the fastest one.
    with_map: whether a continuous head also returns its map, which takes time to download from a GPU.
    """
    if choice.plans is not None:
        from irst_stream.unmix.tensorrt import TensorRtUnmixer

        plans = read_plans(choice.plans) if isinstance(choice.plans, Path) else choice.plans
        return TensorRtUnmixer(plans, engine.manifest, with_map=with_map)
    if choice.backend == "rtx":
        return _build_rtx(engine, with_map=with_map)
    return CPU_BACKENDS[choice.backend].build(engine, threads, form)


def fallback_unmixers(
    engine: Engine, choice: BackendChoice, threads: int, *, with_map: bool
) -> Iterator[tuple[str, Callable[[], Unmixer]]]:
    """Yield the replacements for a failed GPU backend, in order: the same backend rebuilt once, then the CPU.

    Each is a description for the alarm and a function that builds the Unmixer. CPU backends yield none.
    """
    if choice.backend not in GPU_BACKENDS:
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


def _require_rtx(engine: Engine) -> BackendChoice:
    """Choose TensorRT for RTX, or raise a UsageError that says what is missing."""
    if engine.manifest.network != DEREFNET:
        raise UsageError(f"backend 'rtx': runs DeRefNet alone; {engine.manifest.network} runs by onnx or openvino")
    here = look_for_rtx()
    if here.platform is None:
        raise UsageError(f"backend 'rtx': {here.missing}")
    return _rtx_choice(here.platform)


def _rtx_choice(platform: RtxPlatform) -> BackendChoice:
    words = f"TensorRT for RTX in {RTX_PRECISION} on {platform.gpu}, by ONNX Runtime's plug-in {platform.plugin}"
    return BackendChoice("rtx", words)


def _build_rtx(engine: Engine, *, with_map: bool) -> Unmixer:
    """Build the Unmixer and compare it with the CPU: no earlier build has proved what the plug-in makes of the graphs."""
    from irst_stream.unmix.rtx import RtxUnmixer

    here = look_for_rtx()
    if here.platform is None:
        raise DeviceError(f"backend 'rtx': {here.missing}")
    unmixer = RtxUnmixer(engine, here.platform, RTX_PRECISION, with_map=with_map)
    oracle = CPU_BACKENDS["onnx" if engine.manifest.graphs else "numpy"].build(engine, 0, "")
    difference, limit = difference_on_noise(unmixer, oracle, engine.manifest), engine.manifest.limits[RTX_PRECISION]
    if not difference <= limit:
        raise DeviceError(
            f"TensorRT for RTX differs from the CPU by {difference:.2g} of the range, expected at most {limit:g}"
        )
    return unmixer


def _find_plans(engine: Engine, backend: Backend, platform: GpuPlatform) -> Path | None:
    return find_plans(engine.manifest.sha256, platform, TENSORRT_PRECISIONS[backend])


def _tensorrt_choice(backend: Backend, platform: GpuPlatform, folder: Path) -> BackendChoice:
    precision = TENSORRT_PRECISIONS[backend]
    return BackendChoice(backend, f"TensorRT {platform.tensorrt} in {precision} on {platform.gpu}", folder)


def _build_hint(engine: Engine, backend: Backend) -> str:
    return f"irst-stream engine build {engine.folder} --precision {TENSORRT_PRECISIONS[backend]} makes them"
