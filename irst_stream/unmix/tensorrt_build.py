"""TensorRT's builder: from ONNX graphs to plans, on any version from 8.6 on, and what they really run in.

What differs from version to version is all in recipe_of: 8.6 chooses precisions by flags, so layers are held in theirs one
by one; from 10 on a graph's own types decide. All are given graphs that sample by GridSample: TensorRT's DeformConv is a
plugin that needs cuBLAS, takes the images of a batch one by one, and rounds the places that it samples. All that is
TensorRT's is reached through the module that is handed in.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from irst_stream.errors import DeviceError, IrstError, UsageError
from irst_stream.unmix.plans import Precision

__all__ = [
    "FIRST_MAPS",
    "MOST_MAPS",
    "Build",
    "Recipe",
    "ask",
    "build_plan",
    "check_layers",
    "count_layers",
    "layers_of",
    "listen",
    "recipe_of",
    "version_of",
]

Report = Callable[[str, int, int], None]  # what is being done; how many steps of how many

OLDEST, NEXT, TYPED = (8, 6), (9, 0), (10, 1)  # what lies between the last two is not supported
TACTICS = ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS")  # cuBLAS and cuDNN are not needed, and need not be there
SHARED = ("PROFILE_SHARING_0806",)  # without it only one context may use a batch size; newer versions need not be told
WORKSPACE = 2 << 30  # bytes that a layer may take while it runs
FIRST_MAPS, MOST_MAPS = 1 << 12, 1 << 16  # places of a store, which grows
LEAST_SHARE = {"fp32": 0.9, "fp16": 0.9, "int8": 0.35}  # of the convolutions, that must run as asked
AS_ASKED = {"fp32": ("fp32",), "fp16": ("fp16", "int8"), "int8": ("int8",)}
NEVER = {"fp32": ("tf32", "fp16", "int8"), "fp16": (), "int8": ()}  # what none of them may run in: fewer digits than asked
DATA_TYPES = (  # as TensorRT 8.6, 10 and 11 name them
    ("int8", re.compile(r"\bint8\b", re.IGNORECASE)),
    ("fp16", re.compile(r"\bfp16\b|\bhalf\b", re.IGNORECASE)),
    ("fp32", re.compile(r"\bfp32\b|\bfloat\b", re.IGNORECASE)),
)
TF32 = re.compile(r"tf32", re.IGNORECASE)  # in a tactic's name: it multiplies single precision as if it were half
CONVOLUTION = re.compile(r"conv(?!ert)", re.IGNORECASE)  # among types
NAMED_SO = re.compile(r"Conv_\d+(?![\d.])")  # after its node; such as Conv_3.half are the casts about one
# types of layers that are no convolution, or of which nobody tells what the convolutions among them run in
OTHERS = ("reformat", "kgen", "noop", "signal", "wait", "constant", "shuffle", "quantize", "dequantize", "scale", "myelin")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a version of TensorRT is to make plans of a precision.

    opset, half, quantised: of the graphs, see drawing.Style; network, builder, previews: flags by their names; held: layers
    must be held in their precisions.
    """

    opset: int
    half: bool
    quantised: bool
    network: tuple[str, ...]
    builder: tuple[str, ...] = ()
    previews: tuple[str, ...] = ()
    held: bool = False


@dataclass(frozen=True)
class Build:
    """A graph to be built: its part, its bytes, the names of its nodes that stay in single precision, the batch sizes."""

    part: str
    graph: bytes
    singles: frozenset[str]
    batches: tuple[int, ...]


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version such as "10.13.3.9", three of them at most."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def recipe_of(version: tuple[int, ...], precision: Precision) -> Recipe:
    """What suits the version; quantised, all that is not is in half precision."""
    if version < OLDEST or NEXT <= version < TYPED:
        raise UsageError(f"TensorRT {'.'.join(map(str, version))}: expected 8.6, or 10.1 or newer")
    quantised = precision == "int8"
    if version >= TYPED:  # opset 19 is the first in which what was quantised comes back in half precision
        return Recipe(19, precision != "fp32", quantised, network=("STRONGLY_TYPED",))
    flags = {"fp32": (), "fp16": ("FP16", "OBEY_PRECISION_CONSTRAINTS")}
    builder = flags.get(precision, ("INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"))
    return Recipe(17, False, quantised, ("EXPLICIT_BATCH",), builder, SHARED, held=precision != "fp32")


