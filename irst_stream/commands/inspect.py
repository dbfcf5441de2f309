"""irst-stream inspect: what a path holds, frame by frame, and a picture of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.commands.console import print_line, progress
from irst_stream.commands.sources import add_source_options, open_from
from irst_stream.errors import IrstError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.files import FileSource
from irst_stream.types import Detections, Frame, Stamp

__all__ = ["add_parser"]

SEQUENCES_SHOWN, FRAMES_SHOWN = 4, 6
PATCH_WIDTH = 64  # px: up to here frames are shown whole, several in one picture


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "inspect", help="say what a file or folder holds, and draw it",
        description="Reads every frame and says what it is: frames, size, type, range, rate, truth, saturated pixels.",
    )  # fmt: skip
    add_source_options(parser)
    parser.add_argument("--png", metavar="OUT", type=Path, help="draw a preview, truth marked, into this file")
    parser.add_argument("--detections", metavar="JSONL", type=Path, help="mark these detections in the preview too")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.detections and not args.png:
        raise UsageError("--detections: marks a picture; say where to draw it with --png OUT")
    if args.png:
        from irst_stream import draw  # says so at once where matplotlib is missing
    source = open_from(args)
    print_line(f"{args.path}: {source.kind}")
    summary = _Summary(source)
    fault: IrstError | None = None
    try:
        with progress("inspect", source.frames) as done:
            for frame in source:
                summary.add(frame)
                done(1)
    except IrstError as error:
        fault = error
    for line in summary.lines():
        print_line(line)
    if args.png and summary.shown:
        shown = [frame.stamp for frame in summary.shown]
        draw.preview(args.png, summary.shown, _of(source.truths(), shown), _detections(args.detections, shown))
        print_line(f"picture     {args.png}")
    if fault:
        raise fault
    return 0


@dataclass
class _Summary:
    """What is known of a source after some of its frames."""

    source: FileSource
    frames: int = 0
    sequences: int = 0
    kinds: set[str] = field(default_factory=set)
    low: float = np.inf
    high: float = -np.inf
    not_finite: int = 0
    pixels: int = 0
    saturated: int = 0
    saturated_frames: int = 0
    shown: list[Frame] = field(default_factory=list)

    def add(self, frame: Frame) -> None:
        """Takes in one frame."""
        pixels = frame.pixels
        self.frames += 1
        self.sequences += frame.stamp.index == 0
        self.kinds.add(f"{pixels.shape[1]} x {pixels.shape[0]} px, {pixels.dtype}")
        finite = pixels if pixels.dtype.kind == "u" else pixels[np.isfinite(pixels)]
        self.not_finite += pixels.size - finite.size
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        full = self.source.full_scale or (np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else np.inf)
        saturated = int((finite >= full).sum())
        self.pixels += pixels.size
        self.saturated += saturated
        self.saturated_frames += saturated > 0
        if self._is_shown(frame):
            self.shown.append(frame)

    def lines(self) -> Iterator[str]:
        """The answer, one fact a line."""
        if not self.frames:
            yield "frames      none could be read"
            return
        source = self.source
        yield f"frames      {self.frames} in {self.sequences} sequence{'s' if self.sequences > 1 else ''}"
        yield f"size, type  {'; '.join(sorted(self.kinds))}"
        yield f"range       {self.low:g} to {self.high:g} DN"
        if self.not_finite:
            yield f"not finite  {self.not_finite} of {self.pixels} pixels are NaN or infinite"
        pixels, frames = self.saturated / self.pixels, self.saturated_frames / self.frames
        yield f"saturated   {pixels:.3%} of pixels, in {frames:.1%} of frames (full scale {_full_scale(source)})"
        how = "not stated; state it with --rate" if source.rate_from == "default" else f"by the {source.rate_from}"
        yield f"rate        {source.rate_hz:g} frames/s ({how if source.rate_from != 'stated' else 'as you say'})"
        yield f"truth       {'yes' if source.has_truth else 'no'}"

    def _is_shown(self, frame: Frame) -> bool:
        """Of patches the first few of the first sequences, evenly over each; of full frames the middle one."""
        total = self.source.frames or 1
        if max(frame.pixels.shape) > PATCH_WIDTH:
            return self.frames == total // 2 + 1
        if self.source.dataset == "seqcsist":
            return (self.sequences <= SEQUENCES_SHOWN and frame.stamp.index % 4 == 1) or self._fills(frame)
        step = max(total // (SEQUENCES_SHOWN * FRAMES_SHOWN), 1)
        return (self.frames - 1) % step == 0 and len(self.shown) < SEQUENCES_SHOWN * FRAMES_SHOWN

    def _fills(self, frame: Frame) -> bool:
        return self.sequences <= SEQUENCES_SHOWN and frame.stamp.index == 19


def _full_scale(source: FileSource) -> str:
    return f"{source.full_scale} DN" if source.full_scale else "of its type"


def _of(records: Iterable[Any], shown: list[Stamp]) -> dict[Stamp, Any]:
    """The records of the shown frames, by the frames' stamps."""
    wanted = {(stamp.sensor, stamp.index): stamp for stamp in shown}
    found: dict[Stamp, Any] = {}
    for record in records:
        stamp = wanted.get((record.stamp.sensor, record.stamp.index))
        if stamp is not None:
            found[stamp] = record
            if len(found) == len(wanted):
                break
    return found


def _detections(path: Path | None, shown: list[Stamp]) -> dict[Stamp, Detections]:
    return {} if path is None else _of(jsonl.read(path, Detections), shown)
