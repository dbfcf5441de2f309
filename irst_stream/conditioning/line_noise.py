"""Offsets that all pixels of a row or of a column share, and that change from frame to frame: noise of readout circuits.

A horizon is a row that differs from its neighbours, too, but it stays. So each frame is compared with the mean of those
before it, and only the change is looked at: a line's change over that of the lines about it. An edge that moves is not the
whole line, and clouds are not alike along it: pixels far from the rest of their line do not count, and no more of the
lines' offsets is removed than what the parts of a line have in common. Where there is no such noise, this adds none.
"""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["AXES", "MEMORY", "LineNoise", "line_offsets"]

Float32Image = NDArray[np.float32]
AXES = {"rows": (1,), "columns": (0,), "both": (1, 0)}
MEMORY = 32  # frames of the mean that a frame is compared with, whose own lines leave a 64th of the variance
SAMPLES = (
    160  # pixels of a line that are looked at, about, evenly spaced: a thirteenth of their noise is left in the offset
)
AROUND = 9  # lines whose mean a line is compared with
CLIP, FAR = 3.0, 2.5  # deviations, of what is clipped, and of pixels that do not count
SD_PER_MEAN_ABS = 1.2533  # of a Gaussian
PARTS = 4  # of a line, which are compared
MIN_SHARE = 0.5  # of a line's pixels that must count


class LineNoise:
    """Removes the line noise of one sensor's frames, in order, all of one shape."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        """axes: one of AXES: 1 for offsets of rows, 0 for those of columns."""
        self._axes = axes
        self._means: dict[int, Float32Image] = {}  # of the pixels of each line that are looked at
        self._frames = 0

    def remove(self, image: Float32Image) -> None:
        """Subtract the line noise of the next frame (H, W) DN, in place; bad pixels are NaN.

        The first frame is compared with nothing: what stays counts as well there.
        """
        self._frames += 1
        for axis in self._axes:
            image -= self._offsets(image, axis)

    def _offsets(self, image: Float32Image, axis: int) -> Float32Image:
        """Return the offsets of a frame's lines along an axis, see line_offsets, and take the frame into the mean."""
        step = max(round(image.shape[axis] / SAMPLES), 1)
        part = (image[:, ::step] if axis else image[::step]).copy()
        known, mean = None, self._means.get(axis)
        if not math.isfinite(float(part.sum())):
            known = np.isfinite(part)
            part = np.where(known, part, np.float32(0) if mean is None else mean)
        offsets = line_offsets(part if mean is None else part - mean, known, axis)
        if mean is None:
            self._means[axis] = part
        else:
            cv2.accumulateWeighted(part, mean, 1 / min(self._frames, MEMORY))
        return offsets


def line_offsets(change: Float32Image, known: NDArray[np.bool_] | None, axis: int) -> Float32Image:
    """Return the offset, DN, of each line of a change (H, W) DN: (H, 1) of rows, axis 1, or (1, W) of columns, axis 0.

    known (H, W): pixels that count, None for all.
    """
    away = change - np.float32(change.mean())
    _clip(away)
    away -= cv2.blur(away, (1, AROUND) if axis else (AROUND, 1))
    _clip(away)
    weight = np.ones(away.shape, np.float32) if known is None else known.astype(np.float32)
    away *= weight
    count = np.maximum(_sums(weight, axis, 1), 1)
    centre = _sums(away, axis, 1) / count
    away -= centre
    limit = FAR * _deviation(away)
    cv2.multiply(weight, cv2.threshold(np.abs(away), limit, 1.0, cv2.THRESH_BINARY_INV)[1], dst=weight)
    away *= weight
    rests, counts = _sums(away, axis, PARTS), _sums(weight, axis, PARTS)
    parts = centre + rests / np.maximum(counts, 1)
    rest, near = rests.sum(axis=axis, keepdims=True), counts.sum(axis=axis, keepdims=True)
    offsets = np.where(near >= MIN_SHARE * count, centre + rest / np.maximum(near, 1), 0)
    return np.asarray(offsets * _shared(parts, axis), np.float32)


def _sums(image: Float32Image, axis: int, parts: int) -> Float32Image:
    """Return the sums of the parts of each line of an image (H, W): (H, parts) of rows, axis 1, (parts, W) of columns."""
    edges = np.linspace(0, image.shape[axis], parts + 1).astype(int).tolist()
    pieces = [image[:, a:b] if axis else image[a:b] for a, b in pairwise(edges)]
    return np.concatenate([cv2.reduce(piece, axis, cv2.REDUCE_SUM) for piece in pieces], axis=axis)


def _shared(parts: NDArray[np.floating], axis: int) -> float:
    """Return the share of the variance of lines' means which the parts of a line, PARTS along an axis, have in common."""
    limit = CLIP * SD_PER_MEAN_ABS * float(np.abs(parts).mean())
    parts = np.clip(parts, -limit, limit)
    together, each = float(np.square(parts.sum(axis=axis)).mean()), float(np.square(parts).sum(axis=axis).mean())
    if together <= 0:
        return 0.0
    return max((together - each) / (PARTS - 1) * PARTS / together, 0.0)


def _clip(image: Float32Image) -> None:
    """Clip an image about 0 at some of its standard deviations, in place."""
    limit = np.float32(CLIP * _deviation(image))
    np.clip(image, -limit, limit, out=image)


def _deviation(image: Float32Image) -> float:
    """Return the standard deviation of an image about 0, by the absolute values of every third pixel."""
    return SD_PER_MEAN_ABS * float(np.abs(image[::3, ::3]).mean())
