"""irst-stream score: detections against truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irst_stream.commands.console import noun, print_line, print_table
from irst_stream.commands.outputs import check_output, replacing, write_bytes
from irst_stream.commands.sources import load_array, read_truths
from irst_stream.errors import FormatError, SourceError
from irst_stream.io import jsonl
from irst_stream.optics import PATCH, FineGrid
from irst_stream.score import MismatchError, Report, frame_range, pair_frames, psnr, score_detections, similarity
from irst_stream.types import Detections, Truth
from irst_stream.version import __version__

__all__ = ["set_up"]

EPILOG = """\
standard  each detection, by falling score, takes the best truth in range that is still free.
legacy    as the reference scorer: it looks only at its nearest truth, taken or not.

Frames count within each sequence as Python's slices do: 2:-2 leaves out two at either end, as the windows of
five do, and is the default for a SeqCSIST folder; all is the default for everything else. A frame of TRUTH
without a line in DETECTIONS counts as answered with nothing."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Scores detections against truth.", EPILOG
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
    check_output(args.json, args.detections, args.truth)
    check_output(args.plot, args.detections, args.truth, suffix=".png")
    truths, usual = read_truths(args.truth)
    frames = args.frames or usual
    chosen = frame_range(frames)
    try:
        pairs = pair_frames(jsonl.read(args.detections, Detections), truths, chosen)
    except MismatchError as error:
        raise FormatError(f"{args.truth if error.in_truth else args.detections}: {error}") from error
    if not pairs:
        raise SourceError(f"{args.truth}: no frame of it is within --frames {frames}")
    report = score_detections(pairs, args.mode)
    inputs = {"detections": str(args.detections), "truth": str(args.truth), "frames": frames}
    scores = {"irst_stream": __version__, **inputs, "scores": report.as_dict()}
    if args.maps:
        scores["maps"] = _score_maps(args.maps, [truth for _, truth in pairs])
    _print(report, scores, frames)
    if args.json:
        write_bytes(args.json, msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
    if args.plot:
        with replacing(args.plot) as part:
            draw.precision_recall(part, report)
        print_line(f"picture: {args.plot}")
    return 0


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
