"""Build TensorRT plans from ONNX graphs, with version 8.6 or 10.1 and newer, and inspect the precisions that they run in.

All differences between versions are in recipe_for: 8.6 chooses precisions by flags, so layers are pinned to theirs one by
one; from 10 on a graph's own types decide. All versions get graphs that sample by GridSample: TensorRT's DeformConv is a
plugin that needs cuBLAS, processes the images of a batch one by one, and rounds its sampling coordinates. TensorRT is used
only through the module that is passed in, `trt`.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from irst_stream.errors import DeviceError, IrstError, UsageError
from irst_stream.unmix.engine import Engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import GraphOptions
from irst_stream.unmix.plans import Precision

__all__ = [
    "INITIAL_STORE_MAPS",
    "MAX_STORE_MAPS",
    "STRONGLY_TYPED",
    "GraphToBuild",
    "Recipe",
    "build_plan",
    "call_tensorrt",
    "check_precisions",
    "convolution_precisions",
    "count_precisions",
    "graphs_to_build",
    "parse_version",
    "profile_shapes",
    "recipe_for",
    "tensorrt_logger",
]

ReportProgress = Callable[[str, int, int], None]  # the current phase; steps done; steps in all

OLDEST, UNSUPPORTED_FROM, STRONGLY_TYPED = (8, 6), (9, 0), (10, 1)  # versions; 9.0 up to 10.1 are not supported
TACTICS = ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS")  # plans must not depend on cuBLAS or cuDNN
PROFILE_SHARING = ("PROFILE_SHARING_0806",)  # lets several contexts use one batch size; newer versions always do
WORKSPACE_BYTES = 2 << 30  # that a layer may use while it runs
INITIAL_STORE_MAPS, MAX_STORE_MAPS = 1 << 12, 1 << 16  # capacity of the store, which grows
MIN_SHARE = {"fp32": 0.9, "fp16": 0.9, "int8": 0.35}  # of the convolutions that must run in an accepted precision
ACCEPTED = {"fp32": ("fp32",), "fp16": ("fp16", "int8"), "int8": ("int8",)}
FORBIDDEN = {"fp32": ("tf32", "fp16", "int8"), "fp16": (), "int8": ()}  # fewer digits than requested
DATA_TYPES = (  # as TensorRT 8.6, 10 and 11 name them
    ("int8", re.compile(r"\bint8\b", re.IGNORECASE)),
    ("fp16", re.compile(r"\bfp16\b|\bhalf\b", re.IGNORECASE)),
    ("fp32", re.compile(r"\bfp32\b|\bfloat\b", re.IGNORECASE)),
)
TF32 = re.compile(r"tf32", re.IGNORECASE)  # in a tactic's name: it rounds float32 factors to about half precision
CONVOLUTION_TYPE = re.compile(r"conv(?!ert)", re.IGNORECASE)
CONVOLUTION_NODE = re.compile(r"Conv_\d+(?![\d.])")  # Conv_3.half and the like are casts around a convolution
# layer types that are no convolution, or that do not report the precision of the convolutions fused into them
IGNORED_TYPES = (
    "reformat",
    "kgen",
    "noop",
    "signal",
    "wait",
    "constant",
    "shuffle",
    "quantize",
    "dequantize",
    "scale",
    "myelin",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a version of TensorRT builds plans of a precision.

    opset, half, quantised:                         of the graphs, see onnx_writer.GraphOptions
    network_flags, builder_flags, preview_features: TensorRT's, by name
    pin_precisions:                                 whether layers must be pinned to their precisions
    """

    opset: int
    half: bool
    quantised: bool
    network_flags: tuple[str, ...]
    builder_flags: tuple[str, ...] = ()
    preview_features: tuple[str, ...] = ()
    pin_precisions: bool = False


@dataclass(frozen=True)
class GraphToBuild:
    """A graph to build a plan from: its part, its bytes, the nodes that must stay in single precision, the batch sizes."""

    part: str
    graph: bytes
    single_precision_nodes: frozenset[str]
    batches: tuple[int, ...]


