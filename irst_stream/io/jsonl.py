"""Interchange: detections, tracks, truth and poses as JSON lines, one object a frame. INTERCHANGE.md describes it.

The structs below are the schema. Numbers are written so that they read back exactly; NaN, which stands for unknown in
our arrays, is null in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from irst_stream.errors import FormatError, OutputError, SourceError
from irst_stream.types import Clock, Detections, Floats, Frame, Ints, Pose, Stamp, Tracks, Truth

__all__ = ["JsonLines", "LinesSink", "Record", "encode", "holds", "read", "schema", "write"]

Record = TypeVar("Record", Detections, Tracks, Truth, Pose)
Pair = tuple[float, float]
Quad = tuple[float, float, float, float]
Maybe = float | None
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    sequence: str
    index: Number
    time_ns: Int64 = 0
    source: str = ""
    epoch: Int64 | UnsetType = UNSET
    clock: Clock | UnsetType = UNSET


class DetectionRow(msgspec.Struct, forbid_unknown_fields=True):
    """One detection: x column and y row in px, amplitude in DN, cov of (x, y) in px^2, region it was found in."""

    x: float
    y: float
    amplitude: Maybe
    score: float
    cov: tuple[Pair, Pair] | UnsetType | None = UNSET
    amplitude_sd: float | UnsetType = UNSET
    region: Int64 | UnsetType = UNSET


class TrackRow(msgspec.Struct, forbid_unknown_fields=True):
    """One track: as a detection, and vx, vy in px/s, cov of (x, y, vx, vy), row of the detection that updated it."""

    id: Int64
    x: float
    y: float
    vx: float
    vy: float
    amplitude: Maybe
    score: float
    confirmed: bool = True
    detection: Int64 = -1
    cov: tuple[Quad, Quad, Quad, Quad] | UnsetType | None = UNSET


class TruthRow(msgspec.Struct, forbid_unknown_fields=True):
    """One real target."""

    id: Int64
    x: float
    y: float
    amplitude: float
    group: Int64 = 0


class PoseRow(msgspec.Struct, forbid_unknown_fields=True):
    """Where the platform pointed: shift in px, roll in rad."""

    x: float
    y: float
    roll_rad: float


class DetectionLine(_Line, kw_only=True):
    """The detections of one frame."""

    detections: list[DetectionRow]


class TrackLine(_Line, kw_only=True):
    """The tracks alive at one frame."""

    tracks: list[TrackRow]


class TruthLine(_Line, kw_only=True):
    """The real targets of one frame."""

    truth: list[TruthRow]


class PoseLine(_Line, kw_only=True):
    """The platform's pose at one frame."""

    pose: PoseRow


@dataclass(frozen=True, slots=True)
class _Format(Generic[Record]):
    """How one kind of record becomes a line and comes back."""

    line: type[Any]
    decode: Callable[[Stamp, Any], Record]
    encode: Callable[[Record], Any]


