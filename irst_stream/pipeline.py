"""The one path from frames to detections, offline and live: step(frame), and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from irst_stream.resolve.readouts import Resolver
from irst_stream.types import Answer, Detections, Frame, Window
from irst_stream.window import PatchWindows

__all__ = ["Pipeline"]


class Pipeline:
    """Windows over a feed of patches, a network that looks at each where there is one, and what reads the detections."""

    def __init__(self, windows: PatchWindows, unmix: Callable[[Window], list[Answer]], resolve: Resolver) -> None:
        self.windows = windows
        self._unmix, self._resolve = unmix, resolve

    def step(self, frame: Frame) -> Detections | None:
        """Takes the next frame; the detections of the frame whose window it completes, or None."""
        window = self.windows.push(frame)
        return None if window is None else self._resolve(window, self._unmix(window))
