"""irst-stream baseline: the field's readout on perfect labels, as detections to score."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import count, noun, print_line
from irst_stream.commands.outputs import check_output, replacing
from irst_stream.commands.sources import read_truths
from irst_stream.errors import UsageError
from irst_stream.io.jsonl import JsonLines
from irst_stream.optics import PATCH, FineGrid
from irst_stream.resolve.cells import THRESHOLD, read_cells
from irst_stream.types import Truth

__all__ = ["set_up"]

FINEST = 31  # cells along a pixel


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description = (
        "Draws the label image of every frame of TRUTH, as a perfect network would put it out, and reads it "
        f"as the field does: every cell of at least {THRESHOLD:g} DN is a detection at the cell's centre."
    )
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="JSON lines, or a SeqCSIST or CSIST-100K folder")
    parser.add_argument("out", metavar="OUT.jsonl", type=Path, help="detections to write")
    parser.add_argument("--division", type=count, default=3, metavar="C", help="fine cells along a pixel (default 3)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.division > FINEST:
        raise UsageError(f"--division: expected 1 to {FINEST}, got {args.division}")
    check_output(args.out, args.truth)
    truths, _ = read_truths(args.truth)
    grid = FineGrid(args.division, PATCH)
    frames = found = 0
    with replacing(args.out) as part, JsonLines(part) as lines:
        for truth in truths:
            _check_inside(truth, grid)
            detections = read_cells(grid.label(truth.xy, truth.amplitude), grid).detections(truth.stamp)
            lines.write(detections)
            frames, found = frames + 1, found + len(detections)
    counts = f"{noun(found, 'detection')} in {noun(frames, 'frame')}"
    print_line(f"{args.out}: {counts}. Score: irst-stream score {args.out} {args.truth}")
    return 0


def _check_inside(truth: Truth, grid: FineGrid) -> None:
    """Refuses truth of anything but the published patches, whose labels would silently lack targets."""
    cells = grid.cells(truth.xy)
    outside = (cells < 0).any(1) | (cells >= grid.shape[0]).any(1)
    if outside.any():
        x, y = truth.xy[outside][0]
        where = f"sequence {truth.stamp.sensor!r} index {truth.stamp.index}"
        raise UsageError(f"{where}: a target at ({x:.1f}, {y:.1f}) lies outside the 11 x 11 patch that is read here")
