"""The frame rate of a sensor, by the time stamps of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.types import Stamp

__all__ = ["FrameRate", "rate_of_stamps"]

MIN_INTERVALS = 4  # fewer say nothing of a rate


@dataclass(frozen=True, slots=True)
class FrameRate:
    """Frames/s, None if unknown; jitter_ms: standard deviation of the intervals, NaN if unknown; origin: who says so."""

    hz: float | None
    jitter_ms: float
    origin: str


def rate_of_stamps(stamps: Sequence[Stamp]) -> FrameRate:
    """Measure the frame rate by the sensor's time stamps: the median over intervals, missing frames allowed for."""
    unknown = FrameRate(None, float("nan"), "too few stamps")
    if len(stamps) <= MIN_INTERVALS:
        return unknown
    time, index = (np.array([getattr(stamp, name) for stamp in stamps], np.float64) for name in ("time_ns", "index"))
    steps = np.diff(index)
    forward = steps > 0
    if forward.sum() < MIN_INTERVALS:
        return unknown
    interval_ns = np.diff(time)[forward] / steps[forward]
    median = float(np.median(interval_ns))
    if median <= 0:
        return FrameRate(None, float("nan"), "stamps that stand still")
    mean = float(np.mean(interval_ns[np.abs(interval_ns - median) < median]))  # without pauses; stamps may be coarse
    jitter = float(np.std(interval_ns[np.abs(interval_ns - median) < median])) / 1e6
    return FrameRate(1e9 / mean, jitter, f"stamps of {len(stamps)} frames")
