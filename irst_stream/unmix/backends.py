"""Which backend runs an engine: by name, or the best that works here; and the Unmixers that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from irst_stream.errors import UsageError
from irst_stream.protocols import Unmixer
from irst_stream.unmix.engine import Engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.plans import Place, Plans, Precision, find_plans, read_plans
from irst_stream.unmix.settings import Backend
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

__all__ = ["TENSORRT", "Choice", "build_unmixer", "choose_backend", "spare_unmixers"]


TENSORRT: Mapping[str, Precision] = {"tensorrt": "fp16", "tensorrt-fp32": "fp32", "tensorrt-int8": "int8"}  # its backends
WORDS = {
    "onnx": "ONNX Runtime on the CPU",
    "openvino": "OpenVINO on the CPU",
    "openvino-bf16": "OpenVINO on the CPU, in bf16 where it has that",
    "numpy": "NumPy",
}


class Choice(NamedTuple):
    """A backend that is not "auto"; what it is and why, in words; its plans, or the folder of them, where it has any."""

    backend: Backend
    words: str
    plans: Plans | Path | None = None


def choose_backend(engine: Engine, backend: Backend) -> Choice:
    """The backend of that name; of "auto", TensorRT if it has plans and works here, else ONNX Runtime, else NumPy."""
    if backend in TENSORRT:
        return _tensorrt(engine, backend)
    if backend != "auto":
        return Choice(backend, WORDS[backend])
    if not engine.manifest.graphs:
        return Choice("numpy", "NumPy, since the engine has no ONNX graphs; irst-stream engine export makes them")
    here = look_for_tensorrt()
    if here.place is None:
        return Choice("onnx", f"ONNX Runtime on the CPU, since {here.missing}")
    folder = _plans(engine, "tensorrt", here.place)
    if folder is None:
        return Choice("onnx", f"ONNX Runtime on the CPU, since there are no plans for this GPU; {_how(engine, 'tensorrt')}")
    return _chosen("tensorrt", here.place, folder)


def build_unmixer(engine: Engine, choice: Choice, threads: int = 0, form: str = "", *, with_map: bool = True) -> Unmixer:
    """threads: 0 for all cores; form: of the graphs, where ONNX Runtime is to take a certain one; with_map: whether the
    map is wanted beside a continuous head's claims, which it costs time to bring back from a GPU.
    """
    if choice.plans is not None:
        from irst_stream.unmix.tensorrt import TensorRtUnmixer

        plans = read_plans(choice.plans) if isinstance(choice.plans, Path) else choice.plans
        return TensorRtUnmixer(plans, engine.manifest, with_map=with_map)
    if choice.backend == "numpy":
        return NumpyUnmixer(engine)
    if choice.backend in ("openvino", "openvino-bf16"):
        from irst_stream.unmix.openvino import OpenVinoUnmixer

        return OpenVinoUnmixer(engine, threads, "bf16" if choice.backend.endswith("bf16") else "fp32")
    from irst_stream.unmix.onnx import OnnxUnmixer

    return OnnxUnmixer(engine, threads, form)


def spare_unmixers(
    engine: Engine, choice: Choice, threads: int, *, with_map: bool
) -> Iterator[tuple[str, Callable[[], Unmixer]]]:
    """What takes over when a GPU fails, one after the other, and what that is: the same once more, then the CPU."""
    if choice.plans is None:
        return
    yield "built anew", lambda: build_unmixer(engine, choice, threads, with_map=with_map)
    cpu = choose_backend(engine, "onnx" if engine.manifest.graphs else "numpy")
    yield f"from now on by {cpu.words}", lambda: build_unmixer(engine, cpu, threads)


def _tensorrt(engine: Engine, backend: Backend) -> Choice:
    here = look_for_tensorrt()
    if here.place is None:
        raise UsageError(f"backend {backend!r}: {here.missing}")
    folder = _plans(engine, backend, here.place)
    if folder is None:
        raise UsageError(f"backend {backend!r}: no plans for this GPU; {_how(engine, backend)}")
    return _chosen(backend, here.place, folder)


def _plans(engine: Engine, backend: Backend, place: Place) -> Path | None:
    return find_plans(engine.manifest.sha256, place, TENSORRT[backend])


def _chosen(backend: Backend, place: Place, folder: Path) -> Choice:
    return Choice(backend, f"TensorRT {place.tensorrt} in {TENSORRT[backend]} on {place.gpu}", folder)


def _how(engine: Engine, backend: Backend) -> str:
    return f"irst-stream engine build {engine.folder} --precision {TENSORRT[backend]} makes them"
