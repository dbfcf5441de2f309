"""irst-stream baseline: the field's readout on perfect labels, as detections to score."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from irst_stream.commands.console import count, print_line
from irst_stream.commands.sources import read_truths
from irst_stream.io.jsonl import JsonLines
from irst_stream.optics import PATCH, FineGrid
from irst_stream.resolve import THRESHOLD, read_cell_centres

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "baseline", help="what a perfect network scores when read at cell centres",
        description="Draws the label image of every frame of TRUTH, as a perfect network would put it out, and reads it "
        f"as the field does: every cell above {THRESHOLD:g} DN is a detection at the cell's centre.",
    )  # fmt: skip
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="JSON lines, or a SeqCSIST or CSIST-100K folder")
    parser.add_argument("out", metavar="OUT.jsonl", type=Path, help="detections to write")
    parser.add_argument("--division", type=count, default=3, metavar="C", help="fine cells along a pixel (default 3)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    truths, _ = read_truths(args.truth)
    grid = FineGrid(args.division, PATCH)
    frames = found = 0
    with JsonLines(args.out) as lines:
        for truth in truths:
            detections = read_cell_centres(truth.stamp, grid.label(truth.xy, truth.amplitude), grid)
            lines.write(detections)
            frames, found = frames + 1, found + len(detections)
    print_line(f"{args.out}: {found} detections in {frames} frames. Score: irst-stream score {args.out} {args.truth}")
    return 0
