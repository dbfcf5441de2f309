"""The one path from frames to detections and tracks, offline and live: step(frames), and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from irst_stream.clocks import Clocks
from irst_stream.errors import WireError
from irst_stream.resolve.readouts import Resolver
from irst_stream.stabilise import View, Views, put_in, put_right
from irst_stream.types import Answer, Detections, Frame, Tracks, Window
from irst_stream.window import Windows

__all__ = ["Network", "NoNetwork", "Pipeline", "Result"]

Result: TypeAlias = Detections | Tracks


class Network(Protocol):
    """What looks at windows before they are read; `alarm` says what has failed of it, "" while nothing has."""

    alarm: str

    def __call__(self, windows: Sequence[Window]) -> list[list[Answer]]:
        """What is seen in each region of each window."""

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""


class NoNetwork:
    """Sees nothing: the windows are read by the fit alone."""

    alarm = ""

    def __call__(self, windows: Sequence[Window]) -> list[list[Answer]]:
        """Nothing of each."""
        return [[] for _ in windows]

    def forget(self, sensor: str) -> None:
        """Holds nothing."""


class Follow(Protocol):
    """What follows targets from frame to frame."""

    def __call__(self, detections: Detections, view: View | None = None) -> list[Tracks]:
        """The tracks that a sensor's next frame settles; view: of that frame, where the platform's poses are known."""

    def finish(self) -> list[Tracks]:
        """The tracks that waited for more frames."""

    def forget(self, sensor: str) -> list[Tracks]:
        """Drops what is held of a sensor that will not come back; its tracks that waited."""


class Pipeline:
    """Windows over every sensor's frames, a network that looks at them where there is one, what reads the detections, and
    what follows them where somebody wants tracks.

    `clocks` holds what each stage took.
    """

    def __init__(self, windows: Windows, unmix: Network, resolve: Resolver, track: Follow | None = None) -> None:
        self.windows, self.clocks = windows, Clocks()
        self._unmix, self._resolve, self._track = unmix, resolve, track
        self._views = Views(windows.length)

    @property
    def events(self) -> Counter[tuple[str, str]]:
        """What happened to frames on their way, by sensor and name: see window."""
        return self.windows.events

    @property
    def alarm(self) -> str:
        """What has failed, and what works in its place; "" while nothing has."""
        return "; ".join(filter(None, (self._unmix.alarm, self._resolve.alarm)))

    def step(self, frames: Sequence[Frame]) -> list[Result]:
        """Takes the next frames of any sensors, in the order they came; the detections of the windows they complete, and
        after each the tracks that it settles.

        The regions of all of them go through the network in one call.
        """
        with self.clocks("window"):
            taken = [pair for frame in frames if (pair := self._take(frame)) is not None]
            results = [result for sensor in self.windows.restarted() for result in self._forget_sights(sensor)]
        if not taken:
            return results
        with self.clocks("unmix"):
            answers = self._unmix([window for window, _ in taken])
        with self.clocks("resolve"):
            found = [
                put_right(self._resolve(window, answer), window, around)
                for (window, around), answer in zip(taken, answers, strict=True)
            ]
        if self._track is None:
            return [*results, *found]
        with self.clocks("track"):
            for detections, (_, around) in zip(found, taken, strict=True):
                results += (detections, *self._track(detections, around[len(around) // 2] if around else None))
            return results

    def finish(self) -> list[Result]:
        """What waited for frames that will not come."""
        return [] if self._track is None else list(self._track.finish())

    def _take(self, frame: Frame) -> tuple[Window, list[View]] | None:
        """The window that a frame completes, and what its frames say of the platform."""
        try:
            self._views.look(frame)
        except WireError as error:
            self.windows.count(frame, error.reason)
        window = self.windows.push(frame)
        if window is None:
            return None
        around = self._views.around(window.stamp)
        return put_in(window, around), around

    def forget(self, sensor: str) -> list[Result]:
        """Drops what is held of a sensor that will not come back; what waited for more of its frames."""
        self.windows.forget(sensor)
        self._views.forget(sensor)
        return self._forget_sights(sensor)

    def _forget_sights(self, sensor: str) -> list[Result]:
        """Drops all that was made of a sensor's frames; the tracks that waited."""
        self._unmix.forget(sensor)
        self._resolve.forget(sensor)
        return [] if self._track is None else list(self._track.forget(sensor))
