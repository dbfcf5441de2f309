"""Reader for the subset of MCAP that recordings use, including damaged files. chunk_writer.py writes these files.

Nothing is trusted unchecked: lengths are compared with each other and with the file size, chunks and the configuration with
their checksums. The mcap package's readers accept a short read as complete and stop at the first fault.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Generator, Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Header, Statistics

from irst_stream.errors import SourceError
from irst_stream.io.recording.chunk_writer import (
    CHUNK,
    COMPRESSIONS,
    CONFIG,
    FOOTER,
    MAGIC,
    MAX_CHUNK_BYTES,
    MESSAGE,
    PREFIX,
)
from irst_stream.io.recording.settings import Compression

__all__ = ["ChunkReader", "Fault", "MessagePlace", "RecordedMessage"]

# A look-ahead, because bytes that resemble a chunk header may contain the start of a genuine one.
CHUNK_START = re.compile(rb"\x06(?=.{36}(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd))", re.DOTALL)
MAX_CHUNK_HEADER_BYTES = CHUNK.size + 4 + 8
MAX_RECORD_BYTES = 1 << 28  # of a record other than a chunk
DATA_END_SIZE = PREFIX.size + 4
BLOCK_BYTES = 1 << 20


class RecordedMessage(NamedTuple):
    """One message of a recording.

    log_ns, publish_ns: MCAP's log and publish times, ns; intact: the chunk matches its checksum, or is truncated,
    which leaves no checksum to compare.
    """

    topic: str
    encoding: str
    log_ns: int
    publish_ns: int
    sequence: int
    data: memoryview
    intact: bool


class MessagePlace(NamedTuple):
    """Where a message is: byte offset of its chunk in the file, and of the message in the chunk's records."""

    topic: str
    encoding: str
    log_ns: int
    sequence: int
    chunk: int
    at: int


class Fault(NamedTuple):
    """A fault in a file: byte offset and description."""

    offset: int
    reason: str


class _ChunkHeader(NamedTuple):
    """Byte range of a chunk's stored records in the file, their compression, uncompressed size and CRC-32."""

    start: int
    end: int
    compression: Compression
    size: int
    crc: int


