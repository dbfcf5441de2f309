"""What a recording holds, and the pieces into which it is split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from irst_stream.archive.job import Job, config_digest, lead_in_frames, piece_frames
from irst_stream.archive.recordings import Fetched
from irst_stream.chain.window import PATCH_LIMIT
from irst_stream.config import Config
from irst_stream.errors import SourceError
from irst_stream.io.files import FileSource, open_source
from irst_stream.io.recording.chunk_reader import ChunkReader, Fault
from irst_stream.io.recording.random_access import RandomAccess
from irst_stream.io.recording.recorder import FRAME, Recording, message_kind
from irst_stream.source_config import choose_config
from irst_stream.types import Frame, frames_after_centre
from irst_stream.version import __version__

__all__ = ["OpenRecording", "Span", "Survey", "piece_key", "plan_pieces", "survey_key", "window_reach"]


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Frames of a sequence, from number `first` to before `stop`, None for its end; lead: frames read before them."""

    sequence: str
    first: int
    stop: int | None
    lead: int


class Survey(msgspec.Struct, frozen=True):
    """What is known of a recording before its frames are computed: survey.json.

    identity, content: see recordings.Fetched; config: digest of the configuration and all else that results depend on;
    kind: in words; frames: as far as they can be counted; patches: each frame is one region; fault: why its frames cannot
    all be read, as far as the file's structure tells; pieces: the spans of each.
    """

    source: str
    irst_stream: str
    identity: str
    content: str
    config: str
    kind: str
    frames: int
    patches: bool
    fault: str
    pieces: tuple[tuple[Span, ...], ...]


def survey_key(survey: Survey) -> str:
    """Digest of everything that a recording's results depend on."""
    known = survey.irst_stream, survey.content, survey.config, survey.pieces
    return hashlib.sha256(msgspec.json.encode(known)).hexdigest()


def piece_key(survey: Survey, number: int) -> str:
    """Digest of everything that a piece's results depend on."""
    known = survey.irst_stream, survey.content, survey.config, survey.pieces[number]
    return hashlib.sha256(msgspec.json.encode(known)).hexdigest()


class OpenRecording:
    """A recording that a worker has open, with its configuration; a context manager."""

    def __init__(self, job: Job, source: str) -> None:
        self.fetched = Fetched(source)
        self._random: RandomAccess | None = None
        try:
            choices = {"kind": job.kind, "variable": job.variable, "rate_hz": job.rate_hz}
            self.source: FileSource | Recording = open_source(self.fetched.path, gray=job.gray, **choices)  # type: ignore[arg-type]
            self.config = replace(job.config or choose_config(None, self.source), threads=1)
        except BaseException:
            self.close()
            raise

    def survey(self, job: Job, source: str, known: Survey | None) -> Survey:
        """Survey the recording; known: an earlier survey, whose hash holds while the files are as they were."""
        identity = self.fetched.identity()
        unchanged = known is not None and known.identity == identity
        content = known.content if known is not None and unchanged else self.fetched.content()
        counts, fault = self._counts()
        first = next(iter(self.source), None) if any(count is None or count for _, count in counts) else None
        patches = first is not None and max(first.pixels.shape) <= PATCH_LIMIT
        lead = lead_in_frames(self.config, patches=patches) if job.lead_in is None else job.lead_in
        most = job.piece_frames or piece_frames(lead)
        pieces = tuple(plan_pieces(counts, most, lead, window_reach(self.config)))
        frames = sum(count or 0 for _, count in counts)
        digest = config_digest(job, self.config)
        return Survey(source, __version__, identity, content, digest, self.source.kind, frames, patches, fault, pieces)

    def frames_from(self, sequence: str, first: int) -> Iterator[Frame]:
        """Yield the frames of a sequence from number `first` on, without those before it where the format allows that."""
        if isinstance(self.source, FileSource):
            yield from self.source.frames_from(sequence, first)
            return
        if self._random is None:
            self._random = RandomAccess(self.fetched.path)
        for position in range(first, self._random.frames.get(sequence, 0)):
            yield self._random.frame(sequence, position)

    def close(self) -> None:
        """Close its files, and remove a copy of what is in object storage; may be called twice."""
        if self._random is not None:
            self._random.close()
        self.fetched.close()

    def __enter__(self) -> OpenRecording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _counts(self) -> tuple[list[tuple[str, int | None]], str]:
        """Each sequence's name and number of frames, and the first fault in the file's structure."""
        if isinstance(self.source, FileSource):
            return self.source.clips(), ""
        return _recorded_frames(self.fetched.path)


def _recorded_frames(path: Path) -> tuple[list[tuple[str, int | None]], str]:
    """The number of each sensor's frames before the first fault of a recording, and that fault."""
    counts: Counter[str] = Counter()
    fault = ""
    with ChunkReader(path) as reader:
        for item in reader.scan():
            if isinstance(item, Fault):
                fault = f"byte {item.offset} of {reader.size}: {item.reason}; irst-stream recover saves what can be read"
                break
            if message_kind(item.topic, item.encoding) == FRAME:
                counts[item.topic.partition("/")[2]] += 1
    if not counts:
        raise SourceError(f"{path}: {fault or 'a recording without a single frame'}")
    return list(counts.items()), fault


def window_reach(config: Config) -> int:
    """Return how many frames before and after its centre frame a window reaches at most."""
    after = frames_after_centre(config.window, config.lag)
    return max(after, config.window - 1 - after)


def plan_pieces(counts: list[tuple[str, int | None]], most: int, lead_in: int, reach: int) -> Iterator[tuple[Span, ...]]:
    """Yield the spans of each piece: at most `most` frames, of several short sequences, or a part of a long one.

    reach: frames of a window before and after its centre. A piece in a sequence begins `lead_in` windows before its first
    frame; one at a sequence's beginning has nothing to remember.
    """
    held: list[Span] = []
    size = 0
    for name, count in counts:
        if count is not None and count <= most:
            if held and size + count > most:
                yield tuple(held)
                held, size = [], 0
            held.append(Span(name, 0, None, 0))
            size += count
            continue
        if held:
            yield tuple(held)
            held, size = [], 0
        parts = 1 if count is None else -(-count // most)
        starts = [0 if count is None else count * k // parts for k in range(parts)]
        for start, stop in zip(starts, [*starts[1:], None], strict=True):
            yield (Span(name, start, stop, min(start, lead_in + reach)),)
    if held:
        yield tuple(held)
