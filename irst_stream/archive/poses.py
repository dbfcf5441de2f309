"""The platform's poses of a whole recording, measured once before its pieces.

A registration counts poses from its first frame, and the search follows the scene by whole pixels of them: pieces that each
began a registration of their own would round otherwise than a single run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from irst_stream.archive.atomic import part_path, publish
from irst_stream.build import front_end_maker
from irst_stream.chain.window import DROPPED, SequenceCheck
from irst_stream.config import Config
from irst_stream.errors import SourceError
from irst_stream.io import jsonl
from irst_stream.io.jsonl import JsonLines
from irst_stream.types import Frame, Pose

__all__ = ["measure_poses", "read_poses", "with_poses"]

Poses = Mapping[tuple[str, int, int], Pose]  # by sensor, epoch and index


def measure_poses(path: Path, sequences: Iterable[Callable[[], Iterator[Frame]]], config: Config) -> int:
    """Write the poses of all sequences, as far as they can be read, as JSON lines; return the number of frames without one.

    The file appears once it is whole; raise an OutputError if it cannot be written.
    """
    part, unknown = part_path(path), 0
    new_front_end = front_end_maker(config)
    try:
        lines = JsonLines(part)
        try:
            for frames in sequences:
                check = SequenceCheck()
                front_end = new_front_end(lambda _frame, _event: None)
                for frame in _readable(frames()):
                    verdict = check.judge(frame)
                    if verdict in DROPPED:
                        continue
                    pose = front_end(frame, verdict).pose
                    unknown += pose is None
                    if pose is not None:
                        lines.write(pose)
        finally:
            lines.close()
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)
    return unknown


def read_poses(path: Path) -> Poses:
    """Return the poses that measure_poses wrote, by sensor, epoch and index."""
    return {(p.stamp.sensor, p.stamp.epoch, p.stamp.index): p for p in jsonl.read(path, Pose)}


def with_poses(frames: Iterator[Frame], poses: Poses) -> Iterator[Frame]:
    """Yield frames with their poses; frames without a pose are unchanged."""
    for frame in frames:
        s = frame.stamp
        pose = poses.get((s.sensor, s.epoch, s.index))
        yield frame if pose is None else replace(frame, pose=replace(pose, stamp=s))


def _readable(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yield frames up to the first that cannot be read, which its piece reports."""
    try:
        yield from frames
    except SourceError:
        return
