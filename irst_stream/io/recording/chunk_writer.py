"""Writer for the subset of MCAP that recordings use: chunk by chunk, without copying pixels. chunk_reader.py reads it.

The record types come from the mcap package, which the tests also use to read the files. Its own writer copies every message
four times, which at 65 MB/s costs more than writing the file, and not all of its versions can close a chunk on request.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

from isal import isal_zlib
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from irst_stream.io.recording.settings import Compression
from irst_stream.io.zeromq.wire import Buffer
from irst_stream.version import __version__

__all__ = ["CHUNK_BYTES", "CHUNK_NS", "MAX_CHUNK_BYTES", "PROFILE", "ChunkWriter"]

CHUNK_NS = 500_000_000  # longest span of log time in a chunk
CHUNK_BYTES = 1 << 20  # size at which a chunk is closed
MAX_CHUNK_BYTES = 1 << 29  # readers reject larger chunks
PROFILE = "irst-stream"
CONFIG = "config"
MAGIC = b"\x89MCAP0\r\n"
PREFIX = struct.Struct("<BQ")  # of every record: opcode, length of the body
MESSAGE = struct.Struct("<BQHIQQ")  # prefix, channel, sequence, log time, publish time; data follow
CHUNK = struct.Struct("<BQQQQII")  # prefix, first and last log time, size and CRC-32 of the records, length of a name
FOOTER = struct.Struct("<BQQQI")  # prefix, offsets of the summary and of its offset section, CRC-32 of the summary
COMPRESSIONS: dict[Compression, bytes] = {"none": b"", "lz4": b"lz4", "zstd": b"zstd"}
ZSTD_LEVEL = 1  # higher levels are too slow for a live feed
BUFFERS_PER_CALL = 512  # buffers per writev call


class ChunkWriter:
    """Write a file chunk by chunk; each chunk repeats the schemas and channels of its messages and is self-contained.

    size: bytes in the file; messages: number of messages in the file; topics: channel id of each topic. After an OSError
    the file ends with its last complete record and pending messages are lost; finish may still be called.
    """

    def __init__(
        self,
        path: Path,
        config: bytes,
        compression: Compression = "none",
        *,
        files: Mapping[str, bytes] | None = None,
        overwrite: bool = False,
        fsync: bool = False,
    ) -> None:
        """Create the file and write its header, its configuration and the files that the configuration names.

        files: by setting; overwrite: replace an existing file; fsync: force each chunk to the disk. A fault leaves no file.
        """
        self.compression: Compression = compression
        self._fsync = fsync
        self.size = self.messages = 0
        self.topics: dict[str, int] = {}
        self._file = FileIO(path, "w" if overwrite else "x")
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._counts: dict[int, int] = {}
        self._chunk_count, self._chunk_indexes = 0, RecordBuilder()
        self._first_ns = self._last_ns = 0
        self._chunk = _OpenChunk()
        header = MAGIC + _serialise(Header(PROFILE, f"irst-stream {__version__}"))
        pieces, self._attachment_indexes = [header], RecordBuilder()
        attached = [_attachment(CONFIG, config), *(_attachment(name, data) for name, data in (files or {}).items())]
        self._attachments = len(attached)
        for one in attached:
            pieces.append(_serialise(one))
            _attachment_index(sum(map(len, pieces[:-1])), len(pieces[-1]), one).write(self._attachment_indexes)
        try:
            self._write(pieces)
        except OSError:
            self.close()
            if not overwrite:  # an existing file may be a device
                path.unlink()
            raise

    def add_channel(self, topic: str, encoding: str, schema_name: str, schema_encoding: str, schema: bytes) -> None:
        """Add the channel of a topic with its schema."""
        key = len(self._channels) + 1
        self._schemas[key] = Schema(id=key, data=schema, encoding=schema_encoding, name=schema_name)
        self._channels[key] = Channel(key, topic, encoding, {}, key)
        self.topics[topic] = key

    @property
    def pending(self) -> int:
        """Number of messages in the open chunk, which is not yet in the file."""
        return self._chunk.messages

    def must_flush(self, log_ns: int) -> bool:
        """Whether the open chunk must be written before a message with this log time is added."""
        chunk = self._chunk
        span = max(chunk.end_ns, log_ns) - min(chunk.start_ns, log_ns)
        return bool(chunk.messages) and (span > CHUNK_NS or chunk.size >= CHUNK_BYTES)

    def add(self, topic: str, log_ns: int, publish_ns: int, sequence: int, parts: Sequence[Buffer]) -> None:
        """Add a message of a known topic to the open chunk; its data are the concatenated parts, which are not copied."""
        key = self.topics[topic]
        if key not in self._chunk.offsets:
            tables = self._schemas, self._channels
            self._chunk.append(b"".join(_serialise(table[key]) for table in tables if key in table))
        self._chunk.add(key, log_ns, publish_ns, sequence & 0xFFFFFFFF, parts)

    def flush(self) -> None:
        """Write the open chunk, if it has messages, so that it survives a crash of this process."""
        if not self._chunk.messages:
            return
        chunk, self._chunk = self._chunk, _OpenChunk()
        pieces = chunk.pieces if self.compression == "none" else [_compress(b"".join(chunk.pieces), self.compression)]
        index = self._index(chunk, sum(map(len, pieces)))
        indexes = [_serialise(MessageIndex(key, entries)) for key, entries in chunk.offsets.items()]
        for key, record in zip(chunk.offsets, indexes, strict=True):
            index.message_index_offsets[key] = self.size + index.chunk_length + index.message_index_length
            index.message_index_length += len(record)
        self._write([_chunk_header(index, chunk.crc), *pieces, *indexes])
        self._register(index, chunk)

    def finish(self) -> None:
        """Write the open chunk, the summary that lets readers seek, and the footer; close the file. May be called twice."""
        if self._file.closed:
            return
        self.flush()
        data_end = _serialise(DataEnd(0))
        groups = {
            Opcode.SCHEMA: b"".join(map(_serialise, self._schemas.values())),
            Opcode.CHANNEL: b"".join(map(_serialise, self._channels.values())),
            Opcode.STATISTICS: _serialise(self._statistics()),
            Opcode.CHUNK_INDEX: self._chunk_indexes.end(),  # type: ignore[no-untyped-call]
            Opcode.ATTACHMENT_INDEX: self._attachment_indexes.end(),  # type: ignore[no-untyped-call]
        }
        start = end = self.size + len(data_end)
        offsets = b""
        for opcode, group in groups.items():
            if group:
                offsets += _serialise(SummaryOffset(opcode, end, len(group)))
                end += len(group)
        summary = b"".join([*groups.values(), offsets])
        footer = FOOTER.pack(Opcode.FOOTER, FOOTER.size - PREFIX.size, start, end, 0)[:-4]
        crc = isal_zlib.crc32(footer, isal_zlib.crc32(summary))
        self._write([data_end, summary, _serialise(Footer(start, end, crc)), MAGIC])
        self.close()

    def close(self) -> None:
        """Close the file without writing anything; may be called twice."""
        self._file.close()

    def _write(self, pieces: Sequence[Buffer]) -> None:
        """Write all pieces, or, if writing fails, none of them."""
        handle = self._file.fileno()
        try:
            for k in range(0, len(pieces), BUFFERS_PER_CALL):
                _write_all(handle, pieces[k : k + BUFFERS_PER_CALL])
        except OSError:
            with suppress(OSError):  # a device cannot be truncated; the first error is the one to report
                os.ftruncate(handle, self.size)
                os.lseek(handle, self.size, os.SEEK_SET)
            raise
        self.size += sum(map(len, pieces))
        if self._fsync:
            os.fsync(handle)

    def _index(self, chunk: _OpenChunk, stored: int) -> ChunkIndex:
        """Summary entry of a chunk, still without its message indexes; stored: size of the chunk's records in the file."""
        name = COMPRESSIONS[self.compression]
        return ChunkIndex(
            message_start_time=chunk.start_ns,
            message_end_time=chunk.end_ns,
            chunk_start_offset=self.size,
            chunk_length=CHUNK.size + len(name) + 8 + stored,
            message_index_offsets={},
            message_index_length=0,
            compression=name.decode(),
            compressed_size=stored,
            uncompressed_size=chunk.size,
        )

    def _register(self, index: ChunkIndex, chunk: _OpenChunk) -> None:
        """Add a written chunk to the summary and the statistics."""
        index.write(self._chunk_indexes)
        for key, entries in chunk.offsets.items():
            self._counts[key] = self._counts.get(key, 0) + len(entries)
        self._first_ns = min(self._first_ns, chunk.start_ns) if self.messages else chunk.start_ns
        self._last_ns = max(self._last_ns, chunk.end_ns)
        self._chunk_count += 1
        self.messages += chunk.messages

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=self._attachments,
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=self._chunk_count,
            message_count=self.messages,
            message_start_time=self._first_ns,
            message_end_time=self._last_ns,
            metadata_count=0,
            schema_count=len(self._schemas),
        )


