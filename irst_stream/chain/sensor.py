"""Everything that a pipeline holds of one sensor, and what its parts are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from irst_stream.chain.platform import PoseHistory, View, with_platform_shifts
from irst_stream.chain.window import WindowBuilder
from irst_stream.resolve.readouts import Resolver
from irst_stream.types import Detections, Frame, Pose, RegionOutput, Tracks, Window

__all__ = ["Follower", "Network", "NoNetwork", "SensorChain"]

Maps: TypeAlias = Any  # what a network holds of one sensor's last frames


class Network(Protocol):
    """Looks at windows before they are read, those of all sensors in one call.

    `alarm` says what has failed of it, "" while nothing has.
    """

    alarm: str

    def new_maps(self) -> Maps:
        """Room for what is held of one more sensor."""

    def __call__(self, windows: Sequence[tuple[Window, Maps]]) -> list[list[RegionOutput]]:
        """What is seen in each region of each window; each comes with what is held of its sensor."""


class NoNetwork:
    """Sees nothing: the windows are read by the fit alone."""

    alarm = ""

    def new_maps(self) -> Maps:
        """Nothing is held."""
        return None

    def __call__(self, windows: Sequence[tuple[Window, Maps]]) -> list[list[RegionOutput]]:
        """Nothing of each."""
        return [[] for _ in windows]


class Follower(Protocol):
    """Follows one sensor's targets from frame to frame; `next_id` is the next new track's."""

    next_id: int

    def settle(self, detections: Detections, pose: Pose | None, shape: tuple[int, int] | None) -> list[Tracks]:
        """The tracks that the next frame settles. pose and shape (H, W): of that frame, None where no poses are known."""

    def finish(self) -> list[Tracks]:
        """The tracks that waited for more frames."""


@dataclass
class SensorChain:
    """One sensor's windows, its platform's poses, what the network holds of it, its reader and its tracker."""

    windows: WindowBuilder
    poses: PoseHistory
    maps: Maps
    reader: Resolver
    tracker: Follower | None

    def take(self, frame: Frame) -> tuple[Window, list[View]] | None:
        """The window that a frame completes, shifted as its platform moved, and the views of its frames."""
        if frame.pose is not None and frame.pose.x != frame.pose.x:  # NaN: its sensor said something else than a pose
            self.windows.count(frame, "pose")
        self.poses.add(frame)
        window = self.windows.push(frame)
        if window is None:
            return None
        around = self.poses.around(window.stamp)
        return with_platform_shifts(window, around), around

    def follow(self, detections: Detections, around: Sequence[View]) -> list[Tracks]:
        """The tracks that a window's detections settle; around: the views of its frames."""
        if self.tracker is None:
            return []
        view = around[len(around) // 2] if around else None
        return self.tracker.settle(detections, view.pose if view else None, view.shape if view else None)

    def finish(self) -> list[Tracks]:
        """The tracks that waited for frames that will not come."""
        return [] if self.tracker is None else self.tracker.finish()
