"""MCAP files, as far as recordings need them: written chunk by chunk, without copying pixels. salvage.py reads them.

The mcap package knows the records, and is what the tests read these files with. Its own writer copies every message four
times, which at 65 MB/s costs more than writing the file, and cannot be asked in all versions to close a chunk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
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

__all__ = ["CHUNK_BYTES", "CHUNK_NS", "LARGEST_CHUNK", "PROFILE", "ChunkWriter"]

CHUNK_NS = 500_000_000  # of log time that a chunk spans at most
CHUNK_BYTES = 1 << 20  # after which a chunk is full
LARGEST_CHUNK = 1 << 29  # bytes of one that are believed
PROFILE = "irst-stream"
CONFIG = "config"
MAGIC = b"\x89MCAP0\r\n"
PREFIX = struct.Struct("<BQ")  # of every record: opcode, length of what follows
MESSAGE = struct.Struct("<BQHIQQ")  # prefix, channel, sequence, log time, publish time; then the data
CHUNK = struct.Struct("<BQQQQII")  # prefix, first and last log time, bytes and CRC-32 of the records, length of a name
FOOTER = struct.Struct("<BQQQI")  # prefix, where the summary and its offsets begin, CRC-32 of the summary
COMPRESSIONS: dict[Compression, bytes] = {"none": b"", "lz4": b"lz4", "zstd": b"zstd"}
ZSTD_LEVEL = 1  # the others take longer than a feed gives
AT_ONCE = 512  # buffers in a system call


class ChunkWriter:
    """A file that grows by whole chunks; each holds the schemas and channels of its messages, so that it stands alone.

    size: bytes in the file; messages: those in them; topics: those that are known. An OSError leaves the file ending with
    its last whole record, and what was pending lost; finish may be tried all the same.
    """

    def __init__(self, path: Path, config: bytes, compression: Compression = "none", *, over: bool = False) -> None:
        """over: write over a file that exists."""
        self.compression: Compression = compression
        self.size = self.messages = 0
        self.topics: dict[str, int] = {}
        self._file = FileIO(path, "w" if over else "x")
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._counts: dict[int, int] = {}
        self._chunk_count, self._chunk_indexes = 0, RecordBuilder()
        self._first_ns = self._last_ns = 0
        self._chunk = _Chunk()
        header = MAGIC + _packed(Header(PROFILE, f"irst-stream {__version__}"))
        self._config_index = _attachment_index(len(header), config)
        try:
            self._write([header, _packed(_attachment(config))])
        except OSError:
            self.close()
            raise

    def introduce(self, topic: str, encoding: str, schema_name: str = "", schema: bytes = b"") -> None:
        """Makes a topic known; schema: JSON Schema, of a topic that has one."""
        key = len(self._channels) + 1
        if schema:
            self._schemas[key] = Schema(id=key, data=schema, encoding="jsonschema", name=schema_name)
        self._channels[key] = Channel(key, topic, encoding, {}, key if schema else 0)
        self.topics[topic] = key

    @property
    def pending(self) -> int:
        """How many messages are in the chunk that is not yet written."""
        return self._chunk.messages

    def must_flush(self, log_ns: int) -> bool:
        """Whether the chunk has to be written before a message of that time may be added."""
        chunk = self._chunk
        span = max(chunk.end_ns, log_ns) - min(chunk.start_ns, log_ns)
        return bool(chunk.messages) and (span > CHUNK_NS or chunk.size >= CHUNK_BYTES)

    def add(self, topic: str, log_ns: int, publish_ns: int, sequence: int, parts: Sequence[Buffer]) -> None:
        """Adds a message of a known topic to the chunk; its data are the parts, one after another, which are not copied."""
        key = self.topics[topic]
        if key not in self._chunk.offsets:
            self._chunk.append(b"".join(_packed(of[key]) for of in (self._schemas, self._channels) if key in of))
        self._chunk.add(key, log_ns, publish_ns, sequence & 0xFFFFFFFF, parts)

    def flush(self) -> None:
        """Writes the chunk, if it holds anything, so that it survives the end of this process."""
        if not self._chunk.messages:
            return
        chunk, self._chunk = self._chunk, _Chunk()
        pieces = chunk.pieces if self.compression == "none" else [_compress(b"".join(chunk.pieces), self.compression)]
        index = self._index(chunk, sum(map(len, pieces)))
        where = [_packed(MessageIndex(key, entries)) for key, entries in chunk.offsets.items()]
        for key, record in zip(chunk.offsets, where, strict=True):
            index.message_index_offsets[key] = self.size + index.chunk_length + index.message_index_length
            index.message_index_length += len(record)
        self._write([_chunk_head(index, chunk.crc), *pieces, *where])
        self._count(index, chunk)

    def finish(self) -> None:
        """Writes the chunk, the summary that lets others seek in the file, and its end; may be called twice."""
        if self._file.closed:
            return
        self.flush()
        data_end = _packed(DataEnd(0))
        groups = {
            Opcode.SCHEMA: b"".join(map(_packed, self._schemas.values())),
            Opcode.CHANNEL: b"".join(map(_packed, self._channels.values())),
            Opcode.STATISTICS: _packed(self._statistics()),
            Opcode.CHUNK_INDEX: self._chunk_indexes.end(),  # type: ignore[no-untyped-call]
            Opcode.ATTACHMENT_INDEX: _packed(self._config_index),
        }
        start = end = self.size + len(data_end)
        offsets = b""
        for opcode, group in groups.items():
            if group:
                offsets += _packed(SummaryOffset(opcode, end, len(group)))
                end += len(group)
        summary = b"".join([*groups.values(), offsets])
        footer = FOOTER.pack(Opcode.FOOTER, FOOTER.size - PREFIX.size, start, end, 0)[:-4]
        crc = isal_zlib.crc32(footer, isal_zlib.crc32(summary))
        self._write([data_end, summary, _packed(Footer(start, end, crc)), MAGIC])
        self.close()

    def close(self) -> None:
        """Leaves the file as it stands; may be called twice."""
        self._file.close()

    def _write(self, pieces: Sequence[Buffer]) -> None:
        """Hands bytes to the system, all of them or none."""
        handle = self._file.fileno()
        try:
            for k in range(0, len(pieces), AT_ONCE):
                _write_all(handle, pieces[k : k + AT_ONCE])
        except OSError:
            with suppress(OSError):  # a device has no length; what went wrong is the first failure
                os.ftruncate(handle, self.size)
                os.lseek(handle, self.size, os.SEEK_SET)
            raise
        self.size += sum(map(len, pieces))

    def _index(self, chunk: _Chunk, stored: int) -> ChunkIndex:
        """What the summary says of a chunk, but for its message indexes; stored: its bytes in the file."""
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

    def _count(self, index: ChunkIndex, chunk: _Chunk) -> None:
        """Takes note of a chunk that is in the file."""
        index.write(self._chunk_indexes)
        for key, entries in chunk.offsets.items():
            self._counts[key] = self._counts.get(key, 0) + len(entries)
        self._first_ns = min(self._first_ns, chunk.start_ns) if self.messages else chunk.start_ns
        self._last_ns = max(self._last_ns, chunk.end_ns)
        self._chunk_count += 1
        self.messages += chunk.messages

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=1,
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=self._chunk_count,
            message_count=self.messages,
            message_start_time=self._first_ns,
            message_end_time=self._last_ns,
            metadata_count=0,
            schema_count=len(self._schemas),
        )


class _Chunk:
    """A chunk that grows. offsets: for each channel the log time and place of its messages."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []
        self.offsets: dict[int, list[tuple[int, int]]] = {}
        self.size = self.crc = self.messages = 0
        self.start_ns = self.end_ns = 0

    def append(self, piece: Buffer) -> None:
        """Adds bytes, which are not copied."""
        self.pieces.append(piece)
        self.size += len(piece)
        self.crc = isal_zlib.crc32(piece, self.crc)

    def add(self, key: int, log_ns: int, publish_ns: int, sequence: int, parts: Sequence[Buffer]) -> None:
        """Adds a message."""
        self.start_ns = min(self.start_ns, log_ns) if self.messages else log_ns
        self.end_ns = max(self.end_ns, log_ns)
        self.messages += 1
        self.offsets.setdefault(key, []).append((log_ns, self.size))
        length = MESSAGE.size - PREFIX.size + sum(map(len, parts))
        self.append(MESSAGE.pack(Opcode.MESSAGE, length, key, sequence, log_ns, publish_ns))
        for part in parts:
            self.append(part)


def _chunk_head(index: ChunkIndex, crc: int) -> bytes:
    """What stands before a chunk's records."""
    name, length = index.compression.encode(), index.chunk_length - PREFIX.size
    times = index.message_start_time, index.message_end_time
    head = CHUNK.pack(Opcode.CHUNK, length, *times, index.uncompressed_size, crc, len(name))
    return head + name + struct.pack("<Q", index.compressed_size)


def _attachment(config: bytes) -> Attachment:
    return Attachment(create_time=0, log_time=0, name=CONFIG, media_type="application/toml", data=config)


def _attachment_index(at: int, config: bytes) -> AttachmentIndex:
    given = _attachment(config)
    return AttachmentIndex(
        offset=at,
        length=len(_packed(given)),
        log_time=given.log_time,
        create_time=given.create_time,
        data_size=len(config),
        name=given.name,
        media_type=given.media_type,
    )


def _packed(record: McapRecord) -> bytes:
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
    """Writes buffers one after another, however few bytes the system takes at a time."""
    left = [memoryview(piece) for piece in pieces if len(piece)]
    while left:
        written = os.writev(handle, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left:
            left[0] = left[0][written:]
