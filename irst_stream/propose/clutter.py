"""Static clutter of a sensor's frames: what stays at its place, learnt over time, subtracted and whitened.

Where the platform moves and its pose is known, the maps move with the scene, by whole pixels: interpolated maps blur with
every step, and maps that stay, or none, lose the targets that maps that move find. What remains, part of a pixel and a
roll, is made up for frame by frame: the mean is drawn as this frame sees it, and what is left of the frame is learnt in the
map's own pixels, so that nothing blurs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from irst_stream.errors import FormatError
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import (
    SD_PER_MEAN_ABS,
    Interpolation,
    clipped_squares,
    compare_clutter,
    learn_clutter,
    learn_levels,
    subtract_clutter,
    whiten_response,
)
from irst_stream.propose.transients import TransientCounts
from irst_stream.system.array_files import read_arrays
from irst_stream.types import Floats, Pose

__all__ = [
    "LEARNT_FRAMES",
    "Clutter",
    "ClutterMap",
    "move_image",
    "named_clutter_map",
    "read_clutter_map",
    "remaining_motion",
    "seen_back",
    "write_clutter_map",
]

log = logging.getLogger(__name__)

LIMIT = np.float32(3)  # a frame's residual counts for at most this many deviations, see learn_clutter
MIN_FRAMES = np.float32(20)  # the weight of "no clutter" at the beginning, frames
WHITENING_MARGIN = np.float32(1.5)  # of a pixel's deviation: what comes and goes has heavier tails than noise
SQUARE_LIMIT = np.float32(5)  # levels: a larger response counts for so much in its surroundings' noise
# of the pixels about a place, as far as its noise is measured: the light of four targets, which take up 20 px each
LOUD_PX, LOUD_STEP, MAX_LOUD_SHARE = 48, 2, np.float32(0.035)
GUARD_PX = 24  # about a place, which do not count: the light of one target, of up to 20 px, is no noise about itself
LEARNT_FRAMES = 60  # after which the clutter of a place is known
FILTER_REACH = np.arange(-3, 4)  # px: what is farther does not change a filter's response
HELD_RATE = 0.05  # of the learning rate, where a track holds its target
HELD_RADIUS_PX = 4
FILTERS, TRANSIENT_COUNTS = 2, 3
STANDING_OUT = 5.0  # deviations of a place of the clutter, by which alone a scene is known again
MIN_STANDING_OUT, MIN_SHOWN = 50, 0.5  # pixels; share of the clutter: a camera that adapts its gain shows no less
GAIN_ROWS = 2  # every other row tells enough
GAIN_ERRORS = 5.0  # standard errors: a smaller change of gain is not made up for
MAX_GAIN_CHANGE = 0.5
LEAST_MOTION_PX = 0.02  # at the frame's corners: less is not made up for


@dataclass(frozen=True, slots=True, eq=False)
class ClutterMap:
    """What was learnt: mean and mean absolute deviation (H, W) of the light, DN, and each filter's level (2, H, W).

    frames: how many frames it rests on. A level is a pixel's mean absolute response, DN. In a map that calibration hands
    over, the mean is NaN where too few frames tell. transients: of lights that come and go, None where that is unknown.
    """

    mean: Float32Image
    deviation: Float32Image
    levels: Float32Image
    frames: int
    transients: TransientCounts | None = None

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> ClutterMap:
        """No clutter, for frames of that shape (H, W)."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros((FILTERS, *shape), np.float32), 0)

    def copy(self) -> ClutterMap:
        """The same in arrays of its own."""
        return ClutterMap(self.mean.copy(), self.deviation.copy(), self.levels.copy(), self.frames)

    def move(self, x: int, y: int) -> None:
        """Move all maps by whole px, in place; where they end the mean is unknown, 0, and the nearest level holds."""
        move_image(self.mean, x, y, edge=False)
        for image in (self.deviation, *self.levels):
            move_image(image, x, y, edge=True)


