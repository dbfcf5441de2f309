"""The one path from frames to detections, offline and live: step(frames), and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from irst_stream.clocks import Clocks
from irst_stream.resolve.readouts import Resolver
from irst_stream.types import Answer, Detections, Frame, Window
from irst_stream.window import Windows

__all__ = ["Network", "NoNetwork", "Pipeline"]


class Network(Protocol):
    """What looks at windows before they are read."""

    def __call__(self, windows: Sequence[Window]) -> list[list[Answer]]:
        """What is seen in each region of each window."""

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""


class NoNetwork:
    """Sees nothing: the windows are read by the fit alone."""

    def __call__(self, windows: Sequence[Window]) -> list[list[Answer]]:
        """Nothing of each."""
        return [[] for _ in windows]

    def forget(self, sensor: str) -> None:
        """Holds nothing."""


class Pipeline:
    """Windows over every sensor's frames, a network that looks at them where there is one, and what reads the detections.

    `clocks` holds what each stage took.
    """

    def __init__(self, windows: Windows, unmix: Network, resolve: Resolver) -> None:
        self.windows, self.clocks = windows, Clocks()
        self._unmix, self._resolve = unmix, resolve

    @property
    def events(self) -> Counter[tuple[str, str]]:
        """What happened to frames on their way, by sensor and name: see window."""
        return self.windows.events

    def step(self, frames: Sequence[Frame]) -> list[Detections]:
        """Takes the next frames of any sensors, in the order they came; the detections of the windows they complete.

        The regions of all of them go through the network in one call.
        """
        with self.clocks("window"):
            windows = [window for frame in frames if (window := self.windows.push(frame)) is not None]
            for sensor in self.windows.restarted():
                self._unmix.forget(sensor)
                self._resolve.forget(sensor)
        if not windows:
            return []
        with self.clocks("unmix"):
            answers = self._unmix(windows)
        with self.clocks("resolve"):
            return [self._resolve(window, seen) for window, seen in zip(windows, answers, strict=True)]

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self.windows.forget(sensor)
        self._unmix.forget(sensor)
        self._resolve.forget(sensor)
