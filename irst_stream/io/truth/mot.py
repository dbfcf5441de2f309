"""MOT Challenge: lines of frame, id, left, top, width, height, ... Frames and pixels count from 1; one file a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from irst_stream.types import Floats, Stamp, Tracks, Truth

__all__ = ["READER", "encode_mot"]

LEAST_FIELDS = 6
INSIDE = Path("gt") / "gt.txt"  # in a sequence's folder


def encode_mot(tracks: Iterable[Tracks], size: tuple[float, float]) -> Iterator[str]:
    """Yield a line for each confirmed track of each frame, as results of trackers are written: boxes of one size, px.

    The tracks are of one sequence. Positions keep three decimals.
    """
    width, height = size
    for record in tracks:
        for k in np.flatnonzero(record.confirmed):
            # pixel centres count from 1, so a box of 1 px around x = 0 has its left at 1
            left, top = record.state[k, :2] - (np.array(size) - 1) / 2 + 1
            numbers = f"{left:.3f},{top:.3f},{width:g},{height:g},{record.score[k]:.6g}"
            yield f"{record.stamp.index + 1},{record.id[k]},{numbers},-1,-1,-1\n"


def _truths(path: Path) -> Iterator[Truth]:
    name = sequence_name(path)
    frames: dict[int, tuple[list[int], list[list[float]]]] = {}
    for where, row in read_rows(path):
        if not row:
            continue
        if len(row) < LEAST_FIELDS:
            raise FormatError(f"{where}: expected frame, id, left, top, width, height, ..., got {len(row)} fields")
        frame, number = parse_whole(row[0], "frame", where, 1, MAX_FRAMES), parse_whole(row[1], "id", where, -1)
        values = parse_numbers(row[2:], where)
        _check_box(values[:4], where)
        if len(values) > 4 and values[4] == 0:  # marked as not to be considered
            continue
        ids, boxes = frames.setdefault(frame - 1, ([], []))
        ids.append(number if number >= 0 else len(ids))
        boxes.append(values[:4])
    for index in range(max(frames, default=-1) + 1):
        ids, boxes = frames.get(index, ([], []))
        box = np.array(boxes, np.float64).reshape(-1, 4)
        yield Truth.boxes(Stamp(name, 0, index, 0), box[:, :2] - 1, box[:, 2:], id_=np.array(ids, np.int64))


def _check_box(values: list[float], where: str) -> None:
    box: Floats = np.array([values])
    check_boxes(box[:, :2], box[:, 2:], where)


def _open(path: Path) -> TruthSet:
    file = path / INSIDE if path.is_dir() else path
    return TruthSet("MOT Challenge lines", lambda: _truths(file), sparse=True)


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return (path / INSIDE).is_file()
    if path.suffix.lower() not in SUFFIXES:
        return False
    row = first_row(path)
    return len(row) >= LEAST_FIELDS and not header_columns(row)


READER = TruthReader("MOT Challenge lines (gt.txt, or the sequence's folder)", _recognises, _open)
