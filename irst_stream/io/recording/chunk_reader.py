"""MCAP files, as far as recordings need them: read message by message, from broken files too. chunks.py writes them.

Everything is checked before it is believed: lengths against each other and against the file, chunks and the configuration
against their checksums. The mcap package's readers take a short read for a whole one, and stop at the first fault.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Header, Statistics

from irst_stream.errors import SourceError
from irst_stream.io.recording.chunk_writer import CHUNK, COMPRESSIONS, CONFIG, FOOTER, LARGEST_CHUNK, MAGIC, MESSAGE, PREFIX
from irst_stream.io.recording.settings import Compression

__all__ = ["ChunkReader", "Fault", "Message"]

# It looks ahead only, so that what merely looks like the head of a chunk does not hide a head that begins within it.
CHUNK_BEGINS = re.compile(rb"\x06(?=.{36}(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd))", re.DOTALL)
LONGEST_HEAD = CHUNK.size + 4 + 8
LARGEST_RECORD = 1 << 24  # bytes of one that is no chunk
DATA_END_SIZE = PREFIX.size + 4
BLOCK = 1 << 20


class Message(NamedTuple):
    """One message of a file; sure: its chunk is as it was written, as far as it goes."""

    topic: str
    encoding: str
    log_ns: int
    publish_ns: int
    sequence: int
    data: memoryview
    sure: bool


class Fault(NamedTuple):
    """What is wrong with a file, and at which byte."""

    at: int
    why: str


class _Chunk(NamedTuple):
    """Where a chunk's records begin and end, how they are packed, and what they should be."""

    begin: int
    end: int
    compression: Compression
    size: int
    crc: int


