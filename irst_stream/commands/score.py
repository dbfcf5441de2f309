"""irst-stream score: score detections or tracks against truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irst_stream.commands.console import pluralise, positive_float, print_line, print_table
from irst_stream.commands.outputs import atomic_output, check_output, write_bytes
from irst_stream.commands.sources import load_array, read_truths
from irst_stream.errors import FormatError, SourceError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.files import open_source
from irst_stream.optics import PATCH, FineGrid
from irst_stream.score import (
    RADIUS,
    DetectionReport,
    MismatchError,
    TrackReport,
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

EPILOG = """\
Detections are matched to targets frame by frame:
standard  each detection, in order of falling score, takes the nearest free target in range.
legacy    as the reference scorer: each detection considers only its nearest target, free or not.

Only confirmed tracks count, and only within the radius of a target: HOTA with the similarity 1 - distance / radius as
in TrackEval; IDF1, MOTA, switches and fragments as in py-motmetrics; GOSPA and OSPA(2) with the radius as cut-off.

--frames selects frames of each sequence like a Python slice: 2:-2 leaves out two at either end, which have no whole
window of five, and is the default for a SeqCSIST folder; all is the default for everything else. A frame of TRUTH
without a line in FOUND counts as a frame without detections."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Score detections or tracks against truth.", EPILOG
    parser.add_argument("found", metavar="FOUND", type=Path, help="JSON lines of detections or tracks")
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="JSON lines, or a folder with truth")
    parser.add_argument("--mode", choices=("standard", "legacy"), help="how detections are matched (default standard)")
    parser.add_argument(
        "--radius",
        type=positive_float,
        metavar="PX",
        help=f"largest distance of a track from its target (default {RADIUS:g} px)",
    )
    parser.add_argument("--frames", metavar="FIRST:LAST", help="frames of each sequence to score, for example 2:-2, or all")
    parser.add_argument(
        "--maps", metavar="NPY", type=Path, help="fine maps of the scored frames, to add PSNR and similarity"
    )
    parser.add_argument("--json", metavar="OUT", type=Path, help="write all scores to this JSON file")
    parser.add_argument(
        "--plot",
        metavar="OUT.png",
        type=Path,
        help="plot precision against recall into this PNG file; for tracks, paths and errors over time",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.plot:
        from irst_stream import draw  # noqa: F401 - fails early if matplotlib is missing
    check_output(args.json, args.found, args.truth)
    check_output(args.plot, args.found, args.truth, suffix=".png")
    of_tracks = jsonl.holds(args.found, Tracks)
    _check_options(args, of_tracks)
    truths, default_frames = read_truths(args.truth)
    frames = args.frames or default_frames
    scores = _score_tracks(args, truths, frames) if of_tracks else _score_detections(args, truths, frames)
    if args.json:
        write_bytes(args.json, msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
    if args.plot:
        print_line(f"picture: {args.plot}")
    return 0


def _check_options(args: argparse.Namespace, of_tracks: bool) -> None:
    """Raise UsageError for an option that does not apply to the kind of file."""
    for name in ("mode", "maps") if of_tracks else ("radius",):
        if getattr(args, name) is not None:
            expected, found = ("detections", "tracks") if of_tracks else ("tracks", "detections")
            raise UsageError(f"--{name}: applies to {expected} only; {args.found} holds {found}")


def _score_detections(args: argparse.Namespace, truths: Iterable[Truth], frames: str) -> dict[str, Any]:
    pairs = _pair_with_truth(args, Detections, truths, frames)
    report = score_detections(pairs, args.mode or "standard")
    scores = _report_header(args, "detections", frames) | {"scores": report.as_dict()}
    if args.maps:
        scores["maps"] = _score_maps(args.maps, [truth for _, truth in pairs])
    _print_detection_scores(report, scores, frames)
    if args.plot:
        from irst_stream import draw

        with atomic_output(args.plot) as part:
            draw.precision_recall(part, report)
    return scores


def _score_tracks(args: argparse.Namespace, truths: Iterable[Truth], frames: str) -> dict[str, Any]:
    pairs = _pair_with_truth(args, Tracks, truths, frames)
    try:
        report = score_tracks(pairs, args.radius or RADIUS)
    except MismatchError as error:
        raise _with_file_name(args, error) from error
    _print_track_scores(report, frames)
    if args.plot:
        from irst_stream import draw

        first = pairs[0][1].stamp
        shown = [pair for pair in pairs if (pair[1].stamp.sensor, pair[1].stamp.epoch) == (first.sensor, first.epoch)]
        with atomic_output(args.plot) as part:
            draw.tracking(part, report, shown, _first_frame(args.truth, shown))
    return _report_header(args, "tracks", frames) | {"scores": report.as_dict()}


def _pair_with_truth(
    args: argparse.Namespace, kind: type[Any], truths: Iterable[Truth], frames: str
) -> list[tuple[Any, Truth]]:
    """Pair each scored frame's truth with the record of that frame, None if there is none."""
    chosen = frame_range(frames)
    try:
        pairs = pair_frames(jsonl.read(args.found, kind), truths, chosen)
    except MismatchError as error:
        raise _with_file_name(args, error) from error
    if not pairs:
        raise SourceError(f"{args.truth}: no frame lies within --frames {frames}")
    return pairs


def _with_file_name(args: argparse.Namespace, error: MismatchError) -> FormatError:
    """The same error with the name of the file that caused it."""
    return FormatError(f"{args.truth if error.in_truth else args.found}: {error}")


def _report_header(args: argparse.Namespace, kind: str, frames: str) -> dict[str, Any]:
    """The fields of the JSON report that say what was scored."""
    return {"irst_stream": __version__, kind: str(args.found), "truth": str(args.truth), "frames": frames}


def _first_frame(truth: Path, shown: list[tuple[Tracks | None, Truth]]) -> Frame | None:
    """The first of the frames to show, None if the truth is not in a folder with frames."""
    if not truth.is_dir():
        return None
    keys = {(t.stamp.sensor, t.stamp.epoch, t.stamp.index) for _, t in shown}
    frames = iter(open_source(truth))
    return next((f for f in frames if (f.stamp.sensor, f.stamp.epoch, f.stamp.index) in keys), None)


def _print_detection_scores(report: DetectionReport, scores: dict[str, Any], frames: str) -> None:
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.images} frames have no line of detections and count as empty")
    counts = (
        pluralise(report.images, "image"),
        pluralise(report.detections, "detection"),
        pluralise(report.truths, "truth"),
    )
    print_line(f"{', '.join(counts)}, frames {frames}, {report.mode} matching")
    names = [f"AP{round(float(t) * 100):02d}" for t in report.cso_map.thresholds]
    print_table(["CSO-mAP", *names], [[_percent(report.cso_map.map), *map(_percent, report.cso_map.ap)]])
    e, g = report.errors, report.gospa
    rows = [
        ("GOSPA (c 1 px, p 2)", f"{_format(g.total, '.4f')} px"),
        ("  localisation / missed / false", f"{_format(g.localisation, '.4f')} / {g.missed:.4f} / {g.false:.4f} px²"),
        ("right number of targets", f"{_percent(e.count_accuracy)} % of images"),
        ("recall / precision at 0.25 px", f"{_percent(e.recall)} / {_percent(e.precision)} %"),
        ("position error, rms", f"{_format(e.position_rmse, '.4f')} px"),
        ("  bias x / y", f"{_format(e.position_bias_x, '+.4f')} / {_format(e.position_bias_y, '+.4f')} px"),
        ("amplitude error, rms / bias", f"{_format(e.amplitude_rmse, '.2f')} / {_format(e.amplitude_bias, '+.2f')} DN"),
    ]
    if "maps" in scores:
        rows.append(
            ("fine maps, PSNR / similarity", f"{scores['maps']['psnr']:.2f} dB / {scores['maps']['similarity']:.4f}")
        )
    print_table(["other scores, standard matching", ""], rows)


def _print_track_scores(report: TrackReport, frames: str) -> None:
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.frames} frames have no line of tracks and count as empty")
    counts = (
        pluralise(report.frames, "frame"),
        pluralise(report.targets, "target"),
        pluralise(report.tracks, "confirmed track"),
    )
    print_line(f"{', '.join(counts)}, frames {frames}, radius {report.radius:g} px")
    h, i, c, f, g = report.hota, report.identity, report.clear, report.follow, report.gospa
    print_table(
        ["HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA"],
        [[_percent(share) for share in (h.hota, h.det_a, h.ass_a, h.loc_a, i.idf1, c.mota)]],
    )
    rows = [
        (f"GOSPA (c {report.radius:g} px, p 2), mean over frames", f"{_format(g.total, '.4f')} px"),
        (
            "  localisation / missed / false",
            " / ".join(_format(part, ".4f") for part in (g.localisation, g.missed, g.false)) + " px²",
        ),
        (f"OSPA(2) (c {report.radius:g} px, p 1)", f"{_format(report.ospa2, '.4f')} px"),
        ("detection recall / precision (DetRe, DetPr)", f"{_percent(h.det_re)} / {_percent(h.det_pr)} %"),
        ("association recall / precision (AssRe, AssPr)", f"{_percent(h.ass_re)} / {_percent(h.ass_pr)} %"),
        ("identity precision / recall (IDP, IDR)", f"{_percent(i.idp)} / {_percent(i.idr)} %"),
        ("identity switches / fragments", f"{c.switches} / {c.fragments}"),
        ("points matched / missed / false", f"{c.matched} / {c.missed} / {c.false}"),
        ("matched distance, mean (MOTP)", f"{_format(c.motp, '.4f')} px"),
        ("track purity", f"{_percent(f.purity)} %"),
        ("time to confirm, mean", f"{_format(f.confirm_frames, '.2f')} frames, {_format(f.confirm_ms, '.1f')} ms"),
        ("targets never confirmed", f"{f.never} of {report.targets}"),
        ("position error, rms", f"{_format(f.position_rmse, '.4f')} px"),
        ("velocity error, rms", f"{_format(f.velocity_rmse, '.4f')} px/s"),
    ]
    print_table(["other scores", ""], rows)


def _percent(share: float) -> str:
    return _format(100 * share, ".2f")


def _format(value: float, form: str) -> str:
    """Format a number; a dash if it is NaN, because there was nothing to measure."""
    return "-" if np.isnan(value) else format(value, form)


def _score_maps(path: Path, truths: list[Truth]) -> dict[str, float]:
    """Mean PSNR in dB and similarity of fine maps (frames, 11 c, 11 c), one per scored frame, in order."""
    maps = load_array(path)
    division = maps.shape[-1] // PATCH[1] if maps.ndim == 3 else 0
    grid = FineGrid(max(division, 1), PATCH)
    if maps.shape != (len(truths), *grid.shape):
        raise SourceError(f"{path}: expected ({len(truths)}, 11 c, 11 c), one map per scored frame, got {maps.shape}")
    labels = np.stack([grid.label(truth.xy, truth.amplitude) for truth in truths])
    return {"psnr": float(psnr(maps, labels).mean()), "similarity": float(similarity(maps, labels).mean())}
