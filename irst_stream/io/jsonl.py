"""Interchange format: detections, tracks, truth and poses as JSON lines, one object per frame. See INTERCHANGE.md.

io.line_schema defines the schema. Numbers read back exactly as written. NaN marks an unknown value in arrays and is
written as null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from irst_stream.errors import FormatError, OutputError, SourceError
from irst_stream.io.line_schema import (
    DetectionLine,
    DetectionRow,
    OptionalFloat,
    PoseLine,
    PoseRow,
    TrackLine,
    TrackRow,
    TruthLine,
    TruthRow,
)
from irst_stream.types import Detections, Floats, Ints, Pose, Stamp, Tracks, Truth

__all__ = ["JsonLines", "RecordT", "decode", "encode", "holds", "read", "schema", "write"]

MAX_LINE_BYTES = 64 << 20
RecordT = TypeVar("RecordT", Detections, Tracks, Truth, Pose)


@dataclass(frozen=True, slots=True)
class _Format(Generic[RecordT]):
    """Conversion of one record type to its line struct and back."""

    line: type[Any]
    decode: Callable[[Stamp, Any], RecordT]
    encode: Callable[[RecordT], Any]


def read(path: Path, kind: type[RecordT]) -> Iterator[RecordT]:
    """Yield the records of a file in order; an invalid line raises a FormatError that names the line and field."""
    line_format = FORMATS[kind]
    decoder = msgspec.json.Decoder(line_format.line)
    for number, text in _nonblank_lines(path):
        yield _parse(text, decoder, line_format, f"{path}:{number}")


def decode(line: bytes, kind: type[RecordT], where: str) -> RecordT:
    """Decode one line; an invalid one raises a FormatError that names `where` and the field."""
    line_format: _Format[RecordT] = FORMATS[kind]
    return _parse(line, msgspec.json.Decoder(line_format.line), line_format, where)


def holds(path: Path, kind: type[RecordT]) -> bool:
    """Whether the first line of a file has the keys of this record type.

    False for a file without lines, and for a pipe, whose lines can be read only once.
    """
    if path.exists() and not path.is_file():
        return False
    first = next(_nonblank_lines(path), None)
    try:
        keys = msgspec.json.decode(first[1], type=dict[str, msgspec.Raw]) if first else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return FORMATS[kind].line.__struct_fields__[-1] in keys  # the last field names the record type


def write(path: Path, records: Iterable[Detections | Tracks | Truth | Pose]) -> int:
    """Write records, one line each; return their number."""
    count = 0
    with JsonLines(path) as lines:
        for record in records:
            lines.write(record)
            count += 1
    return count


def encode(record: Detections | Tracks | Truth | Pose) -> bytes:
    """Encode one record as one line with its newline; raise a ValueError for a value that the format cannot express."""
    line_format, stamp = FORMATS[type(record)], record.stamp
    line = line_format.line(
        sequence=stamp.sensor,
        index=stamp.index,
        time_ns=stamp.time_ns,
        source=stamp.source,
        epoch=stamp.epoch or UNSET,
        clock=UNSET if stamp.clock == "sensor" else stamp.clock,
        **line_format.encode(record),
    )
    return msgspec.json.encode(line) + b"\n"


class JsonLines:
    """Writer of a JSON lines file; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _output_errors(path):
            self._file: IO[bytes] = path.open("wb")

    def write(self, record: Detections | Tracks | Truth | Pose) -> None:
        """Write one record as one line."""
        line = encode(record)
        with _output_errors(self._path):
            self._file.write(line)

    def close(self) -> None:
        """Closes the file; may be called twice."""
        with _output_errors(self._path):
            self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def schema() -> dict[str, Any]:
    """The JSON Schema of a line, with one definition per record type."""
    lines = [line_format.line for line_format in FORMATS.values()]
    _, components = msgspec.json.schema_components(lines, ref_template="#/$defs/{name}")
    return {"anyOf": [{"$ref": f"#/$defs/{line.__name__}"} for line in lines], "$defs": components}


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """Convert an OSError to an OutputError that names the file. A BrokenPipeError passes: the reader closed the pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _nonblank_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the non-blank lines of a file with their line numbers, counted from 1."""
    if path.is_dir():
        raise SourceError(f"{path}: a folder; expected a file of JSON lines")
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    with file:
        for number, text in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(text) > MAX_LINE_BYTES:
                raise FormatError(f"{path}:{number}: expected a line of at most {MAX_LINE_BYTES:,} bytes")
            if number == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")
            if text.strip():
                yield number, text


