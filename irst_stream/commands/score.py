"""irst-stream score: score detections or tracks against truth."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irst_stream.commands.console import image_size, positive_float, print_line
from irst_stream.commands.outputs import atomic_output, check_outputs, write_bytes
from irst_stream.commands.report import add_report_option, check_report, write_own_report
from irst_stream.commands.score_tables import print_detection_scores, print_track_scores
from irst_stream.commands.sources import load_array
from irst_stream.errors import FormatError, SourceError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.csv_results import csv_kind, read_csv
from irst_stream.io.files import open_source
from irst_stream.io.suffixes import JSON_DOCUMENT
from irst_stream.io.truth import READERS, open_truth
from irst_stream.io.truth.pairing import RULES, align_truth
from irst_stream.io.truth.truth_set import TruthSet
from irst_stream.optics import PATCH, FineGrid
from irst_stream.score import (
    HIT_RADIUS,
    RADIUS,
    MismatchError,
    frame_range,
    pair_frames,
    psnr,
    score_detections,
    score_tracks,
    similarity,
)
from irst_stream.types import Detections, Frame, Tracks, Truth
from irst_stream.version import __version__

__all__ = ["set_up"]

EPILOG = f"""\
Detections are matched to targets frame by frame:
standard  each detection, in order of falling score, takes the nearest free target in range.
legacy    as the reference scorer: each detection considers only its nearest target, free or not.
Where TRUTH has boxes, or with --radius, detections get hits: the share of targets found, false detections per frame
and per pixel, detections on a found target, the ROC over the score, the position error; by two criteria side by side:
centre    within the radius of the target's centre.
box       inside the target's box grown by the radius on every side.

Only confirmed tracks count, and only within the radius of a target: HOTA with the similarity 1 - distance / radius as
in TrackEval; IDF1, MOTA, switches and fragments as in py-motmetrics; GOSPA and OSPA(2) with the radius as cut-off.
Where TRUTH has boxes or one target, also the share of its frames with a track on it, and under one id, by the same two
criteria.

TRUTH is one of the following; irst-stream docs truth describes them:
{chr(10).join(f"  {reader.expects}" for reader in READERS)}
{RULES}

