"""irst-stream profile: latency and throughput of a pipeline under load."""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Iterator
from itertools import count as counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from irst_stream.build import build_pipeline
from irst_stream.commands.console import count, positive, print_line, print_table, show_log
from irst_stream.commands.outputs import check_output, replacing, write_bytes
from irst_stream.commands.sources import configuration
from irst_stream.commands.view import latency_rows
from irst_stream.config import Config, read_config
from irst_stream.errors import UsageError
from irst_stream.io.files import open_source
from irst_stream.io.media.raw import write_raw
from irst_stream.live.load_test import LoadStep, feed_command, find_max_rate, measure_rate
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_config
from irst_stream.version import __version__

__all__ = ["set_up"]

FRAMES = 400  # that are generated, and sent again and again
MOST_ROUNDS = 10**6

EPILOG = """\
TARGET is a configuration, for which frames are generated (patches where it has an engine, else a scene with five groups; or
those of --frames are taken), or frames, with --config or the configuration that they bring along. A process of its own
sends them over ZeroMQ on schedule, whether or not they are taken (open loop), at 10, 20, 40, ... frames/s until that is too
much, or at the --rates you name. End to end is from the frame's stamp to the publication of its detections, which for a
window of five is two frames plus what it takes here; that lag stands beside it."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Measures latency and throughput under load.", EPILOG
    parser.add_argument(
        "target", metavar="TARGET", help="a configuration (TOML file or name), or a file or folder of frames"
    )
    parser.add_argument("--config", metavar="FILE", help="where TARGET is frames: what is known of their targets")
    parser.add_argument("--frames", metavar="PATH", type=Path, help="where TARGET is a configuration: frames to send")
    parser.add_argument("--rates", metavar="HZ,HZ,...", type=_rates, help="frames a second (default 10, 20, 40, ...)")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="S", help="of each rate (default 10)")
    parser.add_argument("--warm-up", type=positive, default=2.0, metavar="S", help="before that (default 2)")
    parser.add_argument("--groups", type=count, default=5, metavar="N", help="of targets in generated scenes (default 5)")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write all figures into this file")
    parser.add_argument("--png", metavar="OUT", type=Path, help="draw latency over rate into this file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    show_log()
    if args.png:
        from irst_stream import draw  # says so at once where matplotlib is missing
    check_output(args.json, suffix=".json")
    check_output(args.png, suffix=".png")
    config, frames = _target(args)
    with TemporaryDirectory() as folder:
        path = frames or _generate(config, args.groups, Path(folder))
        load = feed_command(path, MOST_ROUNDS)
        pipeline = build_pipeline(config)
        options = {"seconds": args.seconds, "warm_up": args.warm_up}
        options |= {"policy": "live", "depth": config.queue, "window": config.window}
        print_line(f"{_machine()}; {path if frames else 'generated frames'}, {args.seconds:g} s a rate, open loop")
        rungs: list[LoadStep] = []
        for rung in find_max_rate(_ladder(args.rates), lambda rate: measure_rate(pipeline, load, rate, **options)):
            _say(rung, first=not rungs)
            rungs.append(rung)
    _conclude(rungs)
    if args.json:
        facts = {"machine": _machine(), "target": args.target, "rungs": [rung.as_dict() for rung in rungs]}
        write_bytes(args.json, json.dumps(facts, indent=2).encode() + b"\n")
        print_line(f"figures: {args.json}")
    if args.png:
        with replacing(args.png) as part:
            draw.latency_ladder(part, rungs)
        print_line(f"picture: {args.png}")
    return 0


def _target(args: argparse.Namespace) -> tuple[Config, Path | None]:
    """The configuration, and frames where they are given."""
    path = Path(args.target)
    if path.suffix == ".toml" or not path.exists():
        if args.config:
            raise UsageError("--config: TARGET is a configuration already")
        return read_config(find_config(args.target)), args.frames
    if args.frames:
        raise UsageError("--frames: TARGET is frames already")
    return configuration(args.config, open_source(path)), path


def _generate(config: Config, groups: int, folder: Path) -> Path:
    """Patches by SeqCSIST's rules for a configuration with an engine, else a scene; as one raw file."""
    from irst_stream.sim import Groups, Scene, SceneSettings, seqcsist

    path = folder / "frames.raw"
    if config.engine:
        made = seqcsist(FRAMES // 20, noise=(2.0, 2.0), depth=16).frames
        write_raw(path, made.reshape(-1, *made.shape[2:]), rate_hz=100.0, bits=16)
    else:
        scene = Scene(SceneSettings(groups=Groups(groups=groups, singles=0, snr=(8.0, 20.0))), FRAMES)
        write_raw(path, np.stack([scene.frame(i).pixels for i in range(FRAMES)]), rate_hz=100.0, bits=14)
    return path


def _ladder(rates: list[float] | None) -> Iterator[float]:
    return iter(rates) if rates else (10.0 * 2**k for k in counter())


def _say(rung: LoadStep, first: bool) -> None:
    headings = ["frames/s", "answered/s", "not used", "p50", "p90", "p99", "p99.9", "max", "lag", "CPU", "MB"]
    whole = rung.end_to_end
    latencies = [f"{value:.1f}" for value in (*whole.percentiles, whole.longest, rung.lag_ms)]
    used = [f"{rung.offered:.0f}", f"{rung.answered:.1f}", str(sum(rung.unused.values()))]
    row = [*used, *latencies, f"{rung.cpu:.0%}", f"{rung.memory_mb:.0f}"]
    if first:
        print_line("End to end, ms:")
        print_line("  ".join(name.rjust(10) for name in headings))
    print_line("  ".join(cell.rjust(10) for cell in row))


def _conclude(rungs: list[LoadStep]) -> None:
    good, bad = ([r for r in rungs if r.kept_up is kept] for kept in (True, False))
    if good:
        best = max(good, key=lambda r: r.offered)
        print_line(
            f"\nStages at {best.offered:.0f} frames/s, ms (measuring them takes {best.overhead:.2%} of the computation):"
        )
        print_table(["", "p50", "p90", "p99", "p99.9", "max", "samples"], latency_rows(best.stages))
    if bad:
        least = min(bad, key=lambda r: r.offered)
        why = (
            ", ".join(f"{n} {reason}" for reason, n in least.unused.items())
            or f"{least.answered:.1f} of {least.answerable:.1f} answered/s"
        )
        print_line(f"\nFalls behind at {least.offered:.0f} frames/s: {why}.")
    else:
        print_line("\nKeeps up with all of these rates.")


def _machine() -> str:
    return f"irst-stream {__version__}, Python {platform.python_version()}, {usable_cores()} cores"


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(math.isfinite(r) and 0.1 <= r <= 1e6 for r in rates):
        raise argparse.ArgumentTypeError(f"expected numbers from 0.1 to 1,000,000 with commas between them, got {text!r}")
    return sorted(rates)
