"""irst-stream inspect: what a path holds, frame by frame, and a picture of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.commands.console import noun, print_line, progress
from irst_stream.commands.outputs import check_output, replacing
from irst_stream.commands.sources import add_source_options, open_any
from irst_stream.errors import IrstError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.files import FileSource
from irst_stream.io.media.medium import type_ceiling
from irst_stream.io.recording.recorder import Recording
from irst_stream.types import Detections, Frame, Stamp, Truth

__all__ = ["set_up"]

SEQUENCES_SHOWN, FRAMES_SHOWN = 4, 6
PATCH_WIDTH = 24  # px: up to here frames are shown whole, several in one picture


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description = "Reads every frame and says what it is: frames, size, type, range, rate, truth, saturated pixels."
    add_source_options(parser)
    parser.add_argument("--png", metavar="OUT", type=Path, help="draw a preview, truth marked, into this file")
    parser.add_argument(
        "--detections",
        metavar="JSONL",
        type=Path,
        nargs="+",
        default=[],
        help="mark these detections in the preview too; several files are compared side by side",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.detections and not args.png:
        raise UsageError("--detections: marks a picture; say where to draw it with --png OUT")
    if args.png:
        from irst_stream import draw  # says so at once where matplotlib is missing
    check_output(args.png, args.path, suffix=".png")
    source = open_any(args)
    print_line(f"{args.path}: {source.kind}")
    summary = _Summary(source)
    faults = [
        _take(source, source.frames, "inspect", summary.add),
        _take(source.results(), None, "results", summary.add_result)
        if isinstance(source, Recording)
        else _take(source.truths(), None, "truth", summary.add_truth),
    ]
    for line in summary.lines():
        print_line(line)
    if args.png and summary.shown:
        found = {path.stem: _detections(path, summary.shown) for path in args.detections}
        for path in args.detections:
            if not found[path.stem]:
                print_line(f"note        no line of {path} is about the frames shown")
        with replacing(args.png) as part:
            if len(found) > 1:
                draw.comparison(part, _one_of_each(summary.shown), summary.truths, found)
            else:
                draw.preview(part, summary.shown, summary.truths, next(iter(found.values()), {}))
        print_line(f"picture     {args.png}")
    if fault := faults[0] or faults[1]:
        raise fault
    return 0


def _take(stream: Iterable[Any], total: int | None, label: str, take: Callable[[Any], None]) -> IrstError | None:
    """Takes in what can be read, and returns what ended it."""
    try:
        with progress(label, total) as done:
            for item in stream:
                take(item)
                done(1)
    except IrstError as error:
        return error
    return None


@dataclass
class _Summary:
    """What is known of a source after some of its frames."""

    source: FileSource | Recording
    frames: int = 0
    sequences: int = 0
    kinds: set[str] = field(default_factory=set)
    low: float = np.inf
    high: float = -np.inf
    not_finite: int = 0
    pixels: int = 0
    saturated: int = 0
    saturated_frames: int = 0
    full_scales: set[float] = field(default_factory=set)
    shown: list[Frame] = field(default_factory=list)
    truths: dict[Stamp, Truth] = field(default_factory=dict)
    targets: int = 0
    truth_frames: int = 0
    results: Counter[str] = field(default_factory=Counter)
    last: dict[str, int] = field(default_factory=dict)  # the epoch that a sensor is in

    def add(self, frame: Frame) -> None:
        """Takes in one frame."""
        pixels = frame.pixels
        self.frames += 1
        self.sequences += self._begins(frame.stamp)
        self.kinds.add(f"{pixels.shape[1]} x {pixels.shape[0]} px, {pixels.dtype}")
        finite = pixels if pixels.dtype.kind == "u" else pixels[np.isfinite(pixels)]
        self.not_finite += pixels.size - finite.size
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        saturated = int((finite >= min(frame.full_scale, type_ceiling(pixels.dtype))).sum())
        self.full_scales.add(frame.full_scale)
        self.pixels += pixels.size
        self.saturated += saturated
        self.saturated_frames += saturated > 0
        if self._is_shown(frame):
            self.shown.append(frame)

    def add_truth(self, truth: Truth) -> None:
        """Takes in the truth of one frame, after all frames."""
        self.targets += len(truth)
        self.truth_frames += 1
        for frame in self.shown:
            if (frame.stamp.sensor, frame.stamp.index) == (truth.stamp.sensor, truth.stamp.index):
                self.truths[frame.stamp] = truth

    def add_result(self, result: tuple[str, bytes]) -> None:
        """Takes in what a recording holds beside frames."""
        self.results[result[0]] += 1

    def lines(self) -> Iterator[str]:
        """The answer, one fact a line."""
        if not self.frames:
            yield "frames      none could be read"
            return
        source = self.source
        yield f"frames      {self.frames} in {noun(self.sequences, 'sequence')}"
        yield f"size, type  {'; '.join(sorted(self.kinds))}"
        yield f"range       {self.low:g} to {self.high:g} DN"
        if self.not_finite:
            yield f"not finite  {self.not_finite} of {self.pixels} pixels are NaN or infinite"
        pixels, frames = self.saturated / self.pixels, self.saturated_frames / self.frames
        yield f"saturated   {pixels:.3%} of pixels, in {frames:.1%} of frames (full scale {self._full_scale()})"
        yield f"rate        {_rate(source)}"
        if isinstance(source, Recording):
            results = ", ".join(f"{kind} of {noun(n, 'frame')}" for kind, n in self.results.items())
            yield f"results     {results or 'none'}"
        yield (
            f"truth       {noun(self.targets, 'target')} in {noun(self.truth_frames, 'frame')}"
            if source.has_truth
            else "truth       none"
        )

    def _begins(self, stamp: Stamp) -> bool:
        """Whether a sequence begins with a frame; those of a recording may overlap, and lack their first."""
        if not isinstance(self.source, Recording):
            return stamp.index == 0
        begins = self.last.get(stamp.sensor) != stamp.epoch
        self.last[stamp.sensor] = stamp.epoch
        return begins

    def _full_scale(self) -> str:
        """In words."""
        stated = {scale for scale in self.full_scales if self.source.full_scale or isinstance(self.source, Recording)}
        return ", ".join(f"{scale:g} DN" for scale in sorted(stated) if np.isfinite(scale)) or "of its type"

    def _is_shown(self, frame: Frame) -> bool:
        """Of patches the first few of the first sequences, evenly over each; of full frames the middle one."""
        total, index = self.source.frames or 1, frame.stamp.index
        if max(frame.pixels.shape) > PATCH_WIDTH:
            return self.frames == total // 2 + 1
        if self.source.dataset == "seqcsist":
            return self.sequences <= SEQUENCES_SHOWN and index % 3 == 2 and index < 3 * FRAMES_SHOWN
        step = max(total // (SEQUENCES_SHOWN * FRAMES_SHOWN), 1)
        return (self.frames - 1) % step == 0 and len(self.shown) < SEQUENCES_SHOWN * FRAMES_SHOWN


def _rate(source: FileSource | Recording) -> str:
    """Frames a second, and who says so."""
    if source.rate_hz is None:
        return "unknown"
    who = "recording" if isinstance(source, Recording) else source.rate_from
    how = {"default": "not stated; state it with --rate", "stated": "as you say"}.get(who, f"by the {who}")
    return f"{source.rate_hz:g} frames/s ({how})"


def _one_of_each(shown: list[Frame]) -> list[Frame]:
    """The middle one of each sequence's frames, or of them all where each is a sequence of its own."""
    sequences: dict[str, list[Frame]] = {}
    for frame in shown:
        sequences.setdefault(frame.stamp.sensor, []).append(frame)
    if len(sequences) == 1:
        return shown[:: max(len(shown) // SEQUENCES_SHOWN, 1)][:SEQUENCES_SHOWN]
    return [frames[len(frames) // 2] for frames in sequences.values()][:SEQUENCES_SHOWN]


def _detections(path: Path, shown: list[Frame]) -> dict[Stamp, Detections]:
    """The detections of the shown frames, by the frames' stamps."""
    wanted = {(frame.stamp.sensor, frame.stamp.index): frame.stamp for frame in shown}
    lines = jsonl.read(path, Detections)
    return {wanted[key]: line for line in lines if (key := (line.stamp.sensor, line.stamp.index)) in wanted}
