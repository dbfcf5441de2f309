"""What a running pipeline has done so far, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from irst_stream.system.latency import Summary

__all__ = ["SensorStatus", "SinkStatus", "Status"]

UNUSED = ("missing", "overrun", "sensors", "unanswered", "late", "duplicate", "small")


class SensorStatus(NamedTuple):
    """Frames that came, frames answered, targets found, confirmed tracks at its last; how long it has been silent."""

    frames: int
    answered: int
    detections: int
    tracks: int
    silent_s: float


class SinkStatus(NamedTuple):
    """Records written, waiting and lost; why it takes no more, "" where it does."""

    written: int
    waiting: int
    lost: int
    alarm: str


@dataclass(frozen=True, slots=True)
class Status:
    """What a runner has done so far. dropped: frames by reason; rejected: messages by reason; stages: see clocks."""

    seconds: float
    sensors: dict[str, SensorStatus]
    sinks: dict[str, SinkStatus]
    dropped: dict[str, int]
    rejected: dict[str, int]
    links: dict[str, int]
    stages: dict[str, Summary]
    waiting: int
    alarm: str = ""  # what has failed of the computation, and what works in its place

    @property
    def frames(self) -> int:
        """That came, of all sensors."""
        return sum(sensor.frames for sensor in self.sensors.values())

    @property
    def unused(self) -> dict[str, int]:
        """Frames that came, or should have, and were not used, by reason."""
        return {reason: count for reason, count in self.dropped.items() if reason in UNUSED}

    @property
    def events(self) -> dict[str, int]:
        """What else happened to frames."""
        return {reason: count for reason, count in self.dropped.items() if reason not in UNUSED}
