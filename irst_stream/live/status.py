"""Counts and latencies of a running pipeline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from irst_stream.system.latency import Clocks, Summary

__all__ = ["Observed", "SensorStatus", "SinkStatus", "Status"]

# Reasons why a frame has no result; all other reasons in Status.dropped are mere events.
UNUSED_REASONS = ("missing", "overrun", "sensors", "unanswered", "late", "duplicate", "small", "mask", "worker")


class SensorStatus(NamedTuple):
    """Frames received, frames answered, detections, confirmed tracks at the last frame; silent_s: since its last frame.

    psf_ratio: width of its targets over the configured one, NaN while unknown; advice: what to do about it, "" for nothing.
    """

    frames: int
    answered: int
    detections: int
    tracks: int
    silent_s: float
    psf_ratio: float = math.nan
    advice: str = ""


class SinkStatus(NamedTuple):
    """Records written, waiting and lost; alarm: why the sink takes none at present, "" if it works.

    overflows: how often a subscriber's queue was full, so that it missed one result or more.
    """

    written: int
    waiting: int
    lost: int
    alarm: str
    overflows: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What a runner has done so far.

    seconds: since its start; dropped: frames by event or reason; rejected: invalid messages by reason; links: connection
    events; stages: latencies, see system.latency.Clocks; waiting: frames.
    """

    seconds: float
    sensors: dict[str, SensorStatus]
    sinks: dict[str, SinkStatus]
    dropped: dict[str, int]
    rejected: dict[str, int]
    links: dict[str, int]
    stages: dict[str, Summary]
    waiting: int
    alarm: str = ""  # what failed in the computation and what replaces it, "" if nothing failed
    faults: tuple[str, ...] = ()  # what else is wrong at present, one line each

    @property
    def frames(self) -> int:
        """Frames received, of all sensors."""
        return sum(sensor.frames for sensor in self.sensors.values())

    @property
    def unused(self) -> dict[str, int]:
        """Frames without results, missing ones included, by reason."""
        return {reason: count for reason, count in self.dropped.items() if reason in UNUSED_REASONS}

    @property
    def events(self) -> dict[str, int]:
        """Other frame events, by name."""
        return {reason: count for reason, count in self.dropped.items() if reason not in UNUSED_REASONS}


class Observed(Protocol):
    """What metrics, health and the page are asked of: a live.runner.Runner, or a fleet of them."""

    @property
    def clocks(self) -> Clocks:
        """Latencies by stage."""

    @property
    def is_running(self) -> bool:
        """Whether the computation has started and has not ended."""

    def status(self) -> Status:
        """Count everything done so far; thread-safe."""
