"""What a run does with frames that it only records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from irst_stream.chain.pipeline import Result
from irst_stream.chain.sensor import SensorMemory
from irst_stream.chain.window import SequenceCheck
from irst_stream.resolve.psf_watch import PsfWatch
from irst_stream.system.latency import Clocks
from irst_stream.types import Frame

__all__ = ["SequenceMonitor"]


class SequenceMonitor:
    """A Processor that only counts gaps, restarts and other sequence events, for a run that only records."""

    alarm = ""
    psf_watches: Mapping[str, PsfWatch] = {}
    spent_ns: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.clocks, self.events = Clocks(), Counter[tuple[str, str]]()  # see chain.window
        self._checks: dict[str, SequenceCheck] = {}

    def get_ready(self, seconds: float) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """It always is."""
        return True

    def step(self, frames: Sequence[Frame], more: bool = False) -> list[Result]:  # noqa: ARG002 - there is nothing to put off
        """Check the frames' order; no results."""
        for frame in frames:
            sensor = frame.stamp.sensor
            if sensor not in self._checks:
                self._checks[sensor] = SequenceCheck(self.events)
            self._checks[sensor].judge(frame)
        return []

    def get_ahead(self) -> None:
        """Nothing can be done ahead."""

    def finish(self) -> list[Result]:
        """No results."""
        return []

    def forget(self, sensor: str) -> list[Result]:
        """Drop a silent sensor's state; no results."""
        self._checks.pop(sensor, None)
        return []

    def memories(self) -> dict[str, SensorMemory]:
        """Nothing is worth keeping."""
        return {}
