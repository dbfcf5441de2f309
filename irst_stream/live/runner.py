"""A running pipeline: a thread for each source, one that computes, one for each sink, and bounded queues between them.

The first failure of a source or of the computation stops everything and is raised as itself. A sink that fails is out of
order from then on; its losses are counted, and the others go on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import cv2

from irst_stream.chain.pipeline import Result
from irst_stream.chain.window import SequenceCheck
from irst_stream.live.outlets import Outlet
from irst_stream.live.queues import OTHERS, Arrival, Intake, Item, Tally, fold
from irst_stream.live.status import SensorStatus, Status
from irst_stream.protocols import Sink, Source
from irst_stream.system.latency import LONGEST_NS, Clocks
from irst_stream.types import Detections, Frame, Policy, Stamp

__all__ = ["Runner", "Steps", "Watch"]

REMEMBERED = 64  # arrivals of each sensor, to tell how long ago an answered frame came
SWITCH_S = 5e-4  # how long one thread may keep the others from running Python; its usual 5 ms are half a frame at 100 Hz
FORGET_EVERY_S = 1.0
log = logging.getLogger(__name__)


class Steps(Protocol):
    """What is done with frames: a pipeline, or less."""

    clocks: Clocks
    events: Counter[tuple[str, str]]  # what happened to frames on their way, by sensor and name

    @property
    def alarm(self) -> str:
        """What has failed, and what works in its place; "" while nothing has."""

    def step(self, frames: Sequence[Frame]) -> list[Result]:
        """Takes frames, at most one of each sensor; what was found, and followed."""

    def finish(self) -> list[Result]:
        """What waited for frames that will not come."""

    def forget(self, sensor: str) -> list[Result]:
        """Drops what is held of a sensor that will not come back; what waited for more of its frames."""


class Watch:
    """Takes note of frames, and no more: what is done while only a recording is made."""

    alarm = ""

    def __init__(self) -> None:
        self.clocks, self.events = Clocks(), Counter[tuple[str, str]]()  # gaps, restarts and the like: see window
        self._checks: dict[str, SequenceCheck] = {}

    def step(self, frames: Sequence[Frame]) -> list[Result]:
        """Finds nothing."""
        for frame in frames:
            sensor = frame.stamp.sensor
            if sensor not in self._checks:
                self._checks[sensor] = SequenceCheck(self.events)
            self._checks[sensor].judge(frame)
        return []

    def finish(self) -> list[Result]:
        """Holds nothing back."""
        return []

    def forget(self, sensor: str) -> list[Result]:
        """Drops what is held of a sensor that will not come back."""
        self._checks.pop(sensor, None)
        return []


class Runner:
    """Frames from sources through a pipeline into sinks, until the sources end or stop() is called.

    depth, most_sensors: see queues.Intake; forget_s: a sensor that has been silent for so long is forgotten.
    """

    def __init__(
        self,
        pipeline: Steps,
        sources: Mapping[str, Source],
        sinks: Mapping[str, Sink],
        policy: Policy = "live",
        *,
        depth: int = 16,
        most_sensors: int = 64,
        forget_s: float = 600.0,
    ) -> None:
        self.clocks: Clocks = pipeline.clocks
        self._pipeline, self._policy, self._forget_s = pipeline, policy, forget_s
        self._intake = Intake(policy, depth, most_sensors)
        self._sources = dict(sources)
        self._outlets = {name: Outlet(name, sink, policy, self.clocks) for name, sink in sinks.items()}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._receivers: dict[str, threading.Thread] = {}
        self._threads: list[threading.Thread] = []
        self._removed: set[str] = set()
        self._failure: BaseException | None = None
        self._stopping = False
        self._began = 0.0
        self._arrived: dict[str, deque[Arrival]] = {}
        self._tally = Tally()
        self._followed: dict[str, int] = {}
        self._past_rejected: Counter[str] = Counter()
        self._past_links: Counter[str] = Counter()

    def start(self) -> None:
        """Starts all threads."""
        self._began = time.monotonic()
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
        cv2.setNumThreads(1)  # the threads here are enough for the cores; OpenCV's would only wait for each other
        self._threads = [self._thread("compute", self._compute)]
        self._threads += [self._thread(name, outlet.run) for name, outlet in self._outlets.items()]
        with self._lock:
            for name in self._sources:
                self._receive(name)
        if not self._sources:
            self._intake.close()

    def add(self, name: str, source: Source) -> None:
        """Takes frames from one more source from now on."""
        with self._lock:
            if name in self._receivers or self._stopping:
                raise ValueError(f"source {name}: there is one of that name, or the runner is stopping")
            self._sources[name] = source
            self._receive(name)

    def remove(self, name: str) -> None:
        """Takes no more from a source; what has come from it is still answered. Waits until its thread has ended.

        Without any source left it goes on, until one is added, or stop() is called.
        """
        with self._lock:
            source, thread = self._sources[name], self._receivers[name]
            self._removed.add(name)
        source.stop()
        thread.join()

    def stop(self) -> None:
        """Receives no more; what has been received is finished. Does not wait."""
        with self._lock:
            self._stopping = True
            sources = list(self._sources.values())
        for source in sources:
            source.stop()
        if not sources:
            self._intake.close()

    def abandon(self, seconds: float) -> list[str]:
        """Computes no more than it is at; sinks still take what has come, and are closed. The names of those that were not.

        Waits for so long at most: for a computation that goes on it does not.
        """
        ended = time.monotonic() + seconds
        self.stop()
        self._intake.clear()
        with self._lock:
            receivers = list(self._receivers.values())
        for thread in receivers:
            thread.join(max(ended - time.monotonic(), 0) / 2)
        for outlet in self._outlets.values():
            outlet.box.close()
        return [name for name, outlet in self._outlets.items() if not outlet.ended.wait(max(ended - time.monotonic(), 0))]

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until everything has ended, for so long at most; whether it has. Raises what ended it, if anything did."""
        if not self._ended.wait(seconds):
            return False
        with self._lock:
            threads = [*self._threads, *self._receivers.values()]
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return True

    def run(self) -> None:
        """Starts, and waits for the end."""
        self.start()
        self.wait()

    def status(self) -> Status:
        """What has been done so far; any thread may ask.

        What other threads count in is copied first: dict() is done in one go, a loop over it is not.
        """
        now = time.monotonic_ns()
        seen = dict(self._intake.seen)
        sensors = {
            name: SensorStatus(*counts, self._followed.get(name, 0), (now - seen.get(name, now)) / 1e9)
            for name, counts in self._tally.counts().items()
        }
        dropped = Counter[str]()
        for counted in (self._intake.dropped, self._pipeline.events):
            for (_, reason), count in dict(counted).items():
                dropped[reason] += count
        dropped["missing"] -= min(dropped["missing"], dropped["overrun"])  # the gaps that an overrun has made
        with self._lock:
            sources = list(self._sources.values())
        rejected, links = Counter(self._past_rejected), Counter(self._past_links)
        for source in sources:
            rejected.update(dict(source.rejected))
            links.update(dict(getattr(source, "links", {})))
        return Status(
            seconds=time.monotonic() - self._began,
            sensors=sensors,
            sinks={name: outlet.status() for name, outlet in self._outlets.items()},
            dropped=dict(+dropped),
            rejected=dict(rejected),
            links=dict(links),
            stages=self.clocks.summaries(),
            waiting=self._intake.waiting,
            alarm=self._pipeline.alarm,
        )

    def fail(self, error: BaseException) -> None:
        """The first failure stops everything, after what has been received; later ones are its consequences."""
        with self._lock:
            self._failure = self._failure or error
        self.stop()

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _receive(self, name: str) -> None:
        """Starts the thread of a source; the caller holds the lock."""
        source = self._sources[name]

        def work() -> None:
            try:
                for frame in source:
                    self._arrive(frame)
            finally:
                source.close()
                self._source_ended(name)

        self._receivers[name] = self._thread(f"receive {name}", work)

    def _arrive(self, frame: Frame) -> None:
        arrival, sensor = Arrival(frame, time.time_ns(), time.monotonic_ns()), frame.stamp.sensor
        if not self._intake.admits(arrival):
            self._tally.add(OTHERS, frames=1)
            return
        self._tally.add(sensor, frames=1)
        for outlet in self._outlets.values():
            outlet.put(Item(frame, arrival.time_ns))
        self._intake.put(arrival)

    def _source_ended(self, name: str) -> None:
        with self._lock:
            source = self._sources.pop(name)
            del self._receivers[name]
            self._past_rejected.update(dict(source.rejected))
            self._past_links.update(dict(getattr(source, "links", {})))
            last = not self._sources and (self._stopping or name not in self._removed)
            self._removed.discard(name)
        if last:
            self._intake.close()

    def _compute(self) -> None:
        forgotten = time.monotonic()
        try:
            while arrivals := self._intake.take():
                now = time.monotonic_ns()
                for arrival in arrivals:
                    self._note(arrival, now)
                for result in self._pipeline.step([arrival.frame for arrival in arrivals]):
                    self._publish(result)
                self.clocks.add("compute", time.monotonic_ns() - now)
                if time.monotonic() - forgotten > FORGET_EVERY_S:
                    self._forget()
                    forgotten = time.monotonic()
            for result in self._pipeline.finish():
                self._publish(result)
        finally:
            self._intake.clear()
            for outlet in self._outlets.values():
                outlet.box.close()
            for outlet in self._outlets.values():
                outlet.ended.wait()
            self._ended.set()

    def _note(self, arrival: Arrival, now_ns: int) -> None:
        """How long a frame has been under way, and when it came."""
        stamp = arrival.frame.stamp
        if _is_ours(stamp, arrival.time_ns):
            self.clocks.add("transport", arrival.time_ns - stamp.time_ns)
        self.clocks.add("queue", now_ns - arrival.steady_ns)
        self._arrived.setdefault(stamp.sensor, deque(maxlen=REMEMBERED)).append(arrival)

    def _publish(self, result: Result) -> None:
        stamp = result.stamp
        if isinstance(result, Detections):
            self._tally.add(stamp.sensor, answered=1, detections=len(result))
        else:
            self._followed[stamp.sensor] = int(result.confirmed.sum())
        since = stamp.time_ns
        if not _is_ours(stamp, time.time_ns()):
            arrived = (a for a in self._arrived.get(stamp.sensor, ()) if a.frame.stamp == stamp)
            since = next((a.time_ns for a in arrived), 0)
        item = Item(result, 0, since, time.monotonic_ns())
        for outlet in self._outlets.values():
            outlet.put(item)
        if not self._outlets and since:
            self.clocks.add("end to end", time.time_ns() - since)

    def _forget(self) -> None:
        for sensor in self._intake.forget(int(self._forget_s * 1e9)):
            log.info("sensor %s: silent for %g s, forgotten", sensor, self._forget_s)
            for result in self._pipeline.forget(sensor):
                self._publish(result)
            self._arrived.pop(sensor, None)
            self._followed.pop(sensor, None)
            self._tally.forget(sensor)
            fold(self._pipeline.events, sensor)


def _is_ours(stamp: Stamp, now_ns: int) -> bool:
    """Whether a frame's time can be compared with ours; not of a clock so far off that the difference is no delay."""
    return stamp.clock == "unix" and abs(now_ns - stamp.time_ns) < LONGEST_NS
