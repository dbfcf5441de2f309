"""A sensor as the supervisor keeps it: where it runs, what it has done, when it is tried again."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from irst_stream.fleet.crew import Member
from irst_stream.fleet.journal import Position
from irst_stream.fleet.orders import StationReport
from irst_stream.fleet.settings import SensorPlan
from irst_stream.fleet.tally import Tally

__all__ = ["Post", "Present"]

RETRY_S, LONGEST_RETRY_S = 0.5, 30.0  # after a failure of the sensor itself, and after many
GOOD_S = 10.0  # of running, after which a failure counts as the first one
STRIKES, STRIKES_S = 2, 60.0  # deaths of its workers within this time, after which a sensor gets a worker of its own


class Present(NamedTuple):
    """What is so of a sensor at present; see live.status.SensorStatus."""

    tracks: int = 0
    silent_s: float = 0.0
    psf_ratio: float = math.nan
    advice: str = ""


class Post:
    """One sensor's place in the fleet; used under the supervisor's lock.

    member: the worker that runs it, None while it has none; start: the number of this start; leaving: it is being stopped
    there; moved_s: when it was last placed; load: cores, NaN while unknown; fault: why it does not run, "" if it does.
    """

    def __init__(self, plan: SensorPlan) -> None:
        self.plan = plan
        self.member: Member | None = None
        self.start, self.leaving, self.starts = 0, False, 0
        self.report: StationReport | None = None
        self.before: Position | None = None
        self.past = Tally()
        self.load, self.fault, self.retry_at_s = math.nan, "", 0.0
        self.moved_s = self._since_s = time.monotonic()
        self._retry_s, self._measured = RETRY_S, (0.0, 0)
        self._strikes: list[float] = []

    @property
    def wants_own_worker(self) -> bool:
        """Whether it is to run alone, or its workers die so often that it may be the cause."""
        return self.plan.alone or sum(time.monotonic() - at < STRIKES_S for at in self._strikes) >= STRIKES

    def place(self, member: Member, start: int) -> None:
        """Note that a worker is told to run it."""
        self.member, self.start, self.leaving, self.report = member, start, False, None
        self.moved_s, self._measured, self.starts = time.monotonic(), (0.0, 0), self.starts + 1

    def take(self, report: StationReport, time_s: float) -> None:
        """Take a report of this start, and measure the load since the last one. time_s: of the worker's clock."""
        compute = report.stages.get("compute")
        busy_ns = compute.total_ns if compute else 0
        before_s, before_ns = self._measured
        if before_s and time_s > before_s:
            load = (busy_ns - before_ns) / 1e9 / (time_s - before_s)
            self.load = load if math.isnan(self.load) else 0.7 * self.load + 0.3 * load
        if time_s != before_s:
            self._measured = time_s, busy_ns
        if report.state == "running":
            self.fault = ""
            if time.monotonic() - self.moved_s > GOOD_S:
                self._retry_s = RETRY_S
        self.report = report

    def leave(self) -> None:
        """Note that it runs nowhere: keep what it did, and how far its results have come."""
        if self.report is not None:
            self.past.add(self.report)
            self.before = self.report.last or self.before
            if self.report.status is not None and self.plan.name in self.report.status.sensors:
                self._since_s = time.monotonic() - self.report.status.sensors[self.plan.name].silent_s
        self.member, self.report, self.leaving = None, None, False

    def strike(self) -> None:
        """Note that its worker has died."""
        self._strikes = [*self._strikes[-STRIKES:], time.monotonic()]

    def put_off(self, reason: str) -> None:
        """Try it again later; after each failure in a row twice as long."""
        self.fault = reason
        self.retry_at_s = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def present(self) -> Present:
        """What is so at present."""
        now, status = time.monotonic(), self.report.status if self.report else None
        if status is None or self.plan.name not in status.sensors or self.member is None:
            return Present(silent_s=now - self._since_s)
        sensor = status.sensors[self.plan.name]
        age_s = now - self.member.received_s
        return Present(sensor.tracks, sensor.silent_s + age_s, sensor.psf_ratio, sensor.advice)
