"""The platform's poses, and transforms between a sensor's frame and the stabilised frame, where still objects stay put."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeGuard

import numpy as np

from irst_stream.types import Detections, Floats, Frame, Pose, Stamp, Window, frames_after_centre, place_weights

__all__ = [
    "PlatformView",
    "PoseHistory",
    "correct_for_roll",
    "frame_centre",
    "is_known",
    "to_frame",
    "to_world",
    "window_pose",
    "with_platform_shifts",
    "with_pose_errors",
]

VIEWS_KEPT = 256  # poses held, or those of two windows where these are longer


class PlatformView(NamedTuple):
    """The platform's pose at one frame, and that frame's shape (H, W)."""

    pose: Pose
    shape: tuple[int, int]


class PoseHistory:
    """The platform's poses at the last frames of one sensor."""

    def __init__(self, length: int, lag: int | None = None) -> None:
        """length: frames of a window, odd; lag: how many of them follow its centre frame, None for half of them."""
        self._after = frames_after_centre(length, lag)
        self._before, self._kept = length - 1 - self._after, max(VIEWS_KEPT, 2 * length)
        self._views: OrderedDict[tuple[int, int], PlatformView] = OrderedDict()  # by epoch and index

    def add(self, frame: Frame) -> None:
        """Remember a frame's pose if it has a known one."""
        if is_known(frame.pose):
            key = frame.stamp.epoch, frame.stamp.index
            self._views[key] = PlatformView(frame.pose, (frame.pixels.shape[0], frame.pixels.shape[1]))
            self._views.move_to_end(key)
            if len(self._views) > self._kept:
                self._views.popitem(last=False)

    def window_views(self, stamp: Stamp) -> list[PlatformView]:
        """Return the views of a window's frames, given its centre frame's stamp; empty if any frame's pose is unknown."""
        indices = range(stamp.index - self._before, stamp.index + self._after + 1)
        views = [view for index in indices if (view := self._views.get((stamp.epoch, index))) is not None]
        return views if len(views) == len(indices) else []


def with_platform_shifts(window: Window, views: Sequence[PlatformView]) -> Window:
    """Return the window with the shifts of its regions' centres that the platform's motion causes in each frame.

    views: of the window's frames; where empty, or the window has no region, the window is returned as it is.
    """
    if not views or not len(window.corners):
        return window
    centres = window.corners + (np.array(window.patches.shape[:1:-1]) - 1) / 2
    return replace(window, platform_shifts=_shifts(views, window.centre, centres))


def correct_for_roll(detections: Detections, window: Window, views: Sequence[PlatformView]) -> Detections:
    """Move detections to where the centre frame sees them, if the platform rolls during the window.

    The window's shifts are those of the regions' centres. Under roll, a target away from the centre is shifted differently
    from it, and each frame pulls its place as place_weights tells. A light too large for a region was seen by the centre
    frame alone.
    """
    if not len(detections) or len({view.pose.roll_rad for view in views}) < 2:
        return detections
    row = {number: k for k, number in enumerate(window.region.tolist())}
    fitted = np.flatnonzero(detections.region >= 0)
    regions = [row[number] for number in detections.region[fitted].tolist()]
    residual = _shifts(views, window.centre, detections.xy[fitted]) - window.platform_shifts[regions]
    xy = detections.xy.copy()
    xy[fitted] -= np.tensordot(residual, place_weights(window.frame_times), (1, 0))
    return replace(detections, xy=xy)


def with_pose_errors(detections: Detections, window: Window, views: Sequence[PlatformView]) -> Detections:
    """Return detections with the errors of their window's poses in their covariances; views: of the window's frames.

    Each frame shows a target at a place moved by its own pose's error and the centre frame's.
    """
    variances = np.array([view.pose.sd_px**2 for view in views])
    if not len(detections) or not variances.any():
        return detections
    weights = place_weights(window.frame_times)
    weights[window.centre] -= 1.0
    added = float(weights**2 @ variances)
    return replace(detections, cov=detections.cov + added * np.eye(2), factor=_with_shared(detections.factor, added))


