"""Recordings: raw frames, detections, tracks and the configuration in one crash-safe file.

The format, for readers in other languages: an MCAP file (mcap.dev/spec; any MCAP reader opens it), profile "irst-stream".

- The first record after the header is an attachment named "config", application/toml: the text of the configuration in
  UTF-8, empty without a configuration. The files that it names follow as attachments, application/octet-stream, each named
  by its setting, for example "correct.table".
- All messages are in chunks, in the order of recording, which is also the order of replay. A chunk spans at most half a
  second of log time, is closed once it exceeds 1 MiB, is uncompressed, lz4 or zstd, carries its CRC-32, and repeats the
  schemas and channels of its messages, so that it can be read without the chunks before it. Message indexes and the
  summary follow the specification; the data section has no checksum besides those of its chunks.
- There is one channel per kind of record and sensor. Its topic is KIND/SENSOR, for example frame/cam1.
- log_time: when the record was published, ns since 1970 in UTC; for a frame, when it arrived. publish_time: the sensor's
  own time of the frame if its clock is "unix", else the log time. sequence: the frame's index modulo 2^32.

frame/SENSOR has message encoding "protobuf" and the schema foxglove.RawImage, which many viewers show. The pixels are its
field "data", in row order; its "timestamp" is the frame's time, whatever its clock. Field 15000, which RawImage does not
define, comes first and holds what RawImage has no field for:

    bytes 0 to 3   CRC-32 of the header (as zlib and PNG compute it), unsigned, little-endian
    bytes 4 on     the header, msgpack, exactly a frame's header in PROTOCOL.md: stamp, dtype, shape, CRC-32 of the pixels,
                   and so on

detections/SENSOR and tracks/SENSOR have message encoding "json" and a JSON Schema. A message is one line of the JSON lines
format in INTERCHANGE.md, without its newline: byte for byte the line that a replay writes for the same frames.

With `annotations`, marks/detections/SENSOR and marks/tracks/SENSOR have the schema foxglove.ImageAnnotations: what viewers
draw on the image of the same timestamp. A replay does not read them, and recover leaves them out.

With rotation the first file is OUT.mcap, followed by OUT-0002.mcap, OUT-0003.mcap and so on; each file is complete.

A chunk is written to the file as soon as it is closed, at the latest half a second after its first record arrived, whether
or not more arrive. A killed writer leaves all chunks but the last, which is missing or truncated, and no summary;
irst-stream recover makes a complete file of it. Without the setting fsync a power failure costs what the operating system
has not yet written to the disk: on Linux usually the last 30 s. With it, it costs at most the last chunk.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import msgspec

from irst_stream.errors import OutputError, SourceError, WireError
from irst_stream.io import jsonl
from irst_stream.io.file_series import FileSeries
from irst_stream.io.recording.chunk_reader import ChunkReader, Fault, RecordedMessage
from irst_stream.io.recording.chunk_writer import CHUNK_BYTES, MAX_CHUNK_BYTES, PROFILE, ChunkWriter
from irst_stream.io.recording.foxglove import ANNOTATIONS_SCHEMA, IMAGE_SCHEMA, encode_image, encode_marks, read_image
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.types import Detections, Frame, Tracks, Truth

__all__ = [
    "Recorder",
    "Recording",
    "add_message",
    "decode_frame",
    "message_kind",
    "open_recording",
    "recording_fault",
]

FRAME, DETECTIONS, TRACKS = "frame", "detections", "tracks"
MARKS = "marks"
MAX_TIME_NS = 2**64 - 1  # MCAP times are unsigned 64-bit numbers
BYTES_PER_MB = 1e6
FLUSH_S = 0.4  # after which a chunk is written; with the pauses between two checks this keeps within half a second
RETRY_S, LONGEST_RETRY_S = 1.0, 60.0  # until a stopped recording is tried again
RESUME_BYTES = 16 << 20  # room for more than a few chunks, so that a full disk does not fill with tiny files

log = logging.getLogger(__name__)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Recorder:
    """Record frames and results; a protocols.Sink. A full or failing disk stops the recording, never the pipeline.

    alarm: why recording stopped, "" while it records; it goes on in a new file once that is possible, tried again with
    growing pauses. kept: number of records in its files, which survive a crash of this process; lost: number of records not
    written because recording stopped. free: function that returns the free bytes on the disk of a folder; clock: returns a
    steady time in s; files: those that the configuration names, by setting. Raise an OutputError if the recording cannot be
    started.
    """

    def __init__(
        self,
        settings: RecordSettings,
        config_toml: str = "",
        free: Callable[[Path], int] = _free_bytes,
        clock: Callable[[], float] = time.monotonic,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        results: tuple[type[Frame | Detections | Tracks], ...] = (Detections, Tracks)
        self.takes = (Frame, *results) if settings.frames else results
        self.alarm, self.kept, self.lost = "", 0, 0
        self._settings, self._config, self._free, self._clock = settings, config_toml.encode(), free, clock
        self._files = files
        self._series, self._file_start_ns = FileSeries(settings), 0
        self._received = self._unwritten = self._lost_before = 0  # unwritten: records in the open chunk
        self._chunk_start_s = self._retry_at_s = 0.0
        self._retry_s, self._resuming = RETRY_S, False
        try:
            self._writer = self._open()
        except OSError as error:
            raise OutputError(f"{settings.path}: cannot be written: {error.strerror or error}") from error

    def start(self, status: Callable[[], Any]) -> None:
        """Do nothing: this sink does not use the pipeline's status."""

    def write(self, record: Frame | Detections | Tracks, published_ns: int) -> None:
        """Record one record. Raise a WireError if the name of its sensor is not valid for a live sensor."""
        messages = [_encode(record)]
        if self._settings.annotations and not isinstance(record, Frame):
            messages.append((f"{MARKS}/{messages[0][0]}", [encode_marks(record)]))
        self._received += 1
        if self.alarm and self._clock() >= self._retry_at_s:
            self._resume()
        if not self.alarm:
            try:
                for k, (topic, parts) in enumerate(messages):
                    self._append(topic, record, _mcap_time_ns(published_ns), parts, records=int(k == 0))
            except OSError as error:
                self._stop(error.strerror or str(error))
        if self.alarm:
            self.lost = self._received - self.kept

    def idle(self) -> None:
        """Write the open chunk once it has waited for FLUSH_S."""
        if not self.alarm and self._writer.pending and self._clock() - self._chunk_start_s >= FLUSH_S:
            self._attempt(self._flush)

    def close(self) -> None:
        """Write pending records and the end of the file; may be called twice."""
        if not self.alarm:
            self._attempt(self._flush)
        if not self.alarm:
            self._attempt(self._writer.finish)

    def _attempt(self, action: Callable[[], None]) -> None:
        """Write something that is due; if that fails, stop the recording and count what is lost."""
        try:
            action()
        except OSError as error:
            self._stop(error.strerror or str(error))
            self.lost = self._received - self.kept

    def _append(
        self, topic: str, record: Frame | Detections | Tracks, log_ns: int, parts: list[wire.Buffer], records: int
    ) -> None:
        """Add a message to the file; records: how many records it counts as, 0 for marks."""
        if self._writer.must_flush(log_ns):
            self._flush()
        if self._must_rotate(log_ns):
            self._rotate()
        if not self._writer.pending:
            self._check_free_space(max(sum(map(len, parts)), CHUNK_BYTES))
            self._chunk_start_s = self._clock()
        stamp = record.stamp
        publish_ns = _mcap_time_ns(stamp.time_ns) if stamp.clock == "unix" else log_ns
        if not self._writer.topics:
            self._file_start_ns = log_ns
        add_message(self._writer, topic, log_ns, publish_ns, stamp.index, parts)
        self._unwritten += records
        if self._writer.must_flush(log_ns) or self._clock() - self._chunk_start_s >= FLUSH_S:
            self._flush()

    def _check_free_space(self, needed_bytes: int) -> None:
        """Raise an OSError, like a full disk, if writing so much would leave less than keep_free_mb on the disk."""
        keep_mb, free = self._settings.keep_free_mb, self._free(self._series.current.absolute().parent)
        if free < keep_mb * BYTES_PER_MB + needed_bytes:
            raise OSError(f"{free / BYTES_PER_MB:,.0f} MB left on the disk, of which {keep_mb:,.0f} MB must stay free")

    def _must_rotate(self, log_ns: int) -> bool:
        """Whether to start a new file before this record; never while the current one is empty."""
        limits, elapsed_s = self._settings, abs(log_ns - self._file_start_ns) / 1e9
        if not self._writer.topics:
            return False
        too_long = limits.rotate_s and elapsed_s >= limits.rotate_s
        return bool(too_long or (limits.rotate_mb and self._writer.size >= limits.rotate_mb * BYTES_PER_MB))

    def _rotate(self) -> None:
        self._flush()
        self._writer.finish()
        self._writer = self._open()

    def _open(self) -> ChunkWriter:
        settings = self._settings
        return self._series.open_next(
            lambda path: ChunkWriter(path, self._config, settings.compression, files=self._files, fsync=settings.fsync)
        )

    def _resume(self) -> None:
        """Go on in a new file if there is room for more than a moment; else try again later."""
        try:
            self._check_free_space(RESUME_BYTES)
            self._writer = self._open()
        except OSError:
            self._put_off()
            return
        self.alarm, self._resuming = "", True

    def _put_off(self) -> None:
        self._retry_at_s = self._clock() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _flush(self) -> None:
        self._writer.flush()
        self.kept, self._unwritten = self.kept + self._unwritten, 0
        if self._resuming and self._writer.messages:
            log.warning("%s: recording again; %d records were lost", self._series.current, self.lost - self._lost_before)
            self._resuming, self._lost_before, self._retry_s = False, self.lost, RETRY_S

    def _stop(self, why: str) -> None:
        """Raise the alarm, and finish the file as far as the disk allows."""
        self.alarm, self._unwritten = f"{self._series.current}: recording stopped: {why}", 0
        if not self._resuming:
            log.error("%s", self.alarm)
        with suppress(OSError):
            self._writer.finish()
        self._writer.close()
        if self._resuming and not self._writer.messages:  # no empty file for each try
            self._series.current.unlink(missing_ok=True)
        self._put_off()