class ChunkReader:
    """A file's messages one after another, and what is wrong between them; a context manager.

    profile: None where the file does not begin as an MCAP file does; config: the attachment of that name; whole: whether
    the file was closed in good order; compression: of the chunk read last; lost: bytes so far that made no sense.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, 0
        self.compression: Compression = "none"
        self._topics: dict[int, tuple[str, str]] = {}
        if path.is_dir():
            raise SourceError(f"{path}: is a folder; expected a recording")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from error
        try:
            self.size = self._end = self._file.seek(0, os.SEEK_END)
            data_end = self._data_end()
            self.whole = data_end > 0
            self._end = data_end or self.size
            self.profile, self.config, self._begin = self._beginning()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ChunkReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()

    def walk(self) -> Iterator[Message | Fault]:
        """All messages that can be read, in the file's order; a fault stands before what is read in spite of it."""
        at = self._begin
        while at < self._end:
            opcode, end = self._prefix(at)
            if opcode == Opcode.CHUNK and (chunk := self._chunk(at, end)):
                yield from self._messages(at, chunk)
                at = min(end, self._end)
            elif opcode == Opcode.DATA_END and end == at + DATA_END_SIZE:
                break
            elif end <= self._end and self._can_be_skipped(opcode, at, end):
                at = end
            else:
                yield Fault(at, "is cut off" if end > self._end else "makes no sense")
                found = self._next_chunk(at + 1)
                self.lost += found - at
                at = found
        if not self.whole:
            yield Fault(self.size, "ends before its end was written")

    def statistics(self) -> tuple[dict[str, int], int]:
        """Messages by topic, and the nanoseconds from the first to the last; ({}, 0) where the file does not say."""
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
        """Where the last record before the summary stands, 0 in a file that was not closed in good order."""
        at = self.size - len(MAGIC) - FOOTER.size
        if at < len(MAGIC) or self._read(self.size - len(MAGIC), len(MAGIC)) != MAGIC:
            return 0
        opcode, length, summary, _, _ = FOOTER.unpack(self._read(at, FOOTER.size))
        data_end = int(summary) - DATA_END_SIZE
        if (opcode, length) != (Opcode.FOOTER, FOOTER.size - PREFIX.size) or not len(MAGIC) <= data_end < at:
            return 0
        return data_end if self._prefix(data_end) == (Opcode.DATA_END, data_end + DATA_END_SIZE) else 0

    def _beginning(self) -> tuple[str | None, str, int]:
        """Profile, configuration, and where the chunks begin."""
        if self.size < len(MAGIC) or self._read(0, len(MAGIC)) != MAGIC:
            return None, "", 0
        at = len(MAGIC)
        opcode, end = self._prefix(at)
        header = self._record(Header, at, end) if opcode == Opcode.HEADER else None
        if header is None:
            return None, "", at
        opcode, after = self._prefix(end)
        config = self._attached(end, after) if opcode == Opcode.ATTACHMENT else None
        if config is None or config.name != CONFIG:
            return header.profile, "", end
        return header.profile, config.data.decode("utf-8", "replace"), after

    def _chunk(self, at: int, end: int) -> _Chunk | None:
        """What stands at the head of a chunk; None where its lengths do not agree."""
        head = self._read(at, min(LONGEST_HEAD, self._end - at))
        if len(head) < CHUNK.size:
            return None
        _, _, _, _, size, crc, length = CHUNK.unpack_from(head)
        name = head[CHUNK.size : CHUNK.size + length]
        begin = at + CHUNK.size + length + 8
        compression = next((key for key, known in COMPRESSIONS.items() if known == name and len(name) == length), None)
        if compression is None or len(head) < begin - at:
            return None
        (stored,) = struct.unpack_from("<Q", head, begin - at - 8)
        if begin + stored != end or max(stored, size) > LARGEST_CHUNK:
            return None
        return _Chunk(begin, end, compression, size, crc)

    def _messages(self, at: int, chunk: _Chunk) -> Iterator[Message | Fault]:
        """A chunk's messages, as many as there are."""
        stored = self._read(chunk.begin, min(chunk.end, self._end) - chunk.begin)
        self.compression = chunk.compression
        data, cut = _decompress(stored, chunk), chunk.end > self._end
        sure = cut or (len(data) == chunk.size and zlib.crc32(data) == chunk.crc)
        if cut or not sure:
            yield Fault(at, "is cut off" if cut else "does not agree with its checksum")
        used = yield from self._records(memoryview(data), sure)
        self.lost += len(data) - used if data else len(stored)
        if sure and not cut and used < len(data):
            yield Fault(at, "makes no sense")

    def _records(self, data: memoryview, sure: bool) -> Generator[Message, None, int]:
        """The messages in a chunk's records up to one that makes no sense; returns how many bytes made some."""
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
                yield Message(*self._topics[key], log_ns, publish_ns, sequence, data[at + MESSAGE.size : end], sure)
            elif opcode != Opcode.SCHEMA:
                break
            at = end
        return at

    def _next_chunk(self, at: int) -> int:
        """Where the next chunk begins whose lengths agree; the end where there is none."""
        while at < self._end:
            block = self._read(at, min(BLOCK + LONGEST_HEAD, self._end - at))
            for match in CHUNK_BEGINS.finditer(block):
                found = at + match.start()
                if self._chunk(found, self._prefix(found)[1]):
                    return found
            at += BLOCK
        return self._end

    def _can_be_skipped(self, opcode: int, at: int, end: int) -> bool:
        """Whether a record that holds no messages is one of those that stand between chunks."""
        if opcode == Opcode.MESSAGE_INDEX and end - at >= PREFIX.size + 6:
            return end - at == PREFIX.size + 6 + int(struct.unpack("<I", self._read(at + PREFIX.size + 2, 4))[0])
        return opcode == Opcode.ATTACHMENT and self._attached(at, end) is not None

    def _attached(self, at: int, end: int) -> Attachment | None:
        """An attachment that agrees with its checksum."""
        found = self._record(Attachment, at, end)
        if found is None:
            return None
        body = self._read(at + PREFIX.size, end - at - PREFIX.size)
        return found if zlib.crc32(body[:-4]) == int.from_bytes(body[-4:], "little") else None

    def _record(self, kind: type[Any], at: int, end: int) -> Any:
        """A record of a kind, None where it makes no sense."""
        if end > self.size or end - at > LARGEST_RECORD:
            return None
        return _parse(kind, self._read(at + PREFIX.size, end - at - PREFIX.size))

    def _prefix(self, at: int) -> tuple[int, int]:
        """A record's opcode and where it ends; 0 and beyond the end of the file where there is not even that."""
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
            raise SourceError(f"{self.path}: became shorter while it was read")
        return data


def _parse(kind: type[Any], body: bytes | memoryview) -> Any:
    """A record's fields, None where they make no sense or do not fill it."""
    stream = ReadDataStream(BytesIO(body))
    try:
        record = kind.read(stream)
    except (McapError, struct.error, ValueError, OverflowError):
        return None
    return record if stream.count == len(body) else None


def _decompress(stored: bytes, chunk: _Chunk) -> bytes:
    """A chunk's records, as many as can be had."""
    if chunk.compression == "none":
        return stored
    if chunk.compression == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        try:
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(stored, max_length=chunk.size))
        except RuntimeError:
            return b""
    import zstandard

    found = bytearray()
    try:
        with zstandard.ZstdDecompressor().stream_reader(stored) as stream:
            while block := stream.read(min(BLOCK, chunk.size - len(found))):
                found += block
    except zstandard.ZstdError:
        pass
    return bytes(found)
