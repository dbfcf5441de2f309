import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.formation import seat_choices
from irst_stream.fit.settings import FitSettings, FormationSettings
from irst_stream.optics import render

ARMS = ((0.0, -0.307), (0.0, 0.307), (-0.307, 0.0), (0.307, 0.0))
CROSS = FormationSettings(seats_px=ARMS, sd_px=0.006, members=(2, 4))
TIMES = np.arange(5) - 2.0


@pytest.fixture(scope="module")
def fitters():
    return [Fitter(FitSettings(formation=formation)) for formation in (FormationSettings(), CROSS)]


def seen(rng, seats, noise):
    """Images (5, 11, 11) of drifting targets on these seats at a random place, and their positions in the centre frame."""
    xy = np.array(seats) + 5 + rng.uniform(-0.5, 0.5, 2)
    moved = xy + rng.normal(0, 0.04, 2) * TIMES[:, None, None]
    light = np.tile(rng.uniform(220, 250, len(xy)), (5, 1))
    return render(moved, light) + noise * rng.standard_normal((5, 11, 11)), xy


def errors(fitter, noise, runs=40):
    """Median distance, px, from a target to its nearest detection on 2 to 4 arms of the cross; share of right numbers."""
    rng, away, right = np.random.default_rng(3), [], 0
    for k in range(runs):
        images, xy = seen(rng, [ARMS[i] for i in rng.permutation(4)[: 2 + k % 3]], noise)
        found = fitter(images, TIMES, noise_dn=noise)
        right += len(found.xy) == len(xy)
        away += list(np.linalg.norm(found.xy[None] - xy[:, None], axis=-1).min(1))
    return np.median(away), right / runs


def test_choices_cover_all_seats_and_each_number_is_equally_likely():
    choices = seat_choices(CROSS, 5)
    assert sorted(choices.sizes) == [2] * 6 + [3] * 4 + [4]
    share = [np.exp(choices.weights[choices.sizes == n]).sum() for n in (2, 3, 4)]
    np.testing.assert_allclose(share, 0.95 / 3)
    assert len(seat_choices(CROSS, 3).sizes) == 10, "four targets exceed the most allowed"
    assert len(seat_choices(FormationSettings(), 5).sizes) == 0


def test_a_known_formation_gives_better_positions_under_strong_noise(fitters):
    free, formation = (errors(fitter, 5.0) for fitter in fitters)
    assert formation[1] == 1
    assert formation[0] < 0.025
    assert formation[0] < 0.3 * free[0]


def test_light_that_contradicts_the_formation_overrules_it(fitters):
    rng = np.random.default_rng(5)
    for _ in range(10):
        images, xy = seen(rng, [(0.5, 0.5), (-0.4, 0.3), (0.1, -0.6)], 1.0)
        found = fitters[1](images, TIMES, noise_dn=1.0)
        assert len(found.xy) == 3
        np.testing.assert_allclose(np.linalg.norm(found.xy[None] - xy[:, None], axis=-1).min(1), 0, atol=0.06)


def test_rival_arrangements_lower_a_targets_probability(fitters):
    """Three of four arms, pointing either way, look alike under noise; the probabilities match how often each is right."""
    rng, told, true = np.random.default_rng(8), [], []
    for _ in range(150):
        images, xy = seen(rng, ARMS[:3], 12.0)
        found = fitters[1](images, TIMES, noise_dn=12.0)
        told += list(found.probability)
        true += list(np.linalg.norm(found.xy[:, None] - xy, axis=-1).min(1) < 0.1)
    assert np.mean(true) < 0.9
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.07)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sd_px": 0.0}, "fit.formation.sd_px: expected a number above 0, got 0.0"),
        ({"members": (3, 2)}, r"fit.formation.members: expected the fewest, 1 or more, then the most, got \[3, 2\]"),
        ({"members": (5, 6)}, "fit.formation.members: expected at most 4, got 5"),
        ({"probability": 1.0}, "fit.formation.probability: expected a number between 0 and 1, got 1.0"),
        ({"seats_px": ARMS * 3}, "fit.formation.seats_px: expected at most 8, got 12"),
        ({"seats_px": ((float("nan"), 0.0),)}, "fit.formation.seats_px: expected finite numbers"),
    ],
)
def test_invalid_formations_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Fitter(FitSettings(formation=FormationSettings(**{"seats_px": ARMS, "members": (2, 4), **settings})))
