"""The pattern of a raw sensor, told from the scene by the scene's motion, while a calibration measures its frames.

What moves before a sensor takes the same pixels to other parts of the scene: clouds do before a camera that stands still.
Clutter that is learnt in the scene's places then has the pattern for noise, and clutter that is learnt at the pixels has
the scene. How much of either there is follows from pairs of frames between which the scene has moved: the filter's
responses of both, multiplied pixel by pixel and without what the scene alone gives at that distance, have the pattern's
variance as their mean; multiplied place by place in the scene, that of the scene. A scene that stays cannot be told from a
pattern, and nothing is learnt from it; streaks of cloud along their motion stay too, and are no pattern.

The pattern is the median, over frames, of what is left of each pixel's light without the scene, and the scene is the mean
of other frames, moved, without the pattern. What hovers at a pixel while the scene moves on, and is larger than a pixel,
may be a target that the camera follows: it is not taken for pattern.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.calibrate.scene import MAD_TO_SD, fill_light
from irst_stream.conditioning.compiled import correct_pixels
from irst_stream.conditioning.corrector import Corrector
from irst_stream.conditioning.nonuniformity import CorrectionTable
from irst_stream.conditioning.settings import CorrectSettings
from irst_stream.propose.coarse import Float32Image, kernel_input
from irst_stream.propose.mask import Excluded
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Floats, Frame, Ints, Pixels, Pose, Stamp

__all__ = ["SLOW_FRAMES", "follow_pattern", "learn_pattern", "no_pattern", "remove_pattern", "with_bad_pixels"]

FRAMES, HALVES = 64, 2  # frames that are compared; those of one half are learnt from, the other tells whether it helped
APART_PX = 8.0  # of the scene, between two frames: beyond the filter's 7 px a pixel sees nothing of what it saw
MAX_APART = 0.25  # of the frame's shorter side: more leaves too little that both frames see
MIN_PAIRS, PAIRS_EACH = 8, 2  # of a frame: with later ones
LIMIT = 3.0  # deviations: targets and bad pixels, which are far brighter, count for so much
PARTNERS = 6  # frames whose mean shows the scene of another one: near and far, so that streaks are not alike in them
ROUNDS = 4  # each leaves less of the one in the other
MATTERS = 0.5  # of the noise over time: less pattern raises the filtered frame's noise by less than an eighth
HELPS = 0.5  # of the pattern that may be left, in frames that it was not learnt from
SLOW_FRAMES, FAST_FRAMES = 100, 30  # that offsets are averaged over: noise over time leaves 7 or 13 % of itself in them
ADDS = 0.25  # of the noise over time, that following may add to what the table leaves: it raises that noise by a 32nd
UNSTEADY = 3.0  # of the median pixel's mean absolute change: with more a pixel blinks
SD_PER_MEAN_ABS = SD_PER_MEDIAN = 1.2533  # of a Gaussian; of the median of many draws over their mean's
FOLLOWED, FOLLOWED_PX = 5.0, 9  # deviations of the sum of 3 x 3 px without the brightest, and side of what is left out


@dataclass(frozen=True, slots=True)
class _ClutterShares:
    """Standard deviations of the filter's response, DN: of what stays at its pixels, of what moves with the scene, and of
    what changes from frame to frame.
    """

    pixels: float
    scene: float
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """Light (T, H, W) DN of frames, the scene's places (T, 2) px in them, and pairs of frames that lie apart."""

    light: Float32Image
    places: Floats
    pairs: tuple[tuple[int, int], ...]


