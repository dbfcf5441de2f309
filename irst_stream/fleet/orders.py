"""What supervisor and workers say to each other; plain records that pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from irst_stream.config import Config
from irst_stream.fleet.journal import Position
from irst_stream.live.log_lines import LogLine
from irst_stream.live.status import Status
from irst_stream.system.latency import Durations
from irst_stream.web.views import Sensor

__all__ = ["Order", "State", "StationReport", "WorkerReport"]

State = Literal["starting", "running", "failed", "ended"]


@dataclass(frozen=True)
class Order:
    """Run a sensor.

    start: the number of this start of the sensor; least_id: of its first track; folder: of its memory and journal;
    before: the last position answered by an earlier worker, as far as it is known; frames_per_s, history_mb: of the live
    page, 0 for none.
    """

    sensor: str
    config: Config
    text: str
    start: int
    least_id: int
    folder: str
    before: Position | None
    frames_per_s: float
    history_mb: float


@dataclass(frozen=True)
class StationReport:
    """A sensor in a worker.

    start: of the order that it runs; detail: why it has failed; status, stages: of its pipeline, None and empty until it
    runs; last: the position answered last; unanswered: frames that an earlier worker left without a result; shown: what the
    page can show of it.
    """

    start: int
    state: State
    detail: str = ""
    status: Status | None = None
    stages: dict[str, Durations] = field(default_factory=dict)
    last: Position | None = None
    unanswered: int = 0
    shown: tuple[Sensor, ...] = ()


class WorkerReport(NamedTuple):
    """A worker: where it runs, processor time it has taken, s, at which time, s; its sensors; the new lines of its log."""

    machine: str
    pid: int
    cpu_s: float
    time_s: float
    stations: dict[str, StationReport]
    log: list[LogLine]
