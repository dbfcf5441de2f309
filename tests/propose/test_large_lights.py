"""Lights too large for a group of points are measured as one target each; groups and wider structure are not."""

import numpy as np
import pytest

from irst_stream.optics import render
from irst_stream.propose.large_lights import find_large_lights, most_of_points
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings

SHAPE, NOISE, FINE = (96, 112), 5.0, 4
SIGMA_PX = 0.5


def ellipse(x, y, length, width, angle, peak):
    """The image (H, W) of an evenly bright ellipse, px, without blur."""
    row, column = (np.indices((SHAPE[0] * FINE, SHAPE[1] * FINE)) + 0.5) / FINE - 0.5
    along = (column - x) * np.cos(angle) + (row - y) * np.sin(angle)
    across = (row - y) * np.cos(angle) - (column - x) * np.sin(angle)
    inside = (2 * along / length) ** 2 + (2 * across / width) ** 2 <= 1
    return peak * inside.reshape(SHAPE[0], FINE, SHAPE[1], FINE).mean(axis=(1, 3))


def noisy(light, seed=0):
    return (light + np.random.default_rng(seed).normal(0, NOISE, SHAPE)).astype(np.float32)


def large_at(light, xy):
    """The large lights of an image, with a peak at each xy (N, 2); and which peaks are of none."""
    xy = np.array(xy, float)
    strength = light[xy[:, 1].astype(int), xy[:, 0].astype(int)].astype(float)
    return find_large_lights(light, xy, strength, np.full(len(xy), NOISE), most_of_points(SIGMA_PX))


@pytest.mark.parametrize("angle", [0.0, np.pi / 2])
@pytest.mark.parametrize(("length", "width"), [(10, 5), (14, 5), (20, 10)])
def test_the_place_size_and_light_of_an_ellipse_are_recovered(length, width, angle):
    light = noisy(ellipse(50.3, 40.8, length, width, angle, 200.0))
    found, free = large_at(light, [(47, 40), (54, 41), (80, 70)] if angle == 0 else [(50, 37), (50, 45), (80, 70)])
    assert free.tolist() == [False, False, True]
    assert found.xy[0] == pytest.approx([50.3, 40.8], abs=0.15)
    sides = np.array([length, width])[:: 1 if angle == 0 else -1]
    assert found.size[0] == pytest.approx(sides / 4, rel=0.12), "an even ellipse's deviation is a quarter of its axis"
    assert found.amplitude[0] == pytest.approx(200 * np.pi / 4 * length * width, rel=0.15)
    assert found.amplitude_sd[0] > NOISE


def test_errors_of_place_are_within_what_the_covariance_says():
    rng, squares = np.random.default_rng(2), []
    for seed in range(40):
        place = 50 + rng.uniform(-0.5, 0.5, 2)
        found, _ = large_at(noisy(ellipse(*place, 12, 6, 0.5, 60.0), seed), [np.rint(place)])
        away = found.xy[0] - place
        squares.append(away @ np.linalg.solve(found.cov[0], away))
    assert np.mean(squares) < 2


def test_groups_of_five_points_are_none():
    rng = np.random.default_rng(4)
    for seed in range(60):
        spacing = rng.uniform(0.5, 1.6)
        cross = spacing * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
        xy = 50 + rng.uniform(-0.5, 0.5, 2) + cross
        found, free = large_at(noisy(render(xy, rng.uniform(200, 400, 5), SHAPE), seed), [np.rint(xy[0])])
        assert not len(found.xy), f"spacing {spacing:.2f}"
        assert free.all()


def test_what_reaches_across_the_frame_is_no_target():
    light = np.zeros(SHAPE, np.float32)
    light[60:64] = 200.0
    found, free = large_at(light, [(50, 62)])
    assert not len(found.xy)
    assert free.all()


def test_peaks_on_one_light_get_one_region():
    """A bar that is too short for a large light, but has a peak at each end."""
    bar = noisy(1000 + ellipse(50, 40, 9, 2, 0.0, 150.0))
    proposer = Proposer(ProposeSettings(false_alarms=0.02), SHAPE)
    found = proposer.propose(proposer.prepare(bar))
    assert len(found.centres) == 1
    assert found.centres[0] == pytest.approx([50, 40], abs=0.8)


def test_points_apart_get_a_region_each():
    pair = noisy(1000 + render(np.array([(48.0, 40.0), (53.0, 40.0)]), np.full(2, 400.0), SHAPE))
    proposer = Proposer(ProposeSettings(false_alarms=0.02), SHAPE)
    found = proposer.propose(proposer.prepare(pair))
    assert len(found.centres) == 2


def test_a_large_light_in_an_excluded_part_is_left_out():
    image = noisy(1000 + ellipse(50, 40, 14, 6, 0.0, 150.0))
    for width, count in ((46, 1), (56, 0)):
        mask = np.zeros(SHAPE, np.bool_)
        mask[:, :width] = True
        proposer = Proposer(ProposeSettings(false_alarms=0.02), SHAPE, excluded=mask)
        assert len(proposer.propose(proposer.prepare(image)).large.xy) == count


def test_a_large_light_has_no_region_and_peaks_beside_it_have():
    image = noisy(1000 + ellipse(50, 40, 14, 6, 0.3, 150.0) + render(np.array([(80.0, 70.0)]), np.array([400.0]), SHAPE))
    proposer = Proposer(ProposeSettings(false_alarms=0.02), SHAPE)
    found = proposer.propose(proposer.prepare(image))
    assert found.centres == pytest.approx(np.array([(80.0, 70.0)]), abs=0.5)
    assert found.large.xy == pytest.approx(np.array([(50.0, 40.0)]), abs=0.3)