--frames selects frames of each sequence like a Python slice: 2:-2 leaves out two at either end, which have no whole
window of five, and is the default for a SeqCSIST folder; all is the default for everything else. A frame of TRUTH
without a line in FOUND counts as a frame without detections. Other frames than those selected need no truth."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Score detections or tracks against truth.", EPILOG
    parser.add_argument("found", metavar="FOUND", type=Path, help="detections or tracks: JSON lines, or .csv")
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="truth, a file or a folder: see below")
    parser.add_argument("--mode", choices=("standard", "legacy"), help="how detections are matched (default standard)")
    parser.add_argument(
        "--radius",
        type=positive_float,
        metavar="PX",
        help=f"largest distance from a target, or from its box (default {HIT_RADIUS:g} px where TRUTH has boxes; "
        f"else {RADIUS:g} px for tracks, none for detections)",
    )
    parser.add_argument(
        "--frame-size",
        type=image_size,
        metavar="WxH",
        help="size of the frames, px, for false detections per pixel, where TRUTH does not say it",
    )
    parser.add_argument("--frames", metavar="FIRST:LAST", help="frames of each sequence to score, for example 2:-2, or all")
    parser.add_argument(
        "--maps", metavar="NPY", type=Path, help="fine maps of the scored frames, to add PSNR and similarity"
    )
    parser.add_argument("--json", metavar="OUT", type=Path, help="write all scores to this JSON file")
    add_report_option(parser)
    parser.add_argument(
        "--plot",
        metavar="OUT.png",
        type=Path,
        help="plot precision against recall and the ROC into this PNG file; for tracks, paths and errors over time",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.plot:
        from irst_stream import draw  # noqa: F401 - fails early if matplotlib is missing
    check_report(args.report, args.json)
    check_outputs(args, json=JSON_DOCUMENT, plot=".png", report=".html")
    of_tracks = _kind(args.found) is Tracks
    _check_options(args, of_tracks)
    truth = open_truth(args.truth)
    frames = args.frames or truth.frames
    pairs = _pair_with_truth(args, Tracks if of_tracks else Detections, truth, frames)
    scores = _score_tracks(args, pairs, frames) if of_tracks else _score_detections(args, pairs, frames)
    if args.json:
        write_bytes(args.json, msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
        write_own_report(args.report, args.json)
    if args.plot:
        print_line(f"picture: {args.plot}")
    return 0


def _kind(found: Path) -> type[Any]:
    """What FOUND holds: tracks or detections."""
    if found.suffix.lower() == ".csv":
        return csv_kind(found)
    return Tracks if jsonl.holds(found, Tracks) else Detections


def _check_options(args: argparse.Namespace, of_tracks: bool) -> None:
    """Raise UsageError for an option that does not apply to the kind of file."""
    for name in ("mode", "maps", "frame_size") if of_tracks else ():
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: applies to detections only; {args.found} holds tracks")


def _score_detections(args: argparse.Namespace, pairs: list[tuple[Any, Truth]], frames: str) -> dict[str, Any]:
    if args.frame_size:
        pairs = [(found, replace(truth, frame_size=args.frame_size)) for found, truth in pairs]
    report = score_detections(pairs, args.mode or "standard", args.radius)
    scores = _report_header(args, "detections", frames) | {"scores": report.as_dict()}
    if args.maps:
        scores["maps"] = _score_maps(args.maps, [truth for _, truth in pairs])
    print_detection_scores(report, scores, frames)
    if args.plot:
        from irst_stream import draw

        with atomic_output(args.plot) as part:
            draw.detection_curves(part, report)
    return scores


def _score_tracks(args: argparse.Namespace, pairs: list[tuple[Any, Truth]], frames: str) -> dict[str, Any]:
    try:
        report = score_tracks(pairs, args.radius)
    except MismatchError as error:
        raise _with_file_name(args, error) from error
    print_track_scores(report, frames)
    if args.plot:
        from irst_stream import draw

        first = pairs[0][1].stamp
        shown = [pair for pair in pairs if (pair[1].stamp.sensor, pair[1].stamp.epoch) == (first.sensor, first.epoch)]
        with atomic_output(args.plot) as part:
            draw.tracking(part, report, shown, _first_frame(args.truth, shown))
    return _report_header(args, "tracks", frames) | {"scores": report.as_dict()}


def _pair_with_truth(args: argparse.Namespace, kind: type[Any], truth: TruthSet, frames: str) -> list[tuple[Any, Truth]]:
    """Pair each scored frame's truth with the record of that frame, None if there is none; print what was paired."""
    chosen = frame_range(frames)
    csv = args.found.suffix.lower() == ".csv"
    found = list(read_csv(args.found, kind) if csv else jsonl.read(args.found, kind))
    truths, note = align_truth([record.stamp for record in found], truth)
    try:
        pairs = pair_frames(found, truths, chosen)
    except MismatchError as error:
        raise _with_file_name(args, error) from error
    if not pairs:
        raise SourceError(f"{args.truth}: no frame lies within --frames {frames}")
    if note:
        print_line(note)
    return pairs


def _with_file_name(args: argparse.Namespace, error: MismatchError) -> FormatError:
    """The same error with the name of the file that caused it, and with the way out where truth covers a part."""
    hint = f"; --frames {error.covered[0]}:{error.covered[1] + 1} scores that part" if error.covered else ""
    return FormatError(f"{args.truth if error.in_truth else args.found}: {error}{hint}")


def _report_header(args: argparse.Namespace, kind: str, frames: str) -> dict[str, Any]:
    """The fields of the JSON report that say what was scored."""
    return {"irst_stream": __version__, kind: str(args.found), "truth": str(args.truth), "frames": frames}


def _first_frame(truth: Path, shown: list[tuple[Tracks | None, Truth]]) -> Frame | None:
    """The first of the frames to show, None if the truth is not in a folder with frames."""
    if not truth.is_dir():
        return None
    keys = {(t.stamp.sensor, t.stamp.epoch, t.stamp.index) for _, t in shown}
    try:
        frames = iter(open_source(truth))
    except SourceError:  # a folder of truth alone
        return None
    return next((f for f in frames if (f.stamp.sensor, f.stamp.epoch, f.stamp.index) in keys), None)


def _score_maps(path: Path, truths: list[Truth]) -> dict[str, float]:
    """Mean PSNR in dB and similarity of fine maps (frames, 11 c, 11 c), one per scored frame, in order."""
    maps = load_array(path)
    division = maps.shape[-1] // PATCH[1] if maps.ndim == 3 else 0
    grid = FineGrid(max(division, 1), PATCH)
    if maps.shape != (len(truths), *grid.shape):
        raise SourceError(f"{path}: expected ({len(truths)}, 11 c, 11 c), one map per scored frame, got {maps.shape}")
    if not all(np.isfinite(truth.amplitude).all() for truth in truths):
        raise UsageError("--maps: the truth has no amplitudes, which fine maps are compared with")
    labels = np.stack([grid.label(truth.xy, truth.amplitude) for truth in truths])
    return {"psnr": float(psnr(maps, labels).mean()), "similarity": float(similarity(maps, labels).mean())}
