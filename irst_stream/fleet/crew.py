"""A worker as the supervisor deals with it: asked for reports in a thread of its own, told things in others."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from irst_stream.errors import IrstError
from irst_stream.fleet.orders import WorkerReport
from irst_stream.fleet.places import Worker, WorkerLostError
from irst_stream.live.log_lines import LogLine

__all__ = ["Member"]

CHECK_S = 0.1  # between two looks at whether a worker has ended
GRACE_S = 1.0  # beyond the lease, for a worker that ends by itself
START_S = 600.0  # until a worker that has not come up counts as lost: it may have to compile first
TELL_S = 10.0  # for an order
REPORTS_A_LEASE = 4
log = logging.getLogger(__name__)


class Member:
    """A worker and its last report.

    only_for: the one sensor that it serves, "" for any; report: the last one, with received_s, of the steady clock; load:
    processor time it takes, in cores, NaN while unknown; lost: why it is gone, "" while it is there; crashed: it ended by
    itself, so that one of its sensors may be the cause.
    """

    def __init__(self, worker: Worker, lease_s: float, only_for: str = "") -> None:
        self.worker, self.name, self.only_for = worker, worker.name, only_for
        self.report: WorkerReport | None = None
        self.began_s = self.received_s = time.monotonic()
        self.load, self.lost, self.crashed = math.nan, "", False
        self.lease_s, self._after = lease_s, 0
        self._closed = threading.Event()
        self._jobs = ThreadPoolExecutor(8, thread_name_prefix=worker.name)
        threading.Thread(target=self._watch, name=f"watch {worker.name}", daemon=True).start()

    @property
    def is_ready(self) -> bool:
        """Whether it takes orders."""
        return self.report is not None and not self.lost

    @property
    def state(self) -> str:
        """One word for it."""
        return "lost" if self.lost else "ready" if self.report else "starting"

    @property
    def where(self) -> str:
        """Its machine and process, "" until it has reported."""
        return f"{self.report.machine}, process {self.report.pid}" if self.report else ""

    def tell(self, method: str, *arguments: Any, done: Callable[[Any], None], timeout_s: float = TELL_S) -> None:
        """Call a method of the worker later, in another thread; done: takes the answer, or the IrstError."""

        def work() -> None:
            try:
                answer = self.worker.call(method, *arguments, timeout_s=timeout_s)
            except IrstError as error:
                answer = error
            done(answer)

        self._jobs.submit(work)

    def close(self) -> None:
        """Ask it for nothing more, and end it at once if it still runs; may be called twice."""
        self._closed.set()
        self._jobs.shutdown(wait=False, cancel_futures=True)
        self.worker.kill()

    def _watch(self) -> None:
        """Ask for reports until the worker is lost; body of a thread."""
        due_s = 0.0
        while not self._closed.wait(CHECK_S):
            if ended := self.worker.end():
                self.crashed = "node" not in ended  # Ray says so of a lost node, which is no sensor's fault
                self.lost = ended
                return
            now = time.monotonic()
            silent_s, limit_s = now - self.received_s, self.lease_s + GRACE_S if self.report else START_S
            if silent_s > limit_s:
                self.lost = f"no answer for {silent_s:.1f} s"
                return
            if now < due_s:
                continue
            try:
                self._take(self.worker.call("report", self._after, timeout_s=self.lease_s))
                due_s = time.monotonic() + self.lease_s / REPORTS_A_LEASE
            except WorkerLostError:  # it may have ended, or not come up yet
                continue
            except Exception as error:
                self.lost = f"{type(error).__name__}: {error}"
                return

    def _take(self, report: WorkerReport) -> None:
        before, self.received_s = self.report, time.monotonic()
        if before is not None and report.time_s > before.time_s:
            self.load = (report.cpu_s - before.cpu_s) / (report.time_s - before.time_s)
        for line in report.log:
            self._say(line)
        self.report = report

    def _say(self, line: LogLine) -> None:
        """Pass a line of the worker's log on."""
        self._after = line.number
        log.log(getattr(logging, line.level.upper(), logging.INFO), "%s: %s", self.name, line.text)
