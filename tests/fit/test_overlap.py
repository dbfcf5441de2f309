"""Groups that share light: each target is found exactly once, however close the groups come."""

import numpy as np
import pytest

from irst_stream import Stamp
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.overlap import Patches
from irst_stream.fit.region_fits import RegionFits
from irst_stream.fit.region_targets import NO_TARGETS
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render
from irst_stream.types import Window, at_rest

TIMES = np.arange(5.0) - 2
SETTINGS = {"amplitude_dn": 235.0, "amplitude_sd_dn": 12.0, "speed_px": 0.3, "own_speed_px": 0.005}
NOISE, AMPLITUDE = 4.0, 235.0
FRAME_SHAPE = (40, 40)  # rows, columns of the frame that patches are cut out of
TRIPLE = np.array([[0.0, 0.7], [-0.7, -0.5], [0.7, -0.5]])


def window(places, corners, index=0, seed=0):
    """Targets at places(index) (K, 2) px, seen through patches that begin at these corners (N, 2) px."""
    patches = np.empty((len(corners), len(TIMES), 11, 11), np.float32)
    for t, time in enumerate(TIMES):
        xy = places(index + time)
        noise = NOISE * np.random.default_rng([seed, 1000 + index + t]).standard_normal(FRAME_SHAPE)
        image = render(xy, np.full(len(xy), AMPLITUDE), FRAME_SHAPE) + noise
        for k, (x, y) in enumerate(corners):
            patches[k, t] = image[y : y + 11, x : x + 11]
    n, stamp = len(corners), Stamp("a", 0, 1000 + index, index * 10**7)
    return Window(
        stamp, np.array(corners, float), patches, *at_rest(n, 5), np.arange(n), np.full(n, NOISE), np.full(n, np.inf)
    )


def still(xy):
    """Targets that do not move."""
    return lambda _: xy


def fits(refit_every, starts=1):
    """A function from a window to the positions found in each region, (K, 2) px of the frame."""
    regions = RegionFits(Fitter(FitSettings(refit_every=refit_every, starts=starts, **SETTINGS)))

    def found(window_):
        results = regions(window_, [NO_TARGETS] * len(window_.corners))
        return [result.xy + corner for result, corner in zip(results, window_.corners, strict=True)]

    return found


def agree(found, truth, tolerance):
    """Whether the targets found are the true ones, each within the tolerance, px, and no others."""
    apart = np.linalg.norm(found[:, None] - truth, axis=-1)
    return len(found) == len(truth) and bool((apart.min(0, initial=9) < tolerance).all())


@pytest.mark.parametrize("apart", [4, 5, 6, 8])
def test_groups_without_a_warm_start_are_separated_by_their_regions(apart):
    fit, rng = fits(1, starts=3), np.random.default_rng(2)
    right = 0
    for k in range(30):
        xy = 15 + rng.uniform(-0.5, 0.5, 2) + np.concatenate([TRIPLE, (apart, 1) - TRIPLE])
        found = fit(window(still(xy), [(10, 10), (10 + apart, 11)], seed=k))
        right += agree(np.concatenate(found), xy, 0.15)
    assert right >= 28


def passing(gap, speed):
    """Two groups of three that pass at time 0: functions of time to their centres (2, 2) px and all targets (6, 2)."""

    def centres(time):
        along = speed / 2 * time
        return 19.7 + np.array([[along, gap / 2], [-along, -gap / 2]])

    return centres, lambda time: np.concatenate([centres(time)[0] + TRIPLE, centres(time)[1] - TRIPLE])


def corners_about(centres):
    """Corners of a region about each group, or of one about both where these are at most 4 px apart."""
    regions = centres if np.abs(centres[0] - centres[1]).max() > 4 else centres.mean(0, keepdims=True)
    return np.rint(regions).astype(int) - 5


@pytest.mark.parametrize("gap", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("speed", [0.15, 0.5])
def test_groups_that_pass_each_other_keep_their_targets(gap, speed):
    fit, right = fits(8), []
    centres, places = passing(gap, speed)
    for index in range(round(-9 / speed), round(9 / speed)):
        found = np.concatenate(fit(window(places, corners_about(centres(index)), index, seed=gap)))
        right.append(agree(found, places(index), 0.5))
    assert np.mean(right) > 0.98


def test_a_second_region_over_a_known_group_finds_nothing():
    """As when the proposer takes one group for two for a while."""
    fit = fits(8)
    xy = 15.2 + 1.4 * TRIPLE
    for index in range(12):
        corners = [(10, 10), (12, 11)] if index % 3 == 2 else [(10, 10)]
        found = fit(window(still(xy), corners, index))
        assert agree(found[0], xy, 0.3)
        assert all(len(more) == 0 for more in found[1:])


def test_saturated_pixels_lit_by_other_groups_become_unknown():
    images = np.array([100.0, 100.0, 99.0, 50.0], np.float32).reshape(1, 1, 1, 4)
    light = np.array([40.0, 0.1, 40.0, 40.0]).reshape(1, 1, 1, 4)
    left = Patches(images, *at_rest(1, 1), np.array([1.0]), np.array([100.0]), np.zeros((1, 2))).without(light)
    np.testing.assert_allclose(left.images.ravel(), [np.nan, 100.0, 59.0, 10.0])
