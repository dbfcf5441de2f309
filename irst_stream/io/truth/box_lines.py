"""Box lines: x,y,w,h of one target, one line a frame, as single-object tracking sets have them; x, y count from 0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from irst_stream.errors import FormatError
from irst_stream.io.truth.table import SUFFIXES, parse_numbers, read_rows
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, check_boxes, sequence_name
from irst_stream.types import Stamp, Truth

__all__ = ["READER"]


def _truths(path: Path) -> Iterator[Truth]:
    name = sequence_name(path)
    rows = read_rows(path)
    if not any(row for _, row in rows):
        raise FormatError(f"{path}: expected lines of x,y,w,h, got none")
    for index, (where, row) in enumerate(rows):
        values = parse_numbers(row, where)
        absent = all(np.isnan(values)) or not any(values)
        if not absent and len(values) != 4:
            raise FormatError(
                f"{where}: expected x,y,w,h (or six and more numbers in every line, as MOT Challenge has), "
                f"got {len(values)} fields"
            )
        box = np.array([] if absent else values).reshape(-1, 4)
        check_boxes(box[:, :2], box[:, 2:], where)
        yield Truth.boxes(Stamp(name, 0, index, 0), box[:, :2], box[:, 2:])


def _recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


READER = TruthReader(
    "lines of x,y,w,h (.txt, .csv)", _recognises, lambda path: TruthSet("box lines", lambda: _truths(path))
)
