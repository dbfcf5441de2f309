"""The state of one sensor in a pipeline, and the protocols of the parts it uses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from irst_stream.chain.front_end import FrontEnd
from irst_stream.chain.platform import PlatformView, PoseHistory, window_pose, with_platform_shifts
from irst_stream.chain.window import WindowBuilder
from irst_stream.propose.clutter import ClutterMap
from irst_stream.resolve.readouts import Resolver
from irst_stream.types import Detections, Frame, Ints, Pose, RegionOutput, Stamp, Tracks, Window

__all__ = ["Network", "NoNetwork", "SensorChain", "SensorMemory", "SensorTracker"]

Maps: TypeAlias = Any  # a network's cache of one sensor's last frames


class Network(Protocol):
    """Processes windows before they are resolved, those of all sensors in one call.

    `alarm` describes a failure of the network, "" while there is none. `runs_aside`: whether it gains from two threads of
    its own, one for each part of a call; any threads may do them then, each part one call at a time.
    """

    alarm: str
    runs_aside: bool

    def new_maps(self) -> Maps:
        """Return an empty cache for one more sensor."""

    def __call__(self, windows: Sequence[tuple[Window, Maps]]) -> list[list[RegionOutput]]:
        """Return the output for each region of each window; every window comes with its sensor's cache."""

    def unfold(self, windows: Sequence[tuple[Window, Maps]]) -> Any:
        """Do the first part of a call."""

    def fuse(self, unfolded: Any) -> list[list[RegionOutput]]:
        """Do the second part of a call, given what the first one returned."""


class NoNetwork:
    """Gives no output: the windows are resolved by the fit alone."""

    alarm, runs_aside = "", False

    def new_maps(self) -> Maps:
        """Return None: nothing is cached."""
        return None

    def __call__(self, windows: Sequence[tuple[Window, Maps]]) -> list[list[RegionOutput]]:
        """Return an empty list for each window."""
        return self.fuse(self.unfold(windows))

    def unfold(self, windows: Sequence[tuple[Window, Maps]]) -> int:
        """Return the number of windows."""
        return len(windows)

    def fuse(self, unfolded: int) -> list[list[RegionOutput]]:
        """Return an empty list for each window."""
        return [[] for _ in range(unfolded)]


class SensorTracker(Protocol):
    """Tracks one sensor's targets from frame to frame.

    `next_id` is the id of the next new track. `repeats`: consecutive frames in which one false alarm may be detected, which
    the chain sets. `exhausted` counts frames whose association was cut short, `refused` detections that started no track
    because there were too many.
    """

    next_id: int
    repeats: int
    exhausted: int
    refused: int

    def settle(self, detections: Detections, pose: Pose | None, shape: tuple[int, int] | None) -> list[Tracks]:
        """Process the next frame's detections; return the tracks that they settle.

        pose and shape (H, W): of that frame, None where poses are unknown.
        """

    def finish(self) -> list[Tracks]:
        """End the stream; return the tracks that were waiting for later frames."""


class SensorMemory(NamedTuple):
    """What is worth keeping of a sensor when a run ends.

    next_id: of its next new track; shape: rows, columns of the frames, (0, 0) if they are patches, whose bad pixels are not
    learnt; bad_pixels (N, 2): x, y of those known; clutter: as learnt so far, None where it is not learnt.
    """

    next_id: int
    shape: tuple[int, int]
    bad_pixels: Ints
    clutter: ClutterMap | None = None


@dataclass
class SensorChain:
    """One sensor's front end, windows, platform's poses, cache of the network, resolver and tracker."""

    front_end: FrontEnd
    windows: WindowBuilder
    poses: PoseHistory
    maps: Maps
    resolver: Resolver
    tracker: SensorTracker | None
    most_targets: int = 1  # of a region, as far as the resolver looks; 1: it looks for no others

    def push(self, frame: Frame) -> tuple[Window, list[PlatformView]] | None:
        """Add the next frame; return the window that it completes, with platform shifts, and the views of its frames."""
        if frame.pose is not None and frame.pose.x != frame.pose.x:  # NaN: the sensor sent a pose that cannot be used
            self.windows.count(frame.stamp, "pose")
        window = self.windows.push(frame, self._condition)
        if window is None:
            return None
        views = self.poses.window_views(window.stamp)
        return with_platform_shifts(window, views), views

    def _condition(self, frame: Frame, event: str) -> Frame:
        """Return an accepted frame as it is used, and remember its pose."""
        frame = self.front_end(frame, event)
        self.poses.add(frame)
        return frame

    def resolve(self, window: Window, output: list[RegionOutput], allowed_s: float = math.inf) -> Detections:
        """Return a window's detections; count what had no time, and the regions with as many as the resolver looks for.

        allowed_s: time that the fits may take.
        """
        with self._budgeted(window.stamp, allowed_s):
            found = self.resolver(window, output)
        if self.most_targets > 1:
            targets = Counter(found.region.tolist()).values()  # faster than np.unique on so few
            self.windows.count(found.stamp, "targets", sum(count >= self.most_targets for count in targets))
        return found if window.large is None else found.joined(window.large)

    def search_ahead(self) -> None:
        """Search the next window's centre frame, as far as its frames are there."""
        self.windows.search_ahead()

    def catch_up(self, stamp: Stamp, allowed_s: float = math.inf) -> None:
        """Do what the last window's detections have not waited for; see Resolver.

        stamp: of that window; allowed_s: time that the fits may take.
        """
        if self.resolver.budget is not None:  # there is a fit
            with self._budgeted(stamp, allowed_s):
                self.resolver.catch_up()

    @contextmanager
    def _budgeted(self, stamp: Stamp, allowed_s: float) -> Iterator[None]:
        """Allow a block's fits some time, and count the fits that it was too short for."""
        budget = self.resolver.budget
        if budget is None:
            yield
            return
        budget.allowed_s = allowed_s
        yield
        for event, times in budget.drain().items():
            self.windows.count(stamp, event, times)

    def track(self, detections: Detections, window: Window, views: Sequence[PlatformView]) -> list[Tracks]:
        """Return the tracks that a window's detections settle; views: of its frames, empty where poses are unknown.

        The detections' covariances are without the errors of poses, which the tracker counts in the stabilised frame.
        """
        if self.tracker is None:
            return []
        pose, shape = (window_pose(window, views), views[0].shape) if views else (None, None)
        self.tracker.repeats = self.windows.repeats
        before = self.tracker.exhausted, self.tracker.refused
        settled = self.tracker.settle(detections, pose, shape)
        self.windows.count(detections.stamp, "exhausted", self.tracker.exhausted - before[0])
        self.windows.count(detections.stamp, "refused", self.tracker.refused - before[1])
        for tracks in settled[-1:]:
            self.windows.hold(tracks.state[tracks.confirmed, :2])
        return settled

    def memory(self) -> SensorMemory:
        """Return what is worth keeping when the run ends."""
        next_id = 1 if self.tracker is None else self.tracker.next_id
        return SensorMemory(next_id, self.windows.shape, self.windows.bad_pixels, self.windows.clutter)

    def finish(self) -> list[Tracks]:
        """End the stream; return the tracks that were waiting for later frames."""
        return [] if self.tracker is None else self.tracker.finish()
