"""A tracker for each sensor."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from irst_stream.track.settings import TrackSettings
from irst_stream.track.tracker import Tracker, warm_up
from irst_stream.types import Detections, Frame, Pose, Stamp, Tracks
from irst_stream.wire import pose_of

__all__ = ["Trackers"]

MOST_SENSORS = 256  # that are followed; one that comes back after more others starts anew
LONGEST_WINDOW = 256  # frames between one and its detections, at most
MOST_NAMES = 65_536  # of sensors that have been forgotten, whose ids go on where they ended


class _View(NamedTuple):
    """Where the platform pointed at a frame of that shape (H, W)."""

    pose: Pose
    shape: tuple[int, int]


class Trackers:
    """Follows the targets of any number of sensors, each by itself; the ids of a sensor's tracks are never used again.

    Compiles, or loads what was compiled before, when it is made.
    """

    def __init__(self, settings: TrackSettings) -> None:
        warm_up()
        self._settings = settings
        self._trackers: OrderedDict[str, Tracker] = OrderedDict()
        self._next_ids: OrderedDict[str, int] = OrderedDict()
        self._views: dict[str, deque[_View]] = {}

    def look(self, frame: Frame) -> None:
        """Takes note of where the platform pointed at a frame whose detections are to come, if that says so.

        Raises a WireError where what it says is odd; then the frame counts as one that says nothing.
        """
        pose = pose_of(frame)
        if pose is not None:
            views = self._views.setdefault(pose.stamp.sensor, deque(maxlen=LONGEST_WINDOW))
            views.append(_View(pose, (frame.pixels.shape[0], frame.pixels.shape[1])))

    def __call__(self, detections: Detections) -> Tracks:
        """The tracks of a sensor's next frame: see Tracker.step."""
        sensor = detections.stamp.sensor
        if sensor not in self._trackers:
            self._trackers[sensor] = Tracker(self._settings, first_id=self._next_ids.pop(sensor, 1))
        self._trackers.move_to_end(sensor)
        if len(self._trackers) > MOST_SENSORS:
            self.forget(next(iter(self._trackers)))
        tracker, view = self._trackers[sensor], self._view(detections.stamp)
        if view is None:
            return tracker.step(detections)
        tracker.shape = view.shape
        return tracker.step(detections, view.pose)

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self._views.pop(sensor, None)
        tracker = self._trackers.pop(sensor, None)
        if tracker is not None:
            self._next_ids[sensor] = tracker.next_id
        if len(self._next_ids) > MOST_NAMES:
            self._next_ids.popitem(last=False)

    def _view(self, stamp: Stamp) -> _View | None:
        """What was noted of a frame."""
        return next((view for view in self._views.get(stamp.sensor, ()) if view.pose.stamp == stamp), None)
