"""The one path from frames to detections and tracks, for files and live sources: Pipeline.step()."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from irst_stream.chain.pace import FramePace
from irst_stream.chain.platform import PlatformView, correct_for_roll, with_pose_errors
from irst_stream.chain.sensor import Maps, Network, SensorChain, SensorMemory
from irst_stream.chain.window import Events
from irst_stream.resolve.psf_watch import PsfWatch
from irst_stream.system.latency import Clocks
from irst_stream.types import Detections, Frame, RegionOutput, Stamp, Tracks, Window

__all__ = ["Pipeline", "Result"]

Result: TypeAlias = Detections | Tracks
NewSensor: TypeAlias = Callable[[Events, int], SensorChain]  # the counter of events, the id of the first track
MAX_SENSORS = 256  # held at once; beyond, the one without frames for the longest time is forgotten and starts from scratch
MAX_FORGOTTEN = 65_536  # forgotten sensors whose next track id and bad pixels are remembered
Completed: TypeAlias = list[tuple[SensorChain, Window, list[PlatformView]]]  # windows of one step
Windows: TypeAlias = list[tuple[Window, Maps]]  # the same, as the network takes them


class _Unmixing(NamedTuple):
    """Windows of one step, and what waits for the network's outputs for them, or has them computed."""

    completed: Completed
    outputs: Callable[[], list[list[RegionOutput]]]


