"""A running pipeline: one thread per source, one that computes, one per sink, and bounded queues between them.

The first failure of a source or of the computation stops everything and is raised unchanged. Records count as lost while a
sink fails, and the pipeline continues.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import cv2

from irst_stream.chain.pipeline import Result
from irst_stream.chain.sensor import SensorMemory
from irst_stream.live.memory_file import MemoryFile
from irst_stream.live.outlets import SinkWriter
from irst_stream.live.queues import OTHERS, Arrival, Intake, QueuedRecord, SensorCounts, merge_into_others
from irst_stream.live.status import SensorStatus, Status
from irst_stream.protocols import Record, Sink, Source
from irst_stream.resolve.psf_watch import PsfWatch
from irst_stream.system.latency import LONGEST_NS, Clocks
from irst_stream.types import Detections, Frame, Policy, Stamp

__all__ = ["Processor", "Runner"]

ARRIVALS_KEPT = 64  # per sensor, to look up when the frame of a result arrived
SWITCH_INTERVAL_S = 1e-4  # between Python threads: the default 5 ms is half a frame period at 100 Hz
FORGET_EVERY_S = 1.0
READY_POLL_S = 0.2
SETTLE_S = 1e-3  # that what can wait leaves the sinks to send a step's results
log = logging.getLogger(__name__)


class Processor(Protocol):
    """What the computing thread runs: a pipeline, or a sequence monitor."""

    clocks: Clocks
    events: Counter[tuple[str, str]]  # frame events by (sensor, name)

    @property
    def spent_ns(self) -> Mapping[str, int]:
        """The computing time that the last step took for each sensor, ns."""

    @property
    def alarm(self) -> str:
        """What has failed and what replaces it, "" if nothing has failed."""

    @property
    def psf_watches(self) -> Mapping[str, PsfWatch]:
        """What each sensor's targets say of its PSF."""

    def get_ready(self, seconds: float) -> bool:
        """Wait until the first step can be taken, at most `seconds`; return whether it can."""

    def step(self, frames: Sequence[Frame], more: bool = False) -> list[Result]:
        """Process frames, at most one per sensor; return detections and tracks that are ready.

        more: the next frames wait already, so that results may come with the next step.
        """

    def get_ahead(self) -> None:
        """Do what the next step need not wait for, now that the last one's results are out."""

    def finish(self) -> list[Result]:
        """Return the results that waited for further frames, at the end of all input."""

    def forget(self, sensor: str) -> list[Result]:
        """Drop a silent sensor's state; return its results that waited for further frames."""

    def memories(self) -> dict[str, SensorMemory]:
        """What is worth keeping of each sensor when the run ends."""


