"""The supervisor of a fleet: it starts workers, gives each sensor to one, and moves the sensors of those that are lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from irst_stream.errors import IrstError, OutputError
from irst_stream.fleet.balance import choose_move, choose_worker
from irst_stream.fleet.crew import Member
from irst_stream.fleet.ledger import IDS_A_START, Ledger
from irst_stream.fleet.orders import Order, StationReport
from irst_stream.fleet.places import Place
from irst_stream.fleet.post import Post
from irst_stream.fleet.settings import Fleet, SensorPlan
from irst_stream.fleet.summary import faults_of, summed
from irst_stream.fleet.tally import Tally
from irst_stream.live.status import Status
from irst_stream.system.latency import Clocks

__all__ = ["Supervisor"]

TICK_S = 0.05
STATUS_S = 0.5  # age up to which one status serves all who ask
STOP_S = 25.0  # for the frames received before a stop
RELEASE_S = 5.0  # the same, for one sensor that is removed or moves
ANSWER_S = 10.0  # beyond these, for the answer
REBALANCE_S, SETTLED_S = 10.0, 60.0  # between two moves, and since a sensor was placed
EARLY_S, HIRE_S, LONGEST_HIRE_S = 10.0, 1.0, 30.0  # a worker that ends so early is started again later and later
SPREAD_S = 10.0  # after the start, wait for workers that are coming up
OWN_WORKER_S = 30.0  # wait for a worker of one's own, then share
log = logging.getLogger(__name__)


class Supervisor:
    """Runs a fleet at a place until stop() is called; it starts, stops and tells as live.runner.Runner does.

    Raise an OutputError if the state cannot be written, or another fleet keeps it.
    """

    def __init__(self, fleet: Fleet, place: Place) -> None:
        self._settings, self._view, self._place = fleet.settings.fleet, fleet.settings.view, place
        self._folder = Path(self._settings.state)
        self._ledger = Ledger(self._folder)
        self.posts = {name: Post(plan) for name, plan in fleet.sensors.items()}
        self.members: list[Member] = []
        self.lock = threading.RLock()
        self.lost_workers = 0
        self.wanted = self._settings.workers or max(2, min(place.cores, len(self.posts)))
        self._hired, self._hire_at_s, self._hire_s = 0, 0.0, HIRE_S
        self._gone = Tally()  # of removed sensors
        self._began_s = self._balanced_s = time.monotonic()
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._kept = set(self.posts)  # others are dropped once they have ended
        self._summed: tuple[float, Status, Clocks] | None = None
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the workers, and the thread that watches over them."""
        self._began_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop all sensors; frames already received are still processed. Returns immediately."""
        self._stopping.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until everything has ended, at most `seconds`; return whether it has. Raises the failure that ended it."""
        if not self._ended.wait(seconds):
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def abandon(self, seconds: float) -> list[str]:  # noqa: ARG002 - as live.runner.Runner
        """End all workers at once; return the names of the sinks, which are not closed."""
        self._stopping.set()
        unclosed = list(self.status().sinks)
        with self.lock:
            members = list(self.members)
        for member in members:
            member.close()
        self._ended.set()
        return unclosed

    @property
    def is_running(self) -> bool:
        """Whether the supervisor has started and has not ended."""
        return self._thread.is_alive() and not self._ended.is_set()

    @property
    def clocks(self) -> Clocks:
        """Latencies by stage, of all sensors together."""
        return self._recent()[1]

    def status(self) -> Status:
        """Count everything done so far, of all sensors; thread-safe."""
        return self._recent()[0]

    def crew(self) -> list[dict[str, Any]]:
        """The workers, each with its name, where it is, its state, its load in cores, and its sensors."""
        with self.lock:
            sensors = {m.name: [name for name, post in self.posts.items() if post.member is m] for m in self.members}
            return [
                {"name": m.name, "where": m.where, "state": m.state, "load": m.load, "sensors": sensors[m.name]}
                for m in self.members
            ]

    def starts(self) -> dict[str, int]:
        """How often each sensor was placed at a worker."""
        with self.lock:
            return {name: post.starts for name, post in self.posts.items()}

    def failed(self) -> dict[str, str]:
        """Why sensors do not run, by sensor; empty if all do."""
        with self.lock:
            return {name: post.fault for name, post in self.posts.items() if post.fault}

    def reload(self, sensors: Mapping[str, SensorPlan]) -> None:
        """Run these sensors: start new ones, stop those that are not listed, start changed ones again; touch no other."""
        with self.lock:
            for name in [n for n in self.posts if n not in sensors]:
                log.info("sensor %s: removed", name)
                self._release(self.posts[name])
            for name, plan in sensors.items():
                post = self.posts.get(name)
                if post is None:
                    log.info("sensor %s: added", name)
                    self.posts[name] = Post(plan)
                elif post.plan != plan:
                    log.info("sensor %s: changed", name)
                    post.plan, post.retry_at_s = plan, 0.0
                    self._release(post)
            self._kept = set(sensors)
            for name in [n for n, post in self.posts.items() if n not in sensors and post.member is None]:
                self._gone.merge(self.posts.pop(name).past)

    def placements(self) -> dict[str, Member | None]:
        """The worker of each sensor, None where it has none."""
        with self.lock:
            return {name: post.member for name, post in self.posts.items()}

    def reports(self) -> dict[str, StationReport]:
        """The last report of each sensor that has one."""
        with self.lock:
            return {name: post.report for name, post in self.posts.items() if post.report is not None}

    def _supervise(self) -> None:
        """Body of the supervisor's thread."""
        try:
            while not self._stopping.wait(TICK_S):
                with self.lock:
                    self._take_reports()
                    self._bury()
                    self._hire()
                    self._place_sensors()
                    self._rebalance()
            self._stop_workers()
        except BaseException as error:
            self._failure = error
        finally:
            try:
                self._place.close()
                self._ledger.close()
            finally:
                self._ended.set()  # only now: who waits may start another supervisor with the same state at once

    def _take_reports(self) -> None:
        """Take what the workers say of the sensors; put off those that failed."""
        for name, post in self.posts.items():
            member = post.member
            report = member.report.stations.get(name) if member and member.report else None
            if member is None or member.report is None or report is None or report.start != post.start:
                continue
            post.take(report, member.report.time_s)
            if report.state in ("failed", "ended") and not post.leaving:
                reason = report.detail or "ended by itself"
                log.error("sensor %s: %s", name, reason)
                post.put_off(reason)
                self._release(post)

    def _bury(self) -> None:
        """Move the sensors of lost workers."""
        for member in [m for m in self.members if m.lost]:
            member.close()
            self.members.remove(member)
            self.lost_workers += 1
            sensors = [name for name, post in self.posts.items() if post.member is member]
            log.error("%s: lost (%s); moving %s", member.name, member.lost, ", ".join(sensors) or "no sensor")
            for name in sensors:
                self.posts[name].leave()
                if member.crashed:
                    self.posts[name].strike()
                if member.only_for:
                    self.posts[name].put_off(f"{member.name}: {member.lost}")
                self._drop_if_removed(name)
            if not member.only_for:
                self._put_hiring_off(early=time.monotonic() - member.began_s < EARLY_S)

    def _put_hiring_off(self, *, early: bool) -> None:
        """Wait before the next worker is started if the last one ended early, each time longer."""
        self._hire_at_s = time.monotonic() + (self._hire_s if early else 0.0)
        self._hire_s = min(2 * self._hire_s, LONGEST_HIRE_S) if early else HIRE_S

    def _hire(self) -> None:
        """Start the workers that are missing: the common ones, and one for each sensor that wants its own."""
        now = time.monotonic()
        if now < self._hire_at_s:
            return
        missing = [""] * (self.wanted - sum(not m.only_for for m in self.members))
        owned, alone = {m.only_for for m in self.members}, [p for p in self.posts.values() if p.wants_own_worker]
        missing += [p.plan.name for p in alone if p.plan.name not in owned and now >= p.retry_at_s]
        for only_for in missing:
            self._hired += 1
            try:
                worker = self._place.start(f"worker {self._hired}")
            except (OSError, IrstError) as error:
                log.error("worker %d: not started: %s", self._hired, error)
                self._put_hiring_off(early=True)
                break
            if only_for and not self.posts[only_for].plan.alone:
                log.warning("%s: for sensor %s alone, whose workers end too often", worker.name, only_for)
            self.members.append(Member(worker, self._settings.lease_s, only_for))
        for member in [m for m in self.members if m.only_for and m.only_for not in self.posts]:
            member.close()
            self.members.remove(member)

    def _place_sensors(self) -> None:
        """Give each sensor without a worker to the one with the least to do."""
        now = time.monotonic()
        for name, post in self.posts.items():
            if post.member is not None or now < post.retry_at_s:
                continue
            placed = self._loads(self._workers_for(name))
            if not post.starts and now - self._began_s < SPREAD_S:
                placed = self._with_room(placed)
            if not placed:
                continue
            loads = {other: one.load for other, one in self.posts.items() if one.load == one.load}
            chosen = choose_worker(name, placed, loads)
            member = next(m for m in self.members if m.name == chosen)
            try:
                start = self._ledger.next_start(name)
            except OutputError as error:
                log.error("sensor %s: not started: %s", name, error)
                post.put_off(str(error))
                continue
            post.place(member, start)
            member.tell("assign", self._order(post), done=self._refused(name, start))

    def _order(self, post: Post) -> Order:
        name, view = post.plan.name, self._view
        config = replace(post.plan.config, memory=str(self._folder / f"{name}.json"))
        least_id = 1 if self._place.one_disk else post.start * IDS_A_START + 1
        page = (view.frames_per_s, view.history_mb / max(len(self.posts), 1)) if view.port else (0.0, 0.0)
        return Order(name, config, post.plan.text, post.start, least_id, str(self._folder), post.before, *page)

    def _refused(self, name: str, start: int) -> Callable[[Any], None]:
        """What takes the answer to an order."""

        def done(answer: Any) -> None:
            with self.lock:
                post = self.posts.get(name)
                if isinstance(answer, IrstError) and post is not None and post.start == start and post.member:
                    if post.member.lost or post.member not in self.members:
                        return  # its sensors are moved anyway
                    log.error("sensor %s: %s", name, answer)
                    post.put_off(str(answer))
                    self._release(post)

        return done

    def _workers_for(self, sensor: str) -> list[Member]:
        """The workers that may run a sensor."""
        own = next((m for m in self.members if m.only_for == sensor), None)
        if own is not None and (own.is_ready or time.monotonic() - own.began_s < OWN_WORKER_S):
            return [own] if own.is_ready else []
        if own is None and self.posts[sensor].wants_own_worker:
            return []  # it is about to be started
        return self._common()

    def _common(self) -> list[Member]:
        """The workers that may run any sensor."""
        return [m for m in self.members if m.is_ready and not m.only_for]

    def _loads(self, workers: Sequence[Member]) -> dict[str, dict[str, float]]:
        """The loads of the sensors of each worker, by worker."""
        return {m.name: {name: post.load for name, post in self.posts.items() if post.member is m} for m in workers}

    def _with_room(self, placed: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        """While workers come up, only those with less than an even share: the first must not get all sensors."""
        if all(member.is_ready for member in self.members):
            return placed
        share = -(-len(self.posts) // self.wanted)
        return {name: sensors for name, sensors in placed.items() if len(sensors) < share}

    def _release(self, post: Post) -> None:
        """Stop a sensor at its worker; it is placed again once that is done, if it is still wanted."""
        member, start = post.member, post.start
        if member is None or post.leaving:
            return
        post.leaving = True

        def done(answer: Any) -> None:
            with self.lock:
                if post.member is not member or post.start != start:
                    return  # the worker was lost meanwhile
                if isinstance(answer, IrstError):
                    log.error("sensor %s: not stopped: %s", post.plan.name, answer)
                    post.leaving = False
                    return
                if isinstance(answer, StationReport):
                    post.take(answer, 0.0)
                post.leave()
                self._drop_if_removed(post.plan.name)

        member.tell("release", post.plan.name, RELEASE_S, done=done, timeout_s=RELEASE_S + ANSWER_S)

    def _drop_if_removed(self, name: str) -> None:
        if name not in self._kept:
            self._gone.merge(self.posts.pop(name).past)

    def _rebalance(self) -> None:
        """Move one sensor from the busiest worker if that evens the load."""
        now = time.monotonic()
        if not self._settings.rebalance or now - self._balanced_s < REBALANCE_S:
            return
        self._balanced_s = now
        if any(post.member is None or post.leaving for post in self.posts.values()):
            return
        move = choose_move(self._loads(self._common()))
        if move is not None and now - self.posts[move.sensor].moved_s > SETTLED_S:
            log.info("sensor %s: moves from %s, the busiest, to %s", *move)
            self._release(self.posts[move.sensor])

    def _stop_workers(self) -> None:
        """Stop all sensors, take what the workers say at last, and end the workers."""
        with self.lock:
            members = list(self.members)
        left = threading.Semaphore(0)
        last: dict[str, StationReport] = {}

        def done(answer: Any) -> None:
            if isinstance(answer, dict):
                last.update(answer)
            elif not self._ended.is_set():
                log.error("stop: %s", answer)
            left.release()

        for member in members:
            if member.is_ready:
                member.tell("stop", STOP_S, done=done, timeout_s=STOP_S + ANSWER_S)
            else:
                left.release()
        for _ in members:
            left.acquire()
        with self.lock:
            for name, report in last.items():
                post = self.posts.get(name)
                if post is not None and post.start == report.start:
                    post.take(report, 0.0)
            self._summed = None
        for member in members:
            member.close()

    def _recent(self) -> tuple[Status, Clocks]:
        """The status and latencies of all sensors together, at most STATUS_S old."""
        with self.lock:
            now = time.monotonic()
            if self._summed is None or now - self._summed[0] > STATUS_S:
                clocks, faults = Clocks(), faults_of(self.posts, self.members, self.wanted)
                status = summed(self.posts, self._gone, clocks, now - self._began_s, faults)
                self._summed = now, status, clocks
            return self._summed[1:]