class Recording:
    """The frames of a recording in the order of recording; a protocols.Source and a context manager.

    config: TOML of the configuration, "" without one; files: those that it names, by setting; frames: number of frames,
    None if the file was not closed properly; rate_hz: frame rate of the sensor with the most frames, None if unknown. Each
    iteration starts from the beginning; a fault in the file raises a SourceError after the frames before it.
    """

    kind, dataset, has_truth, full_scale = "recording", "", False, None

    def __init__(self, path: Path) -> None:
        self.path, self.rejected, self._stopped = path, Counter[str](), False
        with ChunkReader(path) as reader:
            if fault := recording_fault(reader):
                raise SourceError(f"{path}: {fault}")
            self.config, self.files = reader.config, reader.files
            messages, span_ns = reader.statistics()
            frames = [n for topic, n in messages.items() if topic.startswith(f"{FRAME}/")]
            self.frames = sum(frames) if reader.complete else None
            self.rate_hz = (max(frames) - 1) * 1e9 / span_ns if frames and max(frames) > 1 and span_ns > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        for message in self._messages():
            if message_kind(message.topic, message.encoding) == FRAME:
                try:
                    frame = decode_frame(message)
                except WireError as error:
                    raise SourceError(f"{self.path}: {message.topic} {message.sequence}: {error}") from error
                if self._stopped:
                    return
                yield frame

    def truths(self) -> Iterator[Truth]:
        """Nothing: a recording holds no truth."""
        return iter(())

    def results(self) -> Iterator[tuple[str, bytes]]:
        """Yield the kind, detections or tracks, and the JSON line without its newline, of each recorded result."""
        for message in self._messages():
            if (kind := message_kind(message.topic, message.encoding)) in (DETECTIONS, TRACKS):
                yield kind, bytes(message.data)

    def stop(self) -> None:
        """End the iteration after the current frame; any thread may call this."""
        self._stopped = True

    def close(self) -> None:
        """Do nothing: no file stays open between iterations."""

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _messages(self) -> Iterator[RecordedMessage]:
        with ChunkReader(self.path) as reader:
            for item in reader.scan():
                if isinstance(item, Fault):
                    where = f"{self.path}: byte {item.offset} of {reader.size}"
                    raise SourceError(f"{where}: {item.reason}; irst-stream recover saves what can be read")
                yield item


