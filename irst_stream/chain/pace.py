"""How much time the fits of a frame may take, for a pipeline to keep pace with its sensors."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from irst_stream.types import Frame

__all__ = ["FramePace"]

SHARE = 0.8  # of the time from frame to frame that computing may take: the rest is for receiving and publishing
PERIODS_KEPT = 15  # of a sensor's last frames
FEWEST_PERIODS = 5  # before these have come, a sensor's rate is unknown
SHORTEST_S, LONGEST_S = 5e-4, 10.0  # a period beyond is none of a real sensor, or a pause
LEAST_SHARE = 0.1  # of the frame's time, for fits, however late it is
MEMORY = 0.9  # of the time that the work after the fits takes, from frame to frame


class FramePace:
    """Knows the frame rates of all sensors, by the stamps of their frames, and what each frame's fits may take."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}  # epoch, time in ns, by sensor
        self._periods: dict[str, deque[float]] = {}  # s
        self._after_s = {"tracking": 0.0, "searching": 0.0}  # of one window: the work after its fits

    def arrived(self, frame: Frame) -> None:
        """Learn the rate of a frame's sensor."""
        stamp = frame.stamp
        epoch, before = self._last.get(stamp.sensor, (stamp.epoch, stamp.time_ns))
        self._last[stamp.sensor] = stamp.epoch, stamp.time_ns
        period_s = (stamp.time_ns - before) / 1e9
        if epoch == stamp.epoch and SHORTEST_S <= period_s <= LONGEST_S:
            self._periods.setdefault(stamp.sensor, deque(maxlen=PERIODS_KEPT)).append(period_s)

    def forget(self, sensor: str) -> None:
        """Drop what is known of a sensor that sends no more."""
        self._last.pop(sensor, None)
        self._periods.pop(sensor, None)

    def allowed_s(self, windows: int, elapsed_s: float) -> float:
        """Return the time, s, that the fits of each of some windows may take, infinite while no rate is known.

        elapsed_s: what has been spent on these windows already.
        """
        whole_s = self._whole_s()
        return max(whole_s - elapsed_s / max(windows, 1) - sum(self._after_s.values()), LEAST_SHARE * whole_s)

    def left_s(self, windows: int, elapsed_s: float) -> float:
        """Return the time, s, that is left for each of some windows once all that they need is done; see allowed_s."""
        return max(self._whole_s() - elapsed_s / max(windows, 1), 0.0)

    def tracked(self, windows: int, seconds: float) -> None:
        """Learn how long tracking some windows took."""
        self._learn("tracking", seconds / max(windows, 1))

    def searched(self, windows: int, seconds: float) -> None:
        """Learn how long searching the next frames of some windows took."""
        self._learn("searching", seconds / max(windows, 1))

    def _learn(self, work: str, seconds: float) -> None:
        self._after_s[work] = MEMORY * self._after_s[work] + (1 - MEMORY) * seconds

    def _whole_s(self) -> float:
        """Return the time, s, that computing a frame may take."""
        rate = sum(1 / float(np.median(p)) for p in list(self._periods.values()) if len(p) >= FEWEST_PERIODS)
        return SHARE / rate if rate else math.inf
