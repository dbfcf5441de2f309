"""irst-stream engine build: build and verify TensorRT plans of an engine on the GPU that will run them."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from irst_stream.commands.console import phase_progress, print_line, print_table
from irst_stream.commands.trials import (
    LabelledWindows,
    accuracy,
    calibration_windows,
    evaluation_windows,
    frame_places,
    noise_windows,
    run_network,
)
from irst_stream.errors import FormatError, SourceError, UsageError
from irst_stream.protocols import Unmixer
from irst_stream.system.private_files import cache_folder, read_private, write_private
from irst_stream.system.shipped import find_engine
from irst_stream.types import Unmixed
from irst_stream.unmix.backends import TENSORRT_PRECISIONS, BackendChoice, build_unmixer
from irst_stream.unmix.calibration import activation_ranges
from irst_stream.unmix.engine import DEREFNET, Engine, read_engine
from irst_stream.unmix.parity import largest_differences
from irst_stream.unmix.plans import (
    MANIFEST,
    GpuPlatform,
    PlanManifest,
    Plans,
    Precision,
    plans_folder,
    read_plans,
    write_plans,
)
from irst_stream.unmix.tensorrt_build import (
    GraphToBuild,
    Recipe,
    build_plan,
    check_precisions,
    convolution_precisions,
    graphs_to_build,
    parse_version,
    recipe_for,
)
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

__all__ = ["BATCHES", "DESCRIPTION", "quantisation_ranges", "set_up"]

DESCRIPTION = (
    "Build TensorRT plans of an engine on the GPU that will run them, check that they run in the requested precision and"
    " agree with ONNX Runtime on the CPU, and store them in the user's cache, where backend auto finds them."
)

BATCHES = (1, 8, 64, 512)
MAX_BATCH = 1024  # at 1,730 a layer of engine `general` has 2^31 values, more than TensorRT can index
CALIBRATION_WINDOWS = 256  # for the quantisation ranges of int8
COMPARISON_WINDOWS = 24  # of noise and of targets each, on which plans are compared with ONNX Runtime
SCORING_WINDOWS = 600
MAX_MAP_LOSS = {"fp32": 0.1, "fp16": 0.1, "int8": 0.5}  # points of CSO-mAP, if measured


class BuildRequest(NamedTuple):
    """An engine to build for a GPU and TensorRT version (place), in a precision, with batch sizes, by a recipe."""

    engine: Engine
    place: GpuPlatform
    precision: Precision
    batches: tuple[int, ...]
    recipe: Recipe


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "engine", metavar="MANIFEST", help="engine folder or its manifest.toml, or the name of a bundled engine"
    )
    parser.add_argument(
        "--precision",
        choices=tuple(TENSORRT_PRECISIONS.values()),
        default="fp16",
        help="precision of the plans (default fp16)",
    )
    parser.add_argument(
        "--batch",
        type=_batches,
        default=BATCHES,
        metavar="N,N,...",
        help="batch sizes in windows, 1 to 1024 (default 1,8,64,512)",
    )
    parser.add_argument(
        "--accuracy", action="store_true", help="compare CSO-mAP with single precision (always done for int8)"
    )
    parser.add_argument("--again", action="store_true", help="rebuild even if these plans exist")
    parser.set_defaults(run=_run)


def _batches(text: str) -> tuple[int, ...]:
    """Parse a comma-separated list of batch sizes; returns them sorted."""
    sizes = {int(part) for part in text.split(",") if part.isascii() and part.isdecimal() and len(part) < 6}
    if len(sizes) != len(text.split(",")) or not all(1 <= size <= MAX_BATCH for size in sizes):
        raise argparse.ArgumentTypeError(f"expected different whole numbers from 1 to {MAX_BATCH}, got {text!r}")
    return tuple(sorted(sizes))


def _run(args: argparse.Namespace) -> int:
    engine = read_engine(_engine_folder(args.engine))
    if engine.manifest.network != DEREFNET:
        raise UsageError(f"engine build: plans are of DeRefNet alone; {engine.manifest.network} runs by onnx or openvino")
    here = look_for_tensorrt()
    if here.platform is None:
        raise UsageError(f"engine build: {here.missing}; plans must be built on the GPU that runs them")
    recipe = recipe_for(parse_version(here.platform.tensorrt), args.precision)
    request = BuildRequest(engine, here.platform, args.precision, args.batch, recipe)
    builds = graphs_to_build(engine, recipe, args.batch, quantisation_ranges(engine, recipe))
    graphs = {build.part: hashlib.sha256(build.graph).hexdigest() for build in builds}
    folder = plans_folder(engine.manifest.sha256, *request[1:4], graphs)
    if (folder / MANIFEST).exists() and not args.again:
        print_line(f"{folder}: these plans exist; --again rebuilds them")
        _print_plans(read_plans(folder), {})
        return 0
    plans = _build(request, builds, graphs)
    unmixer = cast("Any", build_unmixer(engine, BackendChoice("tensorrt", "", plans), with_map=True))
    plans = _verify_plans(request, plans, unmixer, args.accuracy)
    print_line(f"{write_plans(plans)}: built")
    _print_plans(plans, unmixer.costs)
    return 0


def _engine_folder(name: str) -> Path:
    """The engine's folder, from its path, its manifest's path or a bundled engine's name."""
    path = Path(name)
    return path.parent if path.name == "manifest.toml" and path.is_file() else find_engine(name)


