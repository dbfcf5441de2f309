"""The one path from frames to detections and tracks, offline and live: step(frames), and nothing else."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from irst_stream.chain.platform import View, correct_for_roll
from irst_stream.chain.sensor import Network, SensorChain
from irst_stream.chain.window import Events
from irst_stream.system.latency import Clocks
from irst_stream.types import Detections, Frame, Tracks, Window

__all__ = ["Pipeline", "Result"]

Result: TypeAlias = Detections | Tracks
NewSensor: TypeAlias = Callable[[Events, int], SensorChain]  # where events are counted, the first new track's id
MOST_SENSORS = 256  # that are held; one that comes back after more others starts from nothing
MOST_NAMES = 65_536  # of forgotten sensors whose track ids go on where they ended


class Pipeline:
    """A chain for each sensor, and a network that looks at the windows of all of them together.

    The ids of a sensor's tracks are never used again. `clocks` holds what each stage took; `events` counts what happened to
    frames, by sensor and name: see window.
    """

    def __init__(self, network: Network, new_sensor: NewSensor) -> None:
        self.clocks, self.events = Clocks(), Counter[tuple[str, str]]()
        self._network, self._new_sensor = network, new_sensor
        self._sensors: OrderedDict[str, SensorChain] = OrderedDict()
        self._next_ids: OrderedDict[str, int] = OrderedDict()

    @property
    def alarm(self) -> str:
        """What has failed, and what works in its place; "" while nothing has."""
        readers = {sensor.reader.alarm: None for sensor in list(self._sensors.values())}
        return "; ".join(filter(None, (self._network.alarm, *readers)))

    def step(self, frames: Sequence[Frame]) -> list[Result]:
        """Take the next frames of any sensors, in the order they came; the detections of the windows they complete, and
        after each the tracks that it settles.
        """
        results: list[Result] = []
        taken: list[tuple[SensorChain, Window, list[View]]] = []
        with self.clocks("window"):
            for frame in frames:
                sensor, ended = self._sensor(frame)
                results += ended
                completed = sensor.take(frame)
                if sensor.windows.restarted:
                    results += self._restart(sensor)
                if completed is not None:
                    taken.append((sensor, *completed))
        if not taken:
            return results
        with self.clocks("unmix"):
            answers = self._network([(window, sensor.maps) for sensor, window, _ in taken])
        with self.clocks("resolve"):
            found = [
                correct_for_roll(sensor.reader(window, answer), window, around)
                for (sensor, window, around), answer in zip(taken, answers, strict=True)
            ]
        with self.clocks("track"):
            for detections, (sensor, _, around) in zip(found, taken, strict=True):
                results += (detections, *sensor.follow(detections, around))
        return results

    def finish(self) -> list[Result]:
        """What waited for frames that will not come."""
        return [tracks for sensor in self._sensors.values() for tracks in sensor.finish()]

    def forget(self, name: str) -> list[Result]:
        """Drop all that is held of a sensor that will not come back; what waited for more of its frames."""
        sensor = self._sensors.pop(name, None)
        if sensor is None:
            return []
        if sensor.tracker is not None:
            self._next_ids[name] = sensor.tracker.next_id
            if len(self._next_ids) > MOST_NAMES:
                self._next_ids.popitem(last=False)
        return list(sensor.finish())

    def _sensor(self, frame: Frame) -> tuple[SensorChain, list[Result]]:
        """A frame's sensor; what waited of one that had to make room for it."""
        name, ended = frame.stamp.sensor, list[Result]()
        if name not in self._sensors:
            self._sensors[name] = self._new_sensor(self.events, self._next_ids.pop(name, 1))
            if len(self._sensors) > MOST_SENSORS:
                ended = self.forget(next(iter(self._sensors)))
        self._sensors.move_to_end(name)
        return self._sensors[name], ended

    def _restart(self, sensor: SensorChain) -> list[Tracks]:
        """Drop what is known by a sensor's old stamps; the tracks that waited. Its tracker's ids go on."""
        fresh = self._new_sensor(self.events, 1)
        sensor.maps, sensor.reader = fresh.maps, fresh.reader
        return sensor.finish()
