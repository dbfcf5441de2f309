"""A tracker for each sensor."""

from __future__ import annotations

from collections import OrderedDict

from irst_stream.stabilise import View
from irst_stream.track.settings import TrackSettings
from irst_stream.track.tracker import Tracker, warm_up
from irst_stream.types import Detections, Tracks

__all__ = ["Trackers"]

MOST_SENSORS = 256  # that are followed; one that comes back after more others starts anew
MOST_NAMES = 65_536  # of sensors that have been forgotten, whose ids go on where they ended


class Trackers:
    """Follows the targets of any number of sensors, each by itself; the ids of a sensor's tracks are never used again.

    Compiles, or loads what was compiled before, when it is made.
    """

    def __init__(self, settings: TrackSettings) -> None:
        warm_up()
        self._settings = settings
        self._trackers: OrderedDict[str, Tracker] = OrderedDict()
        self._next_ids: OrderedDict[str, int] = OrderedDict()

    def __call__(self, detections: Detections, view: View | None = None) -> list[Tracks]:
        """The tracks that a sensor's next frame settles: usually its own, or those of the frame `lag` before it.

        Where it starts anew, those that waited come first. view: of that frame, where poses are known.
        """
        sensor = detections.stamp.sensor
        if sensor not in self._trackers:
            self._trackers[sensor] = Tracker(self._settings, first_id=self._next_ids.pop(sensor, 1))
        self._trackers.move_to_end(sensor)
        tracker = self._trackers[sensor]
        ended = tracker.finish() if tracker.is_new_start(detections.stamp) else []
        if len(self._trackers) > MOST_SENSORS:
            ended += self.forget(next(iter(self._trackers)))
        if view is not None:
            tracker.shape = view.shape
        tracks = tracker.step(detections, view.pose if view else None)
        return ended if tracker.waits else [*ended, tracks]

    def finish(self) -> list[Tracks]:
        """The tracks that waited, when no more frames come."""
        return [tracks for tracker in self._trackers.values() for tracks in tracker.finish()]

    def forget(self, sensor: str) -> list[Tracks]:
        """Drops what is held of a sensor that will not come back; its tracks that waited."""
        tracker = self._trackers.pop(sensor, None)
        if tracker is None:
            return []
        self._next_ids[sensor] = tracker.next_id
        if len(self._next_ids) > MOST_NAMES:
            self._next_ids.popitem(last=False)
        return tracker.finish()
