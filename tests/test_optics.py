import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import dblquad

from irst_stream.optics import FineGrid, line_response, peak_response, psf, psf_with_derivatives, render

positions = st.tuples(st.floats(-1, 11), st.floats(-1, 11)).map(np.array)
sigmas = st.floats(0.3, 2.0)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@pytest.mark.parametrize(("x", "y", "sigma"), [(5.0, 5.0, 0.5), (4.31, 6.87, 0.5), (0.2, 9.9, 0.8), (5.4, 4.6, 0.4)])
def test_a_pixel_holds_the_integral_of_the_gaussian_over_its_square(x, y, sigma):
    image = psf(np.array([x, y]), (11, 11), sigma)

    def density(row, column):
        return np.exp(-0.5 * ((column - x) ** 2 + (row - y) ** 2) / sigma**2) / (2 * np.pi * sigma**2)

    for row in range(max(int(y) - 2, 0), min(int(y) + 4, 11)):
        for column in range(max(int(x) - 2, 0), min(int(x) + 4, 11)):
            integral, _ = dblquad(density, column - 0.5, column + 0.5, row - 0.5, row + 0.5, epsabs=1e-12, epsrel=1e-12)
            assert image[row, column] == pytest.approx(integral, abs=1e-9)


@given(positions, shapes, sigmas)
def test_derivatives_agree_with_finite_differences(xy, shape, sigma):
    h = 1e-5
    got = psf_with_derivatives(xy, shape, sigma)
    np.testing.assert_allclose(got.value, psf(xy, shape, sigma), atol=1e-15)
    for found, step in ((got.by_x, np.array([h, 0])), (got.by_y, np.array([0, h]))):
        np.testing.assert_allclose(
            found, (psf(xy + step, shape, sigma) - psf(xy - step, shape, sigma)) / (2 * h), atol=1e-8
        )
    by_sigma = (psf(xy, shape, sigma + h) - psf(xy, shape, sigma - h)) / (2 * h)
    np.testing.assert_allclose(got.by_sigma, by_sigma, atol=1e-8)


@given(positions, sigmas)
def test_all_the_light_arrives_on_a_large_enough_patch(xy, sigma):
    assert psf(xy + 15, (41, 41), sigma).sum() == pytest.approx(1, abs=1e-6)


@given(positions, st.integers(-3, 3), st.integers(-3, 3), sigmas)
def test_moving_the_target_by_whole_pixels_moves_the_image(xy, dx, dy, sigma):
    image = psf(xy + 5, (23, 25), sigma)
    moved = psf(xy + 5 + (dx, dy), (23, 25), sigma)
    np.testing.assert_allclose(moved[3:-3, 3:-3], np.roll(image, (dy, dx), (0, 1))[3:-3, 3:-3], atol=1e-12)


@given(positions, sigmas)
def test_x_is_the_column_and_y_the_row(xy, sigma):
    np.testing.assert_allclose(psf(xy, (9, 12), sigma), psf(xy[::-1], (12, 9), sigma).T, atol=1e-15)


def test_batches_of_any_shape_equal_one_by_one():
    rng = np.random.default_rng(0)
    xy, amplitude = rng.uniform(0, 10, (3, 4, 5, 2)), rng.uniform(200, 250, (3, 4, 5))
    images = render(xy, amplitude, (9, 11), 0.6)
    assert images.shape == (3, 4, 9, 11)
    for i in range(3):
        for j in range(4):
            alone = sum(a * psf(p, (9, 11), 0.6) for p, a in zip(xy[i, j], amplitude[i, j], strict=True))
            np.testing.assert_allclose(images[i, j], alone, atol=1e-10)


def test_no_targets_render_as_zeros():
    assert render(np.zeros((2, 0, 2)), np.zeros((2, 0))).tolist() == np.zeros((2, 11, 11)).tolist()


def test_a_centred_target_of_235_peaks_at_about_110():
    assert 235 * peak_response() == pytest.approx(110, abs=1)
    assert peak_response(0.7) == pytest.approx(psf(np.array([5.0, 5.0]), sigma=0.7)[5, 5])


def test_line_response_of_a_far_target_is_zero():
    assert line_response(np.array([100.0]), 5, 0.5).tolist() == [[0.0] * 5]


@given(st.integers(1, 7), shapes)
def test_each_cell_centre_lies_in_its_own_cell(division, patch):
    grid = FineGrid(division, patch)
    rows, columns = grid.shape
    assert grid.centres.shape == (rows, columns, 2)
    inside = grid.cells(grid.centres + 1e-6)
    np.testing.assert_array_equal(inside[..., 0], np.broadcast_to(np.arange(columns), (rows, columns)))
    np.testing.assert_array_equal(inside[..., 1], np.broadcast_to(np.arange(rows)[:, None], (rows, columns)))


def test_division_3_is_the_published_grid():
    grid = FineGrid()
    np.testing.assert_allclose(grid.centres[7, 20], [(20 - 1) / 3, (7 - 1) / 3])
    v = np.linspace(0, 10, 1001)
    np.testing.assert_array_equal(grid.cells(np.stack([v, v], -1))[:, 0], [round(3 * x + 1) for x in v])


@pytest.mark.parametrize(("division", "patch", "sigma"), [(3, (11, 11), 0.5), (2, (5, 7), 0.8), (5, (4, 4), 0.4)])
def test_phi_images_a_label_as_the_model_does(division, patch, sigma):
    grid = FineGrid(division, patch)
    phi = grid.phi(sigma)
    assert phi.shape == (patch[0] * patch[1], grid.shape[0] * grid.shape[1])
    centres = grid.centres[[1, 3], [2, 0]]
    label = grid.label(centres, np.array([230.0, 90.0]))
    np.testing.assert_allclose((phi @ label.ravel()).reshape(patch), render(centres, np.array([230.0, 90.0]), patch, sigma))


def test_labels_of_a_batch_add_up_and_leave_out_targets_off_the_grid():
    grid = FineGrid()
    xy = np.array([[[5.0, 5.0], [5.0, 5.0]], [[0.0, 10.0], [40.0, 2.0]]])
    labels = grid.label(xy, np.array([[100.0, 20.0], [7.0, 9.0]]))
    assert labels.shape == (2, 33, 33)
    assert labels[0, 16, 16] == 120
    assert labels[1, 31, 1] == 7
    assert labels.sum() == 127
