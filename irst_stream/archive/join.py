"""The results of a recording from those of its pieces: one tracker over all detections, one line of numbers of regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from irst_stream.archive.atomic import part_path, publish
from irst_stream.archive.piece_file import FrameResult
from irst_stream.io.jsonl import JsonLines
from irst_stream.track.tracker import Tracker
from irst_stream.types import Detections, Tracks

__all__ = ["Joined", "RegionNumbers", "write_joined"]

Piece = Iterable[FrameResult]


@dataclass
class Joined:
    """Counts of a recording's results; ids: of confirmed tracks, by sensor; events: of its tracker."""

    answered: int = 0
    detections: int = 0
    ids: set[tuple[str, int]] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)


class RegionNumbers:
    """One line of numbers for the regions of one sensor: each piece numbers its own from 0."""

    def __init__(self) -> None:
        self._next, self._offset = 0, 0

    def begin(self) -> None:
        """Begin the sensor's next piece."""
        self._offset = self._next

    def number(self, result: FrameResult) -> FrameResult:
        """Return a frame's results with the numbers of all pieces."""
        found, tracked = result.found, result.tracked
        if self._offset and len(found):
            moved = replace(found, region=np.where(found.region < 0, found.region, found.region + self._offset))
            tracked = moved if tracked is found else None if tracked is None else replace(tracked, region=moved.region)
            result = result._replace(found=moved, tracked=tracked)
        self._next = max(self._next, int(result.found.region.max(initial=-1)) + 1)
        return result


def _join_pieces(
    pieces: Iterable[Piece], new_tracker: Callable[[], Tracker] | None, events: Counter[str], *, patches: bool
) -> Iterator[tuple[Detections | None, list[Tracks]]]:
    """Yield each frame's detections and the tracks that they settle, for all pieces of a recording in order.

    At the end of a sequence come its tracks that waited for later frames, without detections. new_tracker: makes the
    tracker of a sensor, None for no tracks; events: counts what its tracker counts; patches: each frame is one region.
    """
    sensor, tracker, numbers = "", None, RegionNumbers()
    for piece in pieces:
        begun = False
        for result in piece:
            if result.found.stamp.sensor != sensor:
                yield from _ended(tracker)
                sensor, numbers, begun = result.found.stamp.sensor, RegionNumbers(), True
                tracker = new_tracker() if new_tracker else None
            elif not begun:
                numbers.begin()
                begun = True
            result = result if patches else numbers.number(result)
            yield result.found, _settle(tracker, result, events)
    yield from _ended(tracker)


def _ended(tracker: Tracker | None) -> Iterator[tuple[None, list[Tracks]]]:
    """Yield the tracks that waited for later frames, if there are any."""
    if tracker is not None and (tracks := tracker.finish()):
        yield None, tracks


def _settle(tracker: Tracker | None, result: FrameResult, events: Counter[str]) -> list[Tracks]:
    """Return the tracks that a frame's detections settle."""
    if tracker is None or result.tracked is None:
        return []
    ended = tracker.finish() if result.restarted else []
    tracker.repeats = result.repeats
    before = tracker.exhausted, tracker.refused
    settled = tracker.settle(result.tracked, result.pose, result.shape)
    events.update(exhausted=tracker.exhausted - before[0], refused=tracker.refused - before[1])
    return [*ended, *settled]


def write_joined(
    folder: Path, pieces: Iterable[Piece], new_tracker: Callable[[], Tracker] | None, *, patches: bool
) -> Joined:
    """Write detections.jsonl, and tracks.jsonl where there is a tracker, atomically; return what they hold.

    Raise an OutputError if they cannot be written; what was there before stays then.
    """
    names = ["detections.jsonl"] + (["tracks.jsonl"] if new_tracker else [])
    joined = Joined()
    parts = {name: part_path(folder / name) for name in names}
    try:
        with ExitStack() as opened:
            lines = [opened.enter_context(closing(JsonLines(part))) for part in parts.values()]
            for found, tracks in _join_pieces(pieces, new_tracker, joined.events, patches=patches):
                if found is not None:
                    joined.answered += 1
                    joined.detections += len(found)
                    lines[0].write(found)
                for one in tracks:
                    joined.ids |= {(one.stamp.sensor, number) for number in one.id[one.confirmed].tolist()}
                    lines[1].write(one)
        for name, part in parts.items():
            publish(part, folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return joined
