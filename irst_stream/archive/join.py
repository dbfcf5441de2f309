"""The results of a recording from those of its pieces: one tracker over all detections, one line of numbers of regions."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from irst_stream.archive.atomic import part_path, publish
from irst_stream.archive.piece_file import FrameResult
from irst_stream.io.jsonl import JsonLines
from irst_stream.track.tracker import Tracker
from irst_stream.types import Detections, Pose, Tracks

__all__ = ["Joined", "Seams", "write_joined"]

SEAM_FRAMES = 16  # results of the piece before that are kept, to find the next one's first pose in them

Piece = Iterable[FrameResult]


@dataclass
class Joined:
    """Counts of a recording's results; ids: of confirmed tracks, by sensor; events: of its tracker."""

    answered: int = 0
    detections: int = 0
    ids: set[tuple[str, int]] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)


class Seams:
    """Makes one stream of one sensor's pieces: regions keep one line of numbers, and poses one stabilised frame.

    Each piece numbers its regions from 0, and a pose that was measured counts from the piece's first frame. Where two
    pieces know the pose of the same frame, the later ones are put into the earlier's stabilised frame. `broken`: no such
    frame was found, so that what is followed cannot go on.
    """

    def __init__(self) -> None:
        self.broken = False
        self._next_region, self._offset = 0, 0
        self._recent: deque[FrameResult] = deque(maxlen=SEAM_FRAMES)
        self._link: tuple[Pose, Pose] | None = None  # a frame's pose in the piece, and in the stream

    def begin(self) -> None:
        """Begin the sensor's next piece."""
        self.broken, self._link, self._offset = False, None, self._next_region

    def lead(self, result: FrameResult) -> None:
        """Look at a frame of the lead-in, which the piece before holds too."""
        if result.pose is None:
            return
        stamp = result.found.stamp
        known = (r.pose for r in self._recent if (r.found.stamp.epoch, r.found.stamp.index) == (stamp.epoch, stamp.index))
        pose = next((pose for pose in known if pose is not None), None)
        self._link = (result.pose, pose) if pose is not None else self._link

    def place(self, result: FrameResult) -> FrameResult:
        """Return a frame's results with the numbers and the pose of the stream."""
        result = self._with_pose(self._with_numbers(result))
        self._recent.append(result)
        return result

    def _with_numbers(self, result: FrameResult) -> FrameResult:
        found, tracked = result.found, result.tracked
        if self._offset and len(found):
            moved = replace(found, region=found.region + self._offset)
            tracked = moved if tracked is found else None if tracked is None else replace(tracked, region=moved.region)
            result = result._replace(found=moved, tracked=tracked)
        self._next_region = max(self._next_region, int(result.found.region.max(initial=-1)) + 1)
        return result

    def _with_pose(self, result: FrameResult) -> FrameResult:
        if result.pose is None:
            return result
        if self._link is None:
            self.broken = bool(self._recent) and any(known.pose is not None for known in self._recent)
            self._link = result.pose, result.pose
        here, there = self._link
        if (here.x, here.y, here.roll_rad) == (there.x, there.y, there.roll_rad):
            return result
        turn, pose = result.pose.roll_rad - here.roll_rad, result.pose
        dx, dy, c, s = there.x - here.x, there.y - here.y, math.cos(turn), math.sin(turn)
        moved = replace(pose, x=pose.x + c * dx - s * dy, y=pose.y + s * dx + c * dy, roll_rad=turn + there.roll_rad)
        return result._replace(pose=moved)


def _join_pieces(
    pieces: Iterable[Piece], new_tracker: Callable[[], Tracker] | None, events: Counter[str], *, patches: bool
) -> Iterator[tuple[Detections | None, list[Tracks]]]:
    """Yield each frame's detections and the tracks that they settle, for all pieces of a recording in order.

    At the end of a sequence come its tracks that waited for later frames, without detections. new_tracker: makes the
    tracker of a sensor, None for no tracks; events: counts what its tracker counts; patches: each frame is one region.
    """
    sensor, tracker, seams = "", None, Seams()
    for piece in pieces:
        begun = False
        for result in piece:
            if result.found.stamp.sensor != sensor:
                yield from _ended(tracker)
                sensor, seams, begun = result.found.stamp.sensor, Seams(), True
                tracker = new_tracker() if new_tracker else None
            elif not begun:
                seams.begin()
                begun = True
            if result.lead:
                seams.lead(result)
                continue
            result = result if patches else seams.place(result)
            yield result.found, _settle(tracker, result, events, restarts=seams.broken)
            seams.broken = False
    yield from _ended(tracker)


def _ended(tracker: Tracker | None) -> Iterator[tuple[None, list[Tracks]]]:
    """Yield the tracks that waited for later frames, if there are any."""
    if tracker is not None and (tracks := tracker.finish()):
        yield None, tracks


def _settle(tracker: Tracker | None, result: FrameResult, events: Counter[str], *, restarts: bool) -> list[Tracks]:
    """Return the tracks that a frame's detections settle; restarts: the tracker forgets all targets first."""
    if tracker is None or result.tracked is None:
        return []
    ended = tracker.finish() if result.restarted or restarts else []
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
