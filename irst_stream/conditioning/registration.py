"""Registration: the platform's motion, measured on the frames themselves.

Each frame is compared with a key frame. Correlation at half size finds the motion to about a pixel, however large it is;
Gauss-Newton over blocks of 16 px refines it and adds the roll. Blocks that move otherwise, as a target does, lose their
weight, and the brightest pixels are clipped, so that no target draws the estimate. What noise in the gradients adds to the
normal equations is taken off: a calm sky, and a horizon along its own direction, give an infinite deviation, not a guess.

A frame that matches its key frame too little has no pose. After two of them the last one becomes the key frame: so one
spoilt frame costs one pose, and a scene cut two. A key frame also changes where the scene has moved on by a quarter of the
frame, or has changed. Poses go on from key frame to key frame, each with the deviation of its own match.

Pixels that do not see the scene, such as burnt-in text, would say that it is at rest: they are left out, and so are all
blocks that hold any.

The roll is shrunk by how much the platform has been seen to roll beyond the error of its measurement: where it does not, an
error of the roll would move still objects the farther, the farther the platform has panned.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.conditioning.compiled import align_blocks, correct_pixels
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings, check_conditioning
from irst_stream.system.numba_cache import CompiledPart, compile_in_children
from irst_stream.types import Floats, Pixels, Pose, Stamp

__all__ = ["COMPILED", "Registration", "warm_up"]

Float32Image = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
WORKING_PIXELS = 320 * 256  # larger frames are averaged over whole pixels to about this size
MIN_SIDE = 65  # px: smaller frames are patches
SMOOTH_PX, BACKGROUND = (
    1.5,
    (21, 21),
)  # px, of the band that is compared: deviation, and sides of the mean that is taken off
NOISE_SLOPE = 1 / (2 * SMOOTH_PX**2)  # px^-2: variance of white noise's gradient over that of its value, once smoothed
CLIP = 4.0 * 1.2533  # mean absolute values: what is brighter counts for so much
COARSE_CLIP = (
    2.0 * 1.4826
)  # median absolute values, at half size, where large objects must not count for more than their area
ROLL_SD = 0.005  # rad, of one frame about the last one
LEAST_VARIANCE = np.diag([0.003, 0.003, 2e-5]) ** 2  # px^2, rad^2: interpolation is not exact
ROLL_RATE = 0.05  # weight of each frame in how much the platform rolls
ITERATIONS = 8
MIN_CORRELATION = 0.1  # of a block, on average: noise alone seldom has 0.05 at its best, nor have a dozen targets
MIN_SHARE = 0.4  # of the blocks that must follow the estimate
GOOD_CORRELATION = 0.75  # of its key's best: less is not accepted before the last motion was tried too
CONTINUOUS_PX = 4.0  # of the working image: a start farther than that from the last motion is compared with it
LEAST_PAN_PX = 1.0  # of the working image: a motion farther than that from the last one gone on with is compared with it
RENEW_CORRELATION = 0.8  # of its key's best: with less, the scene has changed
MAX_SHIFT, MAX_ROLL = 0.25, 0.1  # of the frame's shorter side, and rad: beyond, too little of the key frame is left
MAX_FAILURES = 2
MIN_WEIGHT = 1e-3  # of a mean: less is none
MIN_SEEN = 0.25  # of the frame that must see the scene


class _Match(NamedTuple):
    """Motion (3,) from the key image, in px of the working image and rad; its covariance; and how the images correlate.

    correlation: mean over all blocks; pattern: mean over the blocks that show a pattern. See align_blocks.
    """

    motion: Floats
    covariance: Floats
    correlation: float
    pattern: float


class _Key:
    """A key frame's images, and its pose (3,), x, y px of the working image and roll."""

    def __init__(self, image: Float32Image, spectrum: Spectrum, pose: Floats) -> None:
        self.image, self.spectrum, self.pose = image, spectrum, pose
        self.gx = cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
        self.gy = cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
        self.best = 0.0  # correlation of the frames matched so far
        self.last = np.zeros(3)  # motion of the last one


