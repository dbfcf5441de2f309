"""One sensor in a worker: its pipeline, from its own sockets to its own files, and what the page asks of it."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from irst_stream.build import build_runner
from irst_stream.errors import IrstError
from irst_stream.fleet.journal import Journal
from irst_stream.fleet.orders import Order, State, StationReport
from irst_stream.live.http_server import Answer, Handler, Request
from irst_stream.live.log_lines import LogLines
from irst_stream.live.runner import Runner
from irst_stream.protocols import Sink
from irst_stream.web.history import History
from irst_stream.web.live_feed import LiveFeed
from irst_stream.web.routes import feed_handlers

__all__ = ["PAGE", "Station"]

PAGE = "(page)"  # the sink that is the fleet's own
ABANDON_S = 2.0  # to close the files of a pipeline that does not end in time
POLL_S = 0.2
building = threading.Lock()  # one pipeline at a time: each would wait for the others' compiled code anyway
log = logging.getLogger(__name__)


class Station:
    """Runs an order in threads of its own, from its making until stop(); what fails ends this sensor alone."""

    def __init__(self, order: Order, lines: LogLines) -> None:
        """lines: the worker's log."""
        self.order = order
        self._lines, self._stopping = lines, threading.Event()
        self._state: State = "starting"
        self._detail = ""
        self._runner: Runner | None = None
        self._journal: Journal | None = None
        self._history: History | None = None
        self._handlers: dict[str, Handler] = {}
        self._thread = threading.Thread(target=self._run, name=f"station {order.sensor}", daemon=True)
        self._thread.start()

    def report(self) -> StationReport:
        """What the supervisor is told; thread-safe."""
        start, runner, journal = self.order.start, self._runner, self._journal
        if runner is None or journal is None:
            return StationReport(start, self._state, self._detail)
        stages = {name: histogram.durations() for name, histogram in list(runner.clocks.stages.items())}
        shown = tuple(self._history.sensors()) if self._history else ()
        status = runner.status()
        return StationReport(start, self._state, self._detail, status, stages, journal.last, journal.unanswered, shown)

    def ask(self, request: Request) -> Answer:
        """Answer one of the page's requests."""
        handler = self._handlers.get(request.path)
        if handler is None:
            return Answer(f"sensor {self.order.sensor}: {self._state}\n".encode(), status=503)
        try:
            return handler(request)
        except IrstError as error:
            return Answer(f"{error}\n".encode(), status=400)

    def stop(self, seconds: float) -> None:
        """End the sensor: process what has come, at most `seconds`, and close its files; returns when that is done."""
        self._stopping.set()
        self._thread.join(seconds)
        runner = self._runner
        if self._thread.is_alive() and runner is not None:
            log.error("sensor %s: frames were left when the time to stop was over", self.order.sensor)
            runner.abandon(ABANDON_S)
            self._thread.join(ABANDON_S)

    def forget(self) -> None:
        """Forget how far the results have come, after an end that was meant: what comes until the next start is no loss."""
        if self._journal is not None:
            self._journal.discard()

    def abandon(self, seconds: float) -> None:
        """End the sensor within `seconds`: close its sockets and files, and leave the frames that wait."""
        self._stopping.set()
        if self._runner is not None:
            self._runner.abandon(seconds)

    def _run(self) -> None:
        """Body of the station's thread."""
        try:
            with building:
                runner = None if self._stopping.is_set() else self._build()
            if runner is None:
                self._state = "ended"
                return
            runner.start()
            self._runner, self._state = runner, "running"
            while not runner.wait(POLL_S):
                if self._stopping.is_set():
                    runner.stop()
            self._state = "ended"
        except IrstError as error:
            self._detail, self._state = str(error), "failed"
        except Exception as error:
            log.exception("sensor %s: failed", self.order.sensor)
            self._detail, self._state = f"{type(error).__name__}: {' '.join(str(error).split())}", "failed"
        finally:
            if self._journal is not None:
                self._journal.close()

    def _build(self) -> Runner:
        order = self.order
        folder = Path(order.folder)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        self._journal = Journal(folder / f"{order.sensor}.position", order.before)
        sinks: dict[str, Sink] = {}
        if order.frames_per_s:
            self._history = sinks[PAGE] = History(int(order.history_mb * 1e6))
        note = self._journal.note
        runner = build_runner(order.config, order.text, sinks, least_id=order.least_id, done=note)
        self._journal.open()
        if self._history is not None:
            feed = LiveFeed(runner, self._history, self._lines, order.sensor)
            self._handlers = feed_handlers(feed, order.frames_per_s)
        log.info("sensor %s: start %d, built in %.1f s", order.sensor, order.start, time.monotonic() - began)
        return runner
