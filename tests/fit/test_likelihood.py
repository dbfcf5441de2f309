import math

import numpy as np
import pytest

from irst_stream.fit.compiled import INFINITE, NO_PRIORS, ImagingModel, RegionImages, normal_equations
from irst_stream.fit.compiled.likelihood import pixel_profile
from irst_stream.fit.fitter import psf_shape
from irst_stream.optics import render
from irst_stream.point_spread import gaussian
from irst_stream.types import at_rest

FREE = np.empty((0, 3))  # no seats

ROUND = psf_shape(gaussian(0.5))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.2])
def test_a_pixel_profile_is_the_integral_over_each_pixel(sigma: float) -> None:
    value, slope = np.empty(11), np.empty(11)
    edges = np.arange(12) - 0.5
    for centre in np.linspace(-3, 13, 321):
        pixel_profile(centre, sigma, value, slope)
        u = (edges - centre) / (math.sqrt(2) * sigma)
        density = np.exp(-u * u) / (math.sqrt(2 * math.pi) * sigma)
        np.testing.assert_allclose(value, np.diff([math.erf(v) for v in u]) / 2, rtol=0, atol=1e-8)
        np.testing.assert_allclose(slope, -np.diff(density), rtol=0, atol=2e-8 / sigma)


def test_a_nan_position_gives_a_nan_misfit() -> None:
    p = np.array([[math.nan, 4.0, 0.0, 0.0, 200.0]])
    matrix, vector = np.empty((5, 5)), np.empty(5)
    images = np.ones((1, 11, 11))
    seen = RegionImages(images, np.zeros(1), np.zeros((1, 2)), 1.0, (-INFINITE, 1e30), 0.0)
    misfit = normal_equations(p, seen, ImagingModel(0.5, ROUND, NO_PRIORS), FREE, matrix, vector)
    assert math.isnan(misfit)


@pytest.mark.parametrize("amplitude", [100.0, 1e6])
def test_the_misfit_with_shot_noise_is_right_at_any_brightness(amplitude: float) -> None:
    p = np.array([[x, y, 0.1, 0.0, amplitude] for x, y in ((4.0, 4.0), (5.2, 5.1), (6.1, 7.0), (3.0, 6.5), (7.2, 3.1))])
    (times, shifts), noise, shot = at_rest(1, 5), 0.1, 100.0
    light = render(p[:, :2] + times[:, None, None] * p[:, 2:4], p[:, 4], (11, 11), 0.5)
    images = 1.3 * light + 1.0
    variance = noise**2 + shot * light
    expected = np.sum((light - images) ** 2 / variance + np.log(variance / noise**2))
    matrix, vector = np.empty((25, 25)), np.empty(25)
    seen = RegionImages(images, times, shifts[0], noise, (-INFINITE, 1e30), shot)
    misfit = normal_equations(p, seen, ImagingModel(0.5, ROUND, NO_PRIORS), FREE, matrix, vector)
    assert misfit == pytest.approx(expected, rel=5e-3)  # the model omits light below 1e-8 of a target
