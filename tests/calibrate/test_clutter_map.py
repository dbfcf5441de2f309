"""The static clutter that a calibration learns is that of the frames that the search filters."""

import cv2
import numpy as np
import pytest

from irst_stream.calibrate.scene import frames_of_first_view, learn_clutter_map, search_frames
from irst_stream.optics import render
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Pose, Stamp

SHAPE, FRAMES, NOISE, SIGMA = (96, 128), 90, 4.0, 0.9
SD_PER_MEAN_ABS = 1.2533


def frames_of(amplitude=0.0, *, pattern=20.0, seed=5):
    """Frames (T, H, W) DN of a still sensor: pattern, noise, and a target of that light which crosses at 0.7 px a frame."""
    rng = np.random.default_rng(seed)
    stack = 500 + pattern * rng.standard_normal(SHAPE) + NOISE * rng.standard_normal((FRAMES, *SHAPE))
    for k, image in enumerate(stack):
        image += render(np.array([[20.0 + 0.7 * k, 50.0]]), np.array([amplitude]), SHAPE, SIGMA)
    return stack.astype(np.float32)


@pytest.mark.parametrize("average", [1, 3, 5])
def test_the_levels_are_those_of_averaged_frames(average):
    settings = ProposeSettings(SIGMA, average=average, clutter_frames=1000)
    learnt = learn_clutter_map(frames_of(), np.arange(FRAMES), settings)
    levels = SD_PER_MEAN_ABS * np.median(learnt.levels, axis=(1, 2))  # of filters of unit norm
    assert levels == pytest.approx(NOISE / np.sqrt(average), rel=0.06)
    assert learnt.frames == FRAMES


def test_a_pattern_that_is_known_does_not_weaken_a_target():
    settings = ProposeSettings(SIGMA, average=3, min_snr=5.0, clutter_frames=1000)

    def strength(pattern):
        stack = frames_of(100.0, pattern=pattern)
        found, _ = search_frames(stack, settings, learn_clutter_map(stack, np.arange(FRAMES), settings))
        return float(np.median([proposals.strength.max(initial=0) for _, proposals, _ in found]))

    free, _ = search_frames(frames_of(100.0, pattern=0.0), ProposeSettings(SIGMA, average=3, min_snr=5.0), None)
    alone = float(np.median([proposals.strength.max(initial=0) for _, proposals, _ in free]))
    assert strength(20.0) > 0.75 * alone  # a third of it before the levels were those of averaged frames


def panned(drift=0.25, frames=160, *, target=0.0, seed=4):
    """Frames (T, H, W) DN of a platform that pans over a rough scene, their poses, and the scene as the first sees it."""
    rng, margin = np.random.default_rng(seed), 60
    scene = cv2.GaussianBlur(rng.standard_normal((SHAPE[0], SHAPE[1] + margin)).astype(np.float32), (0, 0), 1.2)
    scene *= 20 / scene.std()
    stack, poses = [], []
    for k in range(frames):
        motion = np.array([[1.0, 0.0, -drift * k], [0.0, 1.0, 0.0]])
        image = cv2.warpAffine(scene, motion, SHAPE[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        image = image + render(np.array([[20.0 + 0.5 * k, 48.0]]), np.array([target]), SHAPE, SIGMA)
        stack.append(500 + image + 2.0 * rng.standard_normal(SHAPE))
        poses.append(Pose(Stamp("", 0, k, k), -drift * k, 0.0, 0.0))
    return np.stack(stack).astype(np.float32), poses, scene[:, : SHAPE[1]]


def test_the_clutter_of_a_scene_that_pans_is_that_of_the_first_view():
    settings = ProposeSettings(SIGMA, average=3, clutter_frames=1000)
    stack, poses, scene = panned()
    chosen = frames_of_first_view(stack, poses)
    assert chosen.tolist() == list(range(150))
    learnt = learn_clutter_map(stack, chosen, settings, path=poses)
    known = np.isfinite(learnt.mean)
    assert not known[:, :2].any()  # seen by 8 frames
    assert known[:, 8:].all()
    inside = (slice(12, -12), slice(12, -12))
    assert np.corrcoef(learnt.mean[inside].ravel(), scene[inside].ravel())[0, 1] > 0.97
    fast = [Pose(p.stamp, 4 * p.x, 0.0, 0.0) for p in poses]  # of which half the first view is gone after 64 frames
    assert not len(frames_of_first_view(stack, fast))
    assert not len(frames_of_first_view(stack, [None] * len(stack)))


def test_a_search_that_knows_the_first_view_raises_no_false_regions_at_the_start():
    settings = ProposeSettings(SIGMA, average=3, min_snr=5.0, clutter_frames=1000, unknown_snr=15.0)
    stack, poses, _ = panned(target=400.0)
    learnt = learn_clutter_map(stack, frames_of_first_view(stack, poses), settings, path=poses)
    false, hits = {}, {}
    for known in (learnt, None):
        found, _ = search_frames(stack[:40], settings, known, None, poses[:40], from_start=True)
        off = [np.hypot(p.centres[:, 0] - 20 - 0.5 * k, p.centres[:, 1] - 48) > 4 for k, p, _ in found]
        false[known is None] = np.mean([part.sum() for part in off])
        hits[known is None] = np.mean([not part.all() for part in off])
    assert hits[False] > 0.9
    assert false[False] < 0.2
    assert false[True] > 1.0 or hits[True] < 0.5  # who begins without it
