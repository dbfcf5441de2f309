"""irst-stream score: detections against truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irst_stream.commands.console import print_line, print_table
from irst_stream.commands.sources import read_truths
from irst_stream.errors import OutputError, SourceError
from irst_stream.io import jsonl
from irst_stream.optics import PATCH, FineGrid
from irst_stream.score import Report, frame_range, pair_frames, psnr, score_detections, similarity
from irst_stream.types import Detections, Truth

__all__ = ["add_parser"]

EPILOG = """\
standard  each detection, by falling score, takes the best truth in range that is still free.
legacy    as the reference scorer: it looks only at its nearest truth, taken or not.

Frames count within each sequence as Python's slices do: 2:-2 leaves out two at either end, as the windows of
five do, and is the default for a SeqCSIST folder; all is the default for everything else. A frame of TRUTH
without a line in DETECTIONS counts as answered with nothing."""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "score", help="score detections against truth: CSO-mAP, GOSPA, counts, errors",
        description="Scores detections against truth.", epilog=EPILOG,
    )  # fmt: skip
    parser.add_argument("detections", metavar="DETECTIONS", type=Path, help="JSON lines")
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="JSON lines, or a folder with truth")
    parser.add_argument("--mode", choices=("standard", "legacy"), default="standard", help="matching (default standard)")
    parser.add_argument("--frames", metavar="FIRST:LAST", help="frames of each sequence to score, or all")
    parser.add_argument("--maps", metavar="NPY", type=Path, help="fine maps of the scored frames: adds PSNR and similarity")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write the scores into this file")
    parser.add_argument("--plot", metavar="OUT.png", type=Path, help="draw precision over recall into this file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.plot:
        from irst_stream import draw  # says so at once where matplotlib is missing
    truths, usual = read_truths(args.truth)
    frames = args.frames or usual
    pairs = pair_frames(jsonl.read(args.detections, Detections), truths, frame_range(frames))
    if not pairs:
        raise SourceError(f"{args.truth}: no frame of it is within --frames {frames}")
    report = score_detections(pairs, args.mode)
    scores = report.as_dict()
    if args.maps:
        scores["maps"] = _score_maps(args.maps, [truth for _, truth in pairs])
    _print(report, scores, frames)
    if args.json:
        _write(args.json, msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
    if args.plot:
        draw.precision_recall(args.plot, report)
        print_line(f"picture: {args.plot}")
    return 0


def _print(report: Report, scores: dict[str, Any], frames: str) -> None:
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.images} frames have no line of detections and count as empty")
    found = f"{report.images} images (frames {frames}), {report.detections} detections, {report.truths} truths"
    print_line(f"{found}, {report.mode} matching")
    names = [f"AP{round(float(t) * 100):02d}" for t in report.cso_map.thresholds]
    print_table(["CSO-mAP", *names], [[_percent(report.cso_map.map), *map(_percent, report.cso_map.ap)]])
    e, g = report.errors, report.gospa
    rows = [
        ("GOSPA (c 1 px, p 2)", f"{g.total:.4f} px"),
        ("  localisation / missed / false", f"{g.localisation:.4f} / {g.missed:.4f} / {g.false:.4f} px²"),
        ("right number of targets", f"{_percent(e.count_accuracy)} % of images"),
        ("recall / precision at 0.25 px", f"{_percent(e.recall)} / {_percent(e.precision)} %"),
        ("position error, rms", f"{e.position_rmse:.4f} px"),
        ("  bias x / y", f"{e.position_bias_x:+.4f} / {e.position_bias_y:+.4f} px"),
        ("amplitude error, rms / bias", f"{e.amplitude_rmse:.2f} / {e.amplitude_bias:+.2f} DN"),
    ]
    if "maps" in scores:
        rows.append(
            ("fine maps, PSNR / similarity", f"{scores['maps']['psnr']:.2f} dB / {scores['maps']['similarity']:.4f}")
        )
    print_table(["beside it", ""], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _score_maps(path: Path, truths: list[Truth]) -> dict[str, float]:
    """Mean PSNR and similarity of fine maps (frames, 11 c, 11 c), one for each scored frame, in order."""
    try:
        maps = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path}: not a .npy array that can be read ({error})") from error
    division = maps.shape[-1] // PATCH[1] if maps.ndim == 3 else 0
    grid = FineGrid(max(division, 1), PATCH)
    if maps.shape != (len(truths), *grid.shape):
        raise SourceError(f"{path}: expected ({len(truths)}, 11 c, 11 c), a map for each scored frame, got {maps.shape}")
    labels = np.stack([grid.label(truth.xy, truth.amplitude) for truth in truths])
    return {"psnr": float(psnr(maps, labels).mean()), "similarity": float(similarity(maps, labels).mean())}


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
