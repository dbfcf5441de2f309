"""irst-stream engine build: TensorRT plans of an engine, for the GPU that they are built on."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from irst_stream.commands.console import phases, print_line, print_table
from irst_stream.commands.trials import Trial, accuracy, fresh_windows, look, places_of, random_windows, usual_windows
from irst_stream.errors import FormatError, SourceError, UsageError
from irst_stream.protocols import Unmixer
from irst_stream.system.private_files import cache_folder, read_private, write_private
from irst_stream.system.shipped import find_engine
from irst_stream.types import Unmixed
from irst_stream.unmix.backends import TENSORRT, Choice, build_unmixer
from irst_stream.unmix.calibration import ranges_of
from irst_stream.unmix.engine import Engine, read_engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import Style
from irst_stream.unmix.parity import apart
from irst_stream.unmix.plans import (
    MANIFEST,
    Place,
    PlanManifest,
    Plans,
    Precision,
    folder_of,
    read_plans,
    write_plans,
)
from irst_stream.unmix.tensorrt_build import Build, Recipe, build_plan, check_layers, layers_of, recipe_of, version_of
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

__all__ = ["DESCRIPTION", "BuildOrder", "draw_builds", "set_up"]

DESCRIPTION = (
    "Builds TensorRT plans of an engine on the GPU that they are for, checks that they run in the precision that was asked"
    " for and give what ONNX Runtime gives on the CPU, and keeps them in the user's cache, where backend auto finds them."
)

BATCHES = (1, 8, 64, 512)
LARGEST_BATCH = 1024  # a layer of `general` has 2^31 numbers at 1,730, more than TensorRT counts
CALIBRATED = 256  # windows that an engine is quantised by
COMPARED = 24  # windows of each kind, on which plans are compared with ONNX Runtime
SCORED = 600  # windows
MOST_LOST = {"fp32": 0.1, "fp16": 0.1, "int8": 0.5}  # of CSO-mAP, where it is measured


class BuildOrder(NamedTuple):
    """What is to be built: an engine, for a place, in a precision, with these batch sizes, by a recipe."""

    engine: Engine
    place: Place
    precision: Precision
    batches: tuple[int, ...]
    recipe: Recipe


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument(
        "engine", metavar="MANIFEST", help="folder of an engine or its manifest.toml, or the name of one that comes along"
    )
    parser.add_argument("--precision", choices=tuple(TENSORRT.values()), default="fp16", help="(default fp16)")
    parser.add_argument(
        "--batch", type=_batches, default=BATCHES, metavar="N,N,...", help="batch sizes (default 1,8,64,512)"
    )
    parser.add_argument("--accuracy", action="store_true", help="measure CSO-mAP against single precision; int8 always is")
    parser.add_argument("--again", action="store_true", help="build even where there are such plans")
    parser.set_defaults(run=_run)


def _batches(text: str) -> tuple[int, ...]:
    """An option that is a list of batch sizes."""
    sizes = {int(part) for part in text.split(",") if part.isascii() and part.isdecimal() and len(part) < 6}
    if len(sizes) != len(text.split(",")) or not all(1 <= size <= LARGEST_BATCH for size in sizes):
        raise argparse.ArgumentTypeError(f"expected different whole numbers from 1 to {LARGEST_BATCH}, got {text!r}")
    return tuple(sorted(sizes))


def _run(args: argparse.Namespace) -> int:
    engine = read_engine(_folder(args.engine))
    here = look_for_tensorrt()
    if here.place is None:
        raise UsageError(f"engine build: {here.missing}; plans are built on the GPU that they are for")
    recipe = recipe_of(version_of(here.place.tensorrt), args.precision)
    order = BuildOrder(engine, here.place, args.precision, args.batch, recipe)
    builds = draw_builds(order)
    graphs = {build.part: hashlib.sha256(build.graph).hexdigest() for build in builds}
    folder = folder_of(engine.manifest.sha256, *order[1:4], graphs)
    if (folder / MANIFEST).exists() and not args.again:
        print_line(f"{folder}: has these plans already; --again builds them anew")
        _print(read_plans(folder), {})
        return 0
    plans = _build(order, builds, graphs)
    unmixer = cast("Any", build_unmixer(engine, Choice("tensorrt", "", plans), with_map=True))
    plans = _accepted(order, plans, unmixer, args.accuracy)
    print_line(f"{write_plans(plans)}: built")
    _print(plans, unmixer.costs)
    return 0


def _folder(name: str) -> Path:
    path = Path(name)
    return path.parent if path.name == "manifest.toml" and path.is_file() else find_engine(name)


def draw_builds(order: BuildOrder) -> list[Build]:
    """Both graphs as the recipe wants them; quantised by generated windows where it says so."""
    engine, recipe = order.engine, order.recipe
    ranges = None
    if recipe.quantised:
        windows = usual_windows(engine.manifest, CALIBRATED)
        ranges = ranges_of(engine, windows, places_of(len(windows)))
    style = Style(whole=True, half=recipe.half, ranges=ranges, opset=recipe.opset)
    drawings = build_for_gpu(engine.manifest, engine.data, style)
    halves = replace(style, half=True)  # tells by its nodes' names what is to stay single
    kept = build_for_gpu(engine.manifest, engine.data, halves) if recipe.held else {}
    singles = {part: frozenset(drawing.singles) for part, drawing in kept.items()}
    return [
        Build(part, drawing.serialise(part), singles.get(part, frozenset()), order.batches)
        for part, drawing in drawings.items()
    ]


def _build(order: BuildOrder, builds: list[Build], graphs: dict[str, str]) -> Plans:
    """Plans that run as was asked, not yet compared with anything."""
    import tensorrt as trt

    timings = cache_folder() / "timing" / hashlib.sha256(repr(order.place).encode()).hexdigest()[:20]
    plans, layers = {}, {}
    for build in builds:
        with phases(f"build {build.part}") as report:
            plans[build.part], known = build_plan(trt, order.recipe, build, _timings(timings), report)
            write_private(timings, known)
            layers[build.part] = layers_of(trt, plans[build.part])
    check_layers(layers, order.precision)
    hashes = {part: hashlib.sha256(plan).hexdigest() for part, plan in plans.items()}
    limit = order.engine.manifest.limits[order.precision]
    manifest = PlanManifest(
        order.engine.manifest.sha256,
        order.place,
        order.precision,
        order.batches,
        graphs,
        hashes,
        layers,
        apart=0.0,
        limit=limit,
    )
    return Plans(manifest, **plans)


def _timings(path: Path) -> bytes:
    """What TensorRT measured before; nothing where there is no such file that may be trusted."""
    try:
        return read_private(path)
    except SourceError:
        return b""


def _accepted(order: BuildOrder, plans: Plans, unmixer: Unmixer, scored: bool) -> Plans:
    """The plans with what was found of them; a FormatError where they are not the network that they should be."""
    engine, precision = order.engine, order.precision
    oracle = build_unmixer(engine, Choice("onnx" if engine.manifest.graphs else "numpy", ""))
    scored = scored or precision == "int8"
    trial = fresh_windows(engine.manifest, SCORED if scored else COMPARED)
    far = 0.0
    for windows in (random_windows(engine.manifest, COMPARED), trial.windows[:COMPARED]):
        far = max(far, *apart(look(unmixer, windows), look(oracle, windows)).values())
    limit = plans.manifest.limit
    if not far <= limit:
        raise FormatError(
            f"{engine.folder}: the {precision} plans are {far:.2g} of the range from ONNX Runtime, {limit:g} at most"
        )
    lost = None
    if scored:
        lost = _lost(engine, trial, look(unmixer, trial.windows), look(oracle, trial.windows))
        if lost > MOST_LOST[precision]:
            raise FormatError(f"{engine.folder}: {precision} loses {lost:.2f} of CSO-mAP, {MOST_LOST[precision]:g} at most")
    return plans._replace(manifest=msgspec.structs.replace(plans.manifest, apart=far, lost=lost))


def _lost(engine: Engine, trial: Trial, seen: Unmixed, expected: Unmixed) -> float:
    """CSO-mAP below that of what was expected."""
    score = {name: accuracy(one, trial.truths, engine.manifest) for name, one in (("plans", seen), ("oracle", expected))}
    print_line(
        f"CSO-mAP of {len(trial.truths)} windows: {score['plans']:.2f}; of ONNX Runtime in fp32: {score['oracle']:.2f}"
    )
    return score["oracle"] - score["plans"]


def _print(plans: Plans, costs: dict[str, dict[int, float]]) -> None:
    m = plans.manifest
    print_line(f"TensorRT {m.place.tensorrt} in {m.precision} on {m.place.gpu} (driver {m.place.driver})")
    print_line(f"differs from ONNX Runtime on the CPU by {m.apart:.1e} of the range, {m.limit:g} at most")
    rows = []
    for part in ("unfold", "fuse"):
        size = f"{len(getattr(plans, part)) / 2**20:.1f}"
        run_in = ", ".join(f"{count} in {kind}" for kind, count in m.layers[part].items())
        took = ", ".join(f"{batch}: {ms:.2f}" for batch, ms in costs.get(part, {}).items())
        rows.append((part, size, run_in, took))
    print_table(("plan", "MiB", "convolutions", "ms, host to host, by batch size"), rows)