def _parse(text: bytes, decoder: msgspec.json.Decoder[Any], line_format: _Format[RecordT], where: str) -> RecordT:
    try:
        line = decoder.decode(text)
        stamp = Stamp(line.sequence, line.epoch or 0, line.index, line.time_ns, line.source, line.clock or "sensor")
        return line_format.decode(stamp, line)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        what = line_format.line.__struct_fields__[-1]
        if not text.lstrip().startswith(b"{"):
            shown = text[:40].decode(errors="replace").strip()
            what += f", which are JSON lines: one object {{...}} a frame; got {shown!r}"
            raise FormatError(f"{where}: not a line of {what}") from error
        raise FormatError(f"{where}: not a line of {what}: {error}") from error


def _decode_detections(stamp: Stamp, line: DetectionLine) -> Detections:
    rows = line.detections
    return Detections(
        stamp,
        np.array([(r.x, r.y) for r in rows]).reshape(-1, 2),
        _covariances([r.cov for r in rows], 2, "detections"),
        _nan_for_none(r.amplitude for r in rows),
        _nan_for_none(None if r.amplitude_sd is UNSET else r.amplitude_sd for r in rows),
        _nan_for_none(r.score for r in rows),
        np.array([r.region or 0 for r in rows], np.int64),
        size=np.array([r.size or (0.0, 0.0) for r in rows]).reshape(-1, 2),
    )


def _encode_detections(record: Detections) -> dict[str, Any]:
    _check_finite(xy=record.xy, score=record.score, size=record.size)
    _check_no_infinity(amplitude=record.amplitude, amplitude_sd=record.amplitude_sd)
    columns = (record.xy, record.amplitude, record.score, record.amplitude_sd, record.region, record.size)
    rows = [
        DetectionRow(
            x, y, amplitude, score, cov, sd if sd == sd else UNSET, region or UNSET, tuple(size) if any(size) else UNSET
        )
        for cov, (x, y), amplitude, score, sd, region, size in zip(
            _covariance_rows(record.cov), *(c.tolist() for c in columns), strict=True
        )
    ]
    return {"detections": rows}


def _decode_tracks(stamp: Stamp, line: TrackLine) -> Tracks:
    rows = line.tracks
    return Tracks(
        stamp,
        np.array([r.id for r in rows], np.int64),
        np.array([(r.x, r.y, r.vx, r.vy) for r in rows]).reshape(-1, 4),
        _covariances([r.cov for r in rows], 4, "tracks"),
        _nan_for_none(r.amplitude for r in rows),
        _nan_for_none(r.score for r in rows),
        np.array([r.confirmed for r in rows], np.bool_),
        np.array([r.detection for r in rows], np.int64),
    )


def _encode_tracks(record: Tracks) -> dict[str, Any]:
    _check_finite(state=record.state, score=record.score)
    _check_no_infinity(amplitude=record.amplitude)
    columns = (record.id, record.state, record.amplitude, record.score, record.confirmed, record.detection)
    rows = [
        TrackRow(key, x, y, vx, vy, amplitude, score, confirmed, detection, cov)
        for cov, key, (x, y, vx, vy), amplitude, score, confirmed, detection in zip(
            _covariance_rows(record.cov), *(c.tolist() for c in columns), strict=True
        )
    ]
    return {"tracks": rows}


def _decode_truth(stamp: Stamp, line: TruthLine) -> Truth:
    rows = line.truth
    if (line.width is UNSET) != (line.height is UNSET):
        raise ValueError("expected both width and height, or neither")
    for k, row in enumerate(rows):
        if (row.w is UNSET) != (row.h is UNSET):
            raise ValueError(f"expected both w and h, or neither - at `$.truth[{k}]`")
    return Truth(
        stamp,
        np.array([r.id for r in rows], np.int64),
        np.array([r.group for r in rows], np.int64),
        np.array([(r.x, r.y) for r in rows]).reshape(-1, 2),
        _nan_for_none(r.amplitude for r in rows),
        np.array([(r.w or np.nan, r.h or np.nan) for r in rows]).reshape(-1, 2),
        (line.width or 0, line.height or 0),
    )