class Clutter:
    """The static clutter of one sensor; it learns from every frame, slowly where tracks hold their targets."""

    def __init__(self, memory: int, shape: tuple[int, int], learnt: ClutterMap | None = None) -> None:
        """memory: frames over which it learns; shape: rows, columns of the frames; learnt: what it starts with."""
        self._memory = memory
        self.map = ClutterMap.empty(shape) if learnt is None else learnt.copy()
        self._frames = np.where(np.isnan(self.map.mean), np.float32(0), np.float32(self.map.frames))  # seen of each place
        np.nan_to_num(self.map.mean, copy=False)
        self._rates = np.empty(shape, np.float32)
        self._loud = np.empty([-(-side // LOUD_STEP) for side in shape], np.float32)
        self._seen_by_most = self._seen_by_all = 0.0  # frames, see _count
        self._count()
        self._held: list[tuple[slice, slice]] = []
        self._place: tuple[int, int] | None = None  # of the last frame
        self._first: tuple[Pose, tuple[int, int]] | None = None  # pose and place of the frame in whose pixels the maps are
        self._rest: Floats | None = None  # of this frame's motion, see remaining_motion
        self.is_of_another_scene = False  # the map that was given, as its first frame shows
        self._doubted = learnt is not None  # until the first frame has shown the scene of the map that was given

    @property
    def is_learnt(self) -> bool:
        """Whether most of the frame has been seen for long enough to know its clutter."""
        return self._seen_by_most >= LEARNT_FRAMES

    def _count(self) -> None:
        """Note in how many frames most of the pixels have been seen, and all of them."""
        self._seen_by_most, self._seen_by_all = float(np.median(self._frames[::8, ::8])), float(self._frames.min())

    def known_shares(self, xy: Floats) -> Floats:
        """Return how well the clutter about places (N, 2) px is known: (N,), 0 to 1; by the least known pixel there."""
        if self._seen_by_all >= LEARNT_FRAMES:
            return np.ones(len(xy))
        column, row = np.rint(xy).astype(np.int64).T
        height, width = self._frames.shape
        rows = np.clip(row[:, None] + FILTER_REACH, 0, height - 1)[:, :, None]
        columns = np.clip(column[:, None] + FILTER_REACH, 0, width - 1)[:, None, :]
        frames = self._frames[rows, columns].min(axis=(1, 2))
        return np.asarray(np.minimum(frames / LEARNT_FRAMES, 1.0), np.float64)

    def learnt(self) -> ClutterMap:
        """Return what is known now; its arrays go on changing."""
        return ClutterMap(self.map.mean, self.map.deviation, self.map.levels, int(np.median(self._frames)))

    def hold(self, xy: Floats) -> None:
        """Learn slowly about these places (N, 2) px, where tracks are; until the next call.

        Not where the map is still being learnt: a track there may be of clutter that it does not know yet.
        """
        low, high = np.rint(xy).astype(int) - HELD_RADIUS_PX, np.rint(xy).astype(int) + HELD_RADIUS_PX + 1
        parts = [
            (slice(max(y, 0), max(bottom, 0)), slice(max(x, 0), max(right, 0)))
            for (x, y), (right, bottom) in zip(low.tolist(), high.tolist(), strict=True)
        ]
        self._held = [part for part in parts if self._frames[part].max(initial=0) >= LEARNT_FRAMES]

    def follow(self, place: tuple[int, int], pose: Pose | None = None) -> None:
        """Move the maps to where the scene is in the next frame: x, y px, of any still object.

        pose: the frame's, None where it is unknown. The first frame sees what a map that was given shows, wherever its pose
        counts from.
        """
        x, y = (0, 0) if self._place is None else (place[0] - self._place[0], place[1] - self._place[1])
        self._place = place
        if x or y:
            self.map.move(x, y)
            move_image(self._frames, x, y, edge=False)
            self._count()
        self._rest = None
        if pose is not None:
            first, start = self._first = self._first or (pose, place)
            moved = place[0] - start[0], place[1] - start[1]
            self._rest = remaining_motion(first, pose, moved, self.map.mean.shape)

    def subtract(self, light: Float32Image) -> None:
        """Subtract the clutter from a frame's light (H, W) DN, in place."""
        if self._doubted:
            self._doubted = False
            self._recognise(light)
            self._count()
        mean, sides = self.map.mean, light.shape[::-1]
        if self._rest is not None:
            drawn = cv2.warpAffine(mean, self._rest, sides, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            mean = np.asarray(drawn, np.float32)
        subtract_clutter(light, mean, gain_of(light, mean))

    def _recognise(self, light: Float32Image) -> None:
        """Move the map that was given to where the first frame's light (H, W) DN shows its scene, or drop it."""
        if shows_scene(light, self.map.mean, self.map.deviation):
            return
        shift = shift_of(light, self.map.mean)
        x, y = (round(part) for part in shift)
        self.map.move(x, y)
        move_image(self._frames, x, y, edge=False)
        if shows_scene(light, self.map.mean, self.map.deviation):
            if self._first is not None:
                pose, place = self._first
                seen_by = replace(pose, x=pose.x - shift[0] + x, y=pose.y - shift[1] + y)
                self._first = seen_by, place
                self._rest = remaining_motion(seen_by, pose, (0, 0), light.shape)
            return
        log.warning("the first frame shows another scene than the clutter that is known; clutter is learnt anew")
        self.is_of_another_scene = True
        for image in (self.map.mean, self.map.deviation, self.map.levels, self._frames):
            image[:] = 0

    def learn(self, light: Float32Image, noise: Float32Image, rows: Interpolation) -> None:
        """Learn from a frame's light (H, W) DN, from which the clutter was subtracted. noise: an expanded map."""
        if self._rest is not None:
            light = seen_back(light, self._rest)
        weights = MIN_FRAMES, np.float32(self._memory + 1), self._rates
        with _Held(self._held, self.map.mean, self.map.deviation):
            learn_clutter(light, noise, rows, LIMIT, self._frames, *weights, self.map.mean, self.map.deviation)
        if self._seen_by_all < LEARNT_FRAMES:
            self._count()

    def squares(
        self, response: Float32Image, number: int, floor: float, around: Float32Image | None, out: Float32Image
    ) -> Float32Image:
        """Fill out (H, W) with the squares of filter number's response (H, W), without those of targets, and return it.

        What is loud about a place counts whole where there is more of it than targets make: structure that the map does
        not know, as of clouds that drift over a scene, is noise to whoever looks for targets in it. floor: least noise of
        the response, DN; around (H, W) DN: its noise about each pixel, from which levels begin that are not known yet, None
        once they are.
        """
        levels = self.map.levels[number]
        if around is not None:
            levels = np.maximum(levels, around / SD_PER_MEAN_ABS)
        clipped_squares(response, levels, SQUARE_LIMIT, np.float32(floor), out, LOUD_STEP, self._loud)
        share = _share_around(self._loud)
        if share.max() > MAX_LOUD_SHARE:
            whole = np.clip(cv2.resize(share, response.shape[::-1]) / MAX_LOUD_SHARE - 1, 0, 1)
            out += whole * (response * response - out)
        return out

    def whiten(
        self, response: Float32Image, number: int, floor: float, noise: Float32Image, rows: Interpolation, *, bursts: bool
    ) -> None:
        """Divide filter number's response (H, W), in place, by how much louder each pixel is than its surroundings.

        Each pixel's level is learnt too. floor: least noise, DN; noise: an expanded map of the response's local noise;
        bursts: a codec has removed the noise, and what is left comes in bursts everywhere. Else a pixel as calm as its
        surroundings has their noise: counted as louder, it would weaken every target.
        """
        level = self.map.levels[number]
        with _Held(self._held, level):
            learn_levels(response, LIMIT, np.float32(floor), noise, rows, self._rates, level)
        whiten_response(response, level, noise, rows, WHITENING_MARGIN, np.float32(not bursts))


def _share_around(loud: Float32Image) -> Float32Image:
    """Return the share of loud pixels about each place of loud (m, n), 1 or 0: see LOUD_PX and GUARD_PX."""
    sides = LOUD_PX // LOUD_STEP, GUARD_PX // LOUD_STEP
    whole, near = (cv2.blur(loud, [side, side], borderType=cv2.BORDER_REFLECT) for side in sides)
    near_weight = (sides[1] / sides[0]) ** 2
    return np.asarray((whole - np.float32(near_weight) * near) / np.float32(1 - near_weight), np.float32)


def shows_scene(light: Float32Image, mean: Float32Image, deviation: Float32Image) -> bool:
    """Tell whether a frame's light (H, W) DN shows the clutter of this mean and mean absolute deviation (H, W) DN.

    Most of the places that stand out of the clutter must stand out of the frame too, by half as much. True where too few
    do: then there is no clutter that could be missed.
    """
    stands_out = np.abs(mean) > STANDING_OUT * np.maximum(deviation, np.median(deviation))
    stands_out &= np.isfinite(light)
    if stands_out.sum() < MIN_STANDING_OUT:
        return True
    return bool(np.median(light[stands_out] / mean[stands_out]) > MIN_SHOWN)


def shift_of(light: Float32Image, mean: Float32Image) -> tuple[float, float]:
    """Return by how many px, x and y, a frame's light (H, W) shows the clutter of this mean (H, W) elsewhere.

    0 where they are alike nowhere, or only where less than three quarters of the clutter would be seen.
    """
    window = cv2.createHanningWindow(light.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(mean.copy(), np.nan_to_num(light), window)  # which fades what it is given
    inside = np.isfinite([x, y]).all() and abs(x) <= light.shape[1] / 4 and abs(y) <= light.shape[0] / 4
    return (x, y) if inside else (0.0, 0.0)


def gain_of(light: Float32Image, mean: Float32Image) -> np.float32:
    """Return by how much a frame's clutter is stronger than its mean (H, W): cameras adapt their gain to the scene.

    light (H, W) DN: of the frame, NaN at bad pixels. 1 where the clutter is too faint to tell.
    """
    square, change, difference = compare_clutter(light, mean, GAIN_ROWS)
    pixels = len(range(0, len(light), GAIN_ROWS)) * light.shape[1]
    noise = difference / pixels * float(SD_PER_MEAN_ABS) * math.sqrt(square)
    if abs(change) <= GAIN_ERRORS * noise:
        return np.float32(1)
    return np.float32(1 + min(max(change / square, -MAX_GAIN_CHANGE), MAX_GAIN_CHANGE))


def remaining_motion(first: Pose, pose: Pose, moved: tuple[int, int], shape: tuple[int, int]) -> Floats | None:
    """Return the map (2, 3) from the scene as a frame of pose `first` saw it, moved by whole px, to how another sees it.

    pose: the other frame's; moved: x, y px; shape (H, W): of the frames. None where it is too little to matter.
    """
    away = np.array([[1.0, 0.0, -moved[0]], [0.0, 1.0, -moved[1]], [0.0, 0.0, 1.0]])
    motion = _of_scene(pose, shape) @ np.linalg.inv(_of_scene(first, shape)) @ away
    corners = np.array([(x, y, 1.0) for x in (0, shape[1] - 1) for y in (0, shape[0] - 1)])
    return motion[:2] if np.abs(corners @ motion.T - corners).max() > LEAST_MOTION_PX else None


def seen_back(light: Float32Image, motion: Floats) -> Float32Image:
    """Draw a frame's light (H, W) where it was before a motion (2, 3), see remaining_motion; NaN where it saw nothing."""
    sides, flags = light.shape[::-1], cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(light, motion, sides, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.warpAffine(np.ones(light.shape, np.uint8), motion, sides, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    back[seen == 0] = np.nan
    return np.asarray(back, np.float32)


def _of_scene(pose: Pose, shape: tuple[int, int]) -> Floats:
    """The map (3, 3) from the scene to a frame of this pose and shape (H, W), homogeneous."""
    c, s, middle = math.cos(pose.roll_rad), math.sin(pose.roll_rad), (np.array(shape[::-1]) - 1) / 2
    turn = np.array([[c, -s], [s, c]])
    return np.block([[turn, (middle + np.array([pose.x, pose.y]) - turn @ middle)[:, None]], [np.zeros(2), np.ones(1)]])


def move_image(image: Float32Image, x: int, y: int, *, edge: bool) -> None:
    """Move an image (H, W) by whole px, in place; edge: repeat its border where it ends, else fill in 0."""
    height, width = image.shape
    x, y = max(min(x, width), -width), max(min(y, height), -height)
    padded = np.pad(image, ((max(y, 0), max(-y, 0)), (max(x, 0), max(-x, 0))), mode="edge" if edge else "constant")
    image[:] = padded[max(-y, 0) : max(-y, 0) + height, max(-x, 0) : max(-x, 0) + width]


class _Held:
    """Learns at HELD_RATE in some parts (slices) of maps (H, W) while it is entered."""

    def __init__(self, held: Sequence[tuple[slice, slice]], *maps: Float32Image) -> None:
        self._parts = [(image[part], image[part].copy()) for image in maps for part in held]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        for part, before in self._parts:
            part[:] = before + np.float32(HELD_RATE) * (part - before)


def named_clutter_map(name: str, shape: tuple[int, int]) -> ClutterMap | None:
    """Return the clutter map of a file; None without a name, and for frames of another shape (H, W)."""
    if not name:
        return None
    learnt = read_clutter_map(Path(name))
    if learnt.mean.shape == shape:
        return learnt
    told = learnt.mean.shape[1], learnt.mean.shape[0], shape[1], shape[0]
    log.warning("%s: is for frames of %d x %d px, these have %d x %d; clutter is learnt anew", name, *told)
    return None


def read_clutter_map(path: Path) -> ClutterMap:
    """Read a map that write_clutter_map wrote; raise a FormatError for anything else."""
    what = "a clutter map that irst-stream calibrate wrote"
    names = ("mean", "deviation", "levels", "frames", "transients", "transient_frames")
    mean, deviation, levels, frames, counts, weight = read_arrays(path, names, what)
    if mean.ndim != 2 or deviation.shape != mean.shape or levels.shape != (FILTERS, *mean.shape) or frames.size != 1:
        raise FormatError(f"{path}: not {what}: expected mean (H, W), got {mean.shape}")
    if counts.ndim != 3 or len(counts) != TRANSIENT_COUNTS or weight.size != 1:
        raise FormatError(f"{path}: not {what}: expected transients ({TRANSIENT_COUNTS}, m, n), got {counts.shape}")
    mean, deviation, levels, counts = (np.asarray(part, np.float32) for part in (mean, deviation, levels, counts))
    transients = TransientCounts(counts, float(weight)) if counts.size else None
    return ClutterMap(mean, deviation, levels, int(frames), transients)


def write_clutter_map(path: Path, learnt: ClutterMap, *, compress: bool = True) -> None:
    """Write a map as a .npz file; compress: half the size, in a tenth of a second rather than a hundredth."""
    counts, weight = learnt.transients or TransientCounts(np.zeros((TRANSIENT_COUNTS, 0, 0), np.float32), 0.0)
    with path.open("wb") as file:
        (np.savez_compressed if compress else np.savez)(
            file,
            mean=learnt.mean.astype(np.float16),
            deviation=learnt.deviation.astype(np.float16),
            levels=learnt.levels.astype(np.float16),
            frames=np.int64(learnt.frames),
            transients=counts,
            transient_frames=np.float64(weight),
        )
