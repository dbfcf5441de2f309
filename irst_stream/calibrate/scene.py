"""What frames show beyond the sensor itself: static clutter, the platform's motion, detections, and their speeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.conditioning.registration import Registration
from irst_stream.conditioning.settings import RegisterSettings
from irst_stream.point_spread import PointSpread
from irst_stream.propose.clutter import LEARNT_FRAMES, ClutterMap, move_image, remaining_motion, seen_back
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.mask import Excluded
from irst_stream.propose.prepared_frame import PreparedFrame
from irst_stream.propose.proposer import Proposals, Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.propose.transients import TransientCounts
from irst_stream.types import Floats, Ints, Pose, Stamp

__all__ = [
    "GROUP_PX",
    "MAD_TO_SD",
    "MIN_CLUTTER_FRAMES",
    "UNKNOWN_PLATFORM",
    "PlatformFigures",
    "companions",
    "fill_light",
    "frames_of_first_view",
    "hovering",
    "learn_clutter_map",
    "measure_platform",
    "platform_of",
    "sampled",
    "search_frames",
]

STACK_BYTES = 200_000_000  # of the light from which clutter is learnt
MAX_STACK, MIN_STACK = 200, 20  # frames
MIN_CLUTTER_FRAMES = 100  # of fewer, a slow target's own light would be learnt as clutter
MOST_FOLLOWED = 150  # frames of a platform that moves: a target as slow as a pixel in 20 frames has left its place
MAX_VIEW_SHIFT = 0.5  # of the frame's sides: what has moved farther shows too little of the first frame's view
MEAN_PER_MEDIAN = 1.183  # of a Gaussian's absolute values
LEARNING_FRAMES = 80  # until clutter that nothing was known of is learnt
HOVER_PARTS = 12  # of the frames, in whose means a target that hovers is seen at another place each
HOVER_BLUR_PX, HOVER_SNR = 2.0, 6.0  # of the mean light in which such targets are looked for
STEADY_SNR = 4.0  # the same, of those that have to move on steadily, which noise and clutter do not
HOVER_PX = 0.5  # by which it moves, root mean square; still lamps do by 0.05 to 0.3
MAX_STEPS = 1.0  # of the variance of a light's places: the mean square of its steps; 2 where it is thrown about
MAX_CROWDING = 0.6  # of its light: what is about it is fainter; in trees and on horizons nothing is alone
HOVER_REACH_PX, HOVER_EDGE_PX, HOVER_MARGIN_PX = 6, 15, 4
MAD_TO_SD = 1.4826
STILL_PX = 0.7  # a platform that moves by less in all frames is called still
POINT_PX = 5  # side of the median that takes points of light out of a frame
MIN_REGISTERED = 0.5  # share of the frames: with fewer the images do not tell
GROUP_PX = 6.0  # along each axis: regions this near may hold one group


@dataclass(frozen=True, slots=True)
class PlatformFigures:
    """How the platform moves, px: drift a frame along x and y, jitter about it, and the farthest place; known: whether the
    frames' images tell at all; path: each frame's pose, None where its images do not tell.
    """

    drift: tuple[float, float]
    jitter: float
    farthest: float
    known: bool
    path: tuple[Pose | None, ...] = ()

    @property
    def still(self) -> bool:
        """Whether each pixel looks at the same place in all frames."""
        return not self.known or self.farthest < STILL_PX


UNKNOWN_PLATFORM = PlatformFigures((0.0, 0.0), 0.0, 0.0, False)


def fill_light(
    images: Iterable[NDArray[np.generic]],
    settings: ProposeSettings,
    excluded: Excluded | None,
    step_dn: float | None,
    light: Float32Image,
) -> None:
    """Fill light (T, H, W) DN with that of T images (H, W): without the background that is smooth over some pixels."""
    proposer = Proposer(replace(settings, clutter_frames=1, clutter_map=""), light.shape[1:], excluded=excluded)
    for pixels, out in zip(images, light, strict=True):
        proposer.forget_clutter()
        out[:] = np.nan_to_num(proposer.prepare(pixels, step_dn=step_dn).light)


def sampled(frames: int, size: int) -> NDArray[np.int64]:
    """Evenly spaced frames of which the light of `size` pixels fits into memory."""
    count = int(np.clip(STACK_BYTES // (4 * size), MIN_STACK, MAX_STACK))
    return np.unique(np.linspace(0, frames - 1, min(count, frames)).astype(np.int64))


def learn_clutter_map(
    stack: NDArray[np.generic],
    chosen: Ints,
    settings: ProposeSettings,
    excluded: Excluded | None = None,
    psf: PointSpread | None = None,
    step_dn: float | None = None,
    path: Sequence[Pose | None] = (),
) -> ClutterMap:
    """Learn the static clutter of frames (T, H, W): medians over what each saw of the scene, which targets hardly touch.

    The map is that of the scene as the first frame sees it; of a platform that moves it weighs no more than it must to be
    known, since poses err. Nothing is learnt where a target hovers, nor what fewer than MIN_STACK of the frames saw. The
    filters' levels are those of the frames that the search filters, each the mean of `average` of the settings: of single
    frames, noise alone would make every pixel louder than its surroundings.

    chosen (N,): numbers of the frames that it is learnt from; excluded (H, W): pixels that are not searched, None for
    none; psf: of the search's filters, see Proposer; step_dn: of the frames' pixels, see Frame; path: each frame's pose,
    known of those chosen, empty for a platform at rest.
    """
    light = np.empty((len(chosen), *stack.shape[1:]), np.float32)
    fill_light((stack[k] for k in chosen), settings, excluded, step_dn, light)
    _see_as_first(light, chosen, path)
    mean = _median(light)
    deviation = _median(np.abs(light - mean)) * MEAN_PER_MEDIAN
    unseen = np.isnan(light)
    np.nan_to_num(light, copy=False)
    targets = hovering(light, steadily=bool(path))
    unknown = len(light) - unseen.sum(axis=0) < MIN_STACK
    if settings.average > 1:
        fill_light(_averaged(stack, chosen, settings.average // 2, path), settings, excluded, step_dn, light)
        _see_as_first(light, chosen, path)
        np.nan_to_num(light, copy=False)
    mean[targets] = 0
    deviation[targets | unknown] = np.nanmedian(deviation)
    proposer = Proposer(replace(settings, clutter_frames=0, clutter_map="", unknown_snr=0.0), mean.shape, psf=psf)
    response = np.empty_like(light)
    levels = []
    for number in range(2):
        for image, out, blind in zip(light, response, unseen, strict=True):
            proposer.filter(np.where(blind | unknown, np.float32(0), image - mean), number, out)
            out[blind] = np.nan
        level = np.nan_to_num(_median(np.abs(response))) * MEAN_PER_MEDIAN
        level[cv2.dilate(targets.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0] = np.median(level)
        levels.append(level)
    mean[unknown] = np.nan
    still, spread, loud = (np.asarray(part, np.float32) for part in (mean, deviation, np.stack(levels)))
    return ClutterMap(still, spread, loud, min(len(chosen), LEARNT_FRAMES) if path else len(chosen))


def frames_of_first_view(stack: NDArray[np.generic], path: Sequence[Pose | None]) -> Ints:
    """Return the numbers (N,), rising, of frames (T, H, W) from which the clutter of the first one's view can be learnt.

    path: each frame's pose, whose errors add up: they are the first that see most of that view, evenly spaced, as many as
    fit into memory; none where they are too few to tell targets from clutter.
    """
    known = [(k, pose) for k, pose in enumerate(path) if pose is not None]
    if not known:
        return np.zeros(0, np.int64)
    first, reach = known[0][1], np.array(stack.shape[2:0:-1]) * MAX_VIEW_SHIFT
    seeing = np.array([k for k, pose in known if (np.abs([pose.x - first.x, pose.y - first.y]) <= reach).all()], np.int64)
    seeing = seeing[:MOST_FOLLOWED]
    return seeing[sampled(len(seeing), stack[0].size)] if len(seeing) >= MIN_CLUTTER_FRAMES else seeing[:0]


def _see_as_first(light: Float32Image, chosen: Ints, path: Sequence[Pose | None]) -> None:
    """Draw light (N, H, W) of the chosen frames as the path's first frame saw the scene, in place; NaN where unseen."""
    first = next((pose for pose in path if pose is not None), None)
    for k, image in zip(chosen.tolist(), light, strict=True):
        pose = path[k] if path else None
        motion = None if first is None or pose is None else remaining_motion(first, pose, (0, 0), image.shape)
        if motion is not None:
            image[:] = seen_back(image, motion)


