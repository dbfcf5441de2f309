"""irst-stream replay: detections and tracks of recorded frames."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from irst_stream.build import build_pipeline
from irst_stream.calibrate.settings_file import Origin
from irst_stream.chain.pipeline import Pipeline, Result
from irst_stream.commands.calibrate import MOST_FRAMES, calibrate_footage, save, summary, table_paths
from irst_stream.commands.console import pluralise, print_line, progress, show_log
from irst_stream.commands.footage import read_footage
from irst_stream.commands.outputs import LinesOutput, check_outputs, config_inputs
from irst_stream.commands.sources import add_source_options, check_mask, open_input, single_frames
from irst_stream.config import Config, read_config
from irst_stream.errors import IrstError, LossError, UsageError
from irst_stream.io.files import FileSource
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.suffixes import JSON_LINES
from irst_stream.resolve.settings import Readout
from irst_stream.source_config import choose_config
from irst_stream.types import Detections, Frame, Tracks

__all__ = ["set_up"]

EPILOG = """\
Readout best evaluates each window of frames of PATH by a network and by a fit of the imaging model, and takes the more
certain of the two. Readouts network and fit use one of them alone; peaks and cells read the network's plain head, cells
at cell centres as published methods do. A frame of up to 64 px per side is one region with one group; in larger frames,
the regions that may hold a group are found first. Detections have a position covariance and a score: the probability that
a target is within 0.15 px. Of the 20 frames of a SeqCSIST sequence, those with a whole window around them get detections:
2 to 17.

A SeqCSIST or CSIST-100K folder, a generated scene and a recording made by irst-stream run have a configuration. For
anything else name one with --config, or measure the sensor with --calibrate; without either, a bundled one is guessed. The
configuration that --calibrate writes stands beside the outputs: found.calibrated.toml beside found.jsonl. The first run on
a machine compiles the fit and the tracker, for about 20 s (irst-stream warm-up does it ahead). Output stands in
OUT.jsonl.partial until it is whole, and stays there if PATH cannot be read to its end (exit code 2) or the disk is full
(exit code 3). A recording (.mcap) reproduces the output of a live run under policy lossless byte for byte.

