"""The platform's poses, and the way from a sensor's frame to the stabilised one, where still objects keep their place."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeGuard

import numpy as np

from irst_stream.types import Detections, Floats, Frame, Pose, Stamp, Window

__all__ = ["PoseHistory", "View", "correct_for_roll", "is_known", "middle", "to_frame", "to_world", "with_platform_shifts"]

HELD = 256  # frames; windows have fewer


class View(NamedTuple):
    """Where the platform pointed at a frame of that shape (H, W)."""

    pose: Pose
    shape: tuple[int, int]


class PoseHistory:
    """The platform's poses at the last frames of one sensor."""

    def __init__(self, window: int) -> None:
        """window: frames of a window."""
        self._reach = window // 2
        self._views: OrderedDict[tuple[int, int], View] = OrderedDict()  # by epoch and index

    def add(self, frame: Frame) -> None:
        """Remember a frame's pose, where it has one."""
        if is_known(frame.pose):
            place = frame.stamp.epoch, frame.stamp.index
            self._views[place] = View(frame.pose, (frame.pixels.shape[0], frame.pixels.shape[1]))
            self._views.move_to_end(place)
            if len(self._views) > HELD:
                self._views.popitem(last=False)

    def around(self, stamp: Stamp) -> list[View]:
        """The views of a window's frames, by its centre frame's stamp; empty where any frame has no pose."""
        indices = range(stamp.index - self._reach, stamp.index + self._reach + 1)
        views = [view for index in indices if (view := self._views.get((stamp.epoch, index))) is not None]
        return views if len(views) == len(indices) else []


def with_platform_shifts(window: Window, around: Sequence[View]) -> Window:
    """The window with the shifts of its regions' middles that the platform's motion causes in each frame."""
    if not around or not len(window.corners):
        return window
    middles = window.corners + (np.array(window.patches.shape[:1:-1]) - 1) / 2
    return replace(window, platform_shifts=_shifts(around, middles))


def correct_for_roll(detections: Detections, window: Window, around: Sequence[View]) -> Detections:
    """Detections moved to where the centre frame sees them.

    As the platform rolls, a target away from its region's middle is shifted otherwise than that middle, and is detected at
    its mean place over the frames.
    """
    if not len(detections) or len({view.pose.roll_rad for view in around}) < 2:
        return detections
    row = {number: k for k, number in enumerate(window.region.tolist())}
    regions = [row[number] for number in detections.region.tolist()]
    beyond = _shifts(around, detections.xy) - window.platform_shifts[regions]
    return replace(detections, xy=detections.xy - beyond.mean(axis=1))


def _shifts(around: Sequence[View], places: Floats) -> Floats:
    """(N, T, 2) px: how far what stands still at these places (N, 2) of the centre frame is shifted in each frame."""
    reach = len(around) // 2
    here = around[reach]
    centre = middle(here.shape)
    still = _seen_at_rest(here.pose, centre, places)
    shifts = np.stack([_seen_by(view.pose, centre, still) - places for view in around], axis=1)
    shifts[:, reach] = 0.0
    return shifts


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
    return _seen_at_rest(pose, centre, xy), turn.T @ cov @ turn, turn.T @ factor


def to_frame(pose: Pose, centre: Floats, state: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """Stabilised states (N, 4), x, y, vx, vy in px and px/s, and their covariances (N, 4, 4) as a frame sees them.

    Velocities only turn: they remain those in the stabilised frame, without the platform's own.
    """
    turn = _turn(pose)
    both = np.kron(np.eye(2), turn)
    xy = _seen_by(pose, centre, state[:, :2])
    return np.hstack([xy, state[:, 2:] @ turn.T]), both @ cov @ both.T


def _seen_at_rest(pose: Pose, centre: Floats, xy: Floats) -> Floats:
    """(N, 2) px: places of a frame, stabilised."""
    return np.asarray((xy - centre - (pose.x, pose.y)) @ _turn(pose) + centre)


def _seen_by(pose: Pose, centre: Floats, xy: Floats) -> Floats:
    """(N, 2) px: stabilised places as a frame sees them."""
    return np.asarray((xy - centre) @ _turn(pose).T + centre + (pose.x, pose.y))


def _turn(pose: Pose) -> Floats:
    """(2, 2): turns columns by the pose's roll, x towards y."""
    c, s = math.cos(pose.roll_rad), math.sin(pose.roll_rad)
    return np.array([[c, -s], [s, c]])
