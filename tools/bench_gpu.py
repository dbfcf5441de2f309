"""How fast engines run on this machine's GPU, and how well; run it with .venv/bin/python tools/bench_gpu.py.

Proves TensorRT with a small plan, which measures what the GPU's matrix units give; builds plans of an engine in each
precision (irst-stream engine build: parity and CSO-mAP are checked on the way), and times them: as many windows as
possible, one region host to host, 64 regions host to host with everything that is read from them; and the fit by itself.
Where TensorRT does not work it says where it failed, and measures the same network by PyTorch with CUDA graphs and by
torch.compile instead, under those names. Beside them, the network as the reference writes it, where PyTorch has CUDA.
Writes out/bench_gpu.json after each figure.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_data import describe_machine

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    print("bench_gpu: onnx is not installed: pip install 'irst-stream[onnx]'", file=sys.stderr)
    sys.exit(2)

from irst_stream.cli import main as irst_stream
from irst_stream.commands.trials import accuracy, calibration_windows, evaluation_windows, run_network
from irst_stream.errors import IrstError
from irst_stream.fit.fitter import Fitter, priors_of
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import FineGrid
from irst_stream.resolve.readouts import FitResolver, NetworkResolver
from irst_stream.resolve.settings import ClaimSettings
from irst_stream.system.gpu_probe import ask_cuda_driver
from irst_stream.system.shipped import find_engine
from irst_stream.types import Stamp, Window, at_rest
from irst_stream.unmix.backends import TENSORRT_PRECISIONS, build_unmixer, choose_backend
from irst_stream.unmix.engine import WINDOW, Engine, read_engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import GraphOptions
from irst_stream.unmix.stream import WindowUnmixer
from irst_stream.unmix.tensorrt_build import (
    GraphToBuild,
    build_plan,
    call_tensorrt,
    parse_version,
    recipe_for,
    tensorrt_logger,
)
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

OUT = Path("out/bench_gpu.json")
BACKENDS = {precision: backend for backend, precision in TENSORRT_PRECISIONS.items()}
REGIONS = 64
WARM_UP = 50  # runs
SIDE, CHAIN, ROWS = 4096, 32, 4096  # of the products that measure the matrix units
COUNTED = ("Conv", "DeformConv", "MatMul")
WINDOWS_S, TIMES = 122_522, 40  # to reach
PROMISED = {"one region": "p50 <= 0.35, p99 <= 0.6", f"{REGIONS} regions, the fit on the GPU": "p99 <= 1.5"}  # ms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="seqcsist", help="folder or name of an engine (default seqcsist)")
    parser.add_argument("--precision", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="(default all)")
    parser.add_argument("--batch", default="1,8,64,512", help="batch sizes (default 1,8,64,512)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timing (default 5)")
    args = parser.parse_args()
    cuda = ask_cuda_driver()
    if not cuda.gpus:
        print(f"bench_gpu: {cuda.reason}; expected an NVIDIA GPU", file=sys.stderr)
        return 2
    engine = read_engine(find_engine(args.engine))
    gpu = cuda.gpus[0]
    machine = describe_machine() | {"GPU": gpu.name, "driver": cuda.version, "CUDA": cuda.cuda}
    here = look_for_tensorrt()
    machine["TensorRT"] = here.platform.tensorrt if here.platform else f"none: {here.missing}"
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    work = flop(engine)
    print(f"arithmetic: {work['unfold'] / 1e9:.3f} GFLOP a frame, {work['fuse'] / 1e9:.3f} GFLOP a window")
    results: dict[str, Any] = {"machine": machine, "flop": work}
    keep(results, "reference", reference(args.seconds))
    keep(results, "fit", tried("the fit on the GPU", lambda: fit_alone(engine, args.seconds)))
    if here.platform:
        keep(results, "matrix_flop_s", tried("large products", matrix_rate))
        for precision in args.precision:
            keep(results, precision, {})
            tried(precision, partial(measure, engine, precision, args.batch, args.seconds, partial(keep, results)))
        keep(results, "compared", compare(results, args.precision, sum(work.values())))
    else:
        print(f"TensorRT does not work here: {here.missing}. Measured by PyTorch instead:")
        keep(results, "pytorch", by_pytorch(engine, args.seconds))
    print(f"\n{OUT}")
    return 0


def tried(what: str, measured: Callable[[], Any]) -> Any:
    """What was measured; where that is refused why, in words, which are printed too: what comes next is measured yet."""
    try:
        return measured()
    except IrstError as error:
        print(f"{what}: not measured: {error}")
        return f"not measured: {error}"


def keep(results: dict[str, Any], name: str, found: Any) -> None:
    """Takes in what was found, and writes all that there is so far: a run that is cut short has its first figures."""
    results[name] = found
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n")


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
    import tensorrt as trt

    from irst_stream.system.cuda import Device, Memory, Stream
    from irst_stream.unmix.gpu_lanes import Lanes
    from irst_stream.unmix.tensorrt import Plan, scratch_bytes

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
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 1]) for name in "xy"]
    graph = helper.make_graph(nodes, "matrix", ends[:1], ends[1:], [weight, many])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    recipe = recipe_for(parse_version(trt.__version__), "fp16")
    plan, _ = build_plan(trt, recipe, GraphToBuild("matrix", model.SerializeToString(), frozenset(), (ROWS,)), b"")
    Device()
    loaded = call_tensorrt(
        trt, "does not load its own plan", trt.Runtime(tensorrt_logger(trt)).deserialize_cuda_engine, plan
    )
    stream = Stream()
    plan = Plan(loaded, (ROWS,), {stream: Memory(scratch_bytes(loaded))})
    lanes = Lanes(plan, (ROWS,), [stream], frozenset())
    lanes.make_lanes({})
    rate = CHAIN * 2.0 * ROWS * SIDE * SIDE / (lanes.costs[ROWS] / 1e3)
    print(f"large products in fp16 by TensorRT without cuBLAS: {rate / 1e12:.0f} TFLOP/s")
    return rate


def measure(engine: Engine, precision: str, batch: str, seconds: float, keep: Callable[[str, Any], None]) -> None:
    """Builds plans, if need be, and times them; keep: takes what there is so far, by the precision's name."""
    print(f"\n{precision}")
    if irst_stream(["engine", "build", str(engine.folder), "--precision", precision, "--batch", batch, "--accuracy"]):
        keep(precision, {"refused": True})
        return
    unmixer = build_unmixer(engine, choose_backend(engine, BACKENDS[precision]), with_map=False)
    trial = evaluation_windows(engine.manifest, 4000)
    found: dict[str, Any] = {"CSO-mAP": accuracy(run_network(unmixer, trial.windows, 512), trial.truths, engine.manifest)}
    rates = {size: throughput(unmixer, engine, int(size), seconds) for size in batch.split(",")}
    found["windows_s"], found["best_at_once"] = max((rate, size) for size, rate in rates.items())
    found["rates"], found["costs_ms"] = rates, unmixer.costs
    found["one region"] = latency(steps(engine, unmixer, 1), seconds)
    found[f"{REGIONS} regions"] = latency(steps(engine, unmixer, REGIONS, "network"), seconds)
    keep(precision, found)
    for device in ("cpu", "gpu"):
        name = f"{REGIONS} regions, the fit on the {device.upper()}"
        found[name] = tried(name, lambda: latency(steps(engine, unmixer, REGIONS, "best", device), seconds))  # noqa: B023
        keep(precision, found)


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