class Runner:
    """Moves frames from sources through a pipeline into sinks until the sources end or stop() is called.

    depth, most_sensors: see queues.Intake; forget_s: silence in s after which a sensor is forgotten; memory: the file that
    keeps what the pipeline learns; done: called with a sink's name and a record, in the sink's thread, once the sink has
    written the record, or has lost it and counted that.
    """

    def __init__(
        self,
        pipeline: Processor,
        sources: Mapping[str, Source],
        sinks: Mapping[str, Sink],
        policy: Policy = "live",
        *,
        depth: int = 16,
        most_sensors: int = 64,
        forget_s: float = 600.0,
        memory: MemoryFile | None = None,
        done: Callable[[str, Record], None] | None = None,
    ) -> None:
        self.clocks: Clocks = pipeline.clocks
        self._pipeline, self._policy, self._forget_s, self._memory = pipeline, policy, forget_s, memory
        self._intake = Intake(policy, depth, most_sensors)
        self._sources = dict(sources)
        self._writers = {name: SinkWriter(name, sink, policy, self.clocks, done) for name, sink in sinks.items()}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._receivers: dict[str, threading.Thread] = {}
        self._threads: list[threading.Thread] = []
        self._removed: set[str] = set()
        self._failure: BaseException | None = None
        self._stopping = False
        self._began = 0.0
        self._arrived: dict[str, deque[Arrival]] = {}
        self._counts = SensorCounts()
        self._confirmed_tracks: dict[str, int] = {}
        self._past_rejected: Counter[str] = Counter()
        self._past_links: Counter[str] = Counter()

    def start(self) -> None:
        """Start all threads."""
        self._began = time.monotonic()
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        gc.collect()
        gc.freeze()  # what is there by now stays: looking through it again would halt all threads, for some 60 ms each time
        cv2.setNumThreads(1)  # these threads already occupy the cores; OpenCV's would only contend with them
        for writer in self._writers.values():
            writer.start(self.status)
        self._threads = [self._start_thread("compute", self._compute)]
        self._threads += [self._start_thread(name, writer.run) for name, writer in self._writers.items()]
        with self._lock:
            for name in self._sources:
                self._receive(name)
        if not self._sources:
            self._intake.close()

    def add(self, name: str, source: Source) -> None:
        """Start receiving from another source; ValueError if the name is in use or the runner is stopping."""
        with self._lock:
            if name in self._receivers or self._stopping:
                raise ValueError(f"source {name}: the name is in use, or the runner is stopping")
            self._sources[name] = source
            self._receive(name)

    def remove(self, name: str) -> None:
        """Stop receiving from a source and wait until its thread has ended; frames already received are still processed.

        The runner keeps running even without sources, until stop() is called.
        """
        with self._lock:
            source, thread = self._sources[name], self._receivers[name]
            self._removed.add(name)
        source.stop()
        thread.join()

    def stop(self) -> None:
        """Stop receiving; frames already received are still processed. Returns immediately."""
        with self._lock:
            self._stopping = True
            sources = list(self._sources.values())
        for source in sources:
            source.stop()
        if not sources:
            self._intake.close()

    def abandon(self, seconds: float) -> list[str]:
        """Drop queued frames and close the sinks; return the names of sinks not closed within `seconds`.

        Records already queued to sinks are still written. Does not wait for the computation in progress.
        """
        deadline = time.monotonic() + seconds
        self.stop()
        self._intake.clear()
        with self._lock:
            receivers = list(self._receivers.values())
        for thread in receivers:
            thread.join(max(deadline - time.monotonic(), 0) / 2)
        for writer in self._writers.values():
            writer.queue.close()
        return [
            name for name, writer in self._writers.items() if not writer.ended.wait(max(deadline - time.monotonic(), 0))
        ]

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until everything has ended, at most `seconds`; return whether it has. Raises the failure that ended it."""
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
        """Start, and wait for the end."""
        self.start()
        self.wait()

    @property
    def is_running(self) -> bool:
        """Whether the computation has started and has not ended."""
        return bool(self._began) and not self._ended.is_set()

    def status(self) -> Status:
        """Count everything done so far; thread-safe.

        Counters of other threads are copied before iteration: dict() is atomic under the GIL, a loop is not.
        """
        now = time.monotonic_ns()
        seen, watches = dict(self._intake.seen), self._pipeline.psf_watches
        sensors = {
            name: SensorStatus(
                *totals,
                self._confirmed_tracks.get(name, 0),
                (now - seen.get(name, now)) / 1e9,
                *((watches[name].ratio, watches[name].advice) if name in watches else ()),
            )
            for name, totals in self._counts.snapshot().items()
        }
        dropped = Counter[str]()
        for counts in (self._intake.dropped, self._pipeline.events):
            for (_, reason), count in dict(counts).items():
                dropped[reason] += count
        dropped["missing"] -= min(dropped["missing"], dropped["overrun"])  # an overrun also shows as a gap: count it once
        with self._lock:
            sources = list(self._sources.values())
        rejected, links = Counter(self._past_rejected), Counter(self._past_links)
        for source in sources:
            rejected.update(dict(source.rejected))
            links.update(dict(getattr(source, "links", {})))
        return Status(
            seconds=time.monotonic() - self._began,
            sensors=sensors,
            sinks={name: writer.status() for name, writer in self._writers.items()},
            dropped=dict(+dropped),
            rejected=dict(rejected),
            links=dict(links),
            stages=self.clocks.summaries(),
            waiting=self._intake.waiting,
            alarm=self._pipeline.alarm,
        )

    def fail(self, error: BaseException) -> None:
        """Keep the first failure and stop, as stop() does; later failures are its consequences."""
        with self._lock:
            self._failure = self._failure or error
        self.stop()

    def _start_thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a daemon thread whose exceptions stop the runner."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _receive(self, name: str) -> None:
        """Start the thread of a source; the caller holds the lock."""
        source = self._sources[name]

        def work() -> None:
            try:
                for frame in source:
                    self._accept(frame)
            finally:
                source.close()
                self._source_ended(name)

        self._receivers[name] = self._start_thread(f"receive {name}", work)

    def _accept(self, frame: Frame) -> None:
        """Count a received frame, and queue it for the sinks and the computation."""
        arrival, sensor = Arrival(frame, time.time_ns(), time.monotonic_ns()), frame.stamp.sensor
        if not self._intake.admits(arrival):
            self._counts.add(OTHERS, frames=1)
            return
        self._counts.add(sensor, frames=1)
        for writer in self._writers.values():
            writer.put(QueuedRecord(frame, arrival.time_ns))
        self._intake.put(arrival)

    def _source_ended(self, name: str) -> None:
        """Keep the counts of an ended source; close the intake if it was the last."""
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
        """Process frames until the intake is closed and empty, then end the sinks; body of the computing thread."""
        try:
            while not self._pipeline.get_ready(READY_POLL_S):  # frames wait in the queue, where newer ones replace them
                if self._intake.ended:
                    break  # it was stopped before any came
            last_forget = time.monotonic()
            while arrivals := self._intake.take():
                now = time.monotonic_ns()
                for arrival in arrivals:
                    self._record_arrival(arrival, now)
                frames = [arrival.frame for arrival in arrivals]
                for result in self._pipeline.step(frames, more=self._intake.waiting > 0):
                    self._publish(result)
                self.clocks.add("compute", time.monotonic_ns() - now)
                self._get_ahead()
                self._intake.charge(self._pipeline.spent_ns)
                if time.monotonic() - last_forget > FORGET_EVERY_S:
                    self._forget_silent_sensors()
                    last_forget = time.monotonic()
                    if self._memory is not None:
                        self._memory.save_if_due(self._pipeline.memories)
            for result in self._pipeline.finish():
                self._publish(result)
            if self._memory is not None:
                self._memory.save(self._pipeline.memories(), final=True)
        finally:
            self._intake.clear()
            if self._memory is not None:
                self._memory.close()
            for writer in self._writers.values():
                writer.queue.close()
            for writer in self._writers.values():
                writer.ended.wait()
            self._ended.set()

    def _get_ahead(self) -> None:
        """Do what the next step need not wait for, if it has not to begin at once, and when the results are sent.

        The sinks' threads may be on this processor, where they would wait for as long as this one goes on.
        """
        deadline = time.monotonic() + SETTLE_S
        for writer in self._writers.values():
            if self._intake.waiting:
                return
            writer.queue.settle(max(deadline - time.monotonic(), 0))
        if not self._intake.waiting:
            self._pipeline.get_ahead()

    def _record_arrival(self, arrival: Arrival, now_ns: int) -> None:
        """Add the frame's transport and queue latencies to the clocks, and keep its arrival for _publish."""
        stamp = arrival.frame.stamp
        if _is_comparable(stamp, arrival.time_ns):
            self.clocks.add("transport", arrival.time_ns - stamp.time_ns)
        self.clocks.add("queue", now_ns - arrival.steady_ns)
        self._arrived.setdefault(stamp.sensor, deque(maxlen=ARRIVALS_KEPT)).append(arrival)

    def _publish(self, result: Result) -> None:
        """Count a result and queue it for the sinks."""
        if self._memory is not None:
            self._memory.before_publishing(result, self._pipeline.memories)
        stamp = result.stamp
        if isinstance(result, Detections):
            self._counts.add(stamp.sensor, answered=1, detections=len(result))
        else:
            self._confirmed_tracks[stamp.sensor] = int(result.confirmed.sum())
        since_ns = stamp.time_ns
        if not _is_comparable(stamp, time.time_ns()):
            arrived = (a for a in self._arrived.get(stamp.sensor, ()) if a.frame.stamp == stamp)
            since_ns = next((a.time_ns for a in arrived), 0)
        item = QueuedRecord(result, 0, since_ns, time.monotonic_ns())
        for writer in self._writers.values():
            writer.put(item)
        if not self._writers and since_ns:
            self.clocks.add("end to end", time.time_ns() - since_ns)

    def _forget_silent_sensors(self) -> None:
        """Drop all state of sensors that have been silent for forget_s; their counts move to OTHERS."""
        for sensor in self._intake.forget(int(self._forget_s * 1e9)):
            log.info("sensor %s: forgotten after %g s of silence", sensor, self._forget_s)
            for result in self._pipeline.forget(sensor):
                self._publish(result)
            self._arrived.pop(sensor, None)
            self._confirmed_tracks.pop(sensor, None)
            self._counts.forget(sensor)
            merge_into_others(self._pipeline.events, sensor)


def _is_comparable(stamp: Stamp, now_ns: int) -> bool:
    """Whether a frame's time stamp can be compared with our clock: same epoch, and too close to be a wrong clock."""
    return stamp.clock == "unix" and abs(now_ns - stamp.time_ns) < LONGEST_NS