def _encode_truth(record: Truth) -> dict[str, Any]:
    _check_finite(xy=record.xy)
    _check_no_infinity(amplitude=record.amplitude)
    points = np.isnan(record.size).all(axis=1)
    if not (record.size[~points] > 0).all() or not np.isfinite(record.size[~points]).all():
        raise ValueError(f"size: expected positive widths and heights, or NaN for a point, got {record.size.tolist()}")
    columns = (record.id, record.xy, record.amplitude, record.group, record.size, points)
    rows = [
        TruthRow(key, x, y, a if a == a else None, group, *((UNSET, UNSET) if point else size))
        for key, (x, y), a, group, size, point in zip(*(c.tolist() for c in columns), strict=True)
    ]
    width, height = record.frame_size
    return {"truth": rows, "width": width or UNSET, "height": height or UNSET}


def _decode_pose(stamp: Stamp, line: PoseLine) -> Pose:
    return Pose(stamp, line.pose.x, line.pose.y, line.pose.roll_rad, line.pose.sd_px)


def _encode_pose(record: Pose) -> dict[str, Any]:
    _check_finite(pose=np.array([record.x, record.y, record.roll_rad, record.sd_px]))
    return {"pose": PoseRow(record.x, record.y, record.roll_rad, record.sd_px)}


def _nan_for_none(values: Iterable[OptionalFloat]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _covariance_rows(cov: Floats) -> list[Any]:
    """Convert covariances (N, k, k) to lists: None, written as null, where the method gives no covariance."""
    known = np.flatnonzero(~np.isnan(cov).all(axis=(1, 2)))
    if len(bad := _invalid_covariances(cov[known])):
        raise ValueError(
            f"cov: expected a symmetric, positive definite matrix, or all NaN, got {cov[known][bad[0]].tolist()}"
        )
    rows: list[Any] = [None] * len(cov)
    for k, matrix in zip(known.tolist(), cov[known].tolist(), strict=True):
        rows[k] = matrix
    return rows


def _check_finite(**columns: Floats) -> None:
    """Raise a ValueError if a column holds NaN or infinity."""
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite numbers, got {np.asarray(values).tolist()}")


def _check_no_infinity(**columns: Floats) -> None:
    """Raise a ValueError if a column holds infinity; NaN, for unknown, is allowed."""
    _check_finite(**{name: np.where(np.isnan(values), 0, values) for name, values in columns.items()})


def _invalid_covariances(cov: Floats) -> Ints:
    """Indices of the matrices (N, k, k) that are not finite, symmetric and positive definite."""
    bad: NDArray[np.bool_] = np.any(~np.isfinite(cov), axis=(1, 2))
    cov = np.where(bad[:, None, None], 0.0, cov)
    transposed = cov.swapaxes(1, 2)
    bad |= (np.abs(cov - transposed) > 1e-12 + 1e-6 * np.abs(transposed)).any(axis=(1, 2))
    return np.flatnonzero(bad | (np.linalg.eigvalsh(cov) <= 0).any(axis=1))


def _covariances(rows: list[Any], size: int, field: str) -> Floats:
    """Covariances (N, size, size), NaN where a row has none; raise a ValueError unless symmetric and positive definite."""
    cov = np.full((len(rows), size, size), np.nan)
    for k, matrix in enumerate(rows):
        if matrix is not None and matrix is not UNSET:
            cov[k] = matrix
    known = np.flatnonzero(~np.isnan(cov).all(axis=(1, 2)))
    if len(bad := _invalid_covariances(cov[known])):
        raise ValueError(f"expected a symmetric, positive definite matrix - at `$.{field}[{known[bad[0]]}].cov`")
    return cov


FORMATS: dict[type[Any], _Format[Any]] = {
    Detections: _Format(DetectionLine, _decode_detections, _encode_detections),
    Tracks: _Format(TrackLine, _decode_tracks, _encode_tracks),
    Truth: _Format(TruthLine, _decode_truth, _encode_truth),
    Pose: _Format(PoseLine, _decode_pose, _encode_pose),
}
