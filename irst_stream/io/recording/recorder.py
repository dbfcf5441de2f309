"""Recordings: raw frames, detections, tracks and the configuration in one file, which outlives a crash of its writer.

The format, for readers in other languages: an MCAP file (mcap.dev/spec; any MCAP reader opens it), profile "irst-stream".

- The first record after the header is an attachment named "config", application/toml: the configuration's text in UTF-8,
  empty where there was none.
- All messages are in chunks, in the order in which they were recorded, which is the order to replay them in. A chunk spans
  at most half a second of log time, is closed after 4 MiB, is uncompressed, lz4 or zstd, carries its CRC-32, and repeats
  the schemas and channels of its messages, so that it can be understood without those before it. Message indexes and the
  summary are as the specification has them; the data section has no checksum beside those of its chunks.
- There is one channel for each kind of record and each sensor, its topic KIND/SENSOR, such as frame/cam1.
- log_time: when the record was published, ns since 1970 in UTC; for a frame, when it arrived. publish_time: the sensor's
  own time of the frame, where its clock is "unix", else the log time. sequence: the frame's index, modulo 2^32.

frame/SENSOR has message encoding "irst-frame" and no schema. A message is

    bytes 0 to 3       N, length of the header, unsigned, little-endian
    bytes 4 to 7       CRC-32 of the header (as zlib and PNG compute it), unsigned, little-endian
    bytes 8 to 7 + N   the header, msgpack, exactly as PROTOCOL.md describes a frame's: stamp, dtype, shape, CRC-32 of the
                       pixels, and so on
    bytes 8 + N on     the pixels, row after row, as many as the header says

detections/SENSOR and tracks/SENSOR have message encoding "json" and a JSON Schema. A message is a line of the JSON lines
that INTERCHANGE.md describes, without its end: byte for byte what a replay writes for the same frames.

With rotation the first file is OUT.mcap, those that follow are OUT-0002.mcap, OUT-0003.mcap and so on; each is complete.

A chunk is handed to the system as soon as it is closed. What a killed writer leaves is every chunk but the last, or that
one cut off, and no summary; irst-stream recover makes a whole file of it. The bound on a chunk's time is looked at when a
record comes: what came last before a feed fell silent is in the file once it goes on, or is closed. Nothing is forced onto
the disk itself, so a power failure may cost what the system had not yet written there.
"""

from __future__ import annotations

import logging
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import cast

import msgspec

from irst_stream.errors import OutputError, SourceError, WireError
from irst_stream.io import jsonl
from irst_stream.io.recording.chunk_reader import ChunkReader, Fault, Message
from irst_stream.io.recording.chunk_writer import CHUNK_BYTES, LARGEST_CHUNK, PROFILE, ChunkWriter
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.types import Detections, Frame, Tracks

__all__ = ["Recorder", "Recording", "frame_of", "kind_of", "not_a_recording", "open_recording", "put"]

FRAME, DETECTIONS, TRACKS = "frame", "detections", "tracks"
FRAME_ENCODING = "irst-frame"
LATEST_NS = 2**64 - 1  # that MCAP can tell
HEAD = struct.Struct("<II")
MEGA = 1e6

