"""A frame as the search uses it, without its background; where another frame sees the scene; regions cut out of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.optics import PATCH
from irst_stream.propose.coarse import Float32Image, kernel_input
from irst_stream.propose.compiled import cut_patches
from irst_stream.types import Floats, Frame, Ints

__all__ = ["PreparedFrame", "cut_regions", "region_corners", "seen_from"]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFrame:
    """One frame without background; depends on the frame and on the bad pixels known when it came, and on nothing else.

    light (H, W) DN: NaN at bad pixels. background and noise: coarse maps, DN, for sample_map(); noise is a pixel's standard
    deviation about the background. min_noise: DN, the noise of the numbers' own rounding. place: x, y px of any still
    object, whole, from where the sensor saw it first. contrast (H, W): see contrast_map; None where it is not searched.
    """

    light: Float32Image
    background: Float32Image
    noise: Float32Image
    min_noise: float
    place: tuple[int, int] = (0, 0)
    contrast: Float32Image | None = None


def seen_from(prepared: PreparedFrame, other: PreparedFrame) -> Float32Image:
    """Return the light (H, W) of another frame where a frame sees the scene; its own, where the other did not see it."""
    x, y = prepared.place[0] - other.place[0], prepared.place[1] - other.place[1]
    if not x and not y:
        return other.light
    (height, width), moved = other.light.shape, prepared.light.copy()
    moved[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = other.light[
        max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
    ]
    return moved


def cut_regions(frames: Sequence[Frame], lights: Sequence[Float32Image], corners: Ints, ceiling: Floats) -> Float32Image:
    """Cut the same N regions out of T frames: (N, T, 11, 11) DN, background removed, NaN at bad pixels.

    lights: of the frames, see PreparedFrame; corners (N, 2): x, y of the regions' first pixels; ceiling (N,): DN, the value
    given to saturated pixels.
    """
    patches = np.empty((len(corners), len(frames), *PATCH), np.float32)
    for t, (frame, light) in enumerate(zip(frames, lights, strict=True)):
        full_scale = np.float32(frame.full_scale)
        cut_patches(kernel_input(frame.pixels), light, corners, full_scale, ceiling.astype(np.float32), patches, t)
    return patches


def region_corners(centres: Floats, shape: tuple[int, int]) -> Ints:
    """Return the first pixels (N, 2), x, y, of regions of PATCH about centres (N, 2) px, kept inside the frame (H, W)."""
    half, room = (np.array(PATCH[::-1]) - 1) / 2, np.array(shape[::-1]) - PATCH[::-1]
    return np.clip(np.rint(centres - half), 0, room).astype(np.int64)
