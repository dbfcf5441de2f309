"""The file of a piece: its manifest, then what a tracker needs of each frame, exactly as it was computed.

A file is one line of JSON, the manifest, and the frames in MessagePack, each after its length, 4 bytes, little-endian. The
manifest has the SHA-256 of all that follows it, so a damaged or truncated file counts as missing and is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from irst_stream.archive.atomic import write_whole
from irst_stream.errors import FormatError
from irst_stream.types import Detections, Pose, Stamp

__all__ = ["FrameResult", "PieceManifest", "read_manifest", "read_piece", "write_piece"]

COLUMNS = ("xy", "cov", "amplitude", "amplitude_sd", "score", "size", "factor")
MAX_MANIFEST_BYTES = 1 << 20


class PieceManifest(msgspec.Struct, frozen=True):
    """What a piece's results depend on, and how many there are.

    key: digest of source, configuration, version, engine and the piece's place; engine: what ran the network, "" for none;
    frames: of the piece; answered: those with a line of detections; seconds: of computing; fault: why its frames could not
    all be read; events: of its frames, by name; sha256: of the frames' results.
    """

    key: str
    source: str
    irst_stream: str
    config: str
    engine: str
    frames: int
    answered: int
    seconds: float
    fault: str = ""
    events: dict[str, int] = {}
    sha256: str = ""


class FrameResult(NamedTuple):
    """A frame's detections, and what its tracker was given.

    found: as they are published; tracked: without the errors of poses, None where a tracker is not asked for; pose, shape
    (H, W): of the frame, None where poses are unknown; repeats: see chain.sensor.SensorTracker; restarted: the sensor
    restarted before this frame.
    """

    found: Detections
    tracked: Detections | None = None
    pose: Pose | None = None
    shape: tuple[int, int] | None = None
    repeats: int = 0
    restarted: bool = False


class _Arrays(msgspec.Struct, frozen=True, array_like=True):
    """Detections: their number, the columns as bytes of float64, the regions as int64, and the factor's parts."""

    count: int
    columns: tuple[bytes, ...]
    region: bytes
    parts: int


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """One frame in a file. same: what the tracker was given is what is published."""

    stamp: tuple[str, int, int, int, str, str]
    found: _Arrays
    same: bool
    tracked: _Arrays | None
    pose: tuple[float, float, float, float] | None
    shape: tuple[int, int] | None
    repeats: int
    restarted: bool


def write_piece(path: Path, manifest: PieceManifest, results: Sequence[FrameResult]) -> None:
    """Write a piece atomically; raise an OutputError if it cannot be written."""
    rows = [msgspec.msgpack.encode(_to_row(result)) for result in results]
    body = b"".join(len(row).to_bytes(4, "little") + row for row in rows)
    whole = msgspec.structs.replace(manifest, sha256=hashlib.sha256(body).hexdigest())
    write_whole(path, msgspec.json.encode(whole) + b"\n" + body)


def read_manifest(path: Path, key: str = "") -> PieceManifest | None:
    """Return the manifest of a whole piece; None where it is missing or damaged, or has another key than a given one."""
    try:
        manifest, body = _read(path)
    except FormatError:
        return None
    whole = hashlib.sha256(body).hexdigest() == manifest.sha256 and key in ("", manifest.key)
    return manifest if whole else None


def read_piece(path: Path) -> tuple[PieceManifest, Iterator[FrameResult]]:
    """Return a piece's manifest and its frames' results in order; raise a FormatError where the file is damaged."""
    manifest, body = _read(path)
    if hashlib.sha256(body).hexdigest() != manifest.sha256:
        raise FormatError(f"{path}: damaged; remove it, and the piece is computed again")
    return manifest, _results(body)


def _read(path: Path) -> tuple[PieceManifest, memoryview]:
    try:
        data = path.read_bytes()
        end = data.index(b"\n", 0, MAX_MANIFEST_BYTES)
        return msgspec.json.decode(data[:end], type=PieceManifest), memoryview(data)[end + 1 :]
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except (ValueError, msgspec.DecodeError) as error:
        raise FormatError(f"{path}: not a piece of an archive") from error


def _results(body: memoryview) -> Iterator[FrameResult]:
    decoder = msgspec.msgpack.Decoder(_Row)
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "little")
        yield _from_row(decoder.decode(body[at + 4 : at + 4 + size]))
        at += 4 + size


def _to_row(result: FrameResult) -> _Row:
    s, pose = result.found.stamp, result.pose
    same = result.tracked is result.found
    return _Row(
        (s.sensor, s.epoch, s.index, s.time_ns, s.source, s.clock),
        _to_arrays(result.found),
        same,
        None if same or result.tracked is None else _to_arrays(result.tracked),
        None if pose is None else (pose.x, pose.y, pose.roll_rad, pose.sd_px),
        result.shape,
        result.repeats,
        result.restarted,
    )


def _from_row(row: _Row) -> FrameResult:
    clock: Any = row.stamp[5]
    stamp = Stamp(*row.stamp[:5], clock)
    found = _from_arrays(stamp, row.found)
    tracked = found if row.same else None if row.tracked is None else _from_arrays(stamp, row.tracked)
    pose = None if row.pose is None else Pose(stamp, *row.pose)
    return FrameResult(found, tracked, pose, row.shape, row.repeats, row.restarted)


def _to_arrays(found: Detections) -> _Arrays:
    columns = tuple(np.ascontiguousarray(getattr(found, name), "<f8").tobytes() for name in COLUMNS)
    return _Arrays(len(found), columns, found.region.astype("<i8").tobytes(), found.factor.shape[2])


def _from_arrays(stamp: Stamp, arrays: _Arrays) -> Detections:
    n = arrays.count
    shapes = {"xy": (n, 2), "cov": (n, 2, 2), "size": (n, 2), "factor": (n, 2, arrays.parts)}
    values = {
        name: np.frombuffer(data, "<f8").reshape(shapes.get(name, (n,)))
        for name, data in zip(COLUMNS, arrays.columns, strict=True)
    }
    return Detections(stamp, region=np.frombuffer(arrays.region, "<i8"), **values)
