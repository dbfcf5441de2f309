"""The part `tensorrt` of bench_gpu.py: a plan of one layer first, then plans of an engine in each precision, timed."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from bench_gpu_fit import fit_on
from gpu_timing import REGIONS, Results, latency, told, window_of
from onnx import TensorProto, helper, numpy_helper

from irst_stream.cli import main as irst_stream
from irst_stream.commands.engine_build import quantisation_ranges
from irst_stream.commands.trials import accuracy, calibration_windows, evaluation_windows, run_network
from irst_stream.errors import DeviceError, IrstError
from irst_stream.optics import FineGrid
from irst_stream.resolve.readouts import NetworkResolver
from irst_stream.resolve.settings import ClaimSettings
from irst_stream.unmix.backends import TENSORRT_PRECISIONS, build_unmixer, choose_backend
from irst_stream.unmix.engine import WINDOW, Engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import GraphOptions
from irst_stream.unmix.stream import WindowUnmixer
from irst_stream.unmix.tensorrt_build import (
    GraphToBuild,
    build_plan,
    call_tensorrt,
    graphs_to_build,
    parse_version,
    recipe_for,
    tensorrt_logger,
)
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

BACKENDS = {precision: backend for backend, precision in TENSORRT_PRECISIONS.items()}
BATCHES = (1, 8, 64, 512)
SIDE, CHAIN, ROWS = 4096, 32, 4096  # of the products that measure the matrix units
COUNTED = ("Conv", "DeformConv", "MatMul")
WINDOWS_S, TIMES = 122_522, 40  # to reach
PROMISED = {"one region": "p50 <= 0.35, p99 <= 0.6", f"{REGIONS} regions, the fit on the GPU": "p99 <= 1.5"}  # ms
KIT = (8, 6, 0)  # the version whose graphs a dry run writes: it is the one that installs without a package index


def measure(results: Results, engine: Engine, seconds: float, dry: bool) -> None:
    """Everything that TensorRT is given and does; dry: the graphs are written, and nothing is built."""
    work = flop(engine)
    results.keep("flop", work)
    print(f"arithmetic: {work['unfold'] / 1e9:.3f} GFLOP a frame, {work['fuse'] / 1e9:.3f} GFLOP a window")
    if dry:
        results.add("graphs", lambda: written(engine))
        return
    here = look_for_tensorrt()
    if here.platform is None:
        raise DeviceError(f"TensorRT does not work here: {here.missing}")
    if isinstance(results.add("one layer by TensorRT", one_layer), str):
        raise DeviceError("TensorRT builds no plan of one layer here; plans of a network were not tried")
    results.add("matrix_flop_s", matrix_rate)
    for precision in BACKENDS:
        results.add(f"plans in {precision}", lambda: build_and_time(engine, precision, seconds))  # noqa: B023
    results.keep("compared", compare(results.found, sum(work.values())))


def written(engine: Engine) -> dict[str, int]:
    """Bytes of each graph, as TensorRT 8.6 is given it."""
    found = {}
    for precision in BACKENDS:
        recipe = recipe_for(KIT, precision)
        ranges = quantisation_ranges(engine, recipe, 4)
        for build in graphs_to_build(engine, recipe, BATCHES, ranges):
            found[f"{precision} {build.part}"] = len(build.graph)
    print(f"graphs for TensorRT {KIT[0]}.{KIT[1]}: {len(found)} written, {sum(found.values()) / 2**20:.1f} MiB")
    return found


def one_layer() -> dict[str, float]:
    """Builds a plan of one convolution and runs it."""
    kernel = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    taken, ms = timed_plan([node], [numpy_helper.from_array(kernel, "w")], [8, 32, 32], 8, "fp32")
    print(f"one convolution by TensorRT: built in {taken:.1f} s, runs in {ms:.3f} ms")
    return {"build_s": taken, "run_ms": ms}


def flop(engine: Engine) -> dict[str, float]:
    """Floating point operations for one frame and one window, of convolutions and products."""
    writers = build_for_gpu(engine.manifest, engine.data, GraphOptions(self_contained=True))
    return {part: _flop(onnx.load_from_string(writer.serialise(part))) for part, writer in writers.items()}


def _flop(model: Any) -> float:
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shape = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shape |= {i.name: list(i.dims) for i in model.graph.initializer}
    total = 0.0
    for node in model.graph.node:
        if node.op_type in COUNTED:
            kernel = shape[node.input[1]]
            taken = kernel[0] if node.op_type == "MatMul" else int(np.prod(kernel[1:]))
            total += 2.0 * taken * np.prod(shape[node.output[0]])
    return total


def matrix_rate() -> float:
    """Floating point operations a second of large products of random numbers in half precision, by TensorRT."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array((rng.standard_normal((SIDE, SIDE)) / SIDE**0.5).astype(np.float16), "w")
    many = numpy_helper.from_array(rng.standard_normal((ROWS, SIDE)).astype(np.float16), "many")
    nodes = [  # zeros would take less power, and so less time
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["half", "many"], ["v0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"v{k}", "w"], [f"v{k + 1}"]) for k in range(CHAIN)]
    nodes += [
        helper.make_node("ReduceMean", [f"v{CHAIN}"], ["mean"], axes=[1]),
        helper.make_node("Cast", ["mean"], ["y"], to=1),
    ]
    _, ms = timed_plan(nodes, [weight, many], [1], ROWS, "fp16")
    rate = CHAIN * 2.0 * ROWS * SIDE * SIDE / (ms / 1e3)
    print(f"large products in fp16 by TensorRT without cuBLAS: {rate / 1e12:.0f} TFLOP/s")
    return rate


def timed_plan(nodes: Any, weights: Any, shape: list[int], batch: int, precision: Any) -> tuple[float, float]:
    """Builds a plan that maps x (batch, *shape) to y of the same shape; seconds to build it, and ms of a run."""
    import tensorrt as trt

    from irst_stream.system.cuda import Device, Memory, Stream
    from irst_stream.unmix.gpu_lanes import Lanes
    from irst_stream.unmix.tensorrt import Plan, scratch_bytes

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]) for name in "xy"]
    graph = helper.make_graph(nodes, "trial", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    recipe, began = recipe_for(parse_version(trt.__version__), precision), time.perf_counter()
    plan, _ = build_plan(trt, recipe, GraphToBuild("trial", model.SerializeToString(), frozenset(), (batch,)), b"")
    taken = time.perf_counter() - began
    Device()
    runtime = trt.Runtime(tensorrt_logger(trt))
    loaded = call_tensorrt(trt, "does not load its own plan", runtime.deserialize_cuda_engine, plan)
    stream = Stream()
    lanes = Lanes(Plan(loaded, (batch,), {stream: Memory(scratch_bytes(loaded))}), (batch,), [stream], frozenset())
    lanes.make_lanes({})
    return taken, lanes.costs[batch]


def build_and_time(engine: Engine, precision: str, seconds: float) -> dict[str, Any]:
    """Builds plans, checked on the way for parity and CSO-mAP, and times them."""
    print(f"\n{precision}")
    sizes = ",".join(map(str, BATCHES))
    if irst_stream(["engine", "build", str(engine.folder), "--precision", precision, "--batch", sizes, "--accuracy"]):
        raise DeviceError(f"plans in {precision} are refused, see above")
    unmixer: Any = build_unmixer(engine, choose_backend(engine, BACKENDS[precision]), with_map=False)
    trial = evaluation_windows(engine.manifest, 4000)
    found: dict[str, Any] = {"CSO-mAP": accuracy(run_network(unmixer, trial.windows, 512), trial.truths, engine.manifest)}
    rates = {size: throughput(unmixer, engine, size, seconds) for size in BATCHES}
    found["windows_s"], found["best_at_once"] = max((rate, size) for size, rate in rates.items())
    found["rates"], found["costs_ms"] = rates, unmixer.costs
    found["one region"] = latency(steps(engine, unmixer, 1), seconds)
    found[f"{REGIONS} regions"] = latency(steps(engine, unmixer, REGIONS, "network"), seconds)
    for device in ("cpu", "gpu"):
        name = f"{REGIONS} regions, the fit on the {device.upper()}"
        try:
            found[name] = latency(steps(engine, unmixer, REGIONS, "best", device), seconds)
        except IrstError as error:
            found[name] = f"not measured: {error}"
    return found


def throughput(unmixer: Any, engine: Engine, size: int, seconds: float) -> float:
    """Windows a second, host to host: each brings one new frame, and four that are held."""
    windows = calibration_windows(engine.manifest, size)
    held = [list(unmixer.unfold(np.ascontiguousarray(windows[:, t]))) for t in range(WINDOW)]
    places, count, began = np.tile(np.arange(WINDOW), (size, 1)), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        held = [*held[1:], list(unmixer.unfold(np.ascontiguousarray(windows[:, WINDOW - 1])))]
        unmixer.fuse(list(zip(*held, strict=True)), windows, places)
        count += size
    return count / (time.perf_counter() - began)


def steps(engine: Engine, unmixer: Any, regions: int, readout: Any = None, device: str = "cpu") -> Callable[[], None]:
    """What is done for each frame of a stream with so many regions; device: that the fit runs on."""
    look_at = WindowUnmixer(unmixer, engine.manifest)
    maps = look_at.new_maps()
    windows = calibration_windows(engine.manifest, regions)
    grid = FineGrid(engine.manifest.division, engine.manifest.patch)
    fitter = fit_on(device) if readout == "best" else None
    resolve = NetworkResolver(readout, grid, ClaimSettings(), 235.0, fitter) if readout else None
    numbers = itertools.count()

    def step() -> None:
        window = window_of(next(numbers), windows)
        answers = look_at([(window, maps)])[0]
        if resolve:
            resolve(window, answers)

    return step


def compare(found: dict[str, Any], work: float) -> dict[str, dict[str, float]]:
    """Prints the table; of each precision the times of the reference's rate, and the share of the matrix units'."""
    print()
    base, matrix = found.get("the network as the reference writes it"), found["matrix_flop_s"]
    compared: dict[str, dict[str, float]] = {}
    for precision in BACKENDS:
        plans = found[f"plans in {precision}"]
        if not isinstance(plans, dict):
            print(f"{precision}: {plans}")
            continue
        rate, words = (
            plans["windows_s"],
            f"{precision}: {plans['windows_s']:.0f} windows/s, {plans['best_at_once']} at once (>= {WINDOWS_S})",
        )
        compared[precision] = beside = {}
        if isinstance(base, dict):
            beside["times_the_reference"] = rate / base["frames_s"]
            words += f", {beside['times_the_reference']:.1f} x the reference (>= {TIMES})"
        if isinstance(matrix, float):
            beside["share_of_matrix_rate"] = rate * work / matrix
            words += f", {100 * beside['share_of_matrix_rate']:.1f} % of what products in fp16 reach"
        print(f"{words}; CSO-mAP {plans['CSO-mAP']:.2f}")
        for name, taken in plans.items():
            if isinstance(taken, dict) and "p50_ms" in taken:
                print(f"    {name}: {told(taken)}   {PROMISED.get(name, '')}".rstrip())
    return compared
