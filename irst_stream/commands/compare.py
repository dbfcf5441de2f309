"""irst-stream compare: published methods side by side on the same frames."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from irst_stream.commands.comparison import Pairs, Result, compare, shown_columns
from irst_stream.commands.console import positive_int, print_line, print_table, progress
from irst_stream.commands.contenders import Scene, find_contender, known_contenders
from irst_stream.commands.outputs import check_outputs, write_bytes
from irst_stream.errors import SourceError, UsageError
from irst_stream.io.files import open_source
from irst_stream.io.suffixes import JSON_DOCUMENT
from irst_stream.score.report import plain_values
from irst_stream.source_config import choose_config
from irst_stream.types import Detections, Stamp
from irst_stream.version import __version__

__all__ = ["set_up"]

DEFAULT_METHODS = ("ista-net", "focus", "derefnet")
SHOWN = 4  # groups in the picture

EPILOG = """\
Every method sees the same windows, cut around their light. Its fine map is read as published: each cell from 70 DN
(CSIST-100K: 50 DN) on is a target at the cell's centre, scored by its value; CSO-mAP and its five APs match targets as
the reference scorer does. "in the fit" is what the same map is worth as the start of the fit. Speeds are windows per
second of one core's time, by ONNX Runtime, of the network and of the fit.

Beside networks there are: labels, perfect labels read at cell centres; fit, the fit without a network; default, what
irst-stream does with these frames. A network trained by tools/train_methods.py is named by its engine's folder. All
published methods, with their training: irst-stream docs methods."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Compare published methods, irst-stream's own and yours, on the same frames with truth."
    parser.epilog = EPILOG
    parser.add_argument(
        "--methods",
        type=_names,
        default=DEFAULT_METHODS,
        metavar="A,B,...",
        help=f"methods, by name or engine folder (default {','.join(DEFAULT_METHODS)}); "
        f"here: {', '.join(known_contenders())}",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="split of SeqCSIST or CSIST-100K with truth"
    )
    parser.add_argument("--config", metavar="NAME", help="what the fit knows (default: that of the data set)")
    parser.add_argument("--frames", type=positive_int, metavar="N", help="compare on the first N frames only")
    parser.add_argument("--no-fit", action="store_true", help="leave out the fit, which takes most of the time")
    parser.add_argument("--png", type=Path, metavar="OUT", help="draw the same groups as each method finds them")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this JSON file")
    parser.set_defaults(run=_run)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(twice))}: named twice")
    return names


def _run(args: argparse.Namespace) -> int:
    check_outputs(args, png=".png", json=JSON_DOCUMENT)
    contenders = [find_contender(name) for name in args.methods]
    scene = _scene(args)
    results: list[Result] = []
    found: dict[str, Pairs] = {}
    with progress("compare", len(contenders), "methods") as done:
        for name, contender in zip(args.methods, contenders, strict=True):
            result, pairs = compare(contender, scene, with_fit=not args.no_fit)
            results.append(result)
            title = contender.name if contender.name not in found else name  # two engines of one method
            found |= {f"{title}, in the fit" if way == "fit" and "cells" in pairs else title: pairs[way] for way in pairs}
            done(1)
    print_line(f"{args.data}: {len(scene.windows):,} windows of {scene.config.window}, CSO-mAP and APs in %")
    print_table(*shown_columns(results))
    if args.json:
        rows = [result.as_dict() for result in results]
        written = {"irst_stream": __version__, "data": str(args.data), "windows": len(scene.windows), "methods": rows}
        write_bytes(args.json, msgspec.json.format(msgspec.json.encode(plain_values_of(written)), indent=2) + b"\n")
    if args.png:
        _draw(args.png, scene, found)
        print_line(f"{args.png}: {SHOWN} groups")
    return 0


def _scene(args: argparse.Namespace) -> Scene:
    """The windows of the data, with truth; a SourceError where there are none."""
    source = open_source(args.data)
    if not source.has_truth:
        raise SourceError(f"{args.data}: {source.kind}, without truth; expected a split with annotations")
    config = choose_config(args.config, source)
    pairs = []
    for frame, truth in zip(source, source.truths(), strict=True):
        pairs.append((frame, truth))
        if args.frames and len(pairs) >= args.frames:
            break
    scene = Scene.of(pairs, config, source.dataset)
    if not scene.windows:
        raise UsageError(f"{args.data}: no window of {config.window} frames among {len(pairs)}")
    return scene


def _draw(path: Path, scene: Scene, found: dict[str, Pairs]) -> None:
    from irst_stream.draw import comparison

    step = max(len(scene.windows) // SHOWN, 1)
    chosen = {truth.stamp for truth in scene.truths[::step][:SHOWN]}
    frames = [frame for frame in scene.frames if frame.stamp in chosen]
    truths = {truth.stamp: truth for truth in scene.truths if truth.stamp in chosen}
    methods: dict[str, dict[Stamp, Detections]] = {
        name: {truth.stamp: one for one, truth in pairs if truth.stamp in chosen} for name, pairs in found.items()
    }
    comparison(path, frames, truths, methods)


def plain_values_of(value: Any) -> Any:
    """Nested values as JSON has them; words stay, NaN becomes None."""
    if isinstance(value, dict):
        return {key: plain_values_of(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values_of(part) for part in value]
    return value if value is None or isinstance(value, str) else plain_values(value)
