"""Detections and tracks as CSV, one row each, for spreadsheets and other programs.

A frame in which nothing was found has a row without x and y, so that it still counts. Numbers read back exactly as written;
an unknown number is an empty field. Joint errors of a region's detections are not written.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.errors import FormatError, SourceError
from irst_stream.types import Detections, Floats, Stamp, Tracks

__all__ = ["csv_kind", "csv_rows", "read_csv", "write_csv"]

Result = Detections | Tracks
Kind = type[Detections] | type[Tracks]
Row = dict[str, str]
STAMP = ("sequence", "epoch", "frame", "time_ns", "clock", "source")
CLOCKS = ("sensor", "unix", "monotonic")
DETECTION = ("x", "y", "score", "amplitude", "amplitude_sd", "region", "size_x", "size_y")
TRACK = ("id", "x", "y", "vx", "vy", "score", "amplitude", "confirmed", "detection")
STATE = ("x", "y", "vx", "vy")
REQUIRED = ("frame", "x", "y", "score")
MAX_INTEGER = 2**63 - 1


def csv_rows(records: Iterable[Result], kind: Kind) -> Iterator[list[str]]:
    """Yield the header and the rows of records of one kind."""
    yield [*STAMP, *(DETECTION if kind is Detections else TRACK), *_cov_names(kind)]
    for record in records:
        stamp = record.stamp
        frame = [stamp.sensor, *map(str, (stamp.epoch, stamp.index, stamp.time_ns)), stamp.clock, stamp.source]
        cells = _detection_cells(record) if isinstance(record, Detections) else _track_cells(record)
        empty = [""] * (len(DETECTION if kind is Detections else TRACK) + len(_cov_names(kind)))
        yield from ([*frame, *row] for row in cells or [empty])


def write_csv(path: Path, records: Iterable[Result], kind: Kind) -> int:
    """Write records of one kind; return the number of rows after the header."""
    count = -1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in csv_rows(records, kind):
            writer.writerow(row)
            count += 1
    return count


def csv_kind(path: Path) -> Kind:
    """What a file holds: tracks if it has a column id, else detections."""
    return Tracks if "id" in next(_rows(path), ("", {}))[1] else Detections


def read_csv(path: Path, kind: Kind) -> Iterator[Result]:
    """Yield the records of a file, one for each frame, in the order of the frames' first rows.

    Only frame, x, y and score are required, and id for tracks. The sequence's default is the file's name; numbers are
    unknown, tracks confirmed and not bound to a detection by default. A wrong row raises a FormatError that names its line.
    """
    frames: dict[Stamp, list[tuple[str, Row]]] = {}
    required = REQUIRED if kind is Detections else ("id", *REQUIRED)
    for where, row in _rows(path):
        if missing := [name for name in required if name not in row]:
            raise FormatError(f"{where}: expected columns {', '.join(required)}, got no {', '.join(missing)}")
        rows = frames.setdefault(_stamp(row, path, where), [])
        if row["x"] or row["y"]:
            rows.append((where, row))
    for stamp, rows in frames.items():
        yield _detections(stamp, rows) if kind is Detections else _tracks(stamp, rows)


def _detection_cells(record: Detections) -> list[list[str]]:
    columns = [*record.xy.T, record.score, record.amplitude, record.amplitude_sd, record.region, *record.size.T]
    return [list(map(_text, row)) for row in zip(*columns, *_cov_columns(record.cov), strict=True)]


def _track_cells(record: Tracks) -> list[list[str]]:
    columns = [record.id, *record.state.T, record.score, record.amplitude, record.confirmed.astype(int), record.detection]
    return [list(map(_text, row)) for row in zip(*columns, *_cov_columns(record.cov), strict=True)]


def _cov_names(kind: Kind) -> list[str]:
    names = STATE[: 2 if kind is Detections else 4]
    return [f"cov_{names[i]}_{names[k]}" for i in range(len(names)) for k in range(i, len(names))]


def _cov_columns(cov: Floats) -> list[Floats]:
    """The upper triangle of covariances (N, k, k), row by row."""
    return [cov[:, i, k] for i in range(cov.shape[1]) for k in range(i, cov.shape[1])]


def _text(value: Any) -> str:
    number = value.item()
    return "" if number != number else repr(number)


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield each row's place and its fields by the header's names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise FormatError(f"{where}: expected {len(header)} fields, as the header has, got {len(row)}")
                yield where, dict(zip(header, map(str.strip, row), strict=True))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: expected CSV in UTF-8 ({error})") from error


def _stamp(row: Row, path: Path, where: str) -> Stamp:
    epoch, frame, time_ns = (_whole(row, name, where) for name in ("epoch", "frame", "time_ns"))
    clock = row.get("clock") or "sensor"
    if clock not in CLOCKS or not row["frame"] or frame < 0:
        raise FormatError(
            f"{where}: expected a frame from 0 and a clock of {', '.join(CLOCKS)}, got {row['frame']!r}, {clock!r}"
        )
    return Stamp(row.get("sequence") or path.stem, epoch, frame, time_ns, row.get("source", ""), clock)  # type: ignore[arg-type]


def _detections(stamp: Stamp, rows: list[tuple[str, Row]]) -> Detections:
    number = {name: _column(rows, name) for name in ("x", "y", "score", "amplitude", "amplitude_sd")}
    region = np.array([_whole(row, "region", where) for where, row in rows], np.int64)
    xy = np.column_stack([number["x"], number["y"]])
    seen = xy, _covariances(rows, Detections), number["amplitude"], number["amplitude_sd"], number["score"], region
    size = np.nan_to_num(np.column_stack([_column(rows, name) for name in ("size_x", "size_y")]))
    return Detections(stamp, *seen, size=size)


def _tracks(stamp: Stamp, rows: list[tuple[str, Row]]) -> Tracks:
    state = np.column_stack([_column(rows, name) for name in STATE])
    ids, detection = (
        np.array([_whole(row, name, where, default) for where, row in rows], np.int64)
        for name, default in (("id", 0), ("detection", -1))
    )
    confirmed = np.array([_whole(row, "confirmed", where, 1) != 0 for where, row in rows], np.bool_)
    amplitude, score = _column(rows, "amplitude"), _column(rows, "score")
    return Tracks(stamp, ids, state, _covariances(rows, Tracks), amplitude, score, confirmed, detection)


def _column(rows: list[tuple[str, Row]], name: str) -> Floats:
    """(N,): the numbers of a column, NaN where it is empty or missing; those of REQUIRED must be finite."""
    values = np.full(len(rows), np.nan)
    for k, (where, row) in enumerate(rows):
        try:
            values[k] = float(row.get(name) or "nan")
        except ValueError:
            values[k] = np.inf
        if np.isinf(values[k]) or (name in REQUIRED and np.isnan(values[k])):
            raise FormatError(f"{where}: {name}: expected a finite number, got {row.get(name, '')[:40]!r}")
    return values


def _whole(row: Row, name: str, where: str, default: int = 0) -> int:
    text = row.get(name) or str(default)
    if not text.removeprefix("-").isdecimal() or len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise FormatError(f"{where}: {name}: expected a whole number, got {text[:40]!r}")
    return int(text)


def _covariances(rows: list[tuple[str, Row]], kind: Kind) -> Floats:
    """(N, k, k) from the upper triangle, NaN where unknown."""
    columns = iter([_column(rows, name) for name in _cov_names(kind)])
    side = 2 if kind is Detections else 4
    cov = np.empty((len(rows), side, side))
    for i in range(side):
        for k in range(i, side):
            cov[:, i, k] = cov[:, k, i] = next(columns)
    return cov
