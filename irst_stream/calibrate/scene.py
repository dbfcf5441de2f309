"""What frames show beyond the sensor itself: static clutter, the platform's motion, detections, and their speeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from irst_stream.propose.clutter import ClutterMap
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.mask import Excluded
from irst_stream.propose.proposer import PreparedFrame, Proposals, Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Floats

__all__ = ["GROUP_PX", "PlatformFigures", "companions", "learn_clutter_map", "measure_platform", "search_frames"]

STACK_BYTES = 200_000_000  # of the light from which clutter is learnt
MAX_STACK, MIN_STACK = 200, 20  # frames
MEAN_PER_MEDIAN = 1.183  # of a Gaussian's absolute values
STILL_PX = 0.7  # a platform that moves by less in all frames is called still
GROUP_PX = 6.0  # along each axis: regions this near may hold one group
MIN_RESPONSE = 0.1  # of phase correlation: less is no match


@dataclass(frozen=True, slots=True)
class PlatformFigures:
    """How the platform moves, px: drift a frame along x and y, jitter about it, and the farthest place; known: whether the
    frames' images tell at all.
    """

    drift: tuple[float, float]
    jitter: float
    farthest: float
    known: bool

    @property
    def still(self) -> bool:
        """Whether each pixel looks at the same place in all frames."""
        return not self.known or self.farthest < STILL_PX


def _light_of(stack: NDArray[np.generic], settings: ProposeSettings, excluded: Excluded | None) -> Float32Image:
    """The light (T, H, W) DN of frames (T, H, W): without the background that is smooth over some pixels."""
    shape = (stack.shape[1], stack.shape[2])
    proposer = Proposer(replace(settings, clutter_frames=1, clutter_map=""), shape, excluded=excluded)
    light = np.empty(stack.shape, np.float32)
    for k, pixels in enumerate(stack):
        proposer.forget_clutter()
        light[k] = np.nan_to_num(proposer.prepare(pixels).light)
    return light


def sampled(frames: int, size: int) -> NDArray[np.int64]:
    """Evenly spaced frames of which the light of `size` pixels fits into memory."""
    count = int(np.clip(STACK_BYTES // (4 * size), MIN_STACK, MAX_STACK))
    return np.unique(np.linspace(0, frames - 1, min(count, frames)).astype(np.int64))


def learn_clutter_map(
    stack: NDArray[np.generic], settings: ProposeSettings, excluded: Excluded | None = None
) -> ClutterMap:
    """Learn the static clutter of frames (T, H, W) whose platform is still: medians, which targets hardly touch.

    excluded (H, W): pixels that are not searched, None for none.
    """
    light = _light_of(stack, settings, excluded)
    mean = np.median(light, axis=0)
    deviation = np.median(np.abs(light - mean), axis=0) * MEAN_PER_MEDIAN
    proposer, response = Proposer(replace(settings, clutter_frames=0, clutter_map=""), mean.shape), np.empty_like(light)
    levels = []
    for number in range(2):
        for k, image in enumerate(light):
            proposer.filter(image - mean, number, response[k])
        levels.append(np.median(np.abs(response), axis=0) * MEAN_PER_MEDIAN)
    mean, deviation, level = (np.asarray(part, np.float32) for part in (mean, deviation, np.stack(levels)))
    return ClutterMap(mean, deviation, level, len(stack))


def search_frames(
    stack: NDArray[np.generic],
    settings: ProposeSettings,
    learnt: ClutterMap | None,
    excluded: Excluded | None = None,
) -> list[tuple[int, Proposals, Float32Image]]:
    """Search frames (T, H, W), in order: number, proposals and light (H, W) DN of each that has its neighbours.

    learnt: their static clutter; excluded (H, W): pixels that are not searched, None for none.
    """
    proposer = Proposer(replace(settings, clutter_map=""), (stack.shape[1], stack.shape[2]), learnt, excluded)
    reach = settings.average // 2
    prepared: list[PreparedFrame] = []
    found = []
    for k, pixels in enumerate(stack):
        prepared = [*prepared[-2 * reach :], proposer.prepare(pixels)] if reach else [proposer.prepare(pixels)]
        if len(prepared) == 2 * reach + 1:
            proposals = proposer.propose(prepared[reach], [*prepared[:reach], *prepared[reach + 1 :]])
            found.append((k - reach, proposals, prepared[reach].light))
    return found


def companions(centres: Floats) -> Floats:
    """Count, for each region (N, 2) px of a frame, the others within GROUP_PX: (N,)."""
    near = np.abs(centres[:, None] - centres[None]).max(axis=2) < GROUP_PX
    return np.asarray(near.sum(axis=1) - 1, np.float64)


def measure_platform(stack: NDArray[np.generic], excluded: Excluded | None = None) -> PlatformFigures:
    """Measure the platform's motion over frames (T, H, W) by phase correlation of each with the first.

    excluded (H, W): pixels that do not see the scene, such as burnt-in text, which never moves; None for none.
    """
    shape = stack.shape[1:]
    window = cv2.createHanningWindow(shape[::-1], cv2.CV_32F)
    sharp = [_sharpened(image, excluded) for image in stack]
    if len(sharp) < 3 or min(shape) < 32:
        return PlatformFigures((0.0, 0.0), 0.0, 0.0, False)
    shifts, responses = zip(*(cv2.phaseCorrelate(sharp[0], image, window) for image in sharp[1:]), strict=True)
    xy, strength = np.array(shifts), np.array(responses)
    if np.median(strength) < MIN_RESPONSE:
        return PlatformFigures((0.0, 0.0), 0.0, 0.0, False)
    time = np.arange(1, len(stack))
    drift = np.array([np.polyfit(time, xy[:, axis], 1)[0] for axis in range(2)])
    jitter = float(np.median(np.abs(np.diff(xy, axis=0) - drift)) * 1.4826) if len(xy) > 2 else 0.0
    farthest = float(np.quantile(np.abs(xy).max(axis=1), 0.95))
    return PlatformFigures((float(drift[0]), float(drift[1])), jitter, farthest, True)


def _sharpened(image: NDArray[np.generic], excluded: Excluded | None) -> NDArray[np.float32]:
    """An image without what is smooth, its brightest parts limited, so that no single edge decides a correlation."""
    light = np.nan_to_num(np.asarray(image, np.float32))
    if excluded is None:
        light = light - cv2.GaussianBlur(light, (0, 0), 5)
    else:
        weight = (~excluded).astype(np.float32)
        around = cv2.GaussianBlur(light * weight, (0, 0), 5) / np.maximum(cv2.GaussianBlur(weight, (0, 0), 5), 1e-6)
        light = np.asarray((light - around) * weight, np.float32)
    limit = 3 * float(np.std(light)) + 1e-6
    return np.asarray(np.clip(light, -limit, limit), np.float32)


def gaussian_quantile(share: float) -> float:
    """The deviations that this share of a Gaussian's values exceed."""
    return float(-ndtri(share))
