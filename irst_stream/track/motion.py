"""Motion models: how a target's state goes on in dt seconds, and by how much it may stray meanwhile.

A state is x, y, vx, vy, and ax, ay where the model has accelerations; px and seconds. Transitions are (D, D); process
noise (D, D) is that of white noise on the highest derivative, of spectral density 1, integrated exactly (van Loan), so
that two steps of dt / 2 give what one of dt gives.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from irst_stream.types import Floats

__all__ = ["acceleration", "acceleration_noise", "turn", "velocity", "velocity_noise", "window_noise"]


def velocity(dt: float) -> Floats:
    """Constant velocity: the transition (4, 4)."""
    return np.eye(4) + dt * np.eye(4, k=2)


def velocity_noise(dt: float) -> Floats:
    """(4, 4): white acceleration of 1 px^2/s^3; the velocity's variance grows by 1 px^2/s^2 a second."""
    return _both_axes([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])


def acceleration(dt: float) -> Floats:
    """Constant acceleration: the transition (6, 6)."""
    return np.eye(6) + dt * np.eye(6, k=2) + dt**2 / 2 * np.eye(6, k=4)


def acceleration_noise(dt: float) -> Floats:
    """(6, 6): white jerk of 1 px^2/s^5."""
    line = [
        [dt**5 / 20, dt**4 / 8, dt**3 / 6],
        [dt**4 / 8, dt**3 / 3, dt**2 / 2],
        [dt**3 / 6, dt**2 / 2, dt],
    ]
    return _both_axes(line)


@cache
def window_noise(frames: int) -> float:
    """By what variance, px^2, a target's mean place over a window strays from its place in the middle frame, if frames are
    1 s apart and its acceleration is white, of 1 px^2/s^3.
    """
    half = frames // 2
    pairs = [(min(j, k), max(j, k)) for j in range(1, half + 1) for k in range(1, half + 1)]
    return 2 / frames**2 * sum(near**2 * (3 * far - near) / 6 for near, far in pairs)


def turn(dt: float, rate: float) -> Floats:
    """Coordinated turn at that rate, rad/s, from x towards y: the transition (4, 4). Its noise is velocity_noise."""
    if abs(rate * dt) < 1e-9:
        return velocity(dt)
    s, c = math.sin(rate * dt), math.cos(rate * dt)
    moved = np.array([[s, c - 1], [1 - c, s]]) / rate
    return np.block([[np.eye(2), moved], [np.zeros((2, 2)), np.array([[c, -s], [s, c]])]])


def _both_axes(line: list[list[float]]) -> Floats:
    """The same noise along x and y, whose numbers alternate."""
    return np.asarray(np.kron(np.array(line), np.eye(2)), np.float64)
