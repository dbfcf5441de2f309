"""The correction of a running sensor: its table, lines that share an offset, and offsets learnt while the scene moves."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.conditioning.compiled import correct_pixels
from irst_stream.conditioning.line_noise import AXES, LineNoise
from irst_stream.conditioning.nonuniformity import CorrectionTable
from irst_stream.conditioning.settings import CorrectSettings
from irst_stream.errors import UsageError
from irst_stream.types import Frame

__all__ = ["Corrector"]

Float32Image = NDArray[np.float32]
SURROUNDINGS_PX = 9  # side of the mean that a pixel is compared with
CLIP = 3.0 * 1.2533  # mean absolute values: what is brighter is scene
SCENE_STEP_PX = 1.5  # the scene must have moved by so much for a pixel to see another part of it
SCENE_WARM_UP = 10  # frames: the weight of "no offset" at the beginning


class Corrector:
    """Corrects the frames of one sensor, in order, all of one shape."""

    def __init__(self, settings: CorrectSettings, shape: tuple[int, int], table: CorrectionTable | None) -> None:
        """shape: rows, columns of the frames; table: None for none."""
        if table is not None and table.gain.shape != shape:
            height, width = table.gain.shape
            raise UsageError(f"correct.table: is for frames of {width} x {height} px, these have {shape[1]} x {shape[0]}")
        self._settings = settings
        self._gain = np.ones(shape, np.float32) if table is None else table.gain
        self._offset = np.zeros(shape, np.float32) if table is None else table.offset.copy()
        self._step = 1.0 if table is None else float(np.nanmedian(table.gain))
        self._lines = LineNoise(AXES[settings.lines]) if settings.lines != "off" else None
        self._learnt_frames, self._last_place = 0, (math.inf, math.inf)

    def __call__(self, frame: Frame) -> Frame:
        """Return a frame corrected, float32 DN; saturated pixels stay saturated, bad ones are NaN."""
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
        memory, pose = self._settings.scene_frames, frame.pose
        if not memory:
            return
        place = (pose.x, pose.y) if pose is not None else (math.nan, math.nan)
        moved = math.hypot(place[0] - self._last_place[0], place[1] - self._last_place[1])
        if self._settings.scene_when == "moving" and not moved >= SCENE_STEP_PX:
            return
        self._last_place = place
        self._learnt_frames += 1
        off = _off_surroundings(frame.pixels)
        off[frame.pixels >= frame.full_scale] = 0
        self._offset -= off / np.float32(min(self._learnt_frames + SCENE_WARM_UP, memory))


def _off_surroundings(image: Float32Image) -> Float32Image:
    """Return by how much each pixel (H, W) differs from the mean of its surroundings, clipped; 0 at bad pixels."""
    size = (SURROUNDINGS_PX, SURROUNDINGS_PX)
    known = np.isfinite(image)
    if not known.all():
        filled = np.where(known, image, 0)
        share = np.maximum(cv2.blur(known.astype(np.float32), size), 1e-6)
        around = cv2.blur(filled.astype(np.float32), size) / share
        off = np.where(known, image - around, 0).astype(np.float32)
    else:
        off = image - cv2.blur(image, size)
    limit = CLIP * float(np.abs(off).mean())
    return np.asarray(np.clip(off, -limit, limit, out=off), np.float32)