def open_recording(path: str | Path) -> Recording:
    """Open a recording; raise a SourceError if the file is not one."""
    return Recording(Path(path))


def recording_fault(reader: ChunkReader) -> str:
    """Why a file is not a recording; "" if it starts as one."""
    if not reader.size:
        return "empty file"
    if reader.profile is None:
        return "not a recording: expected an MCAP file"
    if reader.profile != PROFILE:
        return f"not a recording: expected MCAP profile {PROFILE!r}, got {reader.profile!r}"
    return ""


def message_kind(topic: str, encoding: str) -> str:
    """Frame, detections or tracks; "" for a message that another program added to the file."""
    kind = topic.partition("/")[0]
    return kind if kind in (FRAME, DETECTIONS, TRACKS) and encoding == CHANNELS[kind][0] else ""


def decode_frame(message: RecordedMessage) -> Frame:
    """Decode a recorded frame, with its own copy of the pixels; raise a WireError with the reason if it is invalid."""
    header, pixels = read_image(message.data)
    return cast("Frame", wire.decode((f"{message.topic}/".encode(), header, pixels)).record)


def add_message(
    writer: ChunkWriter, topic: str, log_ns: int, publish_ns: int, sequence: int, parts: Sequence[wire.Buffer]
) -> None:
    """Add a message to a file, and first the channel of its topic if that is new."""
    if topic not in writer.topics:
        writer.add_channel(topic, *CHANNELS[topic.partition("/")[0]])
    writer.add(topic, log_ns, publish_ns, sequence, parts)