log = logging.getLogger(__name__)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Recorder:
    """Records what it is given; a protocols.Sink. A disk that is full or fails ends the recording, never the pipeline.

    alarm: why it has stopped recording, "" while it records; kept: how many records are in its files, whatever becomes of
    this process; lost: those that will never be, because of the alarm. free: how many bytes may still be written to the
    disk that a folder is on. An OutputError where it cannot begin.
    """

    def __init__(self, settings: RecordSettings, config_toml: str = "", free: Callable[[Path], int] = _free) -> None:
        results: tuple[type[Frame | Detections | Tracks], ...] = (Detections, Tracks)
        self.takes = (Frame, *results) if settings.frames else results
        self.alarm, self.kept, self.lost = "", 0, 0
        self._settings, self._config, self._free = settings, config_toml.encode(), free
        self._number, self._began_ns = 1, 0
        self._given = 0
        for path in (self._path(1), *([self._path(2)] if settings.rotate_mb or settings.rotate_s else [])):
            if path.exists():
                raise OutputError(f"{path}: exists, and a recording is never written over; choose another name")
        try:
            self._writer = self._open()
        except OSError as error:
            raise OutputError(f"{self._path(1)}: cannot be written: {error.strerror or error}") from error

    def write(self, record: Frame | Detections | Tracks, published_ns: int) -> None:
        """Records one record. A WireError where its sensor has a name that no live sensor may have."""
        self._given += 1
        if not self.alarm:
            topic, parts = _encode(record)
            try:
                self._put(topic, record, _as_told(published_ns), parts)
            except OSError as error:
                self._stop(error.strerror or str(error))
        if self.alarm:
            self.lost = self._given - self.kept

    def close(self) -> None:
        """Writes what is held and the file's end; may be called twice."""
        if not self.alarm:
            try:
                self._flush()
                self._writer.finish()
            except OSError as error:
                self._stop(error.strerror or str(error))
                self.lost = self._given - self.kept

    def _put(self, topic: str, record: Frame | Detections | Tracks, log_ns: int, parts: list[wire.Buffer]) -> None:
        if self._writer.must_flush(log_ns):
            self._flush()
        if self._is_due(log_ns):
            self._rotate()
        if not self._writer.pending:
            self._look_at_the_disk(sum(map(len, parts)))
        stamp = record.stamp
        publish_ns = _as_told(stamp.time_ns) if stamp.clock == "unix" else log_ns
        if not self._writer.topics:
            self._began_ns = log_ns
        put(self._writer, topic, log_ns, publish_ns, stamp.index, parts)
        if self._writer.must_flush(log_ns):
            self._flush()

    def _look_at_the_disk(self, wanted: int) -> None:
        """Raises an OSError, as a full disk would, where the next chunk would take of what is to stay free."""
        keep, left = self._settings.keep_free_mb, self._free(self._path(1).absolute().parent)
        if left < keep * MEGA + max(wanted, CHUNK_BYTES):
            raise OSError(f"{left / MEGA:,.0f} MB left on the disk, of which {keep:,.0f} MB are to stay free")

    def _is_due(self, log_ns: int) -> bool:
        """Whether a new file is to be begun; never after one without a message."""
        limits, elapsed_s = self._settings, abs(log_ns - self._began_ns) / 1e9
        if not self._writer.topics:
            return False
        too_long = limits.rotate_s and elapsed_s >= limits.rotate_s
        return bool(too_long or (limits.rotate_mb and self._writer.size >= limits.rotate_mb * MEGA))

    def _rotate(self) -> None:
        self._flush()
        self._writer.finish()
        self._number += 1
        self._writer = self._open()

    def _open(self) -> ChunkWriter:
        return ChunkWriter(self._path(self._number), self._config, self._settings.compression)

    def _path(self, number: int) -> Path:
        """Of the first file, or one that follows it."""
        path = Path(self._settings.path)
        return path if number == 1 else path.with_name(f"{path.stem}-{number:04d}{path.suffix}")

    def _flush(self) -> None:
        before = self._writer.messages
        self._writer.flush()
        self.kept += self._writer.messages - before

    def _stop(self, why: str) -> None:
        """Sets off the alarm, and ends the file as well as the disk allows."""
        self.alarm = f"{self._path(self._number)}: recording stopped: {why}"
        log.error("%s", self.alarm)
        with suppress(OSError):
            self._writer.finish()
        self._writer.close()


