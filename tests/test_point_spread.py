"""Every PSF against numeric integration, and in the fit: the places and derivatives of each kind."""

import math

import numpy as np
import pytest

from irst_stream.fit.compiled import NO_PRIORS, UNKNOWN, ImagingModel, RegionImages, normal_equations
from irst_stream.fit.fitter import Fitter, psf_shape
from irst_stream.fit.settings import FitSettings
from irst_stream.point_spread import PointSpread, gaussian, gaussian_of, tabulated
from irst_stream.types import at_rest

PLACES = np.array([[5.0, 5.0], [4.63, 5.21], [5.5, 4.5], [2.2, 7.9]])
FINE = 40  # nodes a pixel of the numeric integration


def integrated(sigma_x, sigma_y, angle, xy):
    """A unit Gaussian's light in 11 x 11 pixels, by the midpoint rule."""
    offsets = (np.arange(11 * FINE) + 0.5) / FINE - 0.5
    x, y = np.meshgrid(offsets - xy[0], offsets - xy[1])
    c, s = math.cos(angle), math.sin(angle)
    square = ((c * x + s * y) / sigma_x) ** 2 + ((c * y - s * x) / sigma_y) ** 2
    density = np.exp(-0.5 * square) / (2 * math.pi * sigma_x * sigma_y)
    return density.reshape(11, FINE, 11, FINE).mean((1, 3))


KINDS = {
    "round": gaussian(0.5),
    "wide": gaussian(0.8, 1.7, 0.0),
    "tall": gaussian(0.8, 1.7, 90.0),
    "rotated": gaussian(0.8, 1.7, 30.0),
    "table": tabulated(gaussian(0.7, 1.4, 120.0).table, 8),
}


@pytest.fixture(params=KINDS)
def psf(request) -> PointSpread:
    return KINDS[request.param]


def test_images_are_the_integral_over_each_pixel(psf):
    for xy in PLACES:
        expected = integrated(psf.sigma_x, psf.sigma_y, psf.angle, xy)
        np.testing.assert_allclose(psf.images(xy), expected, rtol=0, atol=3e-3 * expected.max())


def test_axes_are_as_told():
    assert (KINDS["wide"].sigma_x, KINDS["tall"].sigma_y) == (KINDS["tall"].sigma_y, KINDS["wide"].sigma_x)
    assert KINDS["wide"].sigma_x / KINDS["wide"].sigma_y == pytest.approx(1.7)
    table = KINDS["table"]
    assert table.sigma == pytest.approx(0.7, rel=1e-3)
    assert table.sigma_x / table.sigma_y == pytest.approx(1.4, rel=5e-3)
    assert math.degrees(table.angle) == pytest.approx(120.0, abs=0.3)


@pytest.mark.parametrize("sigma_px", [0.2, 0.5, 1.0, 2.5])
def test_a_tables_width_is_that_of_its_core(sigma_px):
    drawn = gaussian(sigma_px).drawn().table
    assert tabulated(drawn, 8).sigma == pytest.approx(sigma_px, rel=2e-3)
    noise = np.random.default_rng(1).normal(0, 0.003 * drawn.max(), drawn.shape)
    assert tabulated(drawn + noise, 8).sigma == pytest.approx(sigma_px, rel=0.02)
    wings = 0.05 * gaussian(5 * sigma_px).drawn().table
    middle, half = len(wings) // 2, len(drawn) // 2
    winged = drawn + wings[middle - half : middle + half + 1, middle - half : middle + half + 1]
    assert tabulated(winged, 8).sigma == pytest.approx(sigma_px, rel=0.05)


def test_a_table_without_a_core_has_a_width():
    for table in (np.ones((41, 41)), np.eye(41), np.random.default_rng(2).normal(0, 1, (41, 41)) + 0.1):
        assert 0 < tabulated(table, 8).sigma < 10