def quantisation_ranges(engine: Engine, recipe: Recipe, count: int = CALIBRATION_WINDOWS) -> dict[str, float] | None:
    """Measure activation ranges on `count` generated windows; None for a recipe that does not quantise."""
    if not recipe.quantised:
        return None
    windows = calibration_windows(engine.manifest, count)
    return activation_ranges(engine, windows, frame_places(count))


def _build(request: BuildRequest, builds: list[GraphToBuild], graphs: dict[str, str]) -> Plans:
    """Build plans and check the precision of their layers; they are not yet compared with ONNX Runtime."""
    import tensorrt as trt

    timings = cache_folder() / "timing" / hashlib.sha256(repr(request.place).encode()).hexdigest()[:20]
    plans, layers = {}, {}
    for build in builds:
        with phase_progress(f"build {build.part}") as report:
            plans[build.part], timing_cache = build_plan(trt, request.recipe, build, _read_timing_cache(timings), report)
            write_private(timings, timing_cache)
            layers[build.part] = convolution_precisions(trt, plans[build.part])
    check_precisions(layers, request.precision)
    hashes = {part: hashlib.sha256(plan).hexdigest() for part, plan in plans.items()}
    limit = request.engine.manifest.limits[request.precision]
    manifest = PlanManifest(
        request.engine.manifest.sha256,
        request.place,
        request.precision,
        request.batches,
        graphs,
        hashes,
        layers,
        apart=0.0,
        limit=limit,
    )
    return Plans(manifest, **plans)


def _read_timing_cache(path: Path) -> bytes:
    """TensorRT's earlier timings; empty if the file is missing or not private to the user."""
    try:
        return read_private(path)
    except SourceError:
        return b""


def _verify_plans(request: BuildRequest, plans: Plans, unmixer: Unmixer, scored: bool) -> Plans:
    """Return the plans with the measured difference and loss; raise FormatError if they exceed the limits."""
    engine, precision = request.engine, request.precision
    oracle = build_unmixer(engine, BackendChoice("onnx" if engine.manifest.graphs else "numpy", ""))
    scored = scored or precision == "int8"
    trial = evaluation_windows(engine.manifest, SCORING_WINDOWS if scored else COMPARISON_WINDOWS)
    difference = 0.0
    for windows in (noise_windows(engine.manifest, COMPARISON_WINDOWS), trial.windows[:COMPARISON_WINDOWS]):
        outputs = run_network(unmixer, windows), run_network(oracle, windows)
        difference = max(difference, *largest_differences(*outputs).values())
    limit = plans.manifest.limit
    if not difference <= limit:
        raise FormatError(
            f"{engine.folder}: the {precision} plans differ from ONNX Runtime by {difference:.2g} of the range,"
            f" expected at most {limit:g}"
        )
    lost = None
    if scored:
        lost = _map_loss(engine, trial, run_network(unmixer, trial.windows), run_network(oracle, trial.windows))
        if lost > MAX_MAP_LOSS[precision]:
            most = MAX_MAP_LOSS[precision]
            raise FormatError(f"{engine.folder}: {precision} loses {lost:.2f} points of CSO-mAP, expected at most {most:g}")
    return plans._replace(manifest=msgspec.structs.replace(plans.manifest, apart=difference, lost=lost))


def _map_loss(engine: Engine, trial: LabelledWindows, output: Unmixed, expected: Unmixed) -> float:
    """CSO-mAP of the expected output minus that of the plans, in points; prints both."""
    score = {name: accuracy(one, trial.truths, engine.manifest) for name, one in (("plans", output), ("oracle", expected))}
    print_line(
        f"CSO-mAP of {len(trial.truths)} windows: {score['plans']:.2f}; of ONNX Runtime in fp32: {score['oracle']:.2f}"
    )
    return score["oracle"] - score["plans"]


def _print_plans(plans: Plans, costs: dict[str, dict[int, float]]) -> None:
    """Print what the plans run in and their latency by batch size; costs: ms by part and batch size."""
    m = plans.manifest
    print_line(f"TensorRT {m.place.tensorrt} in {m.precision} on {m.place.gpu} (driver {m.place.driver})")
    print_line(f"differs from ONNX Runtime on the CPU by {m.apart:.1e} of the range, at most {m.limit:g} allowed")
    rows = []
    for part in ("unfold", "fuse"):
        size = f"{len(getattr(plans, part)) / 2**20:.1f}"
        run_in = ", ".join(f"{count} in {kind}" for kind, count in m.layers[part].items())
        latencies = ", ".join(f"{batch}: {ms:.2f}" for batch, ms in costs.get(part, {}).items())
        rows.append((part, size, run_in, latencies))
    print_table(("plan", "MiB", "convolutions", "ms, host to host, by batch size"), rows)