def learn_pattern(
    stack: Pixels,
    path: Sequence[Pose | None],
    settings: ProposeSettings,
    excluded: Excluded | None = None,
    step_dn: float | None = None,
) -> CorrectionTable | None:
    """Return the offsets of the pixels of frames (T, H, W), in order; None where none are needed or the frames do not tell.

    path: each frame's pose, None where it is unknown; excluded (H, W): pixels that are not searched, None for none;
    step_dn: see Frame. Blinking pixels are bad in the table.
    """
    views = _views_of(stack, path, settings, excluded, step_dn)
    if len(views.pairs) < MIN_PAIRS:
        return None
    before = _clutter_shares(views.light, views.places, views.pairs, settings)
    if before.pixels <= MATTERS * before.noise:
        return None
    half = _views_of(stack, path, settings, excluded, step_dn, every=HALVES)
    pattern, _, _ = _separate(half)
    others = [pair for pair in views.pairs if pair[0] % HALVES and pair[1] % HALVES]
    after = _clutter_shares(views.light - pattern, views.places, others, settings)
    if len(others) < MIN_PAIRS // HALVES or not after.pixels < HELPS * before.pixels:
        return None
    pattern, unsteady, error = _separate(views)
    gain, offset = (np.where(unsteady, np.float32(np.nan), part) for part in (np.float32(1), -pattern))
    return CorrectionTable(gain, offset, (float(np.nanmean(stack[0])),), (error,))


