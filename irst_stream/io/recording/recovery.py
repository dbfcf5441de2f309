"""What a recording still holds that was cut off or damaged, as a new one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from irst_stream.errors import OutputError, SourceError, WireError
from irst_stream.io.recording.chunk_reader import ChunkReader, Fault, Message
from irst_stream.io.recording.chunk_writer import ChunkWriter
from irst_stream.io.recording.recorder import DETECTIONS, FRAME, TRACKS, frame_of, kind_of, not_a_recording, put

__all__ = ["Recovered", "recover"]


@dataclass(frozen=True)
class Recovered:
    """What could be read. lost_bytes: how much made no sense; whole: nothing was wrong with the recording."""

    frames: int
    detections: int
    tracks: int
    lost_bytes: int
    whole: bool


def recover(broken: Path, out: Path) -> Recovered:
    """Writes every frame, detection and track that is certainly right into a new recording, a chunk at a time.

    A frame has checksums of its own, so that it is also taken from a chunk that is damaged elsewhere; detections and tracks
    are not. A SourceError where there is nothing of a recording at all; out is written over, and broken never.
    """
    with ChunkReader(broken) as reader:
        if out.exists() and out.samefile(broken):
            raise OutputError(f"{out}: is the recording itself; choose another place")
        writer = ChunkWriter(out, reader.config.encode(), over=True)
        try:
            counts, whole = _copy(reader, writer)
            writer.finish()
        finally:
            writer.close()
        if not counts and (fault := not_a_recording(reader)):
            raise SourceError(f"{broken}: {fault}")
        return Recovered(counts[FRAME], counts[DETECTIONS], counts[TRACKS], reader.lost, whole)


def _copy(reader: ChunkReader, writer: ChunkWriter) -> tuple[Counter[str], bool]:
    """Messages copied by kind, and whether there was nothing wrong with any."""
    counts, whole = Counter[str](), True
    for item in reader.walk():
        if isinstance(item, Fault):
            whole = False
        elif kind := kind_of(item):
            if not _is_right(item, kind):
                whole, reader.lost = False, reader.lost + len(item.data)
                continue
            if writer.must_flush(item.log_ns):
                writer.flush()
            writer.compression = reader.compression
            put(writer, item.topic, item.log_ns, item.publish_ns, item.sequence, [item.data])
            counts[kind] += 1
    return counts, whole


def _is_right(message: Message, kind: str) -> bool:
    """Whether a message is what was recorded."""
    if kind != FRAME:
        return message.sure
    try:
        frame_of(message)
    except WireError:
        return False
    return True