def test_the_fit_sees_the_same_light_and_its_derivatives(psf):
    p = np.array([[4.63, 5.21, 0.1, -0.05, 200.0], [6.1, 4.4, 0.0, 0.1, 120.0]])
    times, shifts = at_rest(1, 3)
    moved = p[:, :2] + times[:, None, None] * p[:, 2:4]
    images = psf.render(moved, np.tile(p[:, 4], (3, 1)))
    seen = RegionImages(images, times, shifts[0], 1.0, (-1e30, 1e30), 0.0)
    model = ImagingModel(psf.sigma, psf_shape(psf), NO_PRIORS)
    matrix, gradient, spare = np.empty((10, 10)), np.empty(10), np.empty(10)

    def misfit(at, vector):
        return normal_equations(at, seen, model, np.empty((0, 3)), matrix, vector)

    assert misfit(p, spare) < 1e-6 * (images**2).sum()
    q = p + np.array([0.03, -0.02, 0.01, 0.02, 5.0])
    misfit(q, gradient)
    steps = 1e-5 * np.eye(10).reshape(10, 2, 5)
    numeric = [(misfit(q + step, spare) - misfit(q - step, spare)) / 4e-5 for step in steps]
    np.testing.assert_allclose(numeric, gradient, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())


def test_a_pair_under_an_elliptical_psf_is_found_where_it_is():
    psf, xy, rng = gaussian(0.8, 1.7, 30.0), np.array([[4.4, 5.2], [6.0, 5.0]]), np.random.default_rng(3)
    images = psf.render(np.tile(xy, (5, 1, 1)), np.full((5, 2), 400.0)) + rng.normal(0, 1, (5, 11, 11))
    unknown = {"amplitude_dn": 300.0, "amplitude_sd_dn": 300.0, "min_spacing_px": 0.0}
    fitter = Fitter(FitSettings(sigma_px=0.8, axis_ratio=1.7, axis_angle_deg=30.0, noise_dn=1.0, **unknown))
    found = fitter(images, at_rest(1, 5)[0])
    assert len(found.xy) == 2
    order = np.argsort(found.xy[:, 0])
    np.testing.assert_allclose(found.xy[order], xy, atol=0.03)


@pytest.mark.parametrize("shot", [0.0, 0.4])
def test_the_matrix_is_that_of_the_light_and_its_derivatives(psf, shot):
    p, noise = np.array([[4.63, 5.21, 0.1, -0.05, 200.0], [6.1, 4.4, 0.0, 0.1, 120.0]]), 1.5
    times, shifts = at_rest(1, 3)

    def light(q):
        moved = q[:, :2] + times[:, None, None] * q[:, 2:4]
        return psf.render(moved, np.tile(q[:, 4], (3, 1)))

    images = light(p)  # where the residuals are 0, the expected curvature needs no noise
    images[1, 4, 5] = 10 * UNKNOWN
    seen = RegionImages(images, times, shifts[0], noise, (-1e30, 1e30), shot)
    matrix, vector = np.empty((10, 10)), np.empty(10)
    normal_equations(p, seen, ImagingModel(psf.sigma, psf_shape(psf), NO_PRIORS), np.empty((0, 3)), matrix, vector)
    steps = 1e-4 * np.eye(10).reshape(10, 2, 5)
    slopes = np.array([(light(p + step) - light(p - step)) / 2e-4 for step in steps])
    variance = noise**2 + shot * light(p)
    weight = (1 / variance + 0.5 * (shot / variance) ** 2) * (images > UNKNOWN)
    expected = np.einsum("ithw,jthw,thw->ij", slopes, slopes, weight)
    spread = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    np.testing.assert_allclose(matrix / spread, expected / spread, rtol=0, atol=0.012)  # small excesses are left out


def test_a_width_is_scaled_and_the_shape_kept(psf):
    wider = psf.with_width(1.2 * psf.sigma)
    assert wider.sigma == pytest.approx(1.2 * psf.sigma, rel=5e-3)
    assert wider.sigma_x / wider.sigma_y == pytest.approx(psf.sigma_x / psf.sigma_y, rel=0.02)
    assert wider.angle == pytest.approx(psf.angle, abs=0.01)
    assert psf.with_width(1.0004 * psf.sigma) is psf


def test_moments_give_the_gaussian_back(psf):
    again = gaussian_of(psf.moments)
    np.testing.assert_allclose(again.moments, psf.moments, rtol=1e-6, atol=1e-9)