def follow_pattern(
    stack: Pixels,
    path: Sequence[Pose | None],
    settings: ProposeSettings,
    table: CorrectionTable | None,
    full_scale: float,
    excluded: Excluded | None = None,
    step_dn: float | None = None,
) -> tuple[Float32Image, int] | None:
    """Return frames (T, H, W), in order, with the offsets of a table, None for none, that follow the pattern from there on,
    and the number of frames that offsets are averaged over: fewer only where the pattern drifts too fast for more.

    None where the pattern does not matter, or where following leaves too much of it in the later half of the frames: half
    of a pattern that no table tells, or clearly more than the table alone. For the other parameters see learn_pattern.
    """
    later = slice(len(stack) // 2, None)

    def shares(frames: Pixels) -> _ClutterShares | None:
        views = _views_of(frames, path[later], settings, excluded, step_dn)
        return _clutter_shares(views.light, views.places, views.pairs, settings) if len(views.pairs) >= MIN_PAIRS else None

    before = shares(stack[later] if table is None else remove_pattern(stack[later], table, full_scale))
    told = table is not None and bool(np.nanmax(np.abs(table.offset)) > 0)
    if before is None or not (told or before.pixels > MATTERS * before.noise):
        return None
    frames, most = SLOW_FRAMES, math.hypot(before.pixels, ADDS * before.noise) if told else HELPS * before.pixels
    followed = _follow(stack, path, frames, table, full_scale)
    slow = shares(followed[later])
    fast = shares(_follow(stack, path, FAST_FRAMES, table, full_scale)[later])
    if slow is None or fast is None:
        return None
    if math.hypot(fast.pixels, ADDS * fast.noise) < slow.pixels:
        frames, slow, followed = FAST_FRAMES, fast, _follow(stack, path, FAST_FRAMES, table, full_scale)
    return (followed, frames) if slow.pixels <= most else None


def _follow(
    stack: Pixels, path: Sequence[Pose | None], frames: int, table: CorrectionTable | None, full_scale: float
) -> Float32Image:
    """Return frames (T, H, W) as a pipeline with this value of scene_frames corrects them; frames: the value."""
    corrector = Corrector(CorrectSettings(scene_frames=frames), (stack.shape[1], stack.shape[2]), table)
    followed = np.empty(stack.shape, np.float32)
    for k, (pixels, pose) in enumerate(zip(stack, path, strict=True)):
        frame = replace(corrector(Frame(Stamp("", 0, k, k), pixels, full_scale)), pose=pose)
        corrector.learn(frame)
        followed[k] = frame.pixels
    return followed


def with_bad_pixels(table: CorrectionTable, bad: Ints) -> CorrectionTable:
    """Return a table in which pixels (N, 2), x, y, are bad too.

    The search learns bad pixels by itself, but not where its clutter moves with the scene: there they would pass for lights
    that fly. An offset makes no dead pixel see.
    """
    gain, offset = table.gain.copy(), table.offset.copy()
    gain[bad[:, 1], bad[:, 0]] = offset[bad[:, 1], bad[:, 0]] = np.nan
    return replace(table, gain=gain, offset=offset)


def no_pattern(stack: Pixels) -> CorrectionTable:
    """Return the table that leaves frames (T, H, W) DN as they are."""
    shape = stack.shape[1:]
    return CorrectionTable(np.ones(shape, np.float32), np.zeros(shape, np.float32), (float(np.nanmean(stack[0])),), (0.0,))


def remove_pattern(stack: Pixels, table: CorrectionTable, full_scale: float) -> Float32Image:
    """Return frames (T, H, W) corrected by a table as a pipeline does, float32 DN; bad pixels are NaN."""
    full, largest = np.float32(full_scale), np.nextafter(np.float32(full_scale), np.float32(0))
    corrected = np.empty(stack.shape, np.float32)
    for pixels, out in zip(stack, corrected, strict=True):
        correct_pixels(kernel_input(pixels), table.gain, table.offset, full, largest, out)
    return corrected


def _clutter_shares(
    light: Float32Image, places: Floats, pairs: Sequence[tuple[int, int]], settings: ProposeSettings
) -> _ClutterShares:
    """Measure which part of frames' clutter stays at its pixels, and which moves with the scene.

    light (T, H, W) DN; places (T, 2): x, y px of any still object of the scene; pairs: of frames apart, one or more.
    """
    proposer, responses = Proposer(settings, light.shape[1:]), {}
    for k in sorted({k for pair in pairs for k in pair}):
        responses[k] = out = np.empty(light.shape[1:], np.float32)
        proposer.filter(light[k], 0, out)
        limit = LIMIT * MAD_TO_SD * float(np.median(np.abs(out[::2, ::2])))
        np.clip(out, -limit, limit, out=out)
    stays, moves = [], []
    for one, other in pairs:
        motion = places[other] - places[one]
        for here, there, way in ((one, other, motion), (other, one, -motion)):
            same, scene_alone, along = _products(responses[here], responses[there], way)
            stays.append(same - scene_alone)
            moves.append(along)
    pixels, scene = max(float(np.mean(stays)), 0.0), max(float(np.mean(moves)), 0.0)
    total = float(np.mean([np.mean(np.square(out)) for out in responses.values()]))
    return _ClutterShares(math.sqrt(pixels), math.sqrt(scene), math.sqrt(max(total - pixels - scene, 0.0)))


def _products(one: Float32Image, other: Float32Image, motion: Floats) -> tuple[float, float, float]:
    """Return the mean of one image (H, W) times the other at the same pixels, that which the scene alone would give there,
    and the mean at the same places of the scene.

    motion: x, y px of the scene from one to the other. One image, moved so, shows the scene as the other does.
    """
    moved, seen = _moved(one, motion)
    here, there = one[seen], other[seen]
    return float((here * there).mean()), float((here * moved[seen]).mean()), float((there * moved[seen]).mean())


def _moved(image: Float32Image, motion: Floats) -> tuple[Float32Image, tuple[slice, slice]]:
    """Return an image (H, W) moved by x, y px, and the part of it that comes from inside."""
    (height, width), (x, y) = image.shape, motion.tolist()
    shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    moved = cv2.warpAffine(image, shift, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32), (_inside(height, y), _inside(width, x))


def _inside(length: int, shift: float) -> slice:
    """Return the pixels of an axis that come from inside it where all are moved by a shift, px."""
    return slice(max(math.ceil(shift), 0), length + min(math.floor(shift), 0))


def _views_of(
    stack: Pixels,
    path: Sequence[Pose | None],
    settings: ProposeSettings,
    excluded: Excluded | None,
    step_dn: float | None,
    *,
    every: int = 1,
) -> _Views:
    """Return evenly spaced frames whose poses are known; every: 2 takes every other one of them."""
    spaced = np.linspace(0, len(stack) - 1, min(FRAMES, len(stack))).astype(int).tolist()
    posed = [(k, pose) for k, pose in ((k, path[k]) for k in spaced) if pose is not None][::every]
    places = np.array([(pose.x, pose.y) for _, pose in posed]).reshape(-1, 2)
    pairs = _pairs(places, MAX_APART * min(stack.shape[1:]))
    light = np.empty((len(posed) if pairs else 0, *stack.shape[1:]), np.float32)
    if pairs:
        fill_light((stack[k] for k, _ in posed), settings, excluded, step_dn, light)
    return _Views(light, places, pairs)


def _pairs(places: Floats, farthest: float) -> tuple[tuple[int, int], ...]:
    """Return, for each place (N, 2) px, later ones that are far enough from it, and not too far.

    Those nearest to whole pixels from it: what lies between pixels is interpolated, which would weaken a strong scene by
    more than a weak pattern is.
    """
    pairs = []
    for k, place in enumerate(places):
        motion = places[k + 1 :] - place
        distance = np.hypot(*motion.T)
        good = np.flatnonzero((distance >= APART_PX) & (distance <= farthest))
        between = np.abs(motion[good] - np.rint(motion[good])).max(axis=1)
        pairs += [(k, k + 1 + j) for j in good[np.argsort(between, kind="stable")[:PAIRS_EACH]].tolist()]
    return tuple(pairs)


def _separate(views: _Views) -> tuple[Float32Image, NDArray[np.bool_], float]:
    """Return the pattern (H, W) DN of frames, 0 where a target may hover, which pixels (H, W) blink, and its error, DN."""
    pattern = _told_from_scene(np.median(views.light, axis=0), views.places)
    rest = np.empty_like(views.light)
    for _ in range(ROUNDS):
        clean = views.light - pattern
        for k in range(len(clean)):
            scene, seen = _scene_of(clean, views.places, k)
            rest[k] = np.where(seen, views.light[k] - scene, pattern)
        pattern = _told_from_scene(np.median(rest, axis=0), views.places)
    change = np.abs(rest - pattern).mean(axis=0)
    unsteady = change > UNSTEADY * np.median(change)
    light = pattern - cv2.blur(pattern, 2 * [FOLLOWED_PX])
    around = 9 * cv2.blur(light, (3, 3)) - cv2.dilate(light, np.ones((3, 3)))  # of a single bad pixel nothing is left
    followed = around > FOLLOWED * MAD_TO_SD * np.median(np.abs(around - np.median(around)))
    near = cv2.dilate(followed.astype(np.uint8), np.ones(2 * [FOLLOWED_PX])) > 0
    pattern[near] = 0
    error = SD_PER_MEAN_ABS * SD_PER_MEDIAN * float(np.median(change)) / math.sqrt(len(rest))
    return pattern, unsteady & ~near, error


def _told_from_scene(pattern: Float32Image, places: Floats) -> Float32Image:
    """Return a pattern (H, W) DN without what a scene that moves along places (T, 2) px would show at its pixels too.

    Streaks of cloud along the motion, for one. Of each spatial frequency the share is kept by which the path tells pattern
    from scene: one less the squared magnitude of the frames' mean phase.
    """
    height, width = pattern.shape
    down = np.exp(-2j * np.pi * np.outer(np.fft.fftfreq(height), places[:, 1]))
    along = np.exp(-2j * np.pi * np.outer(places[:, 0], np.fft.rfftfreq(width)))
    alike = np.abs(down @ along / len(places))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(pattern) * (1 - alike**2), (height, width)), np.float32)


def _scene_of(clean: Float32Image, places: Floats, number: int) -> tuple[Float32Image, NDArray[np.bool_]]:
    """Return the scene (H, W) DN of one of the frames, and where it is known: from frames (T, H, W) DN without pattern that
    lie apart from it.
    """
    height, width = clean.shape[1:]
    distance = np.hypot(*(places - places[number]).T)
    far = np.flatnonzero((distance >= APART_PX) & (distance <= MAX_APART * min(height, width)))
    scene, seen = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    spread = np.linspace(0, len(far) - 1, min(PARTNERS, len(far))).astype(int)
    for k in far[spread].tolist():
        moved, known = _moved(clean[k], places[number] - places[k])
        scene[known] += moved[known]
        seen[known] += 1
    return np.asarray(scene / np.maximum(seen, 1), np.float32), seen > 0
