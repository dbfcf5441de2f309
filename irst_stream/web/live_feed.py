"""The feed of the live page: the last frames of a running pipeline, its status, its alarms and its log."""

from __future__ import annotations

import time
from threading import Lock
from typing import Any, Literal

from irst_stream.live.log_lines import LogLines
from irst_stream.live.runner import Runner
from irst_stream.live.status import Status
from irst_stream.web.history import History
from irst_stream.web.status_figures import status_figures
from irst_stream.web.views import Sensor, View

__all__ = ["LiveFeed"]

STATUS_S = 0.5  # age up to which one status serves all pages


class LiveFeed:
    """A running pipeline; a views.Feed. title: what the page calls it."""

    kind: Literal["live", "playback"] = "live"

    def __init__(self, runner: Runner, history: History, lines: LogLines, title: str) -> None:
        self.title = title
        self._runner, self._history, self._lines = runner, history, lines
        self._run = str(time.time_ns())  # tells a page that the pipeline has restarted
        self._lock = Lock()
        self._status: Status | None = None
        self._status_s = 0.0

    def sensors(self) -> list[Sensor]:
        """All sensors that have sent a frame."""
        return self._history.sensors()

    def newest(self, sensor: str, after: int, timeout_s: float) -> View | None:
        """The newest answered frame; see History.newest."""
        return self._history.newest(sensor, after, timeout_s)

    def at(self, sensor: str, position: int) -> View | None:
        """A kept frame; see History.at."""
        return self._history.at(sensor, position)

    def status(self, sensor: str, series_after: int, log_after: int) -> dict[str, Any]:
        """Counts, latencies, alarms, the log's new lines, and the numbers of the sensor's answered frames."""
        status = self._recent_status()
        return {
            "run": self._run,
            **status_figures(status),
            "log": [line._asdict() for line in self._lines.after(log_after)],
            "series": self._history.series(sensor, series_after),
        }

    def _recent_status(self) -> Status:
        with self._lock:
            now = time.monotonic()
            if self._status is None or now - self._status_s > STATUS_S:
                self._status, self._status_s = self._runner.status(), now
            return self._status