@cache
def listen(trt: Any) -> Any:
    """TensorRT's logger, which passes on what it says: one a process, since TensorRT keeps the first that it is given.

    `errors` holds what last went wrong, for the one line that is printed; `heard` counts all of it.
    """

    class Listener(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=8)
            self.heard = 0

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message.strip().splitlines()[0] if message.strip() else "no word")
                self.heard += 1
            log.debug("TensorRT: %s", message)

    return Listener()


def ask(trt: Any, refusal: str, function: Callable[..., Any], *given: Any) -> Any:
    """What TensorRT answers. A DeviceError, in its own words, where it refuses: gives nothing, or False, or raises.

    refusal: what it does not do then, in words.
    """
    heard, why = listen(trt).heard, "it does not say why"
    try:
        answer = function(*given)
    except (RuntimeError, TypeError) as error:
        answer, why = None, str(error).strip().partition("\n")[0] or why
    if answer is None or answer is False:
        why = listen(trt).errors[-1] if listen(trt).heard > heard else why
        raise DeviceError(f"TensorRT {trt.__version__} {refusal}: {why}")
    return answer


def build_plan(
    trt: Any, recipe: Recipe, build: Build, timing: bytes, report: Report = lambda *_: None
) -> tuple[bytes, bytes]:
    """A plan, and what TensorRT has measured; timing: that of an earlier build."""
    builder = ask(trt, "makes no builder", trt.Builder, listen(trt))
    network = builder.create_network(_mask(trt.NetworkDefinitionCreationFlag, recipe.network))
    parser = trt.OnnxParser(network, listen(trt))
    if not parser.parse(build.graph):
        faults = "; ".join(str(parser.get_error(k)).splitlines()[0] for k in range(min(parser.num_errors, 3)))
        raise IrstError(f"TensorRT {trt.__version__} does not take the {build.part} graph: {faults or 'no word'}")
    config = builder.create_builder_config()
    config.flags = _mask(trt.BuilderFlag, recipe.builder)  # without TF32, which holds fewer digits than a float16
    for name in recipe.previews:
        config.set_preview_feature(getattr(trt.PreviewFeature, name), True)
    config.set_tactic_sources(_mask(trt.TacticSource, TACTICS))
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for batch in build.batches:
        if config.add_optimization_profile(_profile(builder, network, batch)) < 0:
            raise DeviceError(f"TensorRT {trt.__version__} takes no batches of {batch} by the {build.part} graph")
    if recipe.held:
        _hold(trt, network, build.singles)
    measured = config.create_timing_cache(timing) or config.create_timing_cache(b"")  # none, of what is damaged
    if not config.set_timing_cache(measured, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, build.part, report)
    plan = ask(trt, f"builds no plan of the {build.part} graph", builder.build_serialized_network, network, config)
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def layers_of(trt: Any, plan: bytes) -> dict[str, int]:
    """The convolutions of a plan by what they run in."""
    runtime = ask(trt, "makes no runtime", trt.Runtime, listen(trt))
    engine = ask(trt, "does not load what it has built", runtime.deserialize_cuda_engine, plan)
    context = ask(trt, "makes no context of what it has built", engine.create_execution_context)
    _set_shapes(trt, engine, context)
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return count_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def count_layers(information: str) -> dict[str, int]:
    """The engine inspector's report, JSON: its convolutions, or all its layers where none goes by that name, by what
    they compute in.
    """
    told = json.loads(information, strict=False)  # 8.6 parts the names of a layer's nodes by control characters
    layers = [layer for layer in told["Layers"] if isinstance(layer, dict)]
    convolutions = [layer for layer in layers if _is_convolution(layer)]
    return dict(sorted(Counter(_type_of(layer) for layer in convolutions or layers).items()))