def window_pose(window: Window, views: Sequence[PlatformView]) -> Pose:
    """Return the pose of the centre frame of a window, with the deviation that its detections have in the stabilised frame.

    There a detection without the errors of poses has those of its frames, weighted: the centre frame's own cancels.
    """
    deviations = np.array([view.pose.sd_px for view in views])
    spread = float(np.linalg.norm(place_weights(window.frame_times) * deviations))
    return replace(views[window.centre].pose, sd_px=spread)


def _with_shared(factor: Floats, variance: float) -> Floats:
    """Return factors (N, 2, R + 2) of errors that also share one of that variance, px^2; as they are where R is 0."""
    if not factor.shape[2]:
        return factor
    return np.concatenate([factor, np.broadcast_to(math.sqrt(variance) * np.eye(2), (len(factor), 2, 2))], axis=2)


def _shifts(views: Sequence[PlatformView], middle: int, xy: Floats) -> Floats:
    """Return the shift (N, T, 2) px in each frame of still objects that frame number middle sees at xy (N, 2)."""
    here = views[middle]
    centre = frame_centre(here.shape)
    still = _stabilise(here.pose, centre, xy)
    shifts = np.stack([_project(view.pose, centre, still) - xy for view in views], axis=1)
    shifts[:, middle] = 0.0
    return shifts


def frame_centre(shape: tuple[int, int]) -> Floats:
    """Return the centre (2,), x, y px, of frames of that shape (H, W)."""
    return np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])


def is_known(pose: Pose | None) -> TypeGuard[Pose]:
    """Tell whether there is a pose and all its numbers are finite."""
    return pose is not None and all(map(math.isfinite, (pose.x, pose.y, pose.roll_rad, pose.sd_px)))


def to_world(pose: Pose, centre: Floats, xy: Floats, cov: Floats, factor: Floats) -> tuple[Floats, Floats, Floats]:
    """Transform positions in a frame to the stabilised frame, where the pose's error adds to theirs.

    centre (2,) px: the frame's; xy (N, 2) px; cov (N, 2, 2) px^2; factor (N, 2, R) px: of their errors, see Detections.
    Returns the transformed xy, cov and factor.
    """
    rotation = _rotation(pose)
    cov, factor = rotation.T @ cov @ rotation, rotation.T @ factor
    if pose.sd_px:
        cov, factor = cov + pose.sd_px**2 * np.eye(2), _with_shared(factor, pose.sd_px**2)
    return _stabilise(pose, centre, xy), cov, factor


def to_frame(pose: Pose, centre: Floats, state: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """Transform stabilised states (N, 4), x, y, vx, vy in px and px/s, and covariances (N, 4, 4) to a frame.

    Velocities are only rotated: they stay relative to the stabilised frame, without the platform's own motion.
    """
    rotation = _rotation(pose)
    both = np.kron(np.eye(2), rotation)
    xy = _project(pose, centre, state[:, :2])
    return np.hstack([xy, state[:, 2:] @ rotation.T]), both @ cov @ both.T


def _stabilise(pose: Pose, centre: Floats, xy: Floats) -> Floats:
    """Transform positions (N, 2) px from a frame to the stabilised frame."""
    return np.asarray((xy - centre - (pose.x, pose.y)) @ _rotation(pose) + centre)


def _project(pose: Pose, centre: Floats, xy: Floats) -> Floats:
    """Transform positions (N, 2) px from the stabilised frame to a frame."""
    return np.asarray((xy - centre) @ _rotation(pose).T + centre + (pose.x, pose.y))


def _rotation(pose: Pose) -> Floats:
    """Return the rotation matrix (2, 2) of the pose's roll, x towards y, for column vectors."""
    c, s = math.cos(pose.roll_rad), math.sin(pose.roll_rad)
    return np.array([[c, -s], [s, c]])
