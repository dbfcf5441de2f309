"""The static clutter that a calibration learns is that of the frames that the search filters."""

import numpy as np
import pytest

from irst_stream.calibrate.scene import learn_clutter_map, search_frames
from irst_stream.optics import render
from irst_stream.propose.settings import ProposeSettings

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
        found = search_frames(stack, settings, learn_clutter_map(stack, np.arange(FRAMES), settings))
        return float(np.median([proposals.strength.max(initial=0) for _, proposals, _ in found]))

    free = search_frames(frames_of(100.0, pattern=0.0), ProposeSettings(SIGMA, average=3, min_snr=5.0), None)
    alone = float(np.median([proposals.strength.max(initial=0) for _, proposals, _ in free]))
    assert strength(20.0) > 0.75 * alone  # a third of it before the levels were those of averaged frames