def _median(images: Float32Image) -> Float32Image:
    """The median (H, W) of images (T, H, W), of what is not NaN; NaN where all are."""
    out = np.empty(images.shape[1:], np.float32)
    for row in range(len(out)):
        values = np.sort(images[:, row], axis=0)  # NaN comes last
        count = len(values) - np.isnan(values).sum(axis=0)
        middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1)])
        out[row] = np.take_along_axis(values, middle, axis=0).mean(axis=0)
    return out


def _averaged(stack: NDArray[np.generic], chosen: Ints, reach: int, path: Sequence[Pose | None]) -> Iterator[Float32Image]:
    """Yield the mean (H, W) DN of each chosen frame and of up to `reach` before and after it, where it sees the scene."""
    for k in chosen.tolist():
        near = range(max(k - reach, 0), min(k + reach + 1, len(stack)))
        yield np.mean([_moved(stack[j], _step(path, j, k)) for j in near], axis=0, dtype=np.float32)


def _step(path: Sequence[Pose | None], start: int, end: int) -> tuple[int, int]:
    """Whole px, x and y, by which the scene moves from one frame to another; 0 where that is unknown."""
    one, other = (path[start], path[end]) if path else (None, None)
    if one is None or other is None:
        return 0, 0
    return round(other.x) - round(one.x), round(other.y) - round(one.y)