class _OpenChunk:
    """A chunk under construction. offsets: log time and byte offset of each message, by channel id."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []
        self.offsets: dict[int, list[tuple[int, int]]] = {}
        self.size = self.crc = self.messages = 0
        self.start_ns = self.end_ns = 0

    def append(self, piece: Buffer) -> None:
        """Append bytes without copying them."""
        self.pieces.append(piece)
        self.size += len(piece)
        self.crc = isal_zlib.crc32(piece, self.crc)

    def add(self, key: int, log_ns: int, publish_ns: int, sequence: int, parts: Sequence[Buffer]) -> None:
        """Append a message."""
        self.start_ns = min(self.start_ns, log_ns) if self.messages else log_ns
        self.end_ns = max(self.end_ns, log_ns)
        self.messages += 1
        self.offsets.setdefault(key, []).append((log_ns, self.size))
        length = MESSAGE.size - PREFIX.size + sum(map(len, parts))
        self.append(MESSAGE.pack(Opcode.MESSAGE, length, key, sequence, log_ns, publish_ns))
        for part in parts:
            self.append(part)


def _chunk_header(index: ChunkIndex, crc: int) -> bytes:
    """Serialise the header of a chunk, which precedes its records."""
    name, length = index.compression.encode(), index.chunk_length - PREFIX.size
    times = index.message_start_time, index.message_end_time
    head = CHUNK.pack(Opcode.CHUNK, length, *times, index.uncompressed_size, crc, len(name))
    return head + name + struct.pack("<Q", index.compressed_size)


def _attachment(name: str, data: bytes) -> Attachment:
    media_type = "application/toml" if name == CONFIG else "application/octet-stream"
    return Attachment(create_time=0, log_time=0, name=name, media_type=media_type, data=data)


def _attachment_index(offset: int, length: int, attachment: Attachment) -> AttachmentIndex:
    return AttachmentIndex(
        offset=offset,
        length=length,
        log_time=attachment.log_time,
        create_time=attachment.create_time,
        data_size=len(attachment.data),
        name=attachment.name,
        media_type=attachment.media_type,
    )


def _serialise(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data


def _compress(data: bytes, compression: Compression) -> bytes:
    if compression == "zstd":
        import zstandard

        return zstandard.compress(data, ZSTD_LEVEL)
    import lz4.frame  # type: ignore[import-untyped]

    return bytes(lz4.frame.compress(data))


def _write_all(handle: int, pieces: Sequence[Buffer]) -> None:
    """Write all buffers in order; repeat the system call until every byte is written."""
    remaining = [memoryview(piece) for piece in pieces if len(piece)]
    while remaining:
        written = os.writev(handle, remaining)
        while remaining and written >= len(remaining[0]):
            written -= len(remaining.pop(0))
        if remaining:
            remaining[0] = remaining[0][written:]
