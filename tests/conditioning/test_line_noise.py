"""Noise of lines is removed from frame to frame, and horizons, targets and moving woods are left as they are."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from irst_stream.conditioning.line_noise import AXES, LineNoise
from irst_stream.optics import render

SHAPE, NOISE, LINES = (128, 160), 5.0, 6.0
BEGIN, FRAMES = 20, 40


def removed(scenes, lines="rows", *, rows=LINES, seed=1, bad=()):
    """What is removed beyond the noise of rows (T, H, W) DN, and that noise (T, H, 1), of the frames after BEGIN."""
    rng, remover, wrong, noise = np.random.default_rng(seed), LineNoise(AXES[lines]), [], []
    for k, scene in enumerate(scenes):
        offsets = rows * rng.standard_normal((SHAPE[0], 1))
        given = (scene + NOISE * rng.standard_normal(SHAPE) + offsets).astype(np.float32)
        for y, x in bad:
            given[y, x] = np.nan
        out = given.copy()
        remover.remove(out)
        assert np.array_equal(np.isnan(out), np.isnan(given))
        if k >= BEGIN:
            wrong.append(given - out - offsets)
            noise.append(offsets)
    return np.array(wrong), np.array(noise)


def still(scene):
    return [scene] * FRAMES


def horizon(y=60.0, step=500.0):
    return 1000 + step / (1 + np.exp(-(np.arange(SHAPE[0])[:, None] - y) / 0.5)) + np.zeros(SHAPE)


def fine(lines):
    """The deviation (H,) over frames of the difference of neighbouring rows (T, H, 1) DN."""
    return np.diff(lines[..., 0], axis=1).std(axis=0)


@pytest.mark.parametrize("scene", [np.full(SHAPE, 1000.0), horizon()])
def test_noise_of_rows_is_removed_beside_a_horizon_too(scene):
    wrong, noise = removed(still(scene))
    assert fine(wrong).max() < 0.5 * fine(noise).mean()
    assert fine(wrong).mean() < 0.3 * fine(noise).mean()


@pytest.mark.parametrize("lines", ["rows", "columns", "both"])
def test_where_there_is_none_a_horizon_and_a_bright_target_stay_as_they_are(lines):
    target = render(np.array([[80.3, 59.6]]), np.array([20_000.0]), SHAPE, 0.9)
    wrong, _ = removed(still(horizon() + target), lines, rows=0.0)
    assert wrong.std() < 0.03 * NOISE
    assert np.abs(wrong).max() < 0.25 * NOISE


def test_a_bright_target_that_flies_along_a_row_does_not_pull_it():
    targets = [render(np.array([[20.0 + 2 * k, 30.0]]), np.array([2000.0]), SHAPE, 0.9) for k in range(FRAMES)]
    wrong, noise = removed([1000 + light for light in targets])
    assert fine(wrong)[28:32].max() < 0.5 * fine(noise).mean()


def test_woods_that_shake_are_no_noise_of_rows():
    rng = np.random.default_rng(2)
    woods = 1000 + 60 * gaussian_filter(rng.standard_normal((SHAPE[0] + 20, SHAPE[1])), 2.0) / 0.14
    shaken = [woods[at : at + SHAPE[0]] for at in (10 + np.rint(2 * np.sin(0.9 * np.arange(FRAMES)))).astype(int)]
    wrong, _ = removed(shaken, rows=0.0)
    assert wrong.std() < 0.6 * NOISE


def test_bad_pixels_do_not_count_and_stay_bad():
    wrong, noise = removed(still(horizon()), bad=[(30, x) for x in range(40)] + [(70, 5)])
    assert fine(np.nanmean(wrong, axis=2, keepdims=True)).max() < 0.5 * fine(noise).mean()


def test_a_step_of_the_pedestal_is_no_noise_of_lines():
    wrong, _ = removed([horizon() + 300 * (k > 30) for k in range(FRAMES)], rows=0.0)
    assert np.abs(wrong).max() < 0.25 * NOISE
