"""The results of a piece: the chain over its frames, from its lead-in on."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from irst_stream.archive.piece_file import FrameResult
from irst_stream.archive.survey import Span
from irst_stream.chain.pipeline import Pipeline, Result
from irst_stream.chain.sensor import SensorTracker
from irst_stream.errors import IrstError
from irst_stream.types import Detections, Frame, Pose, Stamp, Tracks

__all__ = ["PieceResults", "TrackerTap", "compute_piece"]


class _Given(NamedTuple):
    """What a tracker was given of a frame."""

    detections: Detections
    pose: Pose | None
    shape: tuple[int, int] | None
    repeats: int
    restarted: bool


class TrackerTap:
    """A sensor's tracker that remembers what the last frame gave it; a chain.sensor.SensorTracker.

    Its tracks serve the search alone: those of the results come from one tracker over all pieces.
    """

    def __init__(self, tracker: SensorTracker) -> None:
        self._tracker = tracker
        self._restarted = False
        self.last: _Given | None = None
        self.next_id, self.repeats = tracker.next_id, 0
        self.exhausted = self.refused = 0  # which the tracker over all pieces counts

    def settle(self, detections: Detections, pose: Pose | None, shape: tuple[int, int] | None) -> list[Tracks]:
        """Remember a frame's detections, and return the tracks that they settle."""
        self.last = _Given(detections, pose, shape, self.repeats, self._restarted)
        self._restarted = False
        self._tracker.repeats = self.repeats
        return self._tracker.settle(detections, pose, shape)

    def finish(self) -> list[Tracks]:
        """End the stream, because the sensor restarted or the piece ends."""
        self._restarted = True
        return self._tracker.finish()


class PieceResults(NamedTuple):
    """A piece's results in order; frames: how many it has; fault: why they end before it does; events: by name."""

    results: list[FrameResult]
    frames: int
    seconds: float
    fault: str
    events: Counter[str]


def compute_piece(
    spans: Iterable[Span],
    frames_from: Callable[[str, int], Iterator[Frame]],
    new_pipeline: Callable[[], tuple[Pipeline, Callable[[], TrackerTap | None]]],
    reach: int,
) -> PieceResults:
    """Compute the spans of a piece, up to the first frame that cannot be read.

    frames_from: yields the frames of a sequence from a number on; new_pipeline: makes a pipeline that knows no sensor, and
    what returns its sensor's tracker; reach: frames of a window before and after its centre.
    """
    piece = PieceResults([], 0, 0.0, "", Counter())
    began = time.perf_counter()
    for span in spans:
        pipeline, tap = new_pipeline()
        run = _SpanRun(span, pipeline, tap, reach)
        try:
            run.run(frames_from(span.sequence, span.first - span.lead))
        except IrstError as error:
            piece = piece._replace(fault=str(error))
        piece = piece._replace(frames=piece.frames + run.frames)
        piece.results.extend(run.results)
        piece.events.update(run.events())
        if piece.fault:
            break
    return piece._replace(seconds=time.perf_counter() - began)


class _SpanRun:
    """One span's way through a pipeline. frames: of the span, read so far."""

    def __init__(self, span: Span, pipeline: Pipeline, tap: Callable[[], TrackerTap | None], reach: int) -> None:
        self.results: list[FrameResult] = []
        self.frames = 0
        self._span, self._pipeline, self._tap = span, pipeline, tap
        self._reach = reach
        self._places: deque[tuple[Stamp, int]] = deque(maxlen=2 * reach + 1)
        self._before: Counter[str] = Counter()

    def run(self, frames: Iterator[Frame]) -> None:
        """Compute the frames, which begin with the lead-in; raise what reading raises, with the results so far kept."""
        span = self._span
        first = span.first - span.lead
        count = None if span.stop is None else span.stop + self._reach - first
        for place, frame in enumerate(islice(frames, count), first):
            if place == span.first:
                self._before = self._counted()
            self._places.append((frame.stamp, place))
            self.frames += span.first <= place and (span.stop is None or place < span.stop)
            for result in self._pipeline.step([frame]):
                self._take(result)

    def events(self) -> Counter[str]:
        """What happened to the span's own frames, by name."""
        return self._counted() - self._before

    def _counted(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for (_, event), times in self._pipeline.events.items():
            counted[event] += times
        return counted

    def _take(self, result: Result) -> None:
        """Keep a frame's detections where they belong to the span."""
        if not isinstance(result, Detections):
            return
        span = self._span
        place = next(place for stamp, place in self._places if stamp is result.stamp)
        if place < span.first or (span.stop is not None and place >= span.stop):
            return
        tap = self._tap()
        given = tap.last if tap else None
        if given is None:
            self.results.append(FrameResult(result))
            return
        same = given.detections is result
        tracked = result if same else given.detections
        self.results.append(FrameResult(result, tracked, given.pose, given.shape, given.repeats, given.restarted))
