"""What frames show beyond the sensor itself: static clutter, the platform's motion, detections, and their speeds."""

from __future__ import annotations

from collections.abc import Sequence
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
MATCH_GAIN = 0.05  # of a match, by a shift
MATCH_PARTS = 8  # of the frame along each axis
MIN_MATCH, WEAK_MATCH = 0.2, 0.05  # correlation of two frames: sure, and enough where nothing says that they are shifted
MIN_MATCHED = 0.5  # share of the frames that match
LEAD_PX = 3.0  # of a path: frames so far apart are compared


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
    """Measure the platform's motion over frames (T, H, W), by how far each is shifted from the first.

    excluded (H, W): pixels that do not see the scene, such as burnt-in text, which never moves; None for none.
    """
    shape = stack.shape[1:]
    window = np.asarray(cv2.createHanningWindow(shape[::-1], cv2.CV_32F), np.float32)
    sharp = [_sharpened(image, excluded) for image in stack]
    if len(sharp) < 3 or min(shape) < 32:
        return PlatformFigures((0.0, 0.0), 0.0, 0.0, False)
    xy, match = _shifts([sharp[0]] * (len(sharp) - 1), sharp[1:], window)
    matched = match >= WEAK_MATCH
    if np.mean(match >= MIN_MATCH) < MIN_MATCHED:  # has the first frame's scene left? From each frame to the next
        steps, match = _shifts(sharp[:-1], sharp[1:], window)
        path = np.cumsum(np.where(match[:, None] >= MIN_MATCH, steps, 0), axis=0)
        if np.mean(match >= MIN_MATCH) >= MIN_MATCHED and _leads_away(sharp, path):
            xy, matched = path, match >= MIN_MATCH
    if matched.mean() < MIN_MATCHED or matched.sum() < 3:
        return PlatformFigures((0.0, 0.0), 0.0, 0.0, False)
    xy, time = xy[matched], np.arange(1, len(stack))[matched]
    drift = np.array([np.polyfit(time, xy[:, axis], 1)[0] for axis in range(2)])
    steps = np.diff(xy, axis=0) - drift * np.diff(time)[:, None]
    jitter = float(np.median(np.abs(steps)) * 1.4826)
    farthest = float(np.quantile(np.abs(xy).max(axis=1), 0.95))
    return PlatformFigures((float(drift[0]), float(drift[1])), jitter, farthest, True)


def _shifts(firsts: Sequence[Float32Image], images: Sequence[Float32Image], window: Float32Image) -> tuple[Floats, Floats]:
    """Return by how far each image is shifted from its first (N, 2) px, and how well the two match then (N,)."""
    found = [_shift(first, image, window) for first, image in zip(firsts, images, strict=True)]
    return np.array([shift for shift, _ in found]), np.array([match for _, match in found])


def _leads_away(sharp: Sequence[Float32Image], path: Floats) -> bool:
    """Whether frames some px apart on a path (N, 2) px, from the second one on, match better with the path than without.

    Errors of single steps add up to a path too, but not to one that the frames agree with.
    """
    places, votes = np.concatenate([np.zeros((1, 2)), path]), []
    for k in np.linspace(0, len(sharp) - 2, 9).astype(int):
        apart = np.hypot(*(places[k + 1 :] - places[k]).T)
        if (apart > LEAD_PX).any():
            later = k + 1 + int(np.argmax(apart > LEAD_PX))
            moved = _moved_back(sharp[later], *(places[later] - places[k]).tolist())
            votes.append(_match(sharp[k], moved) > _match(sharp[k], sharp[later]) + MATCH_GAIN)
    return bool(votes) and float(np.mean(votes)) > MIN_MATCHED


def _shift(first: Float32Image, image: Float32Image, window: Float32Image) -> tuple[tuple[float, float], float]:
    """Return by how far an image is shifted, px, and how well the two match then, -1 to 1.

    Phase correlation proposes a shift; it counts where more of the frame matches with it than without, since what moves by
    itself, a target or a cloud, is in few parts of the frame.
    """
    (x, y), _ = cv2.phaseCorrelate(first, image, window)
    unmoved = _match(first, image)
    moved = _match(first, _moved_back(image, x, y))
    if moved > unmoved + MATCH_GAIN or max(abs(x), abs(y)) < STILL_PX:
        return (x, y), max(moved, unmoved)
    return (0.0, 0.0), unmoved


def _moved_back(image: Float32Image, x: float, y: float) -> Float32Image:
    """Return an image moved by -x, -y px, 0 where nothing is known."""
    moves = np.array([[1, 0, x], [0, 1, y]], np.float32)
    back = cv2.warpAffine(image, moves, image.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(back, np.float32)


def _match(one: Float32Image, other: Float32Image) -> float:
    """Return the median, over the parts of the frame that show anything, of two images' correlation, -1 to 1."""
    across, own, others = (
        cv2.resize(product, (MATCH_PARTS, MATCH_PARTS), interpolation=cv2.INTER_AREA)
        for product in (one * other, one * one, other * other)
    )
    energy = np.sqrt(own * others)
    shows = energy > 0.1 * np.median(energy)
    return float(np.median(across[shows] / energy[shows])) if shows.any() else 0.0


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
