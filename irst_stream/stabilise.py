"""From a sensor's frame to the stabilised one, where what stands still stays where it is, and back: see types.Pose."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypeGuard

import numpy as np

from irst_stream.types import Detections, Floats, Frame, Pose, Stamp
from irst_stream.wire import pose_of

__all__ = ["View", "Views", "is_known", "middle", "put_right", "to_frame", "to_world"]

HELD = 256  # frames of each sensor: windows have fewer


class View(NamedTuple):
    """Where the platform pointed at a frame of that shape (H, W), and on the average of the window about it."""

    pose: Pose
    average: Pose
    shape: tuple[int, int]


class Views:
    """Remembers what the last frames of all sensors say of the platform."""

    def __init__(self, window: int) -> None:
        """window: frames of a window."""
        self._reach = window // 2
        self._seen: dict[str, OrderedDict[tuple[int, int], View]] = {}  # by epoch and index

    def look(self, frame: Frame) -> None:
        """Takes note of a frame. Raises a WireError where what it says is odd; then it counts as one that says nothing."""
        pose = pose_of(frame)
        if pose is not None:
            stamp = pose.stamp
            seen = self._seen.setdefault(stamp.sensor, OrderedDict())
            seen[stamp.epoch, stamp.index] = View(pose, pose, (frame.pixels.shape[0], frame.pixels.shape[1]))
            seen.move_to_end((stamp.epoch, stamp.index))
            if len(seen) > HELD:
                seen.popitem(last=False)

    def of(self, stamp: Stamp) -> View | None:
        """What is known of a window by its centre frame's stamp; None where any of its frames says nothing."""
        held: Mapping[tuple[int, int], View] = self._seen.get(stamp.sensor, {})
        around = range(stamp.index - self._reach, stamp.index + self._reach + 1)
        seen = [view for index in around if (view := held.get((stamp.epoch, index))) is not None]
        if len(seen) != len(around):
            return None
        x, y, roll = np.mean([(view.pose.x, view.pose.y, view.pose.roll_rad) for view in seen], axis=0).tolist()
        return seen[self._reach]._replace(average=Pose(stamp, x, y, roll))

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self._seen.pop(sensor, None)


def put_right(detections: Detections, view: View) -> Detections:
    """Detections as the centre frame alone sees them: a window sees its targets where they are on its frames' average."""
    xy, cov, factor = to_world(view.average, middle(view.shape), detections.xy, detections.cov, detections.factor)
    state = np.hstack([xy, np.zeros_like(xy)])
    both = np.zeros((len(xy), 4, 4))
    both[:, :2, :2] = cov
    state, both = to_frame(view.pose, middle(view.shape), state, both)
    return replace(detections, xy=state[:, :2], cov=both[:, :2, :2], factor=_turn(view.pose) @ factor)


def middle(shape: tuple[int, int]) -> Floats:
    """(2,) px: x, y of the middle of frames of that shape (H, W)."""
    return np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])


def is_known(pose: Pose | None) -> TypeGuard[Pose]:
    """Whether a pose says anything: all its numbers are finite."""
    return pose is not None and math.isfinite(pose.x) and math.isfinite(pose.y) and math.isfinite(pose.roll_rad)


def to_world(pose: Pose, centre: Floats, xy: Floats, cov: Floats, factor: Floats) -> tuple[Floats, Floats, Floats]:
    """Places (N, 2), px of a frame with that centre (2,), their covariances (N, 2, 2), px^2, and the factors (N, 2, R), px,
    of their errors, stabilised.
    """
    turn = _turn(pose)
    return (xy - centre - (pose.x, pose.y)) @ turn + centre, turn.T @ cov @ turn, turn.T @ factor


def to_frame(pose: Pose, centre: Floats, state: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """Stabilised states (N, 4), x, y, vx, vy in px and px/s, and their covariances (N, 4, 4) as a frame sees them.

    Velocities only turn: they remain those in the stabilised frame, without the platform's own.
    """
    turn = _turn(pose)
    both = np.kron(np.eye(2), turn)
    xy = (state[:, :2] - centre) @ turn.T + centre + (pose.x, pose.y)
    return np.hstack([xy, state[:, 2:] @ turn.T]), both @ cov @ both.T


def _turn(pose: Pose) -> Floats:
    """(2, 2): turns columns by the pose's roll, x towards y."""
    c, s = math.cos(pose.roll_rad), math.sin(pose.roll_rad)
    return np.array([[c, -s], [s, c]])