def parse_version(text: str) -> tuple[int, ...]:
    """Parse a version like "10.13.3.9" into its numbers, at most three."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def recipe_for(version: tuple[int, ...], precision: Precision) -> Recipe:
    """Return the recipe for a TensorRT version and a precision; in int8, layers that are not quantised use half precision.

    Raises a UsageError for an unsupported version.
    """
    if version < OLDEST or UNSUPPORTED_FROM <= version < STRONGLY_TYPED:
        raise UsageError(f"TensorRT {'.'.join(map(str, version))}: expected 8.6, or 10.1 or newer")
    quantised = precision == "int8"
    if version >= STRONGLY_TYPED:  # opset 19 is the first whose DequantizeLinear returns half precision
        return Recipe(19, precision != "fp32", quantised, network_flags=("STRONGLY_TYPED",))
    flags = {"fp32": (), "fp16": ("FP16", "OBEY_PRECISION_CONSTRAINTS")}
    builder_flags = flags.get(precision, ("INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"))
    pin = precision != "fp32"
    return Recipe(17, False, quantised, ("EXPLICIT_BATCH",), builder_flags, PROFILE_SHARING, pin_precisions=pin)


def graphs_to_build(
    engine: Engine, recipe: Recipe, batches: tuple[int, ...], ranges: Mapping[str, float] | None = None
) -> list[GraphToBuild]:
    """Write both graphs as the recipe asks.

    ranges: by the name of a convolution's weight, the largest input magnitude; needed if the recipe quantises.
    """
    options = GraphOptions(self_contained=True, half=recipe.half, ranges=ranges, opset=recipe.opset)
    writers = build_for_gpu(engine.manifest, engine.data, options)
    half_options = replace(options, half=True)  # only to learn the names of the nodes that must stay in single precision
    half_graphs = build_for_gpu(engine.manifest, engine.data, half_options) if recipe.pin_precisions else {}
    singles = {part: frozenset(writer.single_precision_nodes) for part, writer in half_graphs.items()}
    return [
        GraphToBuild(part, writer.serialise(part), singles.get(part, frozenset()), batches)
        for part, writer in writers.items()
    ]


@cache
def tensorrt_logger(trt: Any) -> Any:
    """Return the logger for TensorRT; one per process, since TensorRT keeps the first logger that it is given.

    It forwards all messages to `logging`. `errors` holds the latest error messages, `error_count` counts all of them.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=8)
            self.error_count = 0

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message.strip().splitlines()[0] if message.strip() else "no error message")
                self.error_count += 1
            log.debug("TensorRT: %s", message)

    return Logger()


def call_tensorrt(trt: Any, refusal: str, function: Callable[..., Any], *given: Any) -> Any:
    """Call a TensorRT function and return its result; raise a DeviceError if it returns None or False, or raises.

    refusal: what TensorRT did not do, for the message, which ends with TensorRT's own error.
    """
    errors_before, why = tensorrt_logger(trt).error_count, "it does not say why"
    try:
        result = function(*given)
    except (RuntimeError, TypeError) as error:
        result, why = None, str(error).strip().partition("\n")[0] or why
    if result is None or result is False:
        why = tensorrt_logger(trt).errors[-1] if tensorrt_logger(trt).error_count > errors_before else why
        raise DeviceError(f"TensorRT {trt.__version__} {refusal}: {why}")
    return result


