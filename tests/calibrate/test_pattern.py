"""A raw sensor's pattern is told from a scene that moves, and from nothing else."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from irst_stream import Stamp
from irst_stream.calibrate.calibration import calibrate
from irst_stream.calibrate.pattern import (
    SLOW_FRAMES,
    follow_pattern,
    learn_pattern,
    no_pattern,
    remove_pattern,
    with_bad_pixels,
)
from irst_stream.optics import render
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Pose

SHAPE, FRAMES, NOISE, PATTERN, SCENE, DRIFT = (96, 128), 100, 5.0, 20.0, 25.0, 1.0
SEARCH = ProposeSettings(0.8)
HOT, BLINKING = (40, 60), (70, 30)


def stack_of(*, pattern=PATTERN, drift=DRIFT, spots=(), seed=7, scene=SCENE, grain=2.0, frames=FRAMES):
    """Frames (T, H, W) uint16 and the pattern (H, W) DN: clouds that drift along x, pattern, a hot and a blinking pixel.

    spots: x, y px and light DN of point targets that stay at their pixels; scene, grain: DN and px of the clouds.
    """
    rng = np.random.default_rng(seed)
    height, width = SHAPE
    clouds = gaussian_filter(rng.standard_normal((height, width + 120)), grain)
    clouds *= scene / clouds.std()
    offsets = pattern * rng.standard_normal(SHAPE)
    offsets[HOT] += 15 * pattern
    stack = np.empty((frames, *SHAPE))
    for k, image in enumerate(stack):
        image[:] = 2000 + shift(clouds, (0, drift * k - 110), order=3)[:, :width] + offsets
        image += NOISE * rng.standard_normal(SHAPE)
        image[BLINKING] += 10 * pattern * (k % 20 < 10)
        for x, y, light in spots:
            image += render(np.array([[x, y]]), np.array([float(light)]), SHAPE, 0.9)
    return np.rint(stack).astype(np.uint16), offsets


def path_of(drift=DRIFT, frames=FRAMES):
    return [Pose(Stamp("", 0, k, k), drift * k, 0.0, 0.0) for k in range(frames)]


def test_offsets_are_recovered_and_a_blinking_pixel_is_bad():
    stack, offsets = stack_of()
    table = learn_pattern(stack, path_of(), SEARCH)
    assert np.isnan(table.gain[BLINKING])
    assert table.bad <= 8  # the blinking pixel, and where the scene moves it to
    inner = (slice(8, -8), slice(8, -8))
    wrong = (table.offset + offsets)[inner]
    local = wrong - gaussian_filter(np.nan_to_num(wrong), 4.0)
    assert np.nanmedian(np.abs(local)) < 0.2 * PATTERN
    assert abs(local[HOT[0] - 8, HOT[1] - 8]) < 0.5 * PATTERN
    assert 0.3 * NOISE / np.sqrt(FRAMES) < table.errors[0] < 6 * NOISE / np.sqrt(FRAMES)


def test_streaks_of_cloud_along_their_motion_hide_no_pattern_and_are_none():
    stack, offsets = stack_of(scene=3 * PATTERN, grain=(1.0, 12.0))
    table = learn_pattern(stack, path_of(), SEARCH)
    inner = (slice(8, -8), slice(8, -8))
    wrong = (table.offset + offsets)[inner]
    local = wrong - gaussian_filter(np.nan_to_num(wrong), 4.0)
    assert np.nanmedian(np.abs(local)) < 0.3 * PATTERN
    assert learn_pattern(stack_of(pattern=0.0, scene=3 * PATTERN, grain=(1.0, 12.0))[0], path_of(), SEARCH) is None


@pytest.mark.parametrize(("pattern", "drift"), [(0.0, DRIFT), (PATTERN, 0.0), (PATTERN, 0.02)])
def test_no_pattern_and_a_scene_that_stays_give_no_table(pattern, drift):
    assert learn_pattern(stack_of(pattern=pattern, drift=drift)[0], path_of(drift), SEARCH) is None


def test_a_target_that_stays_at_its_pixels_is_no_pattern():
    spot = (90.3, 40.6, 35 * PATTERN)
    stack, offsets = stack_of(spots=[spot])
    table = learn_pattern(stack, path_of(), SEARCH)
    box = (slice(38, 44), slice(87, 94))
    assert np.all(table.offset[box] == 0)
    seen = remove_pattern(stack, table, np.inf)[(..., *box)].mean(axis=0) - 2000 - offsets[box]
    assert seen.sum() == pytest.approx(spot[2], abs=SCENE * 42 / 4)
    assert np.mean(table.offset == 0) < 0.03


def test_a_calibration_corrects_what_drifting_clouds_tell():
    moving = calibrate(stack_of()[0], rate_hz=30.0, full_scale=np.inf)
    assert moving.platform.farthest > 20
    assert moving.conditioned.table is not None
    assert moving.conditioned.correct.scene_frames == SLOW_FRAMES
    assert moving.noise.fixed < 0.5 * moving.conditioned.raw_pattern
    assert "offsets learnt from the scene's motion" in moving.conditioned.summary(moving.noise.fixed)


def test_a_pattern_that_has_changed_is_followed():
    stack, offsets = stack_of(drift=0.4, frames=240)
    other = PATTERN * np.random.default_rng(8).standard_normal(SHAPE)
    stack[60:] = np.rint(stack[60:] - offsets + other)
    followed, _ = follow_pattern(stack, path_of(0.4, 240), SEARCH, None, np.inf)
    rough = [np.std(image - gaussian_filter(image, 1.5)) for image in (followed[-1], stack[-1].astype(np.float32))]
    assert rough[0] < 0.5 * rough[1]


def test_nothing_is_followed_without_a_pattern_or_without_motion():
    assert follow_pattern(stack_of(pattern=0.0)[0], path_of(), SEARCH, None, np.inf) is None
    assert follow_pattern(stack_of(drift=0.0)[0], path_of(0.0), SEARCH, None, np.inf) is None


def test_a_scene_that_shakes_too_little_gives_no_table():
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.choice([-1, 0, 1], FRAMES))
    path = [Pose(Stamp("", 0, k, k), float(np.clip(x, -2, 2)), 0.0, 0.0) for k, x in enumerate(steps)]
    assert learn_pattern(stack_of()[0], path, SEARCH) is None


def test_bad_pixels_are_marked_and_nothing_else_changes():
    stack, _ = stack_of()
    table = with_bad_pixels(no_pattern(stack), np.array([[60, 40], [30, 70]]))
    assert table.bad == 2
    assert np.isnan(table.gain[HOT])
    assert np.isnan(table.offset[BLINKING])
    corrected = remove_pattern(stack, table, np.inf)
    seen = np.isfinite(corrected)
    assert np.array_equal(corrected[seen], stack[seen])
    assert with_bad_pixels(table, np.zeros((0, 2), np.int64)).bad == 2


def test_before_drifting_clouds_a_dead_row_does_not_raise_the_threshold():
    stack, _ = stack_of(pattern=0.0)
    stack[:, 31] = 0
    c = calibrate(stack, rate_hz=30.0, full_scale=np.inf)
    assert c.conditioned.table.bad >= SHAPE[1]
    assert c.conditioned.summary(c.noise.fixed).startswith("bad pixels left out, 1")
    assert c.propose.min_snr < 8
