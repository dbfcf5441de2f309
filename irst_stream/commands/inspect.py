"""irst-stream inspect: a summary of frames, truth and results at a path, and a preview picture."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.calibrate.frame_rate import rate_of_stamps
from irst_stream.commands.calibrate import check_report
from irst_stream.commands.console import pluralise, print_line, progress
from irst_stream.commands.footage import MIN_SIDE
from irst_stream.commands.outputs import atomic_output, check_outputs, write_bytes
from irst_stream.commands.sight import is_sampled, look
from irst_stream.commands.sources import add_source_options, open_input
from irst_stream.errors import IrstError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.files import FileSource
from irst_stream.io.media.medium import type_ceiling
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.truth import open_truth
from irst_stream.io.truth.pairing import align_truth
from irst_stream.io.truth.truth_set import TruthSet
from irst_stream.types import Detections, Frame, Stamp, Truth

__all__ = ["set_up"]

EPILOG = """\
Of full frames it also says what sensor they come from: noise over time and pattern, bad pixels, burnt-in text and borders,
point-like spots and the width of the PSF, from the first 200 frames of the first sequence. irst-stream calibrate measures
the same on more frames, and writes the settings that follow. --png needs matplotlib, --report nothing."""
SEQUENCES_SHOWN, FRAMES_SHOWN = 4, 6  # in a preview of patches
PATCH_WIDTH = 24  # px: frames up to this size are patches, several in one picture


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Read every frame and summarise: frames, size, pixel type, range, rate, truth, saturated pixels."
    parser.epilog = EPILOG
    add_source_options(parser)
    parser.add_argument("--truth", metavar="TRUTH", type=Path, help="truth beside the frames: see irst-stream docs truth")
    parser.add_argument(
        "--report", metavar="OUT.html|OUT.png", type=Path, help="draw what is said of the sensor into this file"
    )
    parser.add_argument("--png", metavar="OUT", type=Path, help="draw a preview with truth marked into this PNG file")
    parser.add_argument(
        "--detections",
        metavar="JSONL",
        type=Path,
        nargs="+",
        default=[],
        help="mark these detections in the preview too; several files are shown side by side",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.detections and not args.png:
        raise UsageError("--detections: needs a picture to mark; add --png OUT")
    if args.png:
        from irst_stream import draw  # fails early if matplotlib is missing
    check_report(args.report)
    check_outputs(args, png=".png", report="")
    source = open_input(args)
    truth = open_truth(args.truth) if args.truth else None
    print_line(f"{args.path}: {source.kind}")
    summary = _SourceSummary(source)
    faults = [
        _consume(source, source.frames, "inspect", summary.add),
        _consume(source.results(), None, "results", summary.add_result)
        if isinstance(source, Recording)
        else _consume(source.truths() if truth is None else (), None, "truth", summary.add_truth),
    ]
    if truth is not None:
        summary.add_truth_set(truth)
    lines = list(summary.lines())
    sight = look(summary.sampled, single=args.single) if summary.sampled else None
    lines += sight.lines() if sight else []
    for line in lines:
        print_line(line)
    if args.report:
        if sight is None:
            raise UsageError(
                f"--report: {args.path}: no full frames, {MIN_SIDE} x {MIN_SIDE} px or more with values, to look at"
            )
        write_bytes(args.report, sight.report(args.report, f"What {args.path} shows", lines))
        print_line(f"report      {args.report}")
    if args.png and summary.shown:
        found = {path.stem: _read_detections(path, summary.shown) for path in args.detections}
        for path in args.detections:
            if not found[path.stem]:
                print_line(f"note        {path} has no detections for the frames shown")
        with atomic_output(args.png) as part:
            if len(found) > 1:
                draw.comparison(part, _middle_frames(summary.shown), summary.truths, found)
            else:
                draw.preview(part, summary.shown, summary.truths, next(iter(found.values()), {}))
        print_line(f"picture     {args.png}")
    if fault := faults[0] or faults[1]:
        raise fault
    return 0


def _consume(stream: Iterable[Any], total: int | None, label: str, consume: Callable[[Any], None]) -> IrstError | None:
    """Pass every readable item to `consume`; return the error that ended the stream, if any."""
    try:
        with progress(label, total) as done:
            for item in stream:
                consume(item)
                done(1)
    except IrstError as error:
        return error
    return None


@dataclass
class _SourceSummary:
    """Running totals over a source's frames, truth and results."""

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
    epochs: dict[str, int] = field(default_factory=dict)  # each sensor's current epoch
    stamps: list[Stamp] = field(default_factory=list)  # of all frames
    truth_kind: str = ""  # of a file of truth, and what was paired
    sampled: list[Frame] = field(default_factory=list)  # full frames of the first sequence, or single images

    def add(self, frame: Frame) -> None:
        """Add one frame."""
        pixels = frame.pixels
        self.frames += 1
        self.stamps.append(frame.stamp)
        self.sequences += self._starts_sequence(frame.stamp)
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
        if self._is_previewed(frame):
            self.shown.append(frame)
        if is_sampled(frame, self.sampled):
            self.sampled.append(frame)

    def add_truth(self, truth: Truth) -> None:
        """Add the truth of one frame; call after all frames were added."""
        self.targets += len(truth)
        self.truth_frames += 1
        for frame in self.shown:
            if (frame.stamp.sensor, frame.stamp.index) == (truth.stamp.sensor, truth.stamp.index):
                self.truths[frame.stamp] = truth

    def add_truth_set(self, truth: TruthSet) -> None:
        """Add the truth that a file or folder holds of the frames; call after all frames were added."""
        truths, note = align_truth(self.stamps, truth)
        known = {(stamp.sensor, stamp.index) for stamp in self.stamps}
        for one in truths:
            if (one.stamp.sensor, one.stamp.index) in known:
                self.add_truth(one)
        self.truth_kind = f" ({truth.kind}{'; ' if note else ''}{note})"

    def add_result(self, result: tuple[str, bytes]) -> None:
        """Count one detections or tracks record of a recording."""
        self.results[result[0]] += 1

    def lines(self) -> Iterator[str]:
        """Yield the summary, one fact per line."""
        if not self.frames:
            yield "frames      none could be read"
            return
        source = self.source
        yield f"frames      {self.frames} in {pluralise(self.sequences, 'sequence')}"
        yield f"size, type  {'; '.join(sorted(self.kinds))}"
        yield f"range       {self.low:g} to {self.high:g} DN" if self.low <= self.high else "range       no pixel is finite"
        if self.not_finite:
            yield f"not finite  {self.not_finite} of {self.pixels} pixels are NaN or infinite"
        pixels, frames = self.saturated / self.pixels, self.saturated_frames / self.frames
        yield f"saturated   {pixels:.3%} of pixels, in {frames:.1%} of frames (full scale {self._full_scale()})"
        yield f"rate        {_describe_rate(source, self.stamps)}"
        if isinstance(source, Recording):
            results = ", ".join(f"{kind} of {pluralise(n, 'frame')}" for kind, n in self.results.items())
            yield f"results     {results or 'none'}"
        yield (
            f"truth       {pluralise(self.targets, 'target')} in {pluralise(self.truth_frames, 'frame')}{self.truth_kind}"
            if source.has_truth or self.truth_kind
            else "truth       none"
        )

    def _starts_sequence(self, stamp: Stamp) -> bool:
        """Whether a frame starts a sequence; in a recording, sequences may overlap and lack their first frame."""
        if not isinstance(self.source, Recording):
            return stamp.index == 0
        starts = self.epochs.get(stamp.sensor) != stamp.epoch
        self.epochs[stamp.sensor] = stamp.epoch
        return starts

    def _full_scale(self) -> str:
        """The stated full scales in words."""
        stated = {scale for scale in self.full_scales if self.source.full_scale or isinstance(self.source, Recording)}
        return ", ".join(f"{scale:g} DN" for scale in sorted(stated) if np.isfinite(scale)) or "of the pixel type"

    def _is_previewed(self, frame: Frame) -> bool:
        """Whether the preview shows a frame: patches evenly over the first sequences, or the middle full frame."""
        total, index = self.source.frames or 1, frame.stamp.index
        if max(frame.pixels.shape) > PATCH_WIDTH:
            return self.frames == total // 2 + 1
        if self.source.dataset == "seqcsist":
            return self.sequences <= SEQUENCES_SHOWN and index % 3 == 2 and index < 3 * FRAMES_SHOWN
        step = max(total // (SEQUENCES_SHOWN * FRAMES_SHOWN), 1)
        return (self.frames - 1) % step == 0 and len(self.shown) < SEQUENCES_SHOWN * FRAMES_SHOWN


def _describe_rate(source: FileSource | Recording, stamps: Sequence[Stamp]) -> str:
    """The frame rate in words, with its origin; of a recording, by the stamps of the sensor with the most frames."""
    if isinstance(source, Recording):
        runs: dict[tuple[str, int], list[Stamp]] = {}
        for stamp in stamps:
            runs.setdefault((stamp.sensor, stamp.epoch), []).append(stamp)
        measured = rate_of_stamps(max(runs.values(), key=len))
        if measured.hz is not None:
            return f"{measured.hz:.4g} frames/s, by {measured.origin}"
        return "unknown" if source.rate_hz is None else f"{source.rate_hz:.4g} frames/s, by their arrival"
    words = {"default": "not stated; set it with --rate", "stated": "from --rate"}
    return f"{source.rate_hz:g} frames/s ({words.get(source.rate_from, f'from the {source.rate_from}')})"


def _middle_frames(shown: list[Frame]) -> list[Frame]:
    """The middle frame of each sequence; of a single sequence, evenly spaced frames."""
    sequences: dict[str, list[Frame]] = {}
    for frame in shown:
        sequences.setdefault(frame.stamp.sensor, []).append(frame)
    if len(sequences) == 1:
        return shown[:: max(len(shown) // SEQUENCES_SHOWN, 1)][:SEQUENCES_SHOWN]
    return [frames[len(frames) // 2] for frames in sequences.values()][:SEQUENCES_SHOWN]


def _read_detections(path: Path, shown: list[Frame]) -> dict[Stamp, Detections]:
    """Read the detections of the shown frames, by the frames' stamps."""
    wanted = {(frame.stamp.sensor, frame.stamp.index): frame.stamp for frame in shown}
    lines = jsonl.read(path, Detections)
    return {wanted[key]: line for line in lines if (key := (line.stamp.sensor, line.stamp.index)) in wanted}