def fit_alone(engine: Engine, seconds: float) -> dict[str, Any]:
    """p50 and p99 of the fit on the GPU, which needs no TensorRT, of regions that go on and of such that begin anew."""
    found: dict[str, Any] = {}
    for name, anew in (("going on", 8), ("begun anew in each frame", 1)):
        found[name] = latency(fitting(engine, fit_on("gpu", anew)), seconds)
        print(f"the fit on the GPU, {REGIONS} regions {name}: {told(found[name])}")
    return found


def fitting(engine: Engine, fitter: Fitter) -> Callable[[], None]:
    """What the fit does for each frame of a stream with so many regions."""
    numbers, windows, resolve = itertools.count(), calibration_windows(engine.manifest, REGIONS), FitResolver(fitter)

    def step() -> None:
        resolve(window_of(next(numbers), windows), [])

    return step


def fit_on(device: str, anew: int = 8) -> Fitter:
    """The fit on the CPU's threads, or on the GPU."""
    settings = FitSettings(refit_every=anew, sigma_doubt=0.0)
    if device == "cpu":
        return Fitter(settings, threads=0)
    from irst_stream.fit.cuda_search import CudaSearch

    return Fitter(settings, 0, CudaSearch(priors_of(settings)))


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


def window_of(number: int, patches: Any) -> Window:
    """That one of a stream, of regions that stay where they are, (N, 5, h, w) DN."""
    stamp, unknown = Stamp("gpu", 0, number + 2, number * 10_000_000), np.full(len(patches), np.nan)
    corners, still = np.zeros((len(patches), 2)), at_rest(len(patches), WINDOW)
    return Window(stamp, corners, patches[:, :WINDOW], *still, np.arange(len(patches)), unknown, unknown + np.inf)


