"""Recovery of truncated or damaged recordings: everything readable is copied into a new recording."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from irst_stream.errors import OutputError, SourceError, WireError
from irst_stream.io.recording.chunk_reader import ChunkReader, Fault, RecordedMessage
from irst_stream.io.recording.chunk_writer import ChunkWriter
from irst_stream.io.recording.recorder import (
    DETECTIONS,
    FRAME,
    TRACKS,
    add_message,
    decode_frame,
    message_kind,
    recording_fault,
)

__all__ = ["RecoveryResult", "recover"]


@dataclass(frozen=True)
class RecoveryResult:
    """Number of records recovered; lost_bytes: bytes that could not be decoded; intact: the recording had no fault."""

    frames: int
    detections: int
    tracks: int
    lost_bytes: int
    intact: bool


def recover(broken: Path, out: Path) -> RecoveryResult:
    """Copy all verified frames, detections and tracks of a damaged recording into a new one, chunk by chunk.

    Frames carry their own checksums, so they are also taken from a chunk with a checksum mismatch; detections and
    tracks are not. `out` is overwritten, `broken` never. Raise a SourceError if the file is not a recording and holds no
    record.
    """
    with ChunkReader(broken) as reader:
        if out.exists() and out.samefile(broken):
            raise OutputError(f"{out}: is the recording itself; choose another file")
        writer = ChunkWriter(out, reader.config.encode(), files=reader.files, overwrite=True)
        try:
            counts, intact = _copy(reader, writer)
            writer.finish()
        finally:
            writer.close()
        if not counts and (fault := recording_fault(reader)):
            raise SourceError(f"{broken}: {fault}")
        return RecoveryResult(counts[FRAME], counts[DETECTIONS], counts[TRACKS], reader.lost_bytes, intact)


def _copy(reader: ChunkReader, writer: ChunkWriter) -> tuple[Counter[str], bool]:
    """Copy verified messages; return their number by kind, and whether the recording had no fault."""
    counts, intact = Counter[str](), True
    for item in reader.scan():
        if isinstance(item, Fault):
            intact = False
        elif kind := message_kind(item.topic, item.encoding):
            if not _is_verified(item, kind):
                intact, reader.lost_bytes = False, reader.lost_bytes + len(item.data)
                continue
            if writer.must_flush(item.log_ns):
                writer.flush()
            writer.compression = reader.compression
            add_message(writer, item.topic, item.log_ns, item.publish_ns, item.sequence, [item.data])
            counts[kind] += 1
    return counts, intact


def _is_verified(message: RecordedMessage, kind: str) -> bool:
    """Whether a message is intact: a frame by its own checksums, other kinds by their chunk's."""
    if kind != FRAME:
        return message.intact
    try:
        decode_frame(message)
    except WireError:
        return False
    return True