def build_plan(
    trt: Any, recipe: Recipe, build: GraphToBuild, timing: bytes, report: ReportProgress = lambda *_: None
) -> tuple[bytes, bytes]:
    """Build a plan; timing: the timing cache of an earlier build, b"" for none. Returns the plan and the new timing cache.

    Raises an IrstError if TensorRT cannot parse the graph, a DeviceError if it cannot build a plan.
    """
    builder = call_tensorrt(trt, "creates no builder", trt.Builder, tensorrt_logger(trt))
    network = builder.create_network(_mask(trt.NetworkDefinitionCreationFlag, recipe.network_flags))
    parser = trt.OnnxParser(network, tensorrt_logger(trt))
    if not parser.parse(build.graph):
        faults = "; ".join(str(parser.get_error(k)).splitlines()[0] for k in range(min(parser.num_errors, 3)))
        raise IrstError(f"TensorRT {trt.__version__} cannot parse the {build.part} graph: {faults or 'no error message'}")
    config = builder.create_builder_config()
    config.flags = _mask(trt.BuilderFlag, recipe.builder_flags)  # replaces the defaults, which allow TF32
    for name in recipe.preview_features:
        config.set_preview_feature(getattr(trt.PreviewFeature, name), True)
    config.set_tactic_sources(_mask(trt.TacticSource, TACTICS))
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for batch in build.batches:
        if config.add_optimization_profile(_profile(builder, network, batch)) < 0:
            raise DeviceError(f"TensorRT {trt.__version__} does not take batches of {batch} for the {build.part} graph")
    if recipe.pin_precisions:
        _pin_precisions(trt, network, build.single_precision_nodes)
    timing_cache = config.create_timing_cache(timing) or config.create_timing_cache(b"")  # a damaged one gives None
    if not config.set_timing_cache(timing_cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, build.part, report)
    plan = call_tensorrt(
        trt, f"builds no plan from the {build.part} graph", builder.build_serialized_network, network, config
    )
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def convolution_precisions(trt: Any, plan: bytes) -> dict[str, int]:
    """Count a plan's convolutions by the precision that they run in; see count_precisions."""
    runtime = call_tensorrt(trt, "creates no runtime", trt.Runtime, tensorrt_logger(trt))
    engine = call_tensorrt(trt, "does not load the plan that it has built", runtime.deserialize_cuda_engine, plan)
    context = call_tensorrt(trt, "creates no context for the plan that it has built", engine.create_execution_context)
    _set_shapes(trt, engine, context)
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return count_precisions(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def count_precisions(information: str) -> dict[str, int]:
    """Count the convolutions in the engine inspector's JSON report by precision: fp32, tf32, fp16, int8 or other.

    All layers are counted if none is recognisable as a convolution.
    """
    report = json.loads(information, strict=False)  # 8.6 separates the names of a layer's nodes by control characters
    layers = [layer for layer in report["Layers"] if isinstance(layer, dict)]
    convolutions = [layer for layer in layers if _is_convolution(layer)]
    return dict(sorted(Counter(_precision_of(layer) for layer in convolutions or layers).items()))


def check_precisions(layers: dict[str, dict[str, int]], precision: Precision) -> None:
    """Raise an IrstError unless enough convolutions run in the requested precision, and none in a forbidden one.

    layers: by part, the number of convolutions by the precision that they run in.
    """
    for part, counted in layers.items():
        accepted, total = sum(counted.get(kind, 0) for kind in ACCEPTED[precision]), sum(counted.values())
        forbidden = any(counted.get(kind) for kind in FORBIDDEN[precision])
        if forbidden or not total or accepted < MIN_SHARE[precision] * total:
            counts = ", ".join(f"{count} in {kind}" for kind, count in counted.items()) or "none"
            raise IrstError(f"{part}: expected convolutions in {precision}; TensorRT runs {counts}")


def _mask(kind: Any, names: Iterable[str]) -> int:
    """Combine the named flags of an enumeration into one bit mask."""
    return sum(1 << int(getattr(kind, name)) for name in names)


def profile_shapes(inputs: Mapping[str, tuple[int, ...]], batch: int) -> dict[str, tuple[list[int], list[int], list[int]]]:
    """Return the smallest, typical and largest shape of each input for one batch size and a store of any capacity.

    inputs: shapes without the first dimension, by name.
    """
    shapes = {}
    for name, rest in inputs.items():
        firsts = (1, INITIAL_STORE_MAPS, MAX_STORE_MAPS) if name == "store" else (batch,) * 3
        smallest, typical, largest = ([first, *rest] for first in firsts)
        shapes[name] = smallest, typical, largest
    return shapes


def _profile(builder: Any, network: Any, batch: int) -> Any:
    """Return an optimisation profile for one batch size."""
    profile = builder.create_optimization_profile()
    inputs = (network.get_input(k) for k in range(network.num_inputs))
    for name, shapes in profile_shapes({one.name: tuple(one.shape)[1:] for one in inputs}, batch).items():
        profile.set_shape(name, *map(tuple, shapes))
    return profile


def _pin_precisions(trt: Any, network: Any, single_precision_nodes: frozenset[str]) -> None:
    """Pin the layers of given nodes to single precision, and convolutions that are not quantised to half precision.

    Otherwise TensorRT is free to choose. The parser names a layer after its node.
    """
    dequantised = set()
    for k in range(network.num_layers):
        layer = network.get_layer(k)
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        if layer.type == trt.LayerType.CONSTANT:
            continue
        if layer.type == trt.LayerType.DEQUANTIZE:
            dequantised |= {output.name for output in outputs}
        if layer.type == trt.LayerType.CONVOLUTION and layer.get_input(0).name not in dequantised:
            layer.precision = trt.float16
        elif layer.name in single_precision_nodes and all(output.dtype == trt.float32 for output in outputs):
            layer.precision = trt.float32
            for i in range(len(outputs)):
                layer.set_output_type(i, trt.float32)


def _monitor(trt: Any, part: str, report: ReportProgress) -> Any:
    """Return a progress monitor for TensorRT that calls `report`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002 - TensorRT's signature
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(f"{part}: {phase_name}", step + 1, self.steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def _set_shapes(trt: Any, engine: Any, context: Any) -> None:
    """Set the input shapes to those of the first batch size; with open shapes the inspector reports no data types."""
    for name in (engine.get_tensor_name(k) for k in range(engine.num_io_tensors)):
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            _, typical, _ = engine.get_tensor_profile_shape(name, 0)
            context.set_input_shape(name, typical)


def _is_convolution(layer: dict[str, Any]) -> bool:
    """Return whether a layer is a convolution, by its type, its name or the nodes that it comes from.

    IGNORED_TYPES are excluded first, since they may be named after a convolution too.
    """
    kind, kernel, *names = (str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "Name", "Metadata"))
    if kind.lower() in IGNORED_TYPES:
        return False
    return bool(CONVOLUTION_TYPE.search(f"{kind} {kernel}") or any(CONVOLUTION_NODE.search(name) for name in names))


def _precision_of(layer: dict[str, Any]) -> str:
    """Return the precision of a layer: the narrowest of its inputs' types, since weights and biases may be wider.

    The weights' type is used if the report does not give the inputs'. "tf32" if the layer's tactic rounds float32 to that,
    "other" if no type is known.
    """
    inputs = " ".join(str(one.get("Format/Datatype", one.get("Datatype", ""))) for one in layer.get("Inputs", []))
    for types in (inputs, str(layer.get("Weights", ""))):
        for name, pattern in DATA_TYPES:
            if pattern.search(types):
                return "tf32" if name == "fp32" and TF32.search(str(layer.get("TacticName", ""))) else name
    return "other"
