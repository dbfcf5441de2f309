"""Counts and latencies of many sensors together, those of ended pipelines included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from irst_stream.fleet.orders import StationReport
from irst_stream.fleet.station import PAGE
from irst_stream.live.status import SensorStatus, SinkStatus
from irst_stream.system.latency import Durations, Histogram

__all__ = ["Tally"]

SINK_STAGES = ("publish", "end to end")  # stages that are named after a sink each; those of all sinks count as one here


class Tally:
    """Sums of StationReports. counts: by what is counted and its name; stages: latencies."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.stages: dict[str, Histogram] = {}

    def add(self, report: StationReport) -> None:
        """Add what a pipeline has done."""
        self.counts["dropped", "worker"] += report.unanswered
        status = report.status
        if status is None:
            return
        for name, sensor in status.sensors.items():
            for what in ("frames", "answered", "detections"):
                self.counts[what, name] += getattr(sensor, what)
        for name, sink in status.sinks.items():
            if name != PAGE:
                for what in ("written", "lost", "overflows"):
                    self.counts[f"sink {what}", name] += getattr(sink, what)
        for what in ("dropped", "rejected", "links"):
            for reason, count in getattr(status, what).items():
                self.counts[what, reason] += count
        for stage, durations in report.stages.items():
            self._add_stage(stage, durations)

    def merge(self, other: Tally) -> None:
        """Add all that another tally holds."""
        self.counts.update(other.counts)
        for stage, histogram in other.stages.items():
            self._add_stage(stage, histogram.durations())

    def of(self, what: str) -> dict[str, int]:
        """The counts of a kind, by name."""
        return {name: count for (kind, name), count in self.counts.items() if kind == what}

    def sensor(self, name: str, tracks: int, silent_s: float, psf_ratio: float, advice: str) -> SensorStatus:
        """A sensor's sums, with what is so at present."""
        frames, answered, detections = (self.counts[what, name] for what in ("frames", "answered", "detections"))
        return SensorStatus(frames, answered, detections, tracks, silent_s, psf_ratio, advice)

    def others(self, names: Collection[str]) -> SensorStatus | None:
        """The sums of all sensors but these, None if there are no others."""
        others = {name for kind, name in self.counts if kind == "frames"}.difference(names)
        counts = ("frames", "answered", "detections")
        frames, answered, detections = (sum(self.counts[what, name] for name in others) for what in counts)
        return SensorStatus(frames, answered, detections, 0, 0.0) if others else None

    def sink(self, name: str, waiting: int, alarm: str) -> SinkStatus:
        """A sink's sums, with what is so at present."""
        written, lost, overflows = (self.counts[f"sink {what}", name] for what in ("written", "lost", "overflows"))
        return SinkStatus(written, waiting, lost, alarm, overflows)

    def _add_stage(self, stage: str, durations: Durations) -> None:
        kind = next((kind for kind in SINK_STAGES if stage.startswith(f"{kind} ")), "")
        if kind and stage.removeprefix(f"{kind} ") == PAGE:
            return
        name = kind or stage
        if name not in self.stages:
            self.stages[name] = Histogram()
        self.stages[name].merge(durations)