class Recording:
    """The frames of a recording, in the order in which they were recorded; a protocols.Source and a context manager.

    config: the configuration's TOML, "" where there is none; frames: how many, and rate_hz: those of the busiest sensor a
    second, None where the file was not closed in good order. Iterating starts from the beginning each time; whatever is
    wrong with the file raises a SourceError after the frames before it.
    """

    kind, dataset, has_truth, full_scale = "recording", "", False, None

    def __init__(self, path: Path) -> None:
        self.path, self.rejected, self._stopped = path, Counter[str](), False
        with ChunkReader(path) as reader:
            if fault := not_a_recording(reader):
                raise SourceError(f"{path}: {fault}")
            self.config = reader.config
            messages, span_ns = reader.statistics()
            frames = [n for topic, n in messages.items() if topic.startswith(f"{FRAME}/")]
            self.frames = sum(frames) if reader.whole else None
            self.rate_hz = (max(frames) - 1) * 1e9 / span_ns if frames and max(frames) > 1 and span_ns > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        for message in self._messages():
            if kind_of(message) == FRAME:
                try:
                    frame = frame_of(message)
                except WireError as error:
                    raise SourceError(f"{self.path}: {message.topic} {message.sequence}: {error}") from error
                if self._stopped:
                    return
                yield frame

    def results(self) -> Iterator[tuple[str, bytes]]:
        """The kind, detections or tracks, and the JSON line without its end, of each as they were recorded."""
        for message in self._messages():
            if (kind := kind_of(message)) in FORMS and kind != FRAME:
                yield kind, bytes(message.data)

    def stop(self) -> None:
        """Ends the iteration after the frame that is being read; any thread may call it."""
        self._stopped = True

    def close(self) -> None:
        """Nothing stays open between two iterations."""

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _messages(self) -> Iterator[Message]:
        with ChunkReader(self.path) as reader:
            for item in reader.walk():
                if isinstance(item, Fault):
                    where = f"{self.path}: byte {item.at} of {reader.size}"
                    raise SourceError(f"{where}: {item.why}; irst-stream recover saves what can be read")
                yield item


def open_recording(path: str | Path) -> Recording:
    """A recording, read from its beginning whenever it is iterated; a SourceError where there is none."""
    return Recording(Path(path))


def not_a_recording(reader: ChunkReader) -> str:
    """Why a file is none, "" where it begins as one."""
    if not reader.size:
        return "empty file"
    if reader.profile is None:
        return "not a recording: does not begin as an MCAP file does"
    return "" if reader.profile == PROFILE else f"not a recording of irst-stream but MCAP of profile {reader.profile!r}"


def kind_of(message: Message) -> str:
    """Frame, detections or tracks; "" for what others may have put into the file."""
    kind = message.topic.partition("/")[0]
    return kind if kind in FORMS and message.encoding == FORMS[kind][0] else ""


def frame_of(message: Message) -> Frame:
    """A frame as it was recorded, with pixels of its own; a WireError names the reason otherwise."""
    data = message.data
    size, crc = HEAD.unpack_from(data) if len(data) >= HEAD.size else (len(data), 0)
    header = bytes(data[HEAD.size : HEAD.size + size])
    if len(header) != size or zlib.crc32(header) != crc:
        raise WireError("header", "the header is not what its checksum says")
    # Copied, so that pixels are aligned in memory as they were live, and their sums the same to the last bit.
    pixels = bytes(data[HEAD.size + size :])
    return cast("Frame", wire.decode((f"{message.topic}/".encode(), header, pixels)).record)


def put(writer: ChunkWriter, topic: str, log_ns: int, publish_ns: int, sequence: int, parts: Sequence[wire.Buffer]) -> None:
    """Adds a message to a file, which learns of its topic if need be."""
    if topic not in writer.topics:
        writer.introduce(topic, *FORMS[topic.partition("/")[0]])
    writer.add(topic, log_ns, publish_ns, sequence, parts)


def _encode(record: Frame | Detections | Tracks) -> tuple[str, list[wire.Buffer]]:
    """A record's topic, and its message in parts."""
    if not isinstance(record, Frame):
        kind = DETECTIONS if isinstance(record, Detections) else TRACKS
        return f"{kind}/{record.stamp.sensor}", [jsonl.encode(record).removesuffix(b"\n")]
    _, header, pixels = wire.encode(record)
    if len(pixels) > LARGEST_CHUNK - CHUNK_BYTES:
        raise OutputError(f"{record.stamp.sensor}: frames of more than {LARGEST_CHUNK >> 20} MiB cannot be recorded")
    return f"{FRAME}/{record.stamp.sensor}", [HEAD.pack(len(header), zlib.crc32(header)) + header, pixels]


def _as_told(time_ns: int) -> int:
    """A time as MCAP can tell it, from 1970 on."""
    return min(max(time_ns, 0), LATEST_NS)


def _schema(line: str) -> bytes:
    """The JSON Schema of one kind of line."""
    parts = jsonl.schema()["$defs"]
    return msgspec.json.encode({**parts[line], "$defs": parts})


FORMS = {
    FRAME: (FRAME_ENCODING, "", b""),
    DETECTIONS: ("json", "irst_stream.Detections", _schema("DetectionLine")),
    TRACKS: ("json", "irst_stream.Tracks", _schema("TrackLine")),
}
