"""irst-stream profile: latency and throughput of a pipeline under load."""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count as counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from irst_stream.build import build_pipeline
from irst_stream.commands.console import positive_float, positive_int, print_line, print_table, show_log
from irst_stream.commands.outputs import atomic_output, check_outputs, write_bytes
from irst_stream.commands.report import add_report_option, check_report, write_own_report
from irst_stream.commands.sources import add_image_options, single_frames
from irst_stream.commands.view import latency_rows
from irst_stream.config import Config
from irst_stream.errors import UsageError
from irst_stream.io.files import open_source
from irst_stream.io.media.raw import write_raw
from irst_stream.live.load_test import LoadStep, feed_command, find_max_rate, measure_rate
from irst_stream.settings import to_toml
from irst_stream.source_config import choose_config, read_named_config
from irst_stream.system.machine import usable_cores
from irst_stream.types import frames_after_centre
from irst_stream.version import __version__

__all__ = ["set_up"]

FRAMES = 400  # generated, then sent repeatedly
MAX_ROUNDS = 10**6

EPILOG = """\
TARGET is a configuration or frames. For a configuration, frames are generated (patches if it has an engine, else a scene
with --groups groups) or taken from --frames. For frames, the configuration is --config or that of their data set. A child
process sends the frames over ZeroMQ on schedule whether or not they are received (open loop), at 10, 20, 40, ... frames/s
until the pipeline falls behind, or at the given --rates. End-to-end latency runs from a frame's stamp to the publication
of its detections; it includes the window's lag, two of five frames as a rule, which is listed separately."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Measure latency and throughput of a pipeline under load.", EPILOG
    parser.add_argument(
        "target", metavar="TARGET", help="a configuration (TOML file or bundled name), or a file or folder of frames"
    )
    parser.add_argument("--config", metavar="FILE", help="configuration, if TARGET is frames")
    parser.add_argument("--frames", metavar="PATH", type=Path, help="frames to send, if TARGET is a configuration")
    parser.add_argument(
        "--rates", metavar="HZ,HZ,...", type=_rates, help="rates to try, frames/s (default 10, 20, 40, ...)"
    )
    parser.add_argument(
        "--seconds", type=positive_float, default=10.0, metavar="S", help="measured seconds per rate (default 10)"
    )
    parser.add_argument(
        "--warm-up", type=positive_float, default=2.0, metavar="S", help="warm-up seconds per rate (default 2)"
    )
    parser.add_argument(
        "--groups", type=positive_int, default=5, metavar="N", help="groups of targets in generated scenes (default 5)"
    )
    add_image_options(parser)
    parser.add_argument("--json", metavar="OUT", type=Path, help="write all figures into this JSON file")
    add_report_option(parser)
    parser.add_argument("--png", metavar="OUT", type=Path, help="plot latency against rate into this PNG file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    show_log()
    if args.png:
        from irst_stream import draw  # fails early if matplotlib is missing
    check_report(args.report, args.json)
    check_outputs(args, Path(args.target), json=".json", png=".png", report=".html")
    config, frames = _target(args)
    config = single_frames(config) if args.single else config
    with TemporaryDirectory() as folder:
        path = frames or _generate(config, args.groups, Path(folder))
        load = feed_command(path, MAX_ROUNDS, gray=args.gray, single=args.single)
        pipeline = build_pipeline(config)
        options = {"seconds": args.seconds, "warm_up": args.warm_up}
        options |= {"policy": "live", "depth": config.queue, "window": config.window}
        options["lag"] = frames_after_centre(config.window, config.lag)
        print_line(f"{_machine()}; {path if frames else 'generated frames'}, {args.seconds:g} s per rate, open loop")
        steps: list[LoadStep] = []
        for step in find_max_rate(_rates_to_try(args.rates), lambda rate: measure_rate(pipeline, load, rate, **options)):
            _print_step(step, first=not steps)
            steps.append(step)
    _print_conclusion(steps)
    if args.json:
        facts = {"machine": _machine(), "target": args.target, "config": to_toml(asdict(config))}
        facts["rungs"] = [step.as_dict() for step in steps]
        write_bytes(args.json, json.dumps(facts, indent=2).encode() + b"\n")
        print_line(f"figures: {args.json}")
        write_own_report(args.report, args.json)
    if args.png:
        with atomic_output(args.png) as part:
            draw.latency_curves(part, steps)
        print_line(f"picture: {args.png}")
    return 0


def _target(args: argparse.Namespace) -> tuple[Config, Path | None]:
    """The configuration, and the frames to send, None if they are to be generated."""
    path = Path(args.target)
    if path.suffix == ".toml" or not path.exists():
        if args.config:
            raise UsageError("--config: TARGET is a configuration already")
        return read_named_config(args.target), args.frames
    if args.frames:
        raise UsageError("--frames: TARGET is frames already")
    return choose_config(args.config, open_source(path, gray=args.gray, single=args.single)), path


def _generate(config: Config, groups: int, folder: Path) -> Path:
    """Write one raw file: SeqCSIST patches for a configuration with an engine, else a scene."""
    from irst_stream.sim import Groups, Scene, SceneSettings, seqcsist

    path = folder / "frames.raw"
    if config.engine:
        made = seqcsist(FRAMES // 20, noise=(2.0, 2.0), depth=16).frames
        write_raw(path, made.reshape(-1, *made.shape[2:]), rate_hz=100.0, bits=16)
    else:
        scene = Scene(SceneSettings(groups=Groups(groups=groups, singles=0, snr=(8.0, 20.0))), FRAMES)
        write_raw(path, np.stack([scene.frame(i).pixels for i in range(FRAMES)]), rate_hz=100.0, bits=14)
    return path


def _rates_to_try(rates: list[float] | None) -> Iterator[float]:
    """The given rates, else 10, 20, 40, ... without end, frames/s."""
    return iter(rates) if rates else (10.0 * 2**k for k in counter())


def _print_step(step: LoadStep, first: bool) -> None:
    """Print a row of the table, after its heading if it is the first."""
    headings = ["frames/s", "answered/s", "not used", "p50", "p90", "p99", "p99.9", "max", "lag", "CPU", "MB"]
    latency = step.end_to_end
    latencies = [f"{value:.1f}" for value in (*latency.percentiles, latency.longest, step.lag_ms)]
    rates = [f"{step.offered:.0f}", f"{step.answered:.1f}", str(sum(step.unused.values()))]
    row = [*rates, *latencies, f"{step.cpu:.0%}", f"{step.memory_mb:.0f}"]
    if first:
        print_line("End to end, ms:")
        print_line("  ".join(name.rjust(10) for name in headings))
    print_line("  ".join(cell.rjust(10) for cell in row))


def _print_conclusion(steps: list[LoadStep]) -> None:
    """Print the stages at the highest rate that was kept up with, and the lowest that was not."""
    sustained, failed = ([s for s in steps if s.kept_up is kept] for kept in (True, False))
    if sustained:
        best = max(sustained, key=lambda s: s.offered)
        print_line()
        print_line(f"Stages at {best.offered:.0f} frames/s, ms (timing them takes {best.overhead:.2%} of the computation):")
        print_table(["", "p50", "p90", "p99", "p99.9", "max", "samples"], latency_rows(best.stages))
    if failed:
        slowest = min(failed, key=lambda s: s.offered)
        why = (
            ", ".join(f"{n} {reason}" for reason, n in slowest.unused.items())
            or f"{slowest.answered:.1f} of {slowest.answerable:.1f} answered/s"
        )
        print_line()
        print_line(f"Falls behind at {slowest.offered:.0f} frames/s: {why}.")
    else:
        print_line()
        print_line("Keeps up with all of these rates.")


def _machine() -> str:
    return f"irst-stream {__version__}, Python {platform.python_version()}, {usable_cores()} cores"


def _rates(text: str) -> list[float]:
    """Parse a comma-separated list of rates, frames/s; returns them sorted."""
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(math.isfinite(r) and 0.1 <= r <= 1e6 for r in rates):
        raise argparse.ArgumentTypeError(f"expected numbers from 0.1 to 1,000,000 separated by commas, got {text!r}")
    return sorted(rates)