def _moved(image: NDArray[np.generic], by: tuple[int, int]) -> Float32Image:
    """An image (H, W) moved by whole px; its border is repeated where it ends."""
    moved = image.astype(np.float32)
    if any(by):
        move_image(moved, *by, edge=True)
    return moved


def hovering(light: Float32Image, *, steadily: bool = False) -> NDArray[np.bool_]:
    """Return the pixels (H, W) about compact lights that move about in light (T, H, W) DN of a platform that is still.

    A target that hovers moves by half a pixel or more within a minute. A lamp stays. A swaying treetop moves too, but has
    other lights near it. steadily: only lights that move on from part to part; where the platform moves, errors of its
    poses throw others to and fro.
    """
    found = np.zeros(light.shape[1:], np.bool_)
    if len(light) < 2 * HOVER_PARTS:
        return found
    blurred = np.stack([cv2.GaussianBlur(part.mean(axis=0), (0, 0), 1.0) for part in np.array_split(light, HOVER_PARTS)])
    wide = cv2.GaussianBlur(light.mean(axis=0), (0, 0), HOVER_BLUR_PX)
    least = (STEADY_SNR if steadily else HOVER_SNR) * MAD_TO_SD * np.median(np.abs(wide))
    bright = (wide == cv2.dilate(wide, np.ones(2 * [2 * HOVER_REACH_PX + 1]))) & (wide > least)
    bright[:HOVER_EDGE_PX], bright[-HOVER_EDGE_PX:] = False, False
    bright[:, :HOVER_EDGE_PX], bright[:, -HOVER_EDGE_PX:] = False, False
    for y, x in np.argwhere(bright).tolist():
        around = blurred[:, y - HOVER_EDGE_PX : y + HOVER_EDGE_PX + 1, x - HOVER_EDGE_PX : x + HOVER_EDGE_PX + 1]
        places, crowding = _path_of(around)
        spread = float((places.std(axis=0) ** 2).sum())
        moves_on = not steadily or float((np.diff(places, axis=0) ** 2).sum(axis=1).mean()) < MAX_STEPS * spread
        if spread > HOVER_PX**2 and crowding < MAX_CROWDING and moves_on:
            for dx, dy in np.rint(places).astype(int).tolist():
                reach = HOVER_MARGIN_PX
                found[max(y + dy - reach, 0) : y + dy + reach + 1, max(x + dx - reach, 0) : x + dx + reach + 1] = True
    return found


def _path_of(around: Float32Image) -> tuple[Floats, float]:
    """Return the places (T, 2) x, y px of the brightest light in images (T, S, S), from their middle; how crowded it is.

    The latter is the brightest thing 4 px away or more over the light itself, the median over the images.
    """
    middle, places, crowding = len(around[0]) // 2, [], []
    inner = slice(middle - HOVER_REACH_PX, middle + HOVER_REACH_PX + 1)
    rows, columns = np.indices(around.shape[1:])
    for image in around:
        y, x = divmod(int(image[inner, inner].argmax()), 2 * HOVER_REACH_PX + 1)
        y, x = y + inner.start, x + inner.start
        near = np.hypot(rows - y, columns - x)
        weight = np.maximum(image - 0.3 * image[y, x], 0) * (near < 4)
        total = max(float(weight.sum()), 1e-12)
        places.append([(weight * columns).sum() / total - middle, (weight * rows).sum() / total - middle])
        crowding.append(float(np.abs(image[(near >= 4) & (near < 8)]).max()) / max(float(image[y, x]), 1e-12))
    return np.array(places), float(np.median(crowding))