class ChunkReader:
    """Read the messages of a file in order, and the faults between them; a context manager.

    profile: None if the file does not start with the MCAP magic and a header; config: the text of the attachment "config";
    files: the data of the attachments after it, by name; complete: the file was closed properly; compression: of the last
    chunk read; lost_bytes: bytes read so far that could not be decoded; size: bytes in the file. Raise a SourceError if the
    file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lost_bytes = path, 0
        self.compression: Compression = "none"
        self._topics: dict[int, tuple[str, str]] = {}
        self._opened = -1, b""  # offset and records of the compressed chunk that was read last
        if path.is_dir():
            raise SourceError(f"{path}: is a folder; expected a recording")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from error
        try:
            self.size = self._end = self._file.seek(0, os.SEEK_END)
            data_end = self._data_end()
            self.complete = data_end > 0
            self._end = data_end or self.size
            self.profile, self.config, self.files, self._chunks_start = self._read_start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ChunkReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def scan(self) -> Iterator[RecordedMessage | Fault]:
        """Yield all readable messages in file order; a fault comes before the messages that are read in spite of it."""
        for item in self._chunks():
            if isinstance(item, Fault):
                yield item
            else:
                yield from self._messages(*item)

    def places(self) -> Iterator[MessagePlace]:
        """Yield where each message is, in file order, without reading their data; unreadable parts are left out."""
        for item in self._chunks():
            if isinstance(item, Fault):
                continue
            at, chunk = item
            size, read = self._chunk_bytes(at, chunk)
            yield from self._places(at, size, read)

    def message(self, place: MessagePlace) -> RecordedMessage:
        """Read one message; raise a SourceError if the file has changed."""
        opcode, end = self._prefix(place.chunk)
        chunk = self._chunk_header(place.chunk, end) if opcode == Opcode.CHUNK else None
        if chunk is None:
            raise SourceError(f"{self.path}: byte {place.chunk}: no chunk any more; the file has changed")
        _, read = self._chunk_bytes(place.chunk, chunk)
        _, length, _, sequence, log_ns, publish_ns = MESSAGE.unpack(read(place.at, MESSAGE.size))
        body = read(place.at + MESSAGE.size, PREFIX.size + length - MESSAGE.size)
        return RecordedMessage(place.topic, place.encoding, log_ns, publish_ns, sequence, memoryview(body), intact=True)

    def _chunks(self) -> Iterator[tuple[int, _ChunkHeader] | Fault]:
        """Yield the offset and header of each chunk, and the faults between them."""
        at = self._chunks_start
        while at < self._end:
            opcode, end = self._prefix(at)
            if opcode == Opcode.CHUNK and (chunk := self._chunk_header(at, end)):
                yield at, chunk
                at = min(end, self._end)
            elif opcode == Opcode.DATA_END and end == at + DATA_END_SIZE:
                break
            elif end <= self._end and self._is_skippable(opcode, at, end):
                at = end
            else:
                yield Fault(at, "truncated record" if end > self._end else "invalid record")
                next_chunk = self._find_chunk(at + 1)
                self.lost_bytes += next_chunk - at
                at = next_chunk
        if not self.complete:
            yield Fault(self.size, "file was not closed properly")

    def _chunk_bytes(self, at: int, chunk: _ChunkHeader) -> tuple[int, Callable[[int, int], bytes]]:
        """The number of readable bytes of a chunk's records, and what reads some of them; the last chunk is kept."""
        stored = min(chunk.end, self._end) - chunk.start
        if chunk.compression == "none":
            return stored, lambda first, count: self._read(chunk.start + first, count)
        if self._opened[0] != at:
            self._opened = at, _decompress(self._read(chunk.start, stored), chunk)
        data = self._opened[1]
        return len(data), lambda first, count: data[first : first + count]

    def _places(self, chunk: int, size: int, read: Callable[[int, int], bytes]) -> Iterator[MessagePlace]:
        """Yield where the messages of a chunk are, up to the first invalid record."""
        at = 0
        while at + PREFIX.size <= size:
            opcode, length = PREFIX.unpack(read(at, PREFIX.size))
            end = at + PREFIX.size + length
            if end > size or opcode not in (Opcode.CHANNEL, Opcode.MESSAGE, Opcode.SCHEMA):
                return
            if opcode == Opcode.CHANNEL and (channel := _parse(Channel, read(at + PREFIX.size, length))):
                self._topics[channel.id] = channel.topic, channel.message_encoding
            elif opcode == Opcode.MESSAGE and end - at >= MESSAGE.size:
                _, _, key, sequence, log_ns, _ = MESSAGE.unpack(read(at, MESSAGE.size))
                if key not in self._topics:
                    return
                yield MessagePlace(*self._topics[key], log_ns, sequence, chunk, at)
            at = end

    def statistics(self) -> tuple[dict[str, int], int]:
        """Message counts by topic, and the time from the first to the last message, ns; ({}, 0) without a summary."""
        topics: dict[int, str] = {}
        at = self._end + DATA_END_SIZE
        while at < self.size:
            opcode, end = self._prefix(at)
            if opcode == Opcode.CHANNEL and (channel := self._record(Channel, at, end)):
                topics[channel.id] = channel.topic
            elif opcode == Opcode.STATISTICS and (found := self._record(Statistics, at, end)):
                counts = {topics[key]: n for key, n in found.channel_message_counts.items() if key in topics}
                return counts, found.message_end_time - found.message_start_time
            elif opcode not in (Opcode.SCHEMA, Opcode.CHANNEL):
                break
            at = end
        return {}, 0

    def _data_end(self) -> int:
        """Offset of the last record before the summary; 0 for a file that was not closed properly."""
        at = self.size - len(MAGIC) - FOOTER.size
        if at < len(MAGIC) or self._read(self.size - len(MAGIC), len(MAGIC)) != MAGIC:
            return 0
        opcode, length, summary, _, _ = FOOTER.unpack(self._read(at, FOOTER.size))
        data_end = int(summary) - DATA_END_SIZE
        if (opcode, length) != (Opcode.FOOTER, FOOTER.size - PREFIX.size) or not len(MAGIC) <= data_end < at:
            return 0
        return data_end if self._prefix(data_end) == (Opcode.DATA_END, data_end + DATA_END_SIZE) else 0

    def _read_start(self) -> tuple[str | None, str, dict[str, bytes], int]:
        """Read the profile, the configuration, its files and the offset of the first chunk."""
        if self.size < len(MAGIC) or self._read(0, len(MAGIC)) != MAGIC:
            return None, "", {}, 0
        at = len(MAGIC)
        opcode, end = self._prefix(at)
        header = self._record(Header, at, end) if opcode == Opcode.HEADER else None
        if header is None:
            return None, "", {}, at
        opcode, after = self._prefix(end)
        config = self._attachment(end, after) if opcode == Opcode.ATTACHMENT else None
        if config is None or config.name != CONFIG:
            return header.profile, "", {}, end
        files: dict[str, bytes] = {}
        while True:
            opcode, following = self._prefix(after)
            one = self._attachment(after, following) if opcode == Opcode.ATTACHMENT else None
            if one is None:
                return header.profile, config.data.decode("utf-8", "replace"), files, after
            files[one.name], after = one.data, following

    def _chunk_header(self, at: int, end: int) -> _ChunkHeader | None:
        """Read the header of a chunk; None if its lengths are inconsistent."""
        head = self._read(at, min(MAX_CHUNK_HEADER_BYTES, self._end - at))
        if len(head) < CHUNK.size:
            return None
        _, _, _, _, size, crc, length = CHUNK.unpack_from(head)
        name = head[CHUNK.size : CHUNK.size + length]
        start = at + CHUNK.size + length + 8
        compression = next((key for key, known in COMPRESSIONS.items() if known == name and len(name) == length), None)
        if compression is None or len(head) < start - at:
            return None
        (stored,) = struct.unpack_from("<Q", head, start - at - 8)
        if start + stored != end or max(stored, size) > MAX_CHUNK_BYTES:
            return None
        return _ChunkHeader(start, end, compression, size, crc)

    def _messages(self, at: int, chunk: _ChunkHeader) -> Iterator[RecordedMessage | Fault]:
        """Yield all readable messages of a chunk, and its fault before them or after them."""
        stored = self._read(chunk.start, min(chunk.end, self._end) - chunk.start)
        self.compression = chunk.compression
        data, truncated = _decompress(stored, chunk), chunk.end > self._end
        intact = truncated or (len(data) == chunk.size and zlib.crc32(data) == chunk.crc)
        if truncated or not intact:
            yield Fault(at, "truncated chunk" if truncated else "chunk checksum mismatch")
        used = yield from self._records(memoryview(data), intact)
        self.lost_bytes += len(data) - used if data else len(stored)
        if intact and not truncated and used < len(data):
            yield Fault(at, "invalid record in chunk")

    def _records(self, data: memoryview, intact: bool) -> Generator[RecordedMessage, None, int]:
        """Yield the messages of a chunk up to the first invalid record; return the number of bytes decoded."""
        at = 0
        while at + PREFIX.size <= len(data):
            opcode, length = PREFIX.unpack_from(data, at)
            end = at + PREFIX.size + length
            if end > len(data):
                break
            if opcode == Opcode.CHANNEL and (channel := _parse(Channel, data[at + PREFIX.size : end])):
                self._topics[channel.id] = channel.topic, channel.message_encoding
            elif opcode == Opcode.MESSAGE and end - at >= MESSAGE.size:
                _, _, key, sequence, log_ns, publish_ns = MESSAGE.unpack_from(data, at)
                if key not in self._topics:
                    break
                body = data[at + MESSAGE.size : end]
                yield RecordedMessage(*self._topics[key], log_ns, publish_ns, sequence, body, intact)
            elif opcode != Opcode.SCHEMA:
                break
            at = end
        return at

    def _find_chunk(self, at: int) -> int:
        """Offset of the next chunk with consistent lengths, from `at` on; the end of the data if there is none."""
        while at < self._end:
            block = self._read(at, min(BLOCK_BYTES + MAX_CHUNK_HEADER_BYTES, self._end - at))
            for match in CHUNK_START.finditer(block):
                candidate = at + match.start()
                if self._chunk_header(candidate, self._prefix(candidate)[1]):
                    return candidate
            at += BLOCK_BYTES
        return self._end

    def _is_skippable(self, opcode: int, at: int, end: int) -> bool:
        """Whether a record is a valid message index or attachment, which occur between chunks and hold no messages."""
        if opcode == Opcode.MESSAGE_INDEX and end - at >= PREFIX.size + 6:
            return end - at == PREFIX.size + 6 + int(struct.unpack("<I", self._read(at + PREFIX.size + 2, 4))[0])
        return opcode == Opcode.ATTACHMENT and self._attachment(at, end) is not None

    def _attachment(self, at: int, end: int) -> Attachment | None:
        """Read an attachment; None if it is invalid or does not match its checksum."""
        attachment = self._record(Attachment, at, end)
        if attachment is None:
            return None
        body = self._read(at + PREFIX.size, end - at - PREFIX.size)
        return attachment if zlib.crc32(body[:-4]) == int.from_bytes(body[-4:], "little") else None

    def _record(self, kind: type[Any], at: int, end: int) -> Any:
        """Read a record of the given type; None if it is invalid or too long."""
        if end > self.size or end - at > MAX_RECORD_BYTES:
            return None
        return _parse(kind, self._read(at + PREFIX.size, end - at - PREFIX.size))

    def _prefix(self, at: int) -> tuple[int, int]:
        """Read a record's opcode and end offset; (0, an offset beyond the file) if the file ends within the prefix."""
        if at + PREFIX.size > self.size:
            return 0, self.size + 1
        opcode, length = PREFIX.unpack(self._read(at, PREFIX.size))
        return opcode, at + PREFIX.size + length

    def _read(self, at: int, count: int) -> bytes:
        try:
            self._file.seek(at)
            data = self._file.read(count)
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}") from error
        if len(data) != count:
            raise SourceError(f"{self.path}: file was truncated while it was read")
        return data


def _parse(kind: type[Any], body: bytes | memoryview) -> Any:
    """Parse the fields of a record; None if they are invalid or do not fill it."""
    stream = ReadDataStream(BytesIO(body))
    try:
        record = kind.read(stream)
    except (McapError, struct.error, ValueError, OverflowError):
        return None
    return record if stream.count == len(body) else None


def _decompress(stored: bytes, chunk: _ChunkHeader) -> bytes:
    """Decompress a chunk's records as far as possible; empty if nothing can be decompressed."""
    if chunk.compression == "none":
        return stored
    if chunk.compression == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        try:
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(stored, max_length=chunk.size))
        except RuntimeError:
            return b""
    import zstandard

    data = bytearray()
    try:
        with zstandard.ZstdDecompressor().stream_reader(stored) as stream:
            while block := stream.read(min(BLOCK_BYTES, chunk.size - len(data))):
                data += block
    except zstandard.ZstdError:
        pass
    return bytes(data)
