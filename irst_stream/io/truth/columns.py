"""Tables with a header: frame,x,y[,id][,amplitude][,sequence] for points, the same with w,h for boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from irst_stream.errors import FormatError
from irst_stream.io.truth.table import (
    MAX_FRAMES,
    SUFFIXES,
    first_row,
    header_columns,
    parse_numbers,
    parse_whole,
    read_rows,
)
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, check_boxes, sequence_name
from irst_stream.types import Stamp, Truth

__all__ = ["READER"]

REQUIRED = ("frame", "x", "y")
NUMBERS = ("x", "y", "w", "h", "amplitude")


class _Frame:
    """The rows of one frame: ids, and NUMBERS, NaN where unknown."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.rows: list[list[float]] = []

    def truth(self, stamp: Stamp, boxes: bool) -> Truth:
        """Build the truth of the frame."""
        rows = np.array(self.rows, np.float64).reshape(-1, len(NUMBERS))
        xy, size, amplitude = rows[:, :2], rows[:, 2:4], rows[:, 4]
        centre = xy + (size - 1) / 2 if boxes else xy
        return Truth(stamp, np.array(self.ids, np.int64), np.zeros(len(rows), np.int64), centre, amplitude, size)


def _truths(path: Path) -> Iterator[Truth]:
    places, rows = _after_header(path)
    boxes = {"w", "h"} <= places.keys()
    sequences: dict[str, dict[int, _Frame]] = {}
    for where, row in rows:
        if len(row) < len(places):
            raise FormatError(f"{where}: expected {len(places)} fields, as the header has, got {len(row)}")
        field = {name: row[k] for name, k in places.items()}
        sequence = sequences.setdefault(field.get("sequence") or sequence_name(path), {})
        index = parse_whole(field["frame"], "frame", where, most=MAX_FRAMES)
        frame = sequence.setdefault(index, _Frame())
        values = parse_numbers([field.get(name, "") for name in NUMBERS], where)
        if _is_absent(values[:4] if boxes else values[:2], boxes):
            continue
        if not np.isfinite(values[:2]).all():
            raise FormatError(f"{where}: expected x and y, or neither for an absent target, got {','.join(row)[:60]!r}")
        if boxes:
            check_boxes(np.array([values[:2]]), np.array([values[2:4]]), where)
        frame.rows.append(values)
        frame.ids.append(parse_whole(field["id"], "id", where) if field.get("id") else len(frame.ids))
    for name, frames in sequences.items():
        for index in range(max(frames) + 1):
            yield frames.get(index, _Frame()).truth(Stamp(name, 0, index, 0), boxes)


def _after_header(path: Path) -> tuple[dict[str, int], list[tuple[str, list[str]]]]:
    """The columns by name, and the rows that are not blank."""
    header, *rows = [(where, row) for where, row in read_rows(path) if row]
    places = header_columns(header[1])
    if missing := [name for name in REQUIRED if name not in places]:
        raise FormatError(f"{header[0]}: expected columns frame,x,y, got no {', '.join(missing)}")
    if ("w" in places) != ("h" in places):
        raise FormatError(f"{header[0]}: expected both columns w and h, or neither")
    return places, rows


def _is_absent(values: list[float], box: bool) -> bool:
    """Whether a row says that there is no target: nothing but NaN, or a box of zeros."""
    return all(np.isnan(values)) or (box and not any(values))


def _recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES and bool(header_columns(first_row(path)))


READER = TruthReader(
    "CSV with a header frame,x,y[,w,h][,id][,amplitude]",
    _recognises,
    lambda path: TruthSet("table with a header", lambda: _truths(path), sparse=True),
)