def _encode(record: Frame | Detections | Tracks) -> tuple[str, list[wire.Buffer]]:
    """Encode a record; return its topic and the parts of its message."""
    if not isinstance(record, Frame):
        kind = DETECTIONS if isinstance(record, Detections) else TRACKS
        return f"{kind}/{record.stamp.sensor}", [jsonl.encode(record).removesuffix(b"\n")]
    if record.pixels.nbytes > MAX_CHUNK_BYTES - CHUNK_BYTES:
        raise OutputError(f"{record.stamp.sensor}: frames of more than {MAX_CHUNK_BYTES >> 20} MiB cannot be recorded")
    return f"{FRAME}/{record.stamp.sensor}", encode_image(record)


def _mcap_time_ns(time_ns: int) -> int:
    """Clamp a time to the range that MCAP can represent, which starts in 1970."""
    return min(max(time_ns, 0), MAX_TIME_NS)


def _schema(line: str) -> bytes:
    """The JSON Schema of one line type, as JSON."""
    definitions = jsonl.schema()["$defs"]
    return msgspec.json.encode({**definitions[line], "$defs": definitions})


# Message encoding, and the schema's name, encoding and data, of the channels of each kind.
CHANNELS = {
    FRAME: ("protobuf", "foxglove.RawImage", "protobuf", IMAGE_SCHEMA),
    DETECTIONS: ("json", "irst_stream.Detections", "jsonschema", _schema("DetectionLine")),
    TRACKS: ("json", "irst_stream.Tracks", "jsonschema", _schema("TrackLine")),
    MARKS: ("protobuf", "foxglove.ImageAnnotations", "protobuf", ANNOTATIONS_SCHEMA),
}
