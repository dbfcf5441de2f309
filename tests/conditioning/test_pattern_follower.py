"""Offsets follow a pattern that changes while the scene moves, and take nothing else for it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from irst_stream import Frame, Pose, Stamp
from irst_stream.conditioning.corrector import Corrector
from irst_stream.conditioning.nonuniformity import CorrectionTable
from irst_stream.conditioning.settings import CorrectSettings
from irst_stream.optics import render

SHAPE, NOISE, PATTERN, DRIFT, FRAMES = (80, 120), 4.0, 20.0, 0.6, 240


class Sensor:
    """Streaked clouds that drift along x past an array with a pattern, DN; the shutter shuts before frame `shut`."""

    def __init__(self, *, drift=DRIFT, shut=None, light=0.0, stops=FRAMES, seed=3):
        self.rng = np.random.default_rng(seed)
        height, width = SHAPE
        clouds = gaussian_filter(self.rng.standard_normal((height, width + 160)), (1.0, 5.0))
        self.clouds = 60 * clouds / clouds.std()
        self.patterns = PATTERN * self.rng.standard_normal((2, *SHAPE))
        self.drift, self.shut, self.light, self.stops = drift, shut, light, stops
        self.last = None

    def place(self, k):
        return self.drift * min(k, self.stops)

    def frame(self, k):
        """Frame k, and its pattern (H, W) DN."""
        pattern = self.patterns[int(self.shut is not None and k >= self.shut)]
        if self.last is None or self.shut is None or not self.shut <= k < self.shut + 5:
            image = 1000 + pattern + NOISE * self.rng.standard_normal(SHAPE)
            image += shift(self.clouds, (0, self.place(k) - 150), order=3)[:, : SHAPE[1]]
            image += render(np.array([[60.3, 40.6]]), np.array([self.light]), SHAPE, 0.9)
            self.last = np.rint(image).astype(np.uint16)
        stamp = Stamp("a", 0, k, k)
        return Frame(stamp, self.last, np.inf, pose=Pose(stamp, self.place(k), 0.0, 0.0)), pattern

    def left(self, table=None, frames=FRAMES, memory=100):
        """The deviation, DN, of the pattern that is left after each frame, and what is left after the last (H, W) DN."""
        corrector = Corrector(CorrectSettings(scene_frames=memory), SHAPE, table)
        left, wrong = [], np.zeros(SHAPE)
        for k in range(frames):
            frame, pattern = self.frame(k)
            out = corrector(frame)
            wrong = out.pixels - frame.pixels + pattern
            wrong = wrong - gaussian_filter(wrong, 4.0)
            left.append(float(np.median(np.abs(wrong)) * 1.4826))
            corrector.learn(replace(out, pose=frame.pose))
        return left, wrong


def table_of(pattern):
    return CorrectionTable(np.ones(SHAPE, np.float32), -pattern.astype(np.float32), (1000.0,), (0.0,))


def test_a_pattern_is_learnt_behind_streaks_of_cloud():
    left, wrong = Sensor().left()
    assert left[0] == pytest.approx(PATTERN, rel=0.05)
    assert left[-1] < 0.75 * NOISE
    assert wrong[:, :10].std() < 0.4 * PATTERN, "where the clouds come from"


def test_a_table_serves_as_the_start():
    sensor = Sensor()
    left, _ = sensor.left(table_of(sensor.patterns[0]))
    assert max(left) < 0.6 * NOISE


def test_after_a_shutter_the_new_pattern_is_learnt_fast():
    sensor = Sensor(shut=100)
    left, _ = sensor.left(table_of(sensor.patterns[0]))
    assert left[99] < 0.6 * NOISE
    assert left[101] > PATTERN
    assert left[160] < 0.4 * PATTERN


@pytest.mark.parametrize("light", [400.0, 4000.0])
def test_a_target_that_stays_while_the_clouds_move_on_is_not_learnt(light):
    sensor = Sensor(light=light)
    _, wrong = sensor.left(table_of(sensor.patterns[0]))
    taken = wrong[37:44, 57:64] - np.median(wrong)
    assert taken.sum() > -0.15 * light


def test_a_scene_that_stops_is_learnt_no_more():
    sensor = Sensor(stops=60)
    left, _ = sensor.left(frames=200)
    assert left[-1] == pytest.approx(left[70], rel=1e-3)


def test_without_poses_nothing_is_learnt():
    sensor = Sensor()
    corrector = Corrector(CorrectSettings(scene_frames=100), SHAPE, None)
    for k in range(60):
        frame, _ = sensor.frame(k)
        out = corrector(frame)
        corrector.learn(replace(out, pose=None))
    assert np.array_equal(out.pixels, frame.pixels)
