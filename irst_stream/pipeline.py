"""The one path from frames to detections, offline and live: step(frame), and nothing else."""

from __future__ import annotations

from irst_stream.resolve.fit import FitSettings, Fitter
from irst_stream.types import Detections, Frame
from irst_stream.window import PatchWindows

__all__ = ["Pipeline"]


class Pipeline:
    """Windows over a feed of patches, and the fit of the imaging model to each."""

    def __init__(self, fit: FitSettings, window: int = 5, full_scale: float | None = None) -> None:
        """window: frames of a window, odd; full_scale: DN at which pixels saturate, None where they never do."""
        self.windows = PatchWindows(window)
        self._fit = Fitter(fit, full_scale)

    def step(self, frame: Frame) -> Detections | None:
        """Takes the next frame; the detections of the frame whose window it completes, or None."""
        window = self.windows.push(frame)
        return None if window is None else self._fit(window)
