"""irst-stream score: detections or tracks against truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irst_stream.commands.console import noun, positive, print_line, print_table
from irst_stream.commands.outputs import check_output, replacing, write_bytes
from irst_stream.commands.sources import load_array, read_truths
from irst_stream.errors import FormatError, SourceError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.files import open_source
from irst_stream.optics import PATCH, FineGrid
from irst_stream.score import (
    RADIUS,
    MismatchError,
    Report,
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
Detections are matched frame by frame:
standard  each detection, by falling score, takes the best truth in range that is still free.
legacy    as the reference scorer: it looks only at its nearest truth, taken or not.

Of tracks only the confirmed ones count, and only within the radius of a target: HOTA with the similarity
1 - distance / radius, as TrackEval; IDF1, MOTA, switches and fragments as py-motmetrics; GOSPA and OSPA(2) with the
radius as cut-off.

Frames count within each sequence as Python's slices do: 2:-2 leaves out two at either end, as the windows of
five do, and is the default for a SeqCSIST folder; all is the default for everything else. A frame of TRUTH
without a line in FOUND counts as answered with nothing."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Scores detections or tracks against truth.", EPILOG
    parser.add_argument("found", metavar="FOUND", type=Path, help="JSON lines of detections or of tracks")
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="JSON lines, or a folder with truth")
    parser.add_argument("--mode", choices=("standard", "legacy"), help="matching of detections (default standard)")
    parser.add_argument(
        "--radius", type=positive, metavar="PX", help=f"how far a track may be from its target (default {RADIUS:g} px)"
    )
    parser.add_argument("--frames", metavar="FIRST:LAST", help="frames of each sequence to score, or all")
    parser.add_argument("--maps", metavar="NPY", type=Path, help="fine maps of the scored frames: adds PSNR and similarity")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write all scores into this file")
    parser.add_argument(
        "--plot",
        metavar="OUT.png",
        type=Path,
        help="draw precision over recall into this file; of tracks their paths, and errors over time",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.plot:
        from irst_stream import draw  # noqa: F401 - says so at once where matplotlib is missing
    check_output(args.json, args.found, args.truth)
    check_output(args.plot, args.found, args.truth, suffix=".png")
    of_tracks = jsonl.holds(args.found, Tracks)
    _check(args, of_tracks)
    truths, usual = read_truths(args.truth)
    frames = args.frames or usual
    scores = _score_tracks(args, truths, frames) if of_tracks else _score_detections(args, truths, frames)
    if args.json:
        write_bytes(args.json, msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
    if args.plot:
        print_line(f"picture: {args.plot}")
    return 0


def _check(args: argparse.Namespace, of_tracks: bool) -> None:
    """Refuses options of the other kind of file."""
    for name in ("mode", "maps") if of_tracks else ("radius",):
        if getattr(args, name) is not None:
            kinds = ("detections", "tracks") if of_tracks else ("tracks", "detections")
            raise UsageError(f"--{name}: is for {kinds[0]}; {args.found} holds {kinds[1]}")


def _score_detections(args: argparse.Namespace, truths: Iterable[Truth], frames: str) -> dict[str, Any]:
    pairs = _paired(args, Detections, truths, frames)
    report = score_detections(pairs, args.mode or "standard")
    scores = _head(args, "detections", frames) | {"scores": report.as_dict()}
    if args.maps:
        scores["maps"] = _score_maps(args.maps, [truth for _, truth in pairs])
    _print(report, scores, frames)
    if args.plot:
        from irst_stream import draw

        with replacing(args.plot) as part:
            draw.precision_recall(part, report)
    return scores


def _score_tracks(args: argparse.Namespace, truths: Iterable[Truth], frames: str) -> dict[str, Any]:
    pairs = _paired(args, Tracks, truths, frames)
    try:
        report = score_tracks(pairs, args.radius or RADIUS)
    except MismatchError as error:
        raise _blame(args, error) from error
    _print_tracks(report, frames)
    if args.plot:
        from irst_stream import draw

        first = pairs[0][1].stamp
        shown = [pair for pair in pairs if (pair[1].stamp.sensor, pair[1].stamp.epoch) == (first.sensor, first.epoch)]
        with replacing(args.plot) as part:
            draw.tracking(part, report, shown, _first_frame(args.truth, shown))
    return _head(args, "tracks", frames) | {"scores": report.as_dict()}


def _paired(args: argparse.Namespace, kind: type[Any], truths: Iterable[Truth], frames: str) -> list[tuple[Any, Truth]]:
    """Each scored frame's truth with what was found in it."""
    chosen = frame_range(frames)
    try:
        pairs = pair_frames(jsonl.read(args.found, kind), truths, chosen)
    except MismatchError as error:
        raise _blame(args, error) from error
    if not pairs:
        raise SourceError(f"{args.truth}: no frame of it is within --frames {frames}")
    return pairs


def _blame(args: argparse.Namespace, error: MismatchError) -> FormatError:
    return FormatError(f"{args.truth if error.in_truth else args.found}: {error}")


def _head(args: argparse.Namespace, kind: str, frames: str) -> dict[str, Any]:
    return {"irst_stream": __version__, kind: str(args.found), "truth": str(args.truth), "frames": frames}