class Registration:
    """Measures the poses of one sensor's frames, in order. Its first frame has pose 0."""

    def __init__(
        self, settings: RegisterSettings, shape: tuple[int, int], excluded: NDArray[np.bool_] | None = None
    ) -> None:
        """shape: rows, columns of the frames; excluded (H, W): pixels that do not see the scene, None for none."""
        check_conditioning(CorrectSettings(), settings)
        warm_up()
        self._settings, self._shape = settings, shape
        self._factor = max(round(math.sqrt(shape[0] * shape[1] / WORKING_PIXELS)), 1)
        self._size = shape[1] // self._factor, shape[0] // self._factor
        self._half = self._size[0] // 2, self._size[1] // 2
        self._weight = None if excluded is None else self._seen(excluded)
        self._seen_share = 1.0 if self._weight is None else float(self._weight.mean())
        self._shows_enough = min(shape) >= MIN_SIDE and self._seen_share >= MIN_SEEN
        self._fade = np.asarray(cv2.createHanningWindow(self._half, cv2.CV_32F), np.float32)
        self._key: _Key | None = None
        self._failures = 0
        self._step = np.zeros(3)  # from the last frame but one with a pose to the last one
        self._roll_var = ROLL_SD**2  # of the platform, rad^2

    def locate(self, pixels: Pixels, stamp: Stamp) -> Pose | None:
        """Return the pose of the sensor's next frame, pixels (H, W) DN; None where the images do not tell."""
        if not self._shows_enough:
            return None
        image = self._band(pixels)
        spectrum = self._spectrum(image)
        if self._weight is not None:
            image[self._weight == 0] = np.nan  # so that no block counts which holds them
        if self._key is None:
            self._key = _Key(image, spectrum, np.zeros(3))
            return self._pose(stamp, np.zeros(3), 0.0)
        match = self._match(self._key, image, spectrum)
        if match is None:
            self._fail(image, spectrum)
            return None
        key, motion = self._key, self._shrink_roll(match)
        pose = _compose(key.pose, motion)
        self._step = (pose - _compose(key.pose, key.last)) / (1 + self._failures)
        self._failures = 0
        key.last, key.best = motion, max(key.best, match.correlation)
        moved = float(np.abs(motion[:2]).max()) > MAX_SHIFT * min(self._size) or abs(motion[2]) > MAX_ROLL
        if moved or match.correlation < RENEW_CORRELATION * key.best:
            self._key = _Key(image, spectrum, pose)
        return self._pose(stamp, pose, self._sd(match.covariance))

    def _pose(self, stamp: Stamp, pose: Floats, sd: float) -> Pose:
        x, y, roll = pose.tolist()
        return Pose(stamp, self._factor * x, self._factor * y, roll, self._factor * sd)

    def _sd(self, covariance: Floats) -> float:
        """Return the deviation, px of the working image, along its worst axis, as far out as places are on average."""
        turns = covariance[2, 2] * (self._size[0] ** 2 + self._size[1] ** 2) / 24
        return math.sqrt(float(np.linalg.eigvalsh(covariance[:2, :2])[-1]) + turns)

    def _shrink_roll(self, match: _Match) -> Floats:
        """Return a match's motion (3,) with the roll that the platform's rolling so far lets expect, and learn from it."""
        roll, error = match.motion[2], match.covariance[2, 2]
        self._roll_var = max((1 - ROLL_RATE) * self._roll_var + ROLL_RATE * (roll * roll - error), 0.0)
        surplus = roll * error / (self._roll_var + error)
        return np.asarray(match.motion - surplus * match.covariance[2] / error)

    def _fail(self, image: Float32Image, spectrum: Spectrum) -> None:
        """Count a frame without a match; after MAX_FAILURES in a row it becomes the key frame, at the last pose."""
        self._failures += 1
        if self._key is not None and self._failures >= MAX_FAILURES:
            self._key, self._failures = _Key(image, spectrum, _compose(self._key.pose, self._key.last)), 0

    def _match(self, key: _Key, image: Float32Image, spectrum: Spectrum) -> _Match | None:
        """Return how an image has moved from the key image; None where that is not sure.

        Windows of a facade correlate as well one period on, and in a smooth sky the steps between whole DN move as soon as
        the gain does: a start far from the last motion has to fit the blocks that hold a pattern better than that motion,
        and than the last motion gone on with.
        """
        x, y = self._coarse(key, spectrum)
        match = self._refine(key, image, np.array([x, y, key.last[2]]))
        onward = key.last + (1 + self._failures) * self._step
        weak = match is None or match.correlation < GOOD_CORRELATION * key.best
        starts = [key.last] if weak or np.hypot(x - key.last[0], y - key.last[1]) > CONTINUOUS_PX else []
        if match is None or np.hypot(*(match.motion - onward)[:2]) > LEAST_PAN_PX:
            starts.append(onward)
        for near in (self._refine(key, image, start) for start in starts):
            if match is None or (near is not None and near.pattern > match.pattern):
                match = near
        return match

    def _spectrum(self, image: Float32Image) -> Spectrum:
        """Return the Fourier transform of the image at half size, which fades out towards its borders."""
        half = cv2.resize(image, self._half, interpolation=cv2.INTER_AREA)
        sizes = np.sort(np.abs(half[::2, ::2]), axis=None)  # those of excluded pixels are 0, and come first
        limit = COARSE_CLIP * float(sizes[int((1 - self._seen_share / 2) * len(sizes))])
        np.clip(half, -limit, limit, out=half)
        from scipy.fft import rfft2  # slow to import, and few configurations register; warm_up does it ahead

        return np.asarray(rfft2(half * self._fade), np.complex64)

    def _coarse(self, key: _Key, spectrum: Spectrum) -> tuple[float, float]:
        """Return the shift x, y px from the key image at which both correlate best."""
        width, height = self._half
        from scipy.fft import irfft2

        correlation = irfft2(spectrum * key.spectrum.conj(), (height, width))
        y, x = divmod(int(correlation.argmax()), width)
        return 2.0 * (x if x < width / 2 else x - width), 2.0 * (y if y < height / 2 else y - height)

    def _refine(self, key: _Key, image: Float32Image, start: Floats) -> _Match | None:
        """Return the match that a start (3,) leads to; None where that is not sure."""
        motion, covariance, correlation, share, pattern = align_blocks(
            key.image, key.gx, key.gy, image, start, NOISE_SLOPE, ROLL_SD, ITERATIONS
        )
        if not np.isfinite(covariance).all() or correlation < MIN_CORRELATION or share < MIN_SHARE:
            return None
        covariance += LEAST_VARIANCE
        sure = self._sd(covariance) * self._factor <= self._settings.max_sd_px
        return _Match(motion, covariance, correlation, pattern) if sure else None

    def _band(self, pixels: Pixels) -> Float32Image:
        """Return the working image (h, w) of a frame: what is neither noise nor smooth, its brightest parts clipped."""
        image = pixels.astype(np.float32, copy=False)
        if pixels.dtype == np.float32 and not np.isfinite(image.sum()):
            finite = np.isfinite(image)
            image = np.where(finite, image, image[finite].mean() if finite.any() else 0).astype(np.float32)
        if self._factor > 1:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.float32)
        background = self._mean_about(image)
        band = cv2.GaussianBlur(background + self._clipped(image - background), (0, 0), SMOOTH_PX)
        return self._clipped(band - self._mean_about(band))

    def _seen(self, excluded: NDArray[np.bool_]) -> Float32Image:
        """Return the weight (h, w) of the working image's pixels: 1, and 0 where any pixel of theirs is excluded."""
        share = cv2.resize(excluded.astype(np.float32), self._size, interpolation=cv2.INTER_AREA)
        return np.asarray(share == 0, np.float32)

    def _mean_about(self, image: NDArray[Any]) -> Float32Image:
        """Return the mean (h, w) about each pixel, of those that see the scene; their overall mean where there are none."""
        if self._weight is None:
            return np.asarray(cv2.blur(image, BACKGROUND), np.float32)
        weight = cv2.blur(self._weight, BACKGROUND)
        total = cv2.blur(image * self._weight, BACKGROUND)
        overall = float((image * self._weight).mean()) / self._seen_share
        return np.where(weight > MIN_WEIGHT, total / np.maximum(weight, MIN_WEIGHT), overall).astype(np.float32)

    def _clipped(self, image: Float32Image) -> Float32Image:
        """Return an image (h, w) about 0 with its brightest and darkest parts clipped, in place; 0 where excluded."""
        if self._weight is not None:
            image *= self._weight
        limit = CLIP * float(np.abs(image[::2, ::2]).mean()) / self._seen_share
        return np.asarray(np.clip(image, -limit, limit, out=image), np.float32)


def _compose(pose: Floats, motion: Floats) -> Floats:
    """Return the pose (3,) of a frame that has moved by a motion (3,) from one of that pose: see types.Pose."""
    c, s = math.cos(motion[2]), math.sin(motion[2])
    x, y, roll = pose
    return np.array([c * x - s * y + motion[0], s * x + c * y + motion[1], roll + motion[2]])


@cache
def warm_up() -> None:
    """Compile this room's functions, or load them from the cache, so that no frame waits for it."""
    compile_in_children(COMPILED)
    import_module("scipy.fft")
    image = np.random.default_rng(0).standard_normal((80, 80)).astype(np.float32)
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = np.zeros((80, 80), dtype)
        correct_pixels(pixels, image, image, np.float32(np.inf), np.float32(1), np.empty_like(image))
    align_blocks(image, image, image, image, np.zeros(3), NOISE_SLOPE, ROLL_SD, 1)


COMPILED = CompiledPart("the registration", align_blocks, warm_up)
