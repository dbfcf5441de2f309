"""From a sensor's frame to the stabilised one, where what stands still stays where it is, and back: see types.Pose."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np

from irst_stream.types import Floats, Pose

__all__ = ["is_known", "to_frame", "to_world"]


def is_known(pose: Pose | None) -> TypeGuard[Pose]:
    """Whether a pose says anything: all its numbers are finite."""
    return pose is not None and math.isfinite(pose.x) and math.isfinite(pose.y) and math.isfinite(pose.roll_rad)


def to_world(pose: Pose, centre: Floats, xy: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """Places (N, 2), px of a frame with that centre (2,), and their covariances (N, 2, 2), px^2, stabilised."""
    turn = _turn(pose)
    return (xy - centre - (pose.x, pose.y)) @ turn + centre, turn.T @ cov @ turn


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