def _first_frame(truth: Path, shown: list[tuple[Tracks | None, Truth]]) -> Frame | None:
    """The first of the frames to show, where the truth lies in a folder with frames."""
    if not truth.is_dir():
        return None
    keys = {(t.stamp.sensor, t.stamp.epoch, t.stamp.index) for _, t in shown}
    frames = iter(open_source(truth))
    return next((f for f in frames if (f.stamp.sensor, f.stamp.epoch, f.stamp.index) in keys), None)


def _print(report: Report, scores: dict[str, Any], frames: str) -> None:
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.images} frames have no line of detections and count as empty")
    counts = (noun(report.images, "image"), noun(report.detections, "detection"), noun(report.truths, "truth"))
    print_line(f"{', '.join(counts)}, frames {frames}, {report.mode} matching")
    names = [f"AP{round(float(t) * 100):02d}" for t in report.cso_map.thresholds]
    print_table(["CSO-mAP", *names], [[_percent(report.cso_map.map), *map(_percent, report.cso_map.ap)]])
    e, g = report.errors, report.gospa
    rows = [
        ("GOSPA (c 1 px, p 2)", f"{_known(g.total, '.4f')} px"),
        ("  localisation / missed / false", f"{_known(g.localisation, '.4f')} / {g.missed:.4f} / {g.false:.4f} px²"),
        ("right number of targets", f"{_percent(e.count_accuracy)} % of images"),
        ("recall / precision at 0.25 px", f"{_percent(e.recall)} / {_percent(e.precision)} %"),
        ("position error, rms", f"{_known(e.position_rmse, '.4f')} px"),
        ("  bias x / y", f"{_known(e.position_bias_x, '+.4f')} / {_known(e.position_bias_y, '+.4f')} px"),
        ("amplitude error, rms / bias", f"{_known(e.amplitude_rmse, '.2f')} / {_known(e.amplitude_bias, '+.2f')} DN"),
    ]
    if "maps" in scores:
        rows.append(
            ("fine maps, PSNR / similarity", f"{scores['maps']['psnr']:.2f} dB / {scores['maps']['similarity']:.4f}")
        )
    print_table(["beside it, by standard matching", ""], rows)


def _print_tracks(report: TrackReport, frames: str) -> None:
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.frames} frames have no line of tracks and count as empty")
    counts = (noun(report.frames, "frame"), noun(report.targets, "target"), noun(report.tracks, "confirmed track"))
    print_line(f"{', '.join(counts)}, frames {frames}, radius {report.radius:g} px")
    h, i, c, f, g = report.hota, report.identity, report.clear, report.follow, report.gospa
    print_table(
        ["HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA"],
        [[_percent(share) for share in (h.hota, h.det_a, h.ass_a, h.loc_a, i.idf1, c.mota)]],
    )
    rows = [
        (f"GOSPA (c {report.radius:g} px, p 2), mean over frames", f"{_known(g.total, '.4f')} px"),
        (
            "  localisation / missed / false",
            " / ".join(_known(part, ".4f") for part in (g.localisation, g.missed, g.false)) + " px²",
        ),
        (f"OSPA(2) (c {report.radius:g} px, p 1)", f"{_known(report.ospa2, '.4f')} px"),
        ("detection recall / precision (DetRe, DetPr)", f"{_percent(h.det_re)} / {_percent(h.det_pr)} %"),
        ("association recall / precision (AssRe, AssPr)", f"{_percent(h.ass_re)} / {_percent(h.ass_pr)} %"),
        ("identity precision / recall (IDP, IDR)", f"{_percent(i.idp)} / {_percent(i.idr)} %"),
        ("identity switches / fragments", f"{c.switches} / {c.fragments}"),
        ("points matched / missed / false", f"{c.matched} / {c.missed} / {c.false}"),
        ("matched distance, mean (MOTP)", f"{_known(c.motp, '.4f')} px"),
        ("track purity", f"{_percent(f.purity)} %"),
        ("time to confirm, mean", f"{_known(f.confirm_frames, '.2f')} frames, {_known(f.confirm_ms, '.1f')} ms"),
        ("targets never confirmed", f"{f.never} of {report.targets}"),
        ("position error, rms", f"{_known(f.position_rmse, '.4f')} px"),
        ("velocity error, rms", f"{_known(f.velocity_rmse, '.4f')} px/s"),
    ]
    print_table(["beside it", ""], rows)


def _percent(share: float) -> str:
    return _known(100 * share, ".2f")


def _known(value: float, form: str) -> str:
    """A number, or a dash where there was nothing to measure."""
    return "-" if np.isnan(value) else format(value, form)


def _score_maps(path: Path, truths: list[Truth]) -> dict[str, float]:
    """Mean PSNR and similarity of fine maps (frames, 11 c, 11 c), one for each scored frame, in order."""
    maps = load_array(path)
    division = maps.shape[-1] // PATCH[1] if maps.ndim == 3 else 0
    grid = FineGrid(max(division, 1), PATCH)
    if maps.shape != (len(truths), *grid.shape):
        raise SourceError(f"{path}: expected ({len(truths)}, 11 c, 11 c), a map for each scored frame, got {maps.shape}")
    labels = np.stack([grid.label(truth.xy, truth.amplitude) for truth in truths])
    return {"psnr": float(psnr(maps, labels).mean()), "similarity": float(similarity(maps, labels).mean())}