def read(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The records of a file in order; a bad line raises a FormatError that names the line and field, after those before."""
    form = FORMATS[kind]
    decoder = msgspec.json.Decoder(form.line)
    for number, text in _lines(path):
        yield _parse(text, decoder, form, f"{path}:{number}")


def holds(path: Path, kind: type[Record]) -> bool:
    """Whether the first line of a file is, going by its keys, of that kind.

    A file without a line is of none, nor is a pipe, whose lines can be read only once.
    """
    if path.exists() and not path.is_file():
        return False
    first = next(_lines(path), None)
    try:
        keys = msgspec.json.decode(first[1], type=dict[str, msgspec.Raw]) if first else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return FORMATS[kind].line.__struct_fields__[-1] in keys  # the last field is what a line is about


def write(path: Path, records: Iterable[Detections | Tracks | Truth | Pose]) -> int:
    """Writes records, one line each; returns how many."""
    count = 0
    with JsonLines(path) as lines:
        for record in records:
            lines.write(record)
            count += 1
    return count


def encode(record: Detections | Tracks | Truth | Pose) -> bytes:
    """One record as one line, its end included; a ValueError where it holds what the format has no word for."""
    form, stamp = FORMATS[type(record)], record.stamp
    line = form.line(
        sequence=stamp.sensor,
        index=stamp.index,
        time_ns=stamp.time_ns,
        source=stamp.source,
        epoch=stamp.epoch or UNSET,
        clock=UNSET if stamp.clock == "sensor" else stamp.clock,
        **form.encode(record),
    )
    return msgspec.json.encode(line) + b"\n"


class JsonLines:
    """A file of JSON lines open for writing; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _writing(path):
            self._file: IO[bytes] = path.open("wb")

    def write(self, record: Detections | Tracks | Truth | Pose) -> None:
        """Writes one record as one line."""
        line = encode(record)
        with _writing(self._path):
            self._file.write(line)

    def flush(self) -> None:
        """Hands what has been written to the system, so that others can read it."""
        with _writing(self._path):
            self._file.flush()

    def close(self) -> None:
        """Closes the file; may be called twice."""
        with _writing(self._path):
            self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class LinesSink:
    """A file of JSON lines that grows while a pipeline runs; a protocols.Sink. Every line can be read at once."""

    alarm, lost = "", 0

    def __init__(self, path: Path, takes: type[Detections | Tracks]) -> None:
        self.takes: tuple[type[Frame | Detections | Tracks], ...] = (takes,)
        self._lines = JsonLines(path)

    def write(self, record: Frame | Detections | Tracks, published_ns: int) -> None:  # noqa: ARG002 - see protocols.Sink
        """Writes one record as one line, which does not say when it was published: a replay writes the same bytes."""
        if not isinstance(record, Frame):
            self._lines.write(record)
            self._lines.flush()

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._lines.close()


def schema() -> dict[str, Any]:
    """The JSON Schema of a line, one definition for each kind."""
    lines = [form.line for form in FORMATS.values()]
    _, components = msgspec.json.schema_components(lines, ref_template="#/$defs/{name}")
    return {"anyOf": [{"$ref": f"#/$defs/{line.__name__}"} for line in lines], "$defs": components}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Says which file cannot be written; a pipe that its reader has closed is no fault of ours."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold anything, with their numbers, from 1."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    with file:
        for number, text in enumerate(file, 1):
            if number == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")
            if text.strip():
                yield number, text


def _parse(text: bytes, decoder: msgspec.json.Decoder[Any], form: _Format[Record], where: str) -> Record:
    try:
        line = decoder.decode(text)
        stamp = Stamp(line.sequence, line.epoch or 0, line.index, line.time_ns, line.source, line.clock or "sensor")
        return form.decode(stamp, line)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from error


def _decode_detections(stamp: Stamp, line: DetectionLine) -> Detections:
    rows = line.detections
    return Detections(
        stamp,
        np.array([(r.x, r.y) for r in rows]).reshape(-1, 2),
        _covariances([r.cov for r in rows], 2, "detections"),
        _known(r.amplitude for r in rows),
        _known(None if r.amplitude_sd is UNSET else r.amplitude_sd for r in rows),
        _known(r.score for r in rows),
        np.array([r.region or 0 for r in rows], np.int64),
    )


def _encode_detections(record: Detections) -> dict[str, Any]:
    _finite(xy=record.xy, score=record.score)
    _not_infinite(amplitude=record.amplitude, amplitude_sd=record.amplitude_sd)
    columns = (record.xy, record.amplitude, record.score, record.amplitude_sd, record.region)
    rows = [
        DetectionRow(x, y, amplitude, score, cov, sd if sd == sd else UNSET, region or UNSET)
        for cov, (x, y), amplitude, score, sd, region in zip(
            _written(record.cov), *(c.tolist() for c in columns), strict=True
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
        _known(r.amplitude for r in rows),
        _known(r.score for r in rows),
        np.array([r.confirmed for r in rows], np.bool_),
        np.array([r.detection for r in rows], np.int64),
    )


def _encode_tracks(record: Tracks) -> dict[str, Any]:
    _finite(state=record.state, score=record.score)
    _not_infinite(amplitude=record.amplitude)
    columns = (record.id, record.state, record.amplitude, record.score, record.confirmed, record.detection)
    rows = [
        TrackRow(key, x, y, vx, vy, amplitude, score, confirmed, detection, cov)
        for cov, key, (x, y, vx, vy), amplitude, score, confirmed, detection in zip(
            _written(record.cov), *(c.tolist() for c in columns), strict=True
        )
    ]
    return {"tracks": rows}


def _decode_truth(stamp: Stamp, line: TruthLine) -> Truth:
    rows = line.truth
    return Truth(
        stamp,
        np.array([r.id for r in rows], np.int64),
        np.array([r.group for r in rows], np.int64),
        np.array([(r.x, r.y) for r in rows]).reshape(-1, 2),
        np.array([r.amplitude for r in rows], np.float64),
    )


def _encode_truth(record: Truth) -> dict[str, Any]:
    _finite(xy=record.xy, amplitude=record.amplitude)
    columns = (record.id, record.xy, record.amplitude, record.group)
    rows = [TruthRow(key, x, y, a, group) for key, (x, y), a, group in zip(*(c.tolist() for c in columns), strict=True)]
    return {"truth": rows}


def _decode_pose(stamp: Stamp, line: PoseLine) -> Pose:
    return Pose(stamp, line.pose.x, line.pose.y, line.pose.roll_rad)


def _encode_pose(record: Pose) -> dict[str, Any]:
    _finite(pose=np.array([record.x, record.y, record.roll_rad]))
    return {"pose": PoseRow(record.x, record.y, record.roll_rad)}


def _known(values: Iterable[Maybe]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _written(cov: Floats) -> list[Any]:
    """Covariances (N, k, k) as they are written: null where the method gives none."""
    given = np.flatnonzero(~np.isnan(cov).all(axis=(1, 2)))
    if len(bad := _no_covariances(cov[given])):
        raise ValueError(
            f"cov: expected a symmetric, positive definite matrix, or all NaN, got {cov[given][bad[0]].tolist()}"
        )
    written: list[Any] = [None] * len(cov)
    for k, matrix in zip(given.tolist(), cov[given].tolist(), strict=True):
        written[k] = matrix
    return written


def _finite(**columns: Floats) -> None:
    """Refuses NaN and infinity where the format wants a number."""
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite numbers, got {np.asarray(values).tolist()}")


def _not_infinite(**columns: Floats) -> None:
    """Refuses infinity where NaN stands for unknown."""
    _finite(**{name: np.where(np.isnan(values), 0, values) for name, values in columns.items()})


def _no_covariances(cov: Floats) -> Ints:
    """The rows of (N, k, k) that are not finite, symmetric and positive definite."""
    bad: NDArray[np.bool_] = np.any(~np.isfinite(cov), axis=(1, 2))
    cov = np.where(bad[:, None, None], 0.0, cov)
    turned = cov.swapaxes(1, 2)
    bad |= (np.abs(cov - turned) > 1e-12 + 1e-6 * np.abs(turned)).any(axis=(1, 2))
    return np.flatnonzero(bad | (np.linalg.eigvalsh(cov) <= 0).any(axis=1))


def _covariances(given: list[Any], size: int, field: str) -> Floats:
    """(N, size, size), NaN where none is given; refuses one that is not symmetric or whose variances are not positive."""
    found = np.full((len(given), size, size), np.nan)
    for k, cov in enumerate(given):
        if cov is not None and cov is not UNSET:
            found[k] = cov
    known = np.flatnonzero(~np.isnan(found).all(axis=(1, 2)))
    if len(bad := _no_covariances(found[known])):
        raise ValueError(f"expected a symmetric, positive definite matrix - at `$.{field}[{known[bad[0]]}].cov`")
    return found


FORMATS: dict[type[Any], _Format[Any]] = {
    Detections: _Format(DetectionLine, _decode_detections, _encode_detections),
    Tracks: _Format(TrackLine, _decode_tracks, _encode_tracks),
    Truth: _Format(TruthLine, _decode_truth, _encode_truth),
    Pose: _Format(PoseLine, _decode_pose, _encode_pose),
}
