"""GOSPA, detection errors and fine-map metrics against hand-computed cases."""

import numpy as np
import pytest
from hypothesis import given
from strategies import scored_images

from irst_stream.score import detection_errors, gospa, psnr, similarity


def test_gospa_of_a_pair_a_miss_and_a_false_alarm():
    # One pair 0.3 px apart costs 0.09; one missed target and one false detection cost 1/2 each: total = sqrt(1.09).
    got = gospa([np.array([[0.3, 0.0], [9.0, 9.0]])], [np.array([[0.0, 0.0], [5.0, 5.0]])])
    assert got.localisation == pytest.approx(0.09)
    assert (got.missed, got.false) == (0.5, 0.5)
    assert got.total == pytest.approx(np.sqrt(1.09))


def test_gospa_takes_the_best_assignment_not_the_greedy_one():
    # Greedy matching pairs 0.5 with 0.6 first, leaving 1.1 and 0 beyond the cut-off; the best pairs cost 0.25 each.
    got = gospa([np.array([[0.5, 0.0], [1.1, 0.0]])], [np.array([[0.0, 0.0], [0.6, 0.0]])])
    assert got.localisation == pytest.approx(0.25 + 0.25)


def test_gospa_cut_off_and_empty_images():
    far = gospa([np.array([[0.0, 0.0]])], [np.array([[1.5, 0.0]])])
    assert (far.localisation, far.missed, far.false) == (0, 0.5, 0.5)
    empty = np.zeros((0, 3))
    assert gospa([empty], [empty]).total == 0
    assert gospa([empty], [np.zeros((2, 2))]).missed == 1
    assert gospa([np.zeros((2, 3))], [empty]).false == 1
    assert np.isnan(gospa([], []).total)


@given(scored_images())
def test_gospa_parts_add_up(images):
    for found, real in zip(*images, strict=True):
        got = gospa([found], [real])
        assert got.total**2 == pytest.approx(got.localisation + got.missed + got.false)
        assert gospa([real], [found[:, :2]]).total == pytest.approx(got.total)


def test_detection_errors_by_hand():
    found = [np.array([[0.1, 0.0, 2], [7.0, 7.0, 1]]), np.array([[1.0, 0.8, 1]])]
    real = [np.array([[0.0, 0.0, 230.0]]), np.array([[1.0, 1.0, 220.0]])]
    got = detection_errors(found, [np.array([236.0, 100.0]), np.array([212.0])], real)
    assert got.count_accuracy == 0.5
    assert got.recall == 1
    assert got.precision == pytest.approx(2 / 3)
    assert got.position_rmse == pytest.approx(np.sqrt((0.1**2 + 0.2**2) / 2))
    assert (got.position_bias_x, got.position_bias_y) == pytest.approx((0.05, -0.1))
    assert got.amplitude_rmse == pytest.approx(np.sqrt((6**2 + 8**2) / 2))
    assert got.amplitude_bias == pytest.approx(-1)


def test_detection_errors_without_matches_are_nan():
    got = detection_errors([np.zeros((0, 3))], [np.zeros(0)], [np.array([[0.0, 0.0, 230.0]])])
    assert (got.count_accuracy, got.recall) == (0, 0)
    assert np.isnan([got.precision, got.position_rmse, got.amplitude_bias]).all()
    assert np.isnan(detection_errors([], [], []).count_accuracy)


def test_psnr_by_hand():
    maps, labels = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    maps[0, 0, 0] = 51  # mse 51^2 / 4 = (255 / 10)^2
    assert psnr(maps, labels)[0] == pytest.approx(20)
    assert psnr(maps, labels)[1] == np.inf


def test_similarity_by_hand():
    maps, labels = np.array([[[2.0, 0.0]]]), np.array([[[0.0, 4.0]]])
    assert similarity(maps, labels) == pytest.approx([1 - 10 / (2 * 8)])  # mse 10, mean squares 2 and 8
    assert similarity(np.zeros((1, 1, 2)), np.zeros((1, 1, 2))).tolist() == [1]
    assert similarity(np.zeros((1, 1, 2)), labels).tolist() == [-np.inf]


def test_maps_and_labels_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="of one shape"):
        psnr(np.zeros((1, 3, 3)), np.zeros((1, 3, 4)))
