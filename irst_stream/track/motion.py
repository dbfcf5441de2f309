"""Motion models, each one record in MODELS: the state, its transition over dt seconds, its process noise.

A state is x, y, vx, vy, and ax, ay where the model has accelerations; px and seconds. Transitions are (D, D). Process
noise (D, D) is white noise on the highest derivative, of spectral density 1, integrated exactly (van Loan): two steps of
dt / 2 give what one step of dt gives. The settings state accelerations that last for a while (an Ornstein-Uhlenbeck
process); `density` turns them into white noise that is as strong over longer times. A model of one's own is one more
record, and tests/track/test_motion.py checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from irst_stream.types import Floats, at_rest, place_weights

__all__ = ["MODELS", "Mode", "MotionModel", "window_noise"]


class Mode(NamedTuple):
    """One way to move: transition(dt, rate) (D, D), rate: TrackSettings.turn_rad_s; agility: factor of accelerations."""

    transition: Callable[[float, float], Floats]
    agility: float = 1.0


def white_acceleration(lasting_s: float) -> float:
    """Density, px^2/s^3, of white noise as strong as accelerations of variance 1 px^2/s^4 and that correlation time."""
    return 2 * lasting_s


def white_jerk(lasting_s: float) -> float:
    """Density, px^2/s^5, of the white jerk that drives accelerations of variance 1 px^2/s^4 and that correlation time."""
    return 2 / lasting_s


class MotionModel(NamedTuple):
    """A motion model: noise(dt) (D, D) of D = size numbers, and its modes, which interact (IMM) where there are several.

    density: of that noise, from the correlation time of accelerations, TrackSettings.manoeuvre_s, and their variance 1.
    """

    size: int
    noise: Callable[[float], Floats]
    modes: tuple[Mode, ...]
    density: Callable[[float], float] = white_acceleration


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


@lru_cache(maxsize=64)
def window_noise(frames: int, lag: int, frame_s: float, lasting_s: float) -> float:
    """Variance, px^2, of a target's place by a straight path through a window's frames about its place in the centre frame.

    lag: how many of the frames follow the centre frame; frame_s: from frame to frame. The target's acceleration has
    variance 1 px^2/s^4 and correlation time lasting_s. 0 for a window of one frame.
    """
    steps, places = 8, at_rest(0, frames, lag)[0]  # of frames, from the centre frame
    times = (np.arange((frames - 1) * steps) + 0.5) / steps + places[0]  # of an acceleration
    reach = np.where(times > 0, places[:, None] - times, times - places[:, None])
    weight = place_weights(places) @ np.maximum(reach, 0.0) / steps
    correlation = np.exp(-np.abs(times[:, None] - times) * frame_s / lasting_s)
    return float(frame_s**4 * weight @ correlation @ weight)


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
    "acceleration": MotionModel(6, _acceleration_noise, (Mode(_acceleration),), white_jerk),
    "turn": MotionModel(4, _velocity_noise, (Mode(_turn),)),
    "imm": MotionModel(
        4, _velocity_noise, (Mode(_velocity, 0.1), Mode(_velocity, 2.0), Mode(_turn, 0.3), Mode(_turn_back, 0.3))
    ),
}
