"""irst-stream baseline: cell-centre detections read from perfect label images, to be scored."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from irst_stream.commands.console import pluralise, positive_int, print_line
from irst_stream.commands.outputs import atomic_output, check_outputs
from irst_stream.errors import UsageError
from irst_stream.io.jsonl import JsonLines
from irst_stream.io.suffixes import JSON_LINES
from irst_stream.io.truth import open_truth
from irst_stream.optics import PATCH, FineGrid
from irst_stream.resolve.cells import THRESHOLD, read_cells
from irst_stream.types import Truth

__all__ = ["set_up"]

MAX_DIVISION = 31  # cells per pixel side


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Draw the label image of every frame of TRUTH, as a perfect network would output it, and turn every cell of "
        f"at least {THRESHOLD:g} DN into a detection at the cell's centre."
    )
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="truth: JSON lines, or a SeqCSIST or CSIST-100K folder")
    parser.add_argument("out", metavar="OUT.jsonl", type=Path, help="file to write the detections to")
    parser.add_argument(
        "--division",
        type=positive_int,
        default=3,
        metavar="C",
        help=f"fine cells per pixel side, 1 to {MAX_DIVISION} (default 3)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.division > MAX_DIVISION:
        raise UsageError(f"--division: expected 1 to {MAX_DIVISION}, got {args.division}")
    check_outputs(args, out=JSON_LINES)
    truths = open_truth(args.truth).truths()
    grid = FineGrid(args.division, PATCH)
    frames = total = 0
    with atomic_output(args.out) as part, JsonLines(part) as lines:
        for truth in truths:
            _check_labelled(truth, grid)
            detections = read_cells(grid.label(truth.xy, truth.amplitude), grid).detections(truth.stamp)
            lines.write(detections)
            frames, total = frames + 1, total + len(detections)
    counts = f"{pluralise(total, 'detection')} in {pluralise(frames, 'frame')}"
    print_line(f"{args.out}: {counts}. Score: irst-stream score {args.out} {args.truth}")
    return 0


def _check_labelled(truth: Truth, grid: FineGrid) -> None:
    """Raise UsageError if a target has no amplitude or lies outside the published patch size: its label would be wrong."""
    where = f"sequence {truth.stamp.sensor!r} index {truth.stamp.index}"
    if not np.isfinite(truth.amplitude).all():
        raise UsageError(f"{where}: the truth has no amplitudes, which labels need")
    cells = grid.cells(truth.xy)
    outside = (cells < 0).any(1) | (cells >= grid.shape[0]).any(1)
    if outside.any():
        x, y = truth.xy[outside][0]
        raise UsageError(f"{where}: a target at ({x:.1f}, {y:.1f}) lies outside the 11 x 11 patch that baseline reads")