def latency(step: Callable[[], None], seconds: float) -> dict[str, float]:
    """p50 and p99 of one step, ms."""
    for _ in range(WARM_UP):
        step()
    taken, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        step()
        taken.append((time.perf_counter() - start) * 1e3)
    middle, late = np.percentile(taken, (50, 99))
    return {"p50_ms": float(middle), "p99_ms": float(late), "samples": len(taken)}


def told(times: dict[str, float]) -> str:
    """What latency() found, in words."""
    return f"p50 {times['p50_ms']:.3f} ms, p99 {times['p99_ms']:.3f} ms of {times['samples']:.0f}"


def reference(seconds: float) -> dict[str, float] | str:
    """Output frames a second of the network as the reference writes it, one trajectory a batch."""
    try:
        import torch
        from bench_speed import Reference
    except ImportError:
        return "not measured: PyTorch is not installed"
    if not torch.cuda.is_available():
        return "not measured: this PyTorch has no CUDA"
    from irst_stream.learn.network import DeRefNet
    from irst_stream.sim import seqcsist

    run, patches = Reference(DeRefNet(), "cuda"), seqcsist(1, seed=3).frames[0].astype(np.float32)
    rate = torch_rate(lambda: run(patches), seconds)
    print(f"network as the reference writes it, PyTorch {torch.__version__}: {rate:.0f} output frames/s")
    return {"frames_s": rate}


def torch_rate(work: Callable[[], int], seconds: float) -> float:
    """How much of what work() counts is done a second."""
    import torch

    for _ in range(3):
        work()
    torch.cuda.synchronize()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += work()
        torch.cuda.synchronize()
    return count / (time.perf_counter() - began)


def by_pytorch(engine: Engine, seconds: float) -> dict[str, float] | str:
    """Windows a second of the same network by PyTorch in fp16: a CUDA graph, and torch.compile."""
    try:
        import torch

        from irst_stream.learn.backend import load
    except ImportError:
        return "not measured: PyTorch is not installed"
    if not torch.cuda.is_available():
        return "not measured: this PyTorch has no CUDA"
    network = load(engine).cuda()
    size = 512
    frames = torch.from_numpy(calibration_windows(engine.manifest, size)).cuda()
    places = torch.arange(WINDOW).cuda()

    @torch.no_grad()
    def windows() -> int:
        with torch.autocast("cuda", torch.float16):
            newest = network.maps(frames[:, -1])[0]
            network.merge(newest[:, None].expand(-1, WINDOW, -1, -1), places, frames)
        return size

    found = {"PyTorch, fp16": torch_rate(windows, seconds)}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        windows()
    found["PyTorch, fp16, CUDA graph"] = torch_rate(lambda: (graph.replay(), size)[1], seconds)
    found["PyTorch, fp16, torch.compile"] = torch_rate(torch.compile(windows), seconds)
    for name, rate in found.items():
        print(f"{name}: {rate:.0f} windows/s at batch {size}")
    return found


def compare(results: dict[str, Any], precisions: list[str], work: float) -> dict[str, dict[str, float]]:
    """Prints the table; of each precision the times of the reference's rate, and the share of the matrix units'."""
    print()
    base = results["reference"]["frames_s"] if isinstance(results["reference"], dict) else None
    compared: dict[str, dict[str, float]] = {}
    for precision in precisions:
        found = results[precision]
        if "windows_s" not in found:
            print(f"{precision}: {'refused' if 'refused' in found else 'not measured'}")
            continue
        rate, matrix = found["windows_s"], results["matrix_flop_s"]
        compared[precision] = beside = {}
        words = f"{precision}: {rate:.0f} windows/s, {found['best_at_once']} at once (>= {WINDOWS_S})"
        if base:
            beside["times_the_reference"] = rate / base
            words += f", {rate / base:.1f} x the reference (>= {TIMES})"
        if isinstance(matrix, float):
            beside["share_of_matrix_rate"] = rate * work / matrix
            words += f", {100 * rate * work / matrix:.1f} % of what products in fp16 reach"
        print(f"{words}; CSO-mAP {found['CSO-mAP']:.2f}")
        for name, taken in found.items():
            if isinstance(taken, dict) and "p50_ms" in taken:
                print(f"    {name}: {told(taken)}   {PROMISED.get(name, '')}")
    return compared


if __name__ == "__main__":
    try:
        sys.exit(main())
    except IrstError as error:
        print(f"bench_gpu: {error}", file=sys.stderr)
        sys.exit(2)