With --single, every image gets a window of its own (window = 1, propose.average = 1), and its detections bear its name as
their sequence: for folders of unrelated images of any sizes, and for stacks of single images."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = (
        "Turn recorded frames into sub-pixel detections and tracks.",
        EPILOG,
    )
    add_source_options(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file, or the name of a bundled configuration, for example camera"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="measure the sensor on PATH first, as irst-stream calibrate does; keep the configuration beside the outputs",
    )
    parser.add_argument("--readout", choices=get_args(Readout), help="readout, overrides the configuration")
    parser.add_argument("--engine", metavar="ENGINE", help="engine folder or bundled engine, overrides the configuration")
    parser.add_argument("--detections", metavar="OUT.jsonl", type=Path, help="write the detections to this file")
    parser.add_argument(
        "--tracks", metavar="OUT.jsonl", type=Path, help="track the targets and write the tracks to this file"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=0.0,
        metavar="1x|max",
        help="1x: at the sensor's pace, 2x: twice as fast; max: no waiting (default max)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    show_log()
    outputs = {kind: path for kind in (Detections, Tracks) if (path := getattr(args, kind.__name__.lower()))}
    check_outputs(args, detections=JSON_LINES, tracks=JSON_LINES)
    if args.tracks and args.single:
        raise UsageError("--tracks: a single image has no tracks; leave out --single, or ask for --detections")
    source = open_input(args)
    config = _calibrated(args, source, outputs) if args.calibrate else choose_config(args.config, source, calibrates=True)
    check_mask(config, source)
    config = single_frames(config) if args.single else config
    overrides = {name: value for name in ("readout", "engine") if (value := getattr(args, name))}
    config = replace(config, **overrides)
    check_outputs(args, *config_inputs(config), detections=JSON_LINES, tracks=JSON_LINES)
    pipeline = build_pipeline(config, tracks=args.tracks is not None)
    totals = _ReplayTotals()
    fault: IrstError | None = None
    with ExitStack() as opened:
        files = {kind: opened.enter_context(closing(LinesOutput(path))) for kind, path in outputs.items()}
        try:
            with progress("replay", source.frames) as done:
                for frame in at_speed(source, args.speed):
                    _step(pipeline, frame, files, totals, hurries=not args.speed)
                    done(1)
        except IrstError as error:
            fault = error
        if isinstance(fault, LossError):
            raise fault
        _store(pipeline.finish(), files, totals)
        if fault is None:
            for file in files.values():
                file.finish()
    print_line(totals.summary())
    if events := _event_counts(pipeline):
        print_line(f"events: {events}")
    if not fault and (note := totals.unanswered(config.window)):
        print_line(f"note: {note}")
    for kind, file in files.items():
        print_line(f"{kind.__name__.lower()}: {file.path}{', up to the fault' if fault else ''}")
    if fault:
        raise fault
    return 0


def _calibrated(args: argparse.Namespace, source: FileSource | Recording, outputs: dict[type[Result], Path]) -> Config:
    """Calibrate on the source, write the configuration beside the first output, and read it."""
    if args.config:
        raise UsageError("--calibrate: writes a configuration of its own; leave out --config")
    if not outputs:
        raise UsageError("--calibrate: needs --detections or --tracks, beside which the configuration is kept")
    path = args.calibrated = next(iter(outputs.values())).with_suffix(".calibrated.toml")
    args.psf, args.clutter, args.mask, _ = table_paths(path)
    check_outputs(args, detections=JSON_LINES, tracks=JSON_LINES, calibrated="", psf="", clutter="", mask="")
    footage = read_footage(source, MOST_FRAMES, single=args.single)
    result = calibrate_footage(footage, single=args.single)
    origin = Origin(str(args.path), footage.rate, footage.notes)
    save(result, path, origin)
    for line in summary(result, origin, footage.sizes):
        print_line(line)
    print_line(f"settings    {path}")
    return read_config(path)


def at_speed(frames: Iterable[Frame], speed: float) -> Iterator[Frame]:
    """Yield frames at the pace of the sensor's clock times `speed`; immediately if speed is 0 or the clock runs back."""
    began: dict[str, tuple[int, int]] = {}  # each sensor's first time stamp, and the steady time it was yielded at, ns
    for frame in frames:
        stamp = frame.stamp
        if stamp.sensor not in began or stamp.index == 0:
            began[stamp.sensor] = stamp.time_ns, time.monotonic_ns()
        if speed:
            first_ns, began_ns = began[stamp.sensor]
            due_ns = began_ns + (stamp.time_ns - first_ns) / speed
            if (remaining_s := (due_ns - time.monotonic_ns()) / 1e9) > 0:
                time.sleep(remaining_s)
        yield frame


class _ReplayTotals:
    """Counts and latencies of a replay."""

    def __init__(self) -> None:
        self.frames = self.answered = self.detections = 0
        self.sequences: Counter[tuple[str, int]] = Counter()  # frames by sensor and epoch
        self.ids: set[tuple[str, int]] = set()  # confirmed tracks by sensor and id
        self.seconds: list[float] = []  # of each step that gave detections

    def summary(self) -> str:
        """All totals in one line."""
        text = f"{pluralise(self.frames, 'frame')}, {self.answered} answered, {pluralise(self.detections, 'detection')}"
        text += f", {pluralise(len(self.ids), 'track')}" if self.ids else ""
        if not self.seconds:
            return text
        median, p99 = np.percentile(self.seconds, (50, 99)) * 1e3
        return f"{text}; {median:.2f} ms per window (p50), {p99:.2f} ms (p99)"

    def unanswered(self, window: int) -> str:
        """Why sequences, or all frames, have no answer, and the way out; "" if there is nothing to say."""
        short = [frames for frames in self.sequences.values() if frames < window]
        if short:
            return (
                f"no answers for {len(short)} of {pluralise(len(self.sequences), 'sequence')}, of at most "
                f"{pluralise(max(short), 'frame')}: the window needs {window}. --single answers unrelated images each by "
                "itself; a smaller window in the configuration answers short sequences"
            )
        if self.frames and not self.answered:
            return f"no {window} frames in a row make a window; the events above say what became of the frames"
        return ""


def _step(
    pipeline: Pipeline, frame: Frame, files: dict[type[Result], LinesOutput], totals: _ReplayTotals, *, hurries: bool
) -> None:
    """Run one frame through the pipeline and time it; hurries: the next one comes at once."""
    began = time.perf_counter()
    results = pipeline.step([frame], more=hurries)
    seconds = time.perf_counter() - began
    totals.frames += 1
    totals.sequences[frame.stamp.sensor, frame.stamp.epoch] += 1
    totals.seconds += [seconds for result in results if isinstance(result, Detections)]
    _store(results, files, totals)


def _store(results: list[Result], files: dict[type[Result], LinesOutput], totals: _ReplayTotals) -> None:
    """Count results and write those that have a file."""
    for result in results:
        if isinstance(result, Detections):
            totals.answered += 1
            totals.detections += len(result)
        else:
            totals.ids |= {(result.stamp.sensor, number) for number in result.id[result.confirmed].tolist()}
        if type(result) in files:
            files[type(result)].write(result)


def _event_counts(pipeline: Pipeline) -> str:
    """The pipeline's events, summed over sensors; "" if there were none."""
    totals: dict[str, int] = {}
    for (_, event), count in pipeline.events.items():
        totals[event] = totals.get(event, 0) + count
    return ", ".join(f"{count} {event}" for event, count in sorted(totals.items()))


def _speed(text: str) -> float:
    """Parse max (gives 0) or a factor like 1x."""
    if text == "max":
        return 0.0
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = -1.0
    if not 0.001 <= factor <= 1000:
        raise argparse.ArgumentTypeError(f"expected max, or a factor such as 1x, got {text!r}")
    return factor