def check_layers(layers: dict[str, dict[str, int]], precision: Precision) -> None:
    """Raises an IrstError where what was asked for is not what TensorRT gave."""
    for part, counted in layers.items():
        right, whole = sum(counted.get(kind, 0) for kind in AS_ASKED[precision]), sum(counted.values())
        wrong = any(counted.get(kind) for kind in NEVER[precision])
        if wrong or not whole or right < LEAST_SHARE[precision] * whole:
            given = ", ".join(f"{count} in {kind}" for kind, count in counted.items()) or "none"
            raise IrstError(f"{part}: {precision} was asked for, but of its convolutions TensorRT runs {given}")


def _mask(kind: Any, names: Iterable[str]) -> int:
    """Flags of an enumeration as one number."""
    return sum(1 << int(getattr(kind, name)) for name in names)


def _profile(builder: Any, network: Any, batch: int) -> Any:
    """One batch size, and a store of any size."""
    profile = builder.create_optimization_profile()
    for k in range(network.num_inputs):
        tensor = network.get_input(k)
        shape = tuple(tensor.shape)[1:]
        least, usual, most = (1, FIRST_MAPS, MOST_MAPS) if tensor.name == "store" else (batch, batch, batch)
        profile.set_shape(tensor.name, (least, *shape), (usual, *shape), (most, *shape))
    return profile


def _hold(trt: Any, network: Any, singles: frozenset[str]) -> None:
    """Keeps the layers of these nodes in single precision, and convolutions that are not quantised in half precision, which
    TensorRT takes or leaves otherwise; the parser names a node's layer after it.
    """
    restored = set()
    for k in range(network.num_layers):
        layer = network.get_layer(k)
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        if layer.type == trt.LayerType.CONSTANT:
            continue
        if layer.type == trt.LayerType.DEQUANTIZE:
            restored |= {output.name for output in outputs}
        if layer.type == trt.LayerType.CONVOLUTION and layer.get_input(0).name not in restored:
            layer.precision = trt.float16
        elif layer.name in singles and all(output.dtype == trt.float32 for output in outputs):
            layer.precision = trt.float32
            for i in range(len(outputs)):
                layer.set_output_type(i, trt.float32)


def _monitor(trt: Any, part: str, report: Report) -> Any:
    """What TensorRT tells its progress to."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002, TensorRT's
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(f"{part}: {phase_name}", step + 1, self.steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def _set_shapes(trt: Any, engine: Any, context: Any) -> None:
    """Those of the first batch size: where they are open, the inspector knows no types."""
    for name in (engine.get_tensor_name(k) for k in range(engine.num_io_tensors)):
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            _, usual, _ = engine.get_tensor_profile_shape(name, 0)
            context.set_input_shape(name, usual)


def _is_convolution(layer: dict[str, Any]) -> bool:
    """By its type, by its name, or by the nodes that it came from; those of OTHERS may be named after one too."""
    kind, kernel, *names = (str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "Name", "Metadata"))
    if kind.lower() in OTHERS:
        return False
    return bool(CONVOLUTION.search(f"{kind} {kernel}") or any(NAMED_SO.search(name) for name in names))


def _type_of(layer: dict[str, Any]) -> str:
    """What a layer computes in: the narrowest of its inputs' types, since weights and biases may be wider; its weights'
    type where those are not told; "tf32" where its tactic rounds single precision to that.
    """
    inputs = " ".join(str(one.get("Format/Datatype", one.get("Datatype", ""))) for one in layer.get("Inputs", []))
    for told in (inputs, str(layer.get("Weights", ""))):
        for name, pattern in DATA_TYPES:
            if pattern.search(told):
                return "tf32" if name == "fp32" and TF32.search(str(layer.get("TacticName", ""))) else name
    return "other"
