"""irst-stream replay: detections and tracks of recorded frames."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from irst_stream.build import build_pipeline
from irst_stream.chain.pipeline import Pipeline, Result
from irst_stream.commands.console import noun, print_line, progress, show_log
from irst_stream.commands.outputs import check_output
from irst_stream.commands.sources import add_source_options, configuration, open_any
from irst_stream.errors import IrstError, UsageError
from irst_stream.io.jsonl import JsonLines
from irst_stream.resolve.settings import Readout
from irst_stream.types import Detections, Frame, Tracks

__all__ = ["set_up"]

EPILOG = """\
Windows of frames of PATH are read by a network and by a fit of the imaging model, and the surer of the two is taken
(readout best). --readout network, or fit, takes one of them alone; peaks and cells read the network's plain head, cells as
the field does. Frames of up to 64 px a side are one group of targets; in larger ones the regions that may hold a group are
found first. Detections carry their position's covariance, and a score: the probability that the target is within 0.15 px.
Of SeqCSIST's 20 frames those with a whole window around them are answered, 2 to 17.

A SeqCSIST or CSIST-100K folder, a generated scene and a recording of irst-stream run bring their configuration along; for
anything else say with --config what is known of its targets. The first run on a machine compiles the fit and the tracker,
once, up to two minutes. A recording (.mcap) gives the same bytes again that the live run gave under policy lossless."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = (
        "Turns recorded frames into sub-pixel detections, and follows them as tracks.",
        EPILOG,
    )
    add_source_options(parser)
    parser.add_argument("--config", metavar="FILE", help="a TOML file, or the name of one that comes along, such as camera")
    parser.add_argument("--readout", choices=get_args(Readout), help="in place of the configuration's: see its comments")
    parser.add_argument("--engine", metavar="ENGINE", help="in place of the configuration's: a folder or a name")
    parser.add_argument("--detections", metavar="OUT.jsonl", type=Path, help="write the detections into this file")
    parser.add_argument("--tracks", metavar="OUT.jsonl", type=Path, help="follow the targets, and write their tracks")
    parser.add_argument(
        "--speed", type=_speed, default=0.0, metavar="1x|max", help="as the sensor's clock says, 2x, ... (max)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    show_log()
    outputs = {kind: path for kind in (Detections, Tracks) if (path := getattr(args, kind.__name__.lower()))}
    for path in outputs.values():
        check_output(path, args.path)
    if args.tracks and args.tracks == args.detections:
        raise UsageError(f"--detections, --tracks: {args.tracks} is named twice")
    source = open_any(args)
    config = configuration(args.config, source)
    changed = {name: value for name in ("readout", "engine") if (value := getattr(args, name))}
    config = replace(config, **changed)
    pipeline = build_pipeline(config, tracks=args.tracks is not None)
    tally = _Tally()
    fault: IrstError | None = None
    with ExitStack() as opened:
        files = {kind: opened.enter_context(JsonLines(path)) for kind, path in outputs.items()}
        try:
            with progress("replay", source.frames) as done:
                for frame in at_speed(source, args.speed):
                    _step(pipeline, frame, files, tally)
                    done(1)
        except IrstError as error:
            fault = error
        _keep(pipeline.finish(), files, tally)
    print_line(tally.words())
    if happened := _happened(pipeline):
        print_line(f"on the way: {happened}")
    for kind, path in outputs.items():
        print_line(f"{kind.__name__.lower()}: {path}")
    if fault:
        raise fault
    return 0


def at_speed(frames: Iterable[Frame], speed: float) -> Iterator[Frame]:
    """Gives each frame when the sensor's clock says so, times speed; at once for speed 0, or where the clock goes back."""
    began: dict[str, tuple[int, int]] = {}  # each sensor's first stamp, and when that was given
    for frame in frames:
        stamp = frame.stamp
        if stamp.sensor not in began or stamp.index == 0:
            began[stamp.sensor] = stamp.time_ns, time.monotonic_ns()
        if speed:
            first_ns, began_ns = began[stamp.sensor]
            due_ns = began_ns + (stamp.time_ns - first_ns) / speed
            if (left := (due_ns - time.monotonic_ns()) / 1e9) > 0:
                time.sleep(left)
        yield frame


class _Tally:
    """What a replay did."""

    def __init__(self) -> None:
        self.frames = self.answered = self.detections = 0
        self.ids: set[tuple[str, int]] = set()  # of confirmed tracks
        self.seconds: list[float] = []

    def words(self) -> str:
        """In one line."""
        found = f"{noun(self.frames, 'frame')}, {self.answered} answered, {noun(self.detections, 'detection')}"
        found += f", {noun(len(self.ids), 'track')}" if self.ids else ""
        if not self.seconds:
            return found
        middle, late = np.percentile(self.seconds, (50, 99)) * 1e3
        return f"{found}; {middle:.2f} ms a window (p50), {late:.2f} ms (p99)"


def _step(pipeline: Pipeline, frame: Frame, files: dict[type[Result], JsonLines], tally: _Tally) -> None:
    began = time.perf_counter()
    results = pipeline.step([frame])
    took = time.perf_counter() - began
    tally.frames += 1
    tally.seconds += [took for result in results if isinstance(result, Detections)]
    _keep(results, files, tally)


def _keep(results: list[Result], files: dict[type[Result], JsonLines], tally: _Tally) -> None:
    for result in results:
        if isinstance(result, Detections):
            tally.answered += 1
            tally.detections += len(result)
        else:
            tally.ids |= {(result.stamp.sensor, number) for number in result.id[result.confirmed].tolist()}
        if type(result) in files:
            files[type(result)].write(result)


def _happened(pipeline: Pipeline) -> str:
    """What befell frames, in words; regular changes of the sequence are not worth mentioning."""
    totals: dict[str, int] = {}
    for (_, event), count in pipeline.events.items():
        totals[event] = totals.get(event, 0) + count
    return ", ".join(f"{count} {event}" for event, count in sorted(totals.items()))


def _speed(text: str) -> float:
    """An option that is max, or a factor such as 1x."""
    if text == "max":
        return 0.0
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = -1.0
    if not 0.001 <= factor <= 1000:
        raise argparse.ArgumentTypeError(f"expected max, or a factor such as 1x, got {text!r}")
    return factor
