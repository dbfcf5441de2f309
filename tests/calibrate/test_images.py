"""Calibration on images of different scenes and sizes."""

import numpy as np
import pytest

from irst_stream.calibrate.images import (
    MAX_CONTRAST,
    MIN_CONTRAST,
    MIN_IMAGES,
    TYPICAL_CONTRAST,
    calibrate_images,
)
from irst_stream.point_spread import gaussian

SIGMA_PX, NOISE_DN = 0.8, 3.0


def stars(shape, seed, stride=22):
    """An image of stars some px apart, of many brightnesses."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(15, side - 15, stride) for side in shape[::-1])), -1).reshape(-1, 2)
    xy, amplitude = grid + rng.uniform(-3, 3, grid.shape), 10 ** rng.uniform(2.3, 3.7, len(grid))
    light = gaussian(SIGMA_PX).render(xy, amplitude, shape)
    return (100 + light + rng.normal(0, NOISE_DN, shape)).astype(np.float32), len(grid)


def test_the_psf_and_the_noise_of_stars_are_recovered():
    (one, some), (other, more) = stars((160, 200), 1), stars((120, 250), 2)
    found = calibrate_images([one, other], full_scale=np.inf)
    assert found.unrelated
    assert found.psf is not None
    assert found.psf.used > 0.6 * (some + more)
    assert found.psf.psf.sigma == pytest.approx(SIGMA_PX, rel=0.03)
    assert found.psf.error < 0.03, "of the peak: the PSF is exactly what was drawn"
    assert found.noise.temporal == pytest.approx(NOISE_DN, rel=0.1)
    assert found.counts == pytest.approx([some, more], rel=0.1)
    assert found.propose.min_contrast == 0, "stars alone are no clutter"


def edges_and_lines(count, dark_dn=0.0):
    """Images full of bright bars, with a dark point of that many DN in each other one."""
    rng = np.random.default_rng(4)
    for number in range(count):
        image = 200 + rng.normal(0, NOISE_DN, (100, 110))
        for _ in range(10):
            y, x = rng.integers(10, 60), rng.integers(10, 100)
            image[y - 1 : y + 2, x - 8 : x + 8] += rng.uniform(60, 200)
        if number % 2:
            image -= dark_dn * gaussian(1.0).render(np.array([[50.0, 80.0]]), np.full(1, 6.0), image.shape)
        yield image.astype(np.float32)


def test_clutter_of_edges_and_lines_asks_that_targets_stand_out():
    assert calibrate_images(list(edges_and_lines(4)), full_scale=np.inf).propose.min_contrast == TYPICAL_CONTRAST


@pytest.mark.parametrize(("dark_dn", "asked"), [(0.0, MIN_CONTRAST), (100.0, MAX_CONTRAST)])
def test_dark_points_tell_how_far_targets_must_stand_out(dark_dn, asked):
    images = list(edges_and_lines(MIN_IMAGES, dark_dn))
    assert calibrate_images(images, full_scale=np.inf).propose.min_contrast == asked


def test_an_image_without_anything_gives_no_psf():
    found = calibrate_images([np.full((64, 64), 7.0, np.float32)], full_scale=np.inf)
    assert found.psf is None
    assert found.counts.tolist() == [0]
