"""Calibration on images of different scenes and sizes."""

import numpy as np
import pytest

from irst_stream.calibrate.images import calibrate_images
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


def test_clutter_of_edges_and_lines_asks_that_targets_stand_out():
    rng = np.random.default_rng(4)
    images = []
    for _ in range(4):
        image = 100 + rng.normal(0, NOISE_DN, (150, 170))
        for _ in range(12):
            y, x = rng.integers(10, 140), rng.integers(10, 150)
            image[y - 1 : y + 2, x - 8 : x + 8] += rng.uniform(60, 200)
        images.append(image.astype(np.float32))
    assert calibrate_images(images, full_scale=np.inf).propose.min_contrast > 0


def test_an_image_without_anything_gives_no_psf():
    found = calibrate_images([np.full((64, 64), 7.0, np.float32)], full_scale=np.inf)
    assert found.psf is None
    assert found.counts.tolist() == [0]
