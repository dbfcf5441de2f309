"""irst-stream export: detections and tracks in formats of other programs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from irst_stream.commands.console import image_size, pluralise, print_line
from irst_stream.commands.outputs import atomic_output, check_outputs
from irst_stream.errors import FormatError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.csv_results import write_csv
from irst_stream.io.truth.mot import encode_mot
from irst_stream.types import Detections, Tracks

__all__ = ["set_up"]

EPILOG = """\
OUT.csv   a row for each detection or track, with its frame, covariance and all else that JSON lines say; a frame in
          which nothing was found has a row without x and y. irst-stream score reads it too.
OUT.txt   confirmed tracks as MOT Challenge lines: frame, id, left, top, width, height, score, -1, -1, -1; frames and
          pixels count from 1. A track is a point: --box says the size of the boxes. One file holds one sequence."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Write detections or tracks as CSV, or tracks as MOT Challenge lines.", EPILOG
    parser.add_argument("found", metavar="FOUND.jsonl", type=Path, help="JSON lines of detections or tracks")
    parser.add_argument("out", metavar="OUT", type=Path, help="OUT.csv, or OUT.txt for MOT Challenge lines")
    parser.add_argument("--sequence", metavar="NAME", help="write this sequence only")
    parser.add_argument("--box", type=_box, metavar="WxH", help="size of the boxes in OUT.txt, px (default 1x1)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_outputs(args, out="")
    kind: Any = Tracks if jsonl.holds(args.found, Tracks) else Detections
    suffix = args.out.suffix.lower()
    if suffix not in (".csv", ".txt"):
        raise UsageError(f"{args.out}: expected a name that ends in .csv, or in .txt for MOT Challenge lines")
    if suffix == ".txt" and kind is Detections:
        raise UsageError(f"{args.out}: MOT Challenge lines hold tracks; {args.found} holds detections")
    if suffix == ".csv" and args.box:
        raise UsageError(f"--box: applies to MOT Challenge lines (.txt) only; {args.out} is CSV")
    records = [r for r in jsonl.read(args.found, kind) if args.sequence in (None, r.stamp.sensor)]
    if args.sequence is not None and not records:
        raise UsageError(f"{args.found}: no sequence {args.sequence!r}")
    with atomic_output(args.out) as part:
        lines = write_csv(part, records, kind) if suffix == ".csv" else _write_mot(part, args, records)
    print_line(f"{args.out}: {pluralise(lines, 'line')} of {pluralise(len(records), 'frame')}")
    return 0


def _write_mot(path: Path, args: argparse.Namespace, records: Iterable[Any]) -> int:
    sequences = sorted({(record.stamp.sensor, record.stamp.epoch) for record in records})
    if len(sequences) > 1:
        names = ", ".join(name for name, _ in sequences[:4])
        raise FormatError(
            f"{args.found}: {len(sequences)} sequences ({names}); one file holds one, name it with --sequence"
        )
    lines = list(encode_mot(records, args.box or (1, 1)))
    path.write_text("".join(lines), "utf-8")
    return len(lines)


def _box(text: str) -> tuple[int, int]:
    """Parse WxH of at least 1 px."""
    size = image_size(text)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"expected WxH of at least 1x1, got {text!r}")
    return size