def search_frames(
    stack: NDArray[np.generic],
    settings: ProposeSettings,
    learnt: ClutterMap | None,
    excluded: Excluded | None = None,
    path: Sequence[Pose | None] = (),
    psf: PointSpread | None = None,
    step_dn: float | None = None,
    *,
    from_start: bool = False,
) -> tuple[list[tuple[int, Proposals, Float32Image]], TransientCounts | None]:
    """Search frames (T, H, W), in order: number, proposals and light (H, W) DN of each that has its neighbours; and what
    was learnt of lights that come and go, None where no clutter is learnt.

    learnt: their static clutter; excluded (H, W): pixels that are not searched, None for none; path: each frame's pose,
    empty for a platform at rest; psf: of the filters, see Proposer; step_dn: of the frames' pixels, see
    Frame. Where clutter is learnt on the way, the frames until then are left out, but not from_start.
    """
    shape = (stack.shape[1], stack.shape[2])
    proposer = Proposer(replace(settings, clutter_map=""), shape, learnt, excluded, psf)
    reach = settings.average // 2
    prepared: list[PreparedFrame] = []
    found = []
    learning = settings.clutter_frames and learnt is None and not from_start
    first = min(LEARNING_FRAMES, len(stack) // 3) if learning else 0
    for k, pixels in enumerate(stack):
        pose = path[k] if path else None
        place = (0, 0) if not path else None if pose is None else (round(pose.x), round(pose.y))
        ready = proposer.prepare(pixels, place, step_dn, pose)
        prepared = [*prepared[-2 * reach :], ready] if reach else [ready]
        if len(prepared) == 2 * reach + 1:
            proposals = proposer.propose(prepared[reach], [*prepared[:reach], *prepared[reach + 1 :]])
            if k >= first:
                found.append((k - reach, proposals, prepared[reach].light))
    known = proposer.learnt_clutter()
    return found, None if known is None else known.transients


def companions(centres: Floats) -> Floats:
    """Count, for each region (N, 2) px of a frame, the others within GROUP_PX: (N,)."""
    near = np.abs(centres[:, None] - centres[None]).max(axis=2) < GROUP_PX
    return np.asarray(near.sum(axis=1) - 1, np.float64)


def measure_platform(stack: NDArray[np.generic], excluded: Excluded | None = None) -> PlatformFigures:
    """Measure the platform's motion over frames (T, H, W), in order, by registration of all but their points of light.

    Over a sky that shows nothing else, targets that fly by themselves would pass for the scene.
    excluded (H, W): pixels that do not see the scene, such as burnt-in text, which never moves; None for none.
    """
    registration = Registration(RegisterSettings("auto"), (stack.shape[1], stack.shape[2]), excluded)
    scene = (cv2.medianBlur(np.asarray(image, np.float32), POINT_PX) for image in stack)
    return platform_of([registration.locate(image, Stamp("", 0, k, k)) for k, image in enumerate(scene)])


def platform_of(poses: Sequence[Pose | None]) -> PlatformFigures:
    """The platform's motion by the poses of frames, in order; None where a frame has none."""
    time = np.array([k for k, pose in enumerate(poses) if pose is not None])
    if len(time) < max(MIN_REGISTERED * len(poses), 3):
        return UNKNOWN_PLATFORM
    xy = np.array([(pose.x, pose.y) for pose in poses if pose is not None])
    xy -= xy[0]
    drift = np.array([np.polyfit(time, xy[:, axis], 1)[0] for axis in range(2)])
    jitter = float(np.median(np.abs(np.diff(xy, axis=0) - drift * np.diff(time)[:, None])) * 1.4826)
    farthest = float(np.quantile(np.abs(xy).max(axis=1), 0.95))
    return PlatformFigures((float(drift[0]), float(drift[1])), jitter, farthest, True, tuple(poses))
