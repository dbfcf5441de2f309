"""The correction of a running sensor: its table, lines that share an offset, and offsets learnt while the scene moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from irst_stream.conditioning.compiled import correct_pixels
from irst_stream.conditioning.line_noise import AXES, LineNoise
from irst_stream.conditioning.nonuniformity import CorrectionTable
from irst_stream.conditioning.pattern_follower import PatternFollower
from irst_stream.conditioning.settings import CorrectSettings
from irst_stream.errors import UsageError
from irst_stream.types import Frame, Pixels

__all__ = ["Corrector"]

Float32Image = NDArray[np.float32]
SHUTTER_ROWS = 8  # one in so many is compared
SHUTTER_FRAMES = 3  # the same as the one before: a video that was converted to another rate repeats single ones


class Corrector:
    """Corrects the frames of one sensor, in order, all of one shape."""

    def __init__(self, settings: CorrectSettings, shape: tuple[int, int], table: CorrectionTable | None) -> None:
        """shape: rows, columns of the frames; table: None for none."""
        if table is not None and table.gain.shape != shape:
            (height, width), (rows, columns) = table.gain.shape, shape
            named = ": ".join(filter(None, ("correct.table", settings.table)))
            raise UsageError(f"{named}: is for frames of {width} x {height} px; the source's have {columns} x {rows} px")
        self._settings = settings
        self._gain = np.ones(shape, np.float32) if table is None else table.gain
        self._offset = np.zeros(shape, np.float32) if table is None else table.offset.copy()
        self._step = 1.0 if table is None else float(np.nanmedian(table.gain))
        self._lines = LineNoise(AXES[settings.lines]) if settings.lines != "off" else None
        memory, moving = settings.scene_frames, settings.scene_when == "moving"
        self._follower = PatternFollower(memory, shape, begun=table is not None, moving=moving) if memory else None
        self._received: Pixels = np.empty((0, 0), np.float32)
        self._held = 0  # frames in a row that were the same as the one before

    def __call__(self, frame: Frame) -> Frame:
        """Return a frame corrected, float32 DN; saturated pixels stay saturated, bad ones are NaN."""
        if self._follower is not None:
            self._watch_shutter(frame.pixels)
        corrected = np.empty(frame.pixels.shape, np.float32)
        full_scale = np.float32(frame.full_scale)
        pixels = np.require(frame.pixels, requirements=["C", "A"])
        correct_pixels(pixels, self._gain, self._offset, full_scale, np.nextafter(full_scale, np.float32(0)), corrected)
        if self._lines is not None:
            saturated = corrected >= full_scale
            self._lines.remove(corrected)
            corrected[saturated] = full_scale
        return replace(frame, pixels=corrected, step_dn=self._step if frame.pixels.dtype != np.float32 else 0.0)

    def learn(self, frame: Frame) -> None:
        """Learn offsets from a corrected frame, if the settings ask for it and its pose says that the scene has moved."""
        if self._follower is None:
            return
        change = self._follower.correction(frame.pixels, frame.full_scale, frame.pose)
        if change is not None:
            self._offset -= change

    def _watch_shutter(self, pixels: Pixels) -> None:
        """Have the offsets learnt fast once a shutter opens, which has held the last frame; pixels: the next frame."""
        rows = pixels[::SHUTTER_ROWS]
        same = np.array_equal(rows, self._received)
        if self._follower is not None and not same and self._held >= SHUTTER_FRAMES:
            self._follower.restart()
        self._received, self._held = rows.copy(), self._held + 1 if same else 0
