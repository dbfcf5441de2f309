"""Motion models, each one record in MODELS: the state, its transition over dt seconds, its process noise.

A state is x, y, vx, vy, and ax, ay where the model has accelerations; px and seconds. Transitions are (D, D). Process
noise (D, D) is white noise on the highest derivative, of spectral density 1, integrated exactly (van Loan): two steps of
dt / 2 give what one step of dt gives. A model of one's own is one more record, and tests/track/test_motion.py checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from irst_stream.types import Floats

__all__ = ["MODELS", "Mode", "MotionModel", "window_noise"]


class Mode(NamedTuple):
    """One way to move: transition(dt, rate) (D, D), rate: TrackSettings.turn_rad_s; sway: factor of the settings' sways."""

    transition: Callable[[float, float], Floats]
    sway: float = 1.0


class MotionModel(NamedTuple):
    """A motion model: noise(dt) (D, D) of D = size numbers, and its modes, which interact (IMM) where there are several."""

    size: int
    noise: Callable[[float], Floats]
    modes: tuple[Mode, ...]


def _velocity(dt: float, _: float = 0.0) -> Floats:
    """Constant velocity: the transition (4, 4)."""
    return np.eye(4) + dt * np.eye(4, k=2)


def _velocity_noise(dt: float) -> Floats:
    """(4, 4): white acceleration of 1 px^2/s^3; the velocity's variance grows by 1 px^2/s^2 a second."""
    return _both_axes([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])


def _acceleration(dt: float, _: float = 0.0) -> Floats:
    """Constant acceleration: the transition (6, 6)."""
    return np.eye(6) + dt * np.eye(6, k=2) + dt**2 / 2 * np.eye(6, k=4)


def _acceleration_noise(dt: float) -> Floats:
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


def _turn(dt: float, rate: float) -> Floats:
    """Coordinated turn at that rate, rad/s, from x towards y: the transition (4, 4)."""
    if abs(rate * dt) < 1e-9:
        return _velocity(dt)
    s, c = math.sin(rate * dt), math.cos(rate * dt)
    moved = np.array([[s, c - 1], [1 - c, s]]) / rate
    return np.block([[np.eye(2), moved], [np.zeros((2, 2)), np.array([[c, -s], [s, c]])]])


def _turn_back(dt: float, rate: float) -> Floats:
    """Coordinated turn at that rate, rad/s, from y towards x: the transition (4, 4)."""
    return _turn(dt, -rate)


def _both_axes(line: list[list[float]]) -> Floats:
    """The same noise along x and y, whose numbers alternate."""
    return np.asarray(np.kron(np.array(line), np.eye(2)), np.float64)


MODELS = {
    "velocity": MotionModel(4, _velocity_noise, (Mode(_velocity),)),
    "acceleration": MotionModel(6, _acceleration_noise, (Mode(_acceleration),)),
    "turn": MotionModel(4, _velocity_noise, (Mode(_turn),)),
    "imm": MotionModel(
        4, _velocity_noise, (Mode(_velocity, 0.1), Mode(_velocity, 2.0), Mode(_turn, 0.3), Mode(_turn_back, 0.3))
    ),
}
