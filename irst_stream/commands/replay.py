"""irst-stream replay: detections of recorded frames."""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from irst_stream.build import build_pipeline
from irst_stream.commands.console import noun, print_line, progress
from irst_stream.commands.outputs import check_output
from irst_stream.commands.sources import add_source_options, open_from
from irst_stream.config import Config, read_config
from irst_stream.errors import IrstError, UsageError
from irst_stream.io.csist import KINDS
from irst_stream.io.files import FileSource
from irst_stream.io.jsonl import JsonLines
from irst_stream.pipeline import Pipeline
from irst_stream.resolve.readouts import Readout
from irst_stream.resources import find_config
from irst_stream.types import Frame

__all__ = ["set_up"]

WIDEST = 64  # px: larger frames are not one region

EPILOG = """\
Windows of frames of PATH, a set or feed of patches of up to 64 px, each one group of targets, are read by a network
and by a fit of the imaging model, and the surer of the two is taken (readout best). --readout network, or fit, takes
one of them alone; peaks and cells read the network's plain head, cells as the field does. Detections carry their
position's covariance, and a score: the probability that the target is within 0.15 px. Of SeqCSIST's 20 frames those
with a whole window around them are answered, 2 to 17.

A SeqCSIST or CSIST-100K folder brings its configuration along; for anything else say with --config what is known
of its targets. The first run on a machine compiles the fit, which takes up to half a minute."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Turns recorded frames into sub-pixel detections.", EPILOG
    add_source_options(parser)
    parser.add_argument("--config", metavar="FILE", help=f"a TOML file, or one of {', '.join(sorted(KINDS))}")
    parser.add_argument("--readout", choices=get_args(Readout), help="in place of the configuration's: see its comments")
    parser.add_argument("--engine", metavar="ENGINE", help="in place of the configuration's: a folder or a name")
    parser.add_argument("--detections", metavar="OUT.jsonl", type=Path, help="write the detections into this file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_output(args.detections, args.path)
    source = open_from(args)
    config = _config(args.config, source)
    changed = {name: value for name in ("readout", "engine") if (value := getattr(args, name))}
    config = replace(config, **changed)
    pipeline = build_pipeline(config, source.full_scale or _full_scale(source))
    tally = _Tally()
    fault: IrstError | None = None
    with JsonLines(args.detections) if args.detections else nullcontext() as lines:
        try:
            with progress("replay", source.frames) as done:
                for frame in source:
                    _step(pipeline, frame, lines, tally)
                    done(1)
        except IrstError as error:
            fault = error
    print_line(tally.words())
    if args.detections:
        print_line(f"detections: {args.detections}")
    if fault:
        raise fault
    return 0


class _Tally:
    """What a replay did."""

    def __init__(self) -> None:
        self.frames = self.answered = self.detections = 0
        self.seconds: list[float] = []

    def words(self) -> str:
        """In one line."""
        found = f"{noun(self.frames, 'frame')}, {self.answered} answered, {noun(self.detections, 'detection')}"
        if not self.seconds:
            return found
        middle, late = np.percentile(self.seconds, (50, 99)) * 1e3
        return f"{found}; {middle:.2f} ms a window (p50), {late:.2f} ms (p99)"


def _step(pipeline: Pipeline, frame: Frame, lines: JsonLines | None, tally: _Tally) -> None:
    if max(frame.pixels.shape) > WIDEST:
        height, width = frame.pixels.shape
        raise UsageError(
            f"{frame.stamp.sensor}: frames of {width} x {height} px; expected patches of at most {WIDEST} px a side"
        )
    began = time.perf_counter()
    found = pipeline.step(frame)
    tally.frames += 1
    if found is not None:
        tally.seconds.append(time.perf_counter() - began)
        tally.answered += 1
        tally.detections += len(found)
        if lines is not None:
            lines.write(found)


def _config(name: str | None, source: FileSource) -> Config:
    """The configuration that is asked for, or the one that goes with the data set."""
    name = name or source.dataset
    if name not in KINDS and name == source.dataset:
        raise UsageError(f"{source.path}: {source.kind}; say what is known of its targets with --config")
    return read_config(find_config(name))


def _full_scale(source: FileSource) -> float | None:
    """What the pixels' type holds at most; None for floats."""
    kind = next(iter(source)).pixels.dtype
    return float(np.iinfo(kind).max) if kind.kind == "u" else None
