"""Offsets that each pixel keeps, learnt while the scene moves: what is left of a pixel's light once the scene is taken off.

The scene at a pixel is known from key frames, in which other pixels saw it: frames are compared with one of these at a
time, moved to where the scene is now. Parts of the scene that look alike along its motion cancel, and are not learnt.
Nothing is learnt while the scene stays, nor where a light that is larger than a pixel stays at its pixels while the scene
moves on: it may be a target that the camera follows. After a shutter the pattern is another one, and is learnt as fast as
the first one: a shutter holds the last frame for some frames.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats, Pose

__all__ = ["PatternFollower"]

Float32Image = NDArray[np.float32]
SURROUNDINGS_PX = 9  # side of the mean that a pixel is compared with; and how far the scene moves until it is another one
BORDER_PX = 1  # where interpolation lacks a neighbour
SD_PER_MEAN_ABS = 1.2533  # of a Gaussian
CLIP = 3.0  # deviations: what is brighter is scene
GOLDEN, EVERY = 0.618, 0.5  # of the frames that share serves, and they and the key frames are spaced unevenly: at equal
# distances of the scene between them, a pattern that repeats at that distance would never show
STEP_PX = 0.2  # the scene must have moved by so much since the last frame that was learnt from
KEYS, OLDEST = 8, 4.0  # key frames that are kept; the oldest that serve, in times of the memory
APART_PX, MAX_APART = 8.0, 0.5  # the scene lies so far off in a key frame that serves, and within that share of the frame
TURNED_PX = 0.25  # that a roll may move the frame's corners from the key's
CUBIC = -0.75  # of the interpolation, as in OpenCV
WARM_UP = 10  # frames: the weight of "no offset" at the beginning
EAGER = 4  # of the frames so far, one in so many weighs against the next: it takes several to tell the pixels apart
FOLLOWED, FOLLOWED_PX = 5.0, 9  # deviations of the sum of 3 x 3 px without the brightest, and side of what is left out


class _Key(NamedTuple):
    """What a frame shows beyond its surroundings (H, W) DN, where the scene was in it, and its number.

    same: whether the pixels had the pattern of today. Then the light is without any of the corrections; else with all.
    """

    light: Float32Image
    same: bool
    pose: Pose
    frame: int


class PatternFollower:
    """Learns the offsets of one sensor's pixels from its corrected frames, in order, all of one shape."""

    def __init__(self, memory: int, shape: tuple[int, int], *, begun: bool, moving: bool) -> None:
        """memory: frames that are averaged over; begun: whether the offsets are measured already; moving: learn only where
        poses say that the scene moves; else it always does, and is not known.
        """
        self._memory, self._shape, self._moving = memory, shape, moving
        self._learnt = EAGER * memory if begun else 0
        self._frame = 0
        self._keys: list[_Key] = []
        self._next_key_px = 0.0
        self._corrected = np.zeros(shape, np.float32)
        self._last: Pose | None = None

    def restart(self) -> None:
        """Learn fast, as the first frames are learnt from: the pattern is another one."""
        self._learnt = 0
        self._keys = [key._replace(light=self._clean(key), same=False) for key in self._keys]

    def correction(self, pixels: Float32Image, full_scale: float, pose: Pose | None) -> Float32Image | None:
        """Return what to subtract from each pixel's offset (H, W) DN after the next frame, None for nothing.

        pixels (H, W) DN, corrected, NaN where bad; pose: the frame's, None where it is unknown.
        """
        self._frame += 1
        if not self._moving:
            self._learnt += EAGER
            return _off_surroundings(pixels, full_scale) / np.float32(self._averaged())
        if pose is None or self._frame * GOLDEN % 1 > EVERY:
            return None
        light = _off_surroundings(pixels, full_scale)
        change = self._change(light, pose)
        if not self._keys or _distance(self._keys[-1].pose, pose) >= self._next_key_px:
            self._keys = [*self._keys[-KEYS + 1 :], _Key(light + self._corrected, True, pose, self._frame)]
            self._next_key_px = MAX_APART * min(self._shape) / KEYS * (0.5 + self._frame * GOLDEN % 1)
        if change is not None:
            self._corrected += change
        return change

    def _averaged(self) -> int:
        """Return how many frames the next correction counts as one of."""
        return min(self._learnt // EAGER + WARM_UP, self._memory)

    def _change(self, light: Float32Image, pose: Pose) -> Float32Image | None:
        """Return the correction that a frame's light (H, W) DN asks for, None where it tells nothing."""
        step = STEP_PX if self._last is None else _distance(self._last, pose)
        if step < STEP_PX:
            return None
        served = [key for key in self._keys if self._serves(key, pose)]
        if not served:
            return None
        self._last = pose
        self._learnt += 1
        key = served[self._learnt % len(served)]
        motion = pose.x - key.pose.x, pose.y - key.pose.y
        change = _difference(light, self._clean(key), *motion, same=key.same)
        size, whole = float(np.abs(change[::3, ::3]).mean()), float(np.abs(light[::3, ::3]).mean())
        worth = min(step / SURROUNDINGS_PX, 1.0) * (size / max(whole, 1e-12)) ** 2
        change = np.asarray((change + np.float32(worth) * light) / np.float32(1 + worth), np.float32)
        limit = CLIP * SD_PER_MEAN_ABS * float(np.abs(change[::3, ::3]).mean())
        change[_followed(change)] = 0
        np.clip(change, -limit, limit, out=change)
        change /= self._averaged()
        return change

    def _clean(self, key: _Key) -> Float32Image:
        """Return a key frame's light (H, W) DN with all corrections."""
        return key.light - self._corrected if key.same else key.light

    def _serves(self, key: _Key, pose: Pose) -> bool:
        """Tell whether pixels see another part of the scene than in a key frame, which is not too old, nor too far off."""
        near = APART_PX <= _distance(key.pose, pose) <= MAX_APART * min(self._shape)
        turned = abs(key.pose.roll_rad - pose.roll_rad) * math.hypot(*self._shape) / 2
        return near and turned <= TURNED_PX and self._frame - key.frame <= OLDEST * self._memory


def _off_surroundings(image: Float32Image, full_scale: float) -> Float32Image:
    """Return what each pixel (H, W) has more than its surroundings, DN, clipped; 0 at bad and saturated ones."""
    size, known = (SURROUNDINGS_PX, SURROUNDINGS_PX), np.isfinite(image)
    if not known.all():
        filled = np.where(known, image, 0)
        share = np.maximum(cv2.blur(known.astype(np.float32), size), 1e-6)
        around = cv2.blur(filled.astype(np.float32), size) / share
        off = np.where(known, image - around, 0).astype(np.float32)
    else:
        off = image - cv2.blur(image, size)
    limit = CLIP * SD_PER_MEAN_ABS * float(np.abs(off).mean())
    np.clip(off, -limit, limit, out=off)
    off[image >= full_scale] = 0
    return np.asarray(off, np.float32)


def _distance(one: Pose, other: Pose) -> float:
    return math.hypot(one.x - other.x, one.y - other.y)


def _difference(light: Float32Image, key: Float32Image, x: float, y: float, *, same: bool) -> Float32Image:
    """Return what the pixels' light (H, W) DN has too much, by a key frame's, from which the scene has moved by x, y px.

    same: whether the pixels had the same pattern then. Each place of the scene was seen by two pixels, of which the one has
    too much what the other has too little: so nothing is drawn into the frame from its border, where no pixel has seen the
    scene before. 0 where nothing is known.
    """
    now, before = _inside(light.shape, x, y), _inside(light.shape, -x, -y)
    rest = np.zeros_like(light)
    rest[now] = (light - _moved(key, x, y))[now]
    if not same:
        return rest
    change, count = rest.copy(), np.zeros_like(light)
    change[before] -= _moved(rest, -x, -y)[before]
    count[now] += 1
    count[before] += 1
    return np.asarray(change / np.maximum(count, 1), np.float32)


def _moved(image: Float32Image, x: float, y: float) -> Float32Image:
    """Return an image (H, W) moved by x, y px, by cubic interpolation, 0 where it comes from outside."""
    column, row = math.floor(x), math.floor(y)
    between = cv2.sepFilter2D(image, -1, _taps(x - column), _taps(y - row), anchor=(2, 2))
    moved, (height, width) = np.zeros_like(image), image.shape
    moved[max(row, 0) : height + min(row, 0), max(column, 0) : width + min(column, 0)] = between[
        max(-row, 0) : height - max(row, 0), max(-column, 0) : width - max(column, 0)
    ]
    return moved


def _taps(shift: float) -> Floats:
    """Return the weights (4,) of the pixels from two before to one behind, which move an image on by 0 to 1 px."""
    near, far = np.array([1 - shift, shift]), np.array([2 - shift, 1 + shift])
    inner = ((CUBIC + 2) * near - (CUBIC + 3)) * near**2 + 1
    outer = CUBIC * (((far - 5) * far + 8) * far - 4)
    return np.array([outer[0], inner[0], inner[1], outer[1]])


def _inside(shape: tuple[int, ...], x: float, y: float) -> tuple[slice, slice]:
    """Return the part of an image of a shape (H, W) that comes from inside it where all is moved by x, y px.

    Without its border.
    """
    rows, columns = (
        slice(max(math.ceil(by), 0) + BORDER_PX, length + min(math.floor(by), 0) - BORDER_PX)
        for length, by in zip(shape, (y, x), strict=True)
    )
    return rows, columns


def _followed(rest: Float32Image) -> NDArray[np.bool_]:
    """Tell which pixels (H, W) lie about a light of which something is left without its brightest pixel."""
    around = 9 * cv2.blur(rest, (3, 3)) - cv2.dilate(rest, np.ones((3, 3)))
    limit = FOLLOWED * SD_PER_MEAN_ABS * float(np.abs(around[::3, ::3] - around[::3, ::3].mean()).mean())
    lights = (around > float(around[::3, ::3].mean()) + limit).astype(np.uint8)
    return np.asarray(cv2.dilate(lights, np.ones(2 * [FOLLOWED_PX])) > 0)
