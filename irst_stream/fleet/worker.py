"""A worker: a process that runs sensors, each a pipeline of its own, as its supervisor tells it.

A worker that hears nothing of its supervisor for the time of the lease ends itself: it closes its sockets and files and
exits. The supervisor gives the sensors of a worker that it does not reach to others a second after that time, so that no
sensor is published twice.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from irst_stream.build import compile_everything
from irst_stream.errors import UsageError
from irst_stream.fleet.orders import Order, StationReport, WorkerReport
from irst_stream.fleet.station import Station
from irst_stream.live.http_server import Answer, Request
from irst_stream.live.log_lines import LogLines

__all__ = ["WorkerService"]

ABANDON_S = 0.8  # less than the second after which the sensors run elsewhere
CHECK_S = 0.1
EX_TEMPFAIL = 75  # of sysexits.h: the exit code of a worker whose lease is over
log = logging.getLogger(__name__)


class WorkerService:
    """The sensors of this process; its public methods are what a supervisor can ask, several at once.

    end: ends the process at once when the lease is over.
    """

    def __init__(self, lease_s: float, end: Callable[[int], None] = os._exit) -> None:
        self._lease_s, self._end = lease_s, end
        self._stations: dict[str, Station] = {}
        self._lock = threading.Lock()
        self._lines = LogLines()
        root = logging.getLogger("irst_stream")
        root.setLevel(logging.INFO)
        root.addHandler(self._lines)
        compile_everything()
        self._heard_s = time.monotonic()
        threading.Thread(target=self._watch_lease, name="lease", daemon=True).start()

    def assign(self, order: Order) -> None:
        """Run a sensor; returns at once. An earlier order for it must have ended, or failed."""
        with self._lock:
            known = self._stations.get(order.sensor)
            if known is not None and known.report().state in ("starting", "running"):
                raise UsageError(f"sensor {order.sensor}: runs already")
            self._stations[order.sensor] = Station(order, self._lines)

    def release(self, sensor: str, seconds: float) -> StationReport | None:
        """Stop a sensor, after at most `seconds` for the frames received, and forget it; what it did, None if unknown."""
        with self._lock:
            station = self._stations.get(sensor)
        if station is None:
            return None
        station.stop(seconds)
        station.forget()
        with self._lock:
            self._stations.pop(sensor, None)
        return station.report()

    def report(self, after: int) -> WorkerReport:
        """Say how the sensors are, and the log's lines after a number; extends the lease."""
        self._heard_s = time.monotonic()
        with self._lock:
            stations = dict(self._stations)
        reports = {name: station.report() for name, station in stations.items()}
        times = os.times()
        lines = self._lines.after(after)
        return WorkerReport(socket.gethostname(), os.getpid(), times.user + times.system, time.monotonic(), reports, lines)

    def ask(self, sensor: str, request: Request) -> Answer:
        """Answer a request of the page about a sensor."""
        with self._lock:
            station = self._stations.get(sensor)
        return station.ask(request) if station else Answer(f"sensor {sensor}: not here\n".encode(), status=503)

    def stop(self, seconds: float, *, meant: bool = True) -> dict[str, StationReport]:
        """Stop all sensors at once, after at most `seconds` for the frames received, and forget them; what they did.

        meant: False if this is nobody's wish, so that the next start counts what has no result meanwhile as lost.
        """
        with self._lock:
            stations = dict(self._stations)
            self._stations.clear()
        _in_threads([partial(station.stop, seconds) for station in stations.values()])
        for station in stations.values() if meant else ():
            station.forget()
        return {name: station.report() for name, station in stations.items()}

    def _watch_lease(self) -> None:
        """End the process when the supervisor has been silent for too long; body of a thread."""
        while time.monotonic() - self._heard_s <= self._lease_s:
            time.sleep(CHECK_S)
        log.error("no word from the supervisor for %g s; this worker ends", self._lease_s)
        with self._lock:
            stations = list(self._stations.values())
        _in_threads([partial(station.abandon, ABANDON_S / 2) for station in stations], ABANDON_S)
        self._end(EX_TEMPFAIL)


def _in_threads(works: list[Callable[[], Any]], seconds: float | None = None) -> None:
    """Do all at once, and wait for their ends, at most `seconds` together."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    deadline = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(None if deadline is None else max(deadline - time.monotonic(), 0))