class Pipeline:
    """One chain per sensor, and one network that processes the windows of all sensors together.

    Track ids of a sensor are never reused. `clocks` holds the durations of each stage; `events` counts what happened to
    frames, by sensor and event name: see chain.window. `spent_ns`: the computing time of the last step, and of what was
    done ahead after it, by sensor, ns.
    """

    def __init__(
        self,
        network: Network,
        new_sensor: NewSensor,
        memories: Mapping[str, SensorMemory] | None = None,
        first_id: int = 1,
        pace: FramePace | None = None,
        ready: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """memories: of an earlier run, by sensor; first_id: of the first track of a sensor without one; pace: that of the
        sensors, with which the fits keep up; None: each frame takes the time it needs; ready: waits until the first step
        can be taken, at most some seconds, and tells whether it can.
        """
        self.clocks, self.events = Clocks(), Counter[tuple[str, str]]()
        self.spent_ns: Counter[str] = Counter()
        self._network, self._new_sensor, self._first_id, self._pace = network, new_sensor, first_id, pace
        self.get_ready = ready  # whoever takes frames from a queue waits for it first, so that none gets old in his hands
        self._sensors: OrderedDict[str, SensorChain] = OrderedDict()
        self._memories: OrderedDict[str, SensorMemory] = OrderedDict(memories or {})  # of sensors that are not held
        self._ahead: list[tuple[SensorChain, Stamp]] = []  # whose windows were completed, and the windows' stamps
        self._began = 0.0  # when the last step began, s
        self._aside: _Unmixing | None = None  # what the network has in its own threads
        self._helpers: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None

    def another(self) -> Pipeline:
        """Return a pipeline with the same network and fit that knows no sensor."""
        return Pipeline(self._network, self._new_sensor)

    @property
    def alarm(self) -> str:
        """The failures so far and their fallbacks, in one line; "" while everything works."""
        resolver_alarms = {sensor.resolver.alarm: None for sensor in list(self._sensors.values())}
        return "; ".join(filter(None, (self._network.alarm, *resolver_alarms)))

    @property
    def psf_watches(self) -> dict[str, PsfWatch]:
        """What each sensor's targets say of its PSF, where there is a fit."""
        return {name: chain.resolver.watch for name, chain in list(self._sensors.items()) if chain.resolver.watch}

    def run(self, frames: Iterable[Frame]) -> Iterator[Result]:
        """Yield the results of frames, for instance of open_source, as they are completed; then end all streams."""
        for frame in frames:
            yield from self.step([frame])
        yield from self.finish()

    def step(self, frames: Sequence[Frame], more: bool = False) -> list[Result]:
        """Process the next frames of any sensors, in order of arrival.

        Returns the detections of the windows that the frames complete, each followed by the tracks that it settles. more:
        the next frames wait already: the network may work on these windows in threads of its own, and what is found in
        them comes with the next step. The results are the same.
        """
        self.spent_ns = Counter()
        self._catch_up()
        self._began, results = time.perf_counter(), list[Result]()
        completed = self._push(frames, results)
        aside = more and self._may_run_aside(completed)
        unmixing = self._unmix(completed, aside)
        results += self._finish_aside()
        if aside:
            self._aside = unmixing
        elif completed:
            results += self._resolve(unmixing)
        return results

    def _push(self, frames: Sequence[Frame], results: list[Result]) -> Completed:
        """Add frames to their sensors' windows; return those completed. Adds the results of what ends to `results`."""
        completed: Completed = []
        with self.clocks("window"):
            for frame in frames:
                if self._pace is not None:
                    self._pace.arrived(frame)
                with self._spending(frame.stamp.sensor):
                    sensor, ended = self._sensor(frame)
                    results += ended
                    pushed = sensor.push(frame)
                    if sensor.windows.restarted:
                        results += self._restart(sensor)
                    if pushed is not None:
                        completed.append((sensor, *pushed))
        return completed

    def _may_run_aside(self, completed: Completed) -> bool:
        """Whether windows may wait for the network until the next step: no time is short, and they are patches.

        A full frame is searched with what the last window's tracks tell of it.
        """
        are_frames = any(sensor.windows.shape != (0, 0) for sensor, *_ in completed)
        return self._network.runs_aside and self._pace is None and bool(completed) and not are_frames

    def _unmix(self, completed: Completed, aside: bool) -> _Unmixing:
        """Have the network process windows: from now on in its own threads (aside), or when its outputs are asked for."""
        windows = [(window, sensor.maps) for sensor, window, _ in completed]
        if not aside:
            return _Unmixing(completed, partial(self._unmix_now, windows))
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(1, "unfold"), ThreadPoolExecutor(1, "fuse")
        first, second = self._helpers
        return _Unmixing(completed, second.submit(self._fuse, first.submit(self._unfold, windows)).result)

    def _unmix_now(self, windows: Windows) -> list[list[RegionOutput]]:
        with self.clocks("unmix"):
            return self._network(windows)

    def _unfold(self, windows: Windows) -> tuple[float, Any]:
        """Do the network's first part; return also when it began."""
        return time.perf_counter(), self._network.unfold(windows)

    def _fuse(self, unfolding: Future[tuple[float, Any]]) -> list[list[RegionOutput]]:
        """Do the network's second part once the first is done, whose thread goes on with the next windows."""
        began, unfolded = unfolding.result()
        outputs = self._network.fuse(unfolded)
        self.clocks.add("unmix", round(1e9 * (time.perf_counter() - began)))
        return outputs

    def _finish_aside(self) -> list[Result]:
        """Return the results of the windows that the network has in its own threads; none if there are none."""
        unmixing, self._aside = self._aside, None
        return [] if unmixing is None else self._resolve(unmixing)

    def _resolve(self, unmixing: _Unmixing) -> list[Result]:
        """Return the detections in windows and the tracks that they settle, once the network has processed them."""
        completed, results = unmixing.completed, list[Result]()
        with self._spending(*(window.stamp.sensor for _, window, _ in completed)):
            outputs = unmixing.outputs()
        found: list[Detections] = []
        with self.clocks("resolve"):
            elapsed_s, windows = time.perf_counter() - self._began, len(completed)
            allowed_s = math.inf if self._pace is None else self._pace.allowed_s(windows, elapsed_s)
            for (sensor, window, views), output in zip(completed, outputs, strict=True):
                with self._spending(window.stamp.sensor):
                    found.append(correct_for_roll(sensor.resolve(window, output, allowed_s), window, views))
        tracking = time.perf_counter()
        with self.clocks("track"):
            for detections, (sensor, window, views) in zip(found, completed, strict=True):
                with self._spending(window.stamp.sensor):
                    results += (with_pose_errors(detections, window, views), *sensor.track(detections, window, views))
        self._ahead = [(sensor, window.stamp) for sensor, window, _ in completed]
        if self._pace is not None:
            self._pace.tracked(len(completed), time.perf_counter() - tracking)
        return results

    def get_ahead(self) -> None:
        """Do what the next frames need not wait for: search the next windows, fit groups from scratch in their turn, and
        measure how wide lights are.

        The results are the same whether this is called between two steps, when the first one's results are out, or is left
        to the second one, as is best where its frames are waiting already.
        """
        if not self._ahead:
            return
        with self.clocks("ahead"):
            searching = time.perf_counter()
            for sensor, stamp in self._ahead:
                with self._spending(stamp.sensor):
                    sensor.search_ahead()
            if self._pace is not None:
                self._pace.searched(len(self._ahead), time.perf_counter() - searching)
            self._catch_up()

    def _catch_up(self) -> None:
        """Do what the last windows have left, their fits as far as the time allows."""
        completed, self._ahead = self._ahead, []
        left_s = math.inf
        if self._pace is not None and completed:
            left_s = self._pace.left_s(len(completed), time.perf_counter() - self._began)
        for sensor, stamp in completed:
            with self._spending(stamp.sensor):
                sensor.catch_up(stamp, left_s)

    def finish(self) -> list[Result]:
        """End all streams; return the results of the last windows, and the tracks that were waiting for later frames."""
        return [*self._finish_aside(), *(tracks for sensor in self._sensors.values() for tracks in sensor.finish())]

    def forget(self, name: str) -> list[Result]:
        """Drop the state of a sensor; return its results that were waiting: for later frames, or for the network.

        Unknown names give none.
        """
        if name not in self._sensors:
            return []
        ended, sensor = self._finish_aside(), self._sensors.pop(name)
        if self._pace is not None:
            self._pace.forget(name)
        ended += sensor.finish()
        self._memories[name] = sensor.memory()
        if len(self._memories) > MAX_FORGOTTEN:
            self._memories.popitem(last=False)
        return ended

    def memories(self) -> dict[str, SensorMemory]:
        """Return what is worth keeping of each sensor when the run ends, forgotten ones included."""
        return {**self._memories, **{name: sensor.memory() for name, sensor in self._sensors.items()}}

    def _spending(self, *sensors: str) -> _Spending:
        """Share the time that a block takes between sensors."""
        return _Spending(self.spent_ns, sensors)

    def _sensor(self, frame: Frame) -> tuple[SensorChain, list[Result]]:
        """Return the chain of a frame's sensor, and the last tracks of a sensor forgotten to make room for it."""
        name, ended = frame.stamp.sensor, list[Result]()
        if name not in self._sensors:
            memory = self._memories.pop(name, None)
            self._sensors[name] = self._new_sensor(self.events, memory.next_id if memory else self._first_id)
            if memory is not None:
                self._sensors[name].windows.recall(memory.shape, memory.bad_pixels, memory.clutter)
            if len(self._sensors) > MAX_SENSORS:
                ended = self.forget(next(iter(self._sensors)))
        self._sensors.move_to_end(name)
        return self._sensors[name], ended

    def _restart(self, sensor: SensorChain) -> list[Result]:
        """Drop the state tied to a sensor's old stamps; return the results that were waiting. Its track ids continue."""
        waiting, fresh = self._finish_aside(), self._new_sensor(self.events, 1)
        sensor.maps, sensor.resolver = fresh.maps, fresh.resolver
        return [*waiting, *sensor.finish()]


class _Spending:
    """Context manager that adds the time of a block to sensors; a class, as a generator-based one takes twice as long."""

    __slots__ = ("_began", "_sensors", "_spent_ns")

    def __init__(self, spent_ns: Counter[str], sensors: tuple[str, ...]) -> None:
        self._spent_ns, self._sensors, self._began = spent_ns, sensors, 0

    def __enter__(self) -> None:
        self._began = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        share = (time.perf_counter_ns() - self._began) // len(self._sensors)
        for sensor in self._sensors:
            self._spent_ns[sensor] += share
