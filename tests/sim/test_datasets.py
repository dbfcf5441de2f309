import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.optics import RAYLEIGH_PER_SIGMA, SIGMA, render
from irst_stream.sim import SeqCsistRules, csist100k, seqcsist

DRAWS = {"seqcsist": seqcsist, "csist100k": csist100k}


@pytest.fixture(scope="module")
def sequences():
    return seqcsist(1500, seed=3)


@pytest.fixture(scope="module")
def singles():
    return csist100k(5000, seed=3)


def middles(patches):
    """The reference points at the start, of the trajectories with four targets."""
    four = patches.count == 4
    return patches.xy[four, 0].mean(axis=1)


def test_seqcsist_counts_and_amplitudes(sequences):
    assert sequences.frames.shape == (1500, 20, 11, 11)
    assert sorted(set(sequences.count)) == [2, 3, 4]
    exists = np.arange(4) < sequences.count[:, None]
    assert (sequences.amplitude[~exists] == 0).all()
    assert 220 <= sequences.amplitude[exists].min() < 221
    assert 249 < sequences.amplitude[exists].max() <= 250
    assert (np.isfinite(sequences.xy).all((1, 3)) == exists).all()


def test_seqcsist_targets_have_distinct_directions_and_move_outward(sequences):
    four = sequences.xy[sequences.count == 4]
    arms = four - four[:, :1].mean(axis=2, keepdims=True)  # from the reference point at the start
    start = arms[:, 0]
    np.testing.assert_allclose(np.abs(start).sum(-1), 0.3, atol=1e-12)
    assert np.unique(np.rint(start / 0.3), axis=1).shape[1] == 4
    np.testing.assert_array_equal(np.sort(np.rint(start[:, :, 0] / 0.3)), np.tile([-1, 0, 0, 1], (len(four), 1)))
    across = four[:, :, :, None] - four[:, :, None]  # the distance of opposite targets grows
    longest = np.linalg.norm(across, axis=-1).max((2, 3))
    growth = np.diff(longest, axis=1)
    assert growth.min() >= 0
    assert growth.max() <= 2 * 0.0014


def test_seqcsist_paths_start_anywhere_and_step_towards_the_middle(sequences):
    four = sequences.count == 4
    start = middles(sequences)
    within_a_pixel = np.histogram(start % 1, np.linspace(0, 1, 11))[0] / start.size
    np.testing.assert_allclose(within_a_pixel, 0.1, atol=0.03)
    up_down = np.argsort(sequences.xy[four, 0, :, 0], axis=1)[:, 1:3]  # the two targets on the reference point's column
    x = np.take_along_axis(sequences.xy[four][..., 0], up_down[:, None], axis=2).mean(-1)
    expected = np.where(start[:, :1] < 5, 0.04, -0.04) * np.arange(20)
    np.testing.assert_allclose(x - start[:, :1], expected, atol=1e-9)


@pytest.mark.parametrize(("start", "whole"), [("columns", [True, False]), ("lattice", [True, True])])
def test_seqcsist_paths_start_at_whole_pixels_if_requested(start, whole):
    first = middles(seqcsist(300, seed=3, rules=SeqCsistRules(start=start)))
    np.testing.assert_array_equal((np.abs(first - np.rint(first)) < 1e-12).mean(0) == 1, whole)


def test_seqcsist_rules_can_be_changed():
    rules = SeqCsistRules(
        paths=("wave",), step_px=0.07, rotated=True, arm_px=(0.2, 0.6), amplitude_dn=(100, 500), sigma_px=(0.6, 0.4)
    )
    made = seqcsist(400, seed=3, rules=rules)
    four = made.xy[made.count == 4]
    arms = four[:, 0] - (four[:, 0].max(1) + four[:, 0].min(1))[:, None] / 2
    assert 0.19 < np.linalg.norm(arms, axis=-1).min() < 0.3
    angle = np.arctan2(*np.moveaxis(four[:, 0, 0] - four[:, 0, 1], -1, 0)) % (np.pi / 4)
    assert np.histogram(angle, np.linspace(0, np.pi / 4, 5))[0].min() > 0, "arms point anywhere"
    light = made.amplitude[made.amplitude > 0]
    assert (light.min() < 105) & (light.max() > 495)
    image = render(made.xy[0, 3, : made.count[0]], made.amplitude[0, : made.count[0]], (11, 11), 0.6, 0.4)
    np.testing.assert_allclose(made.frames[0, 3], image, rtol=1e-6, atol=1e-4)


def test_seqcsist_paths_are_lines_parabolas_and_circles(sequences):
    """Their second differences tell them apart: 0 for a line, constant for a parabola, varying for a circle."""
    four = sequences.xy[sequences.count == 4]
    left_right = np.argsort(four[:, 0, :, 1], axis=1)[:, 1:3]  # the two targets on the reference point's row
    y = np.take_along_axis(four[..., 1], left_right[:, None], axis=2).mean(-1)
    bend = np.diff(y, 2, axis=1)
    line = np.abs(bend).max(1) < 1e-12
    parabola = ~line & (np.ptp(bend, axis=1) < 1e-12)
    circle = ~line & ~parabola
    for share in (line.mean(), parabola.mean(), circle.mean()):
        assert share == pytest.approx(1 / 3, abs=0.07)
    slope = np.abs(np.diff(y, axis=1)[:, 0] / 0.04)
    assert 0.95 < slope[line].max() <= 1
    assert 0.23 < np.abs(bend[parabola]).max() / 2 / 0.04**2 <= 0.25
    assert (slope[circle] < np.tan(np.pi / 4) * 1.4).all()


def test_seqcsist_frames_follow_the_imaging_model(sequences):
    n = sequences.count[7]
    image = render(sequences.xy[7, 11, :n], sequences.amplitude[7, :n])
    np.testing.assert_allclose(sequences.frames[7, 11], image, rtol=1e-6, atol=1e-4)


def test_csist100k_targets_share_a_pixel_and_keep_the_minimum_distance(singles):
    assert sorted(set(singles.count)) == [1, 2, 3, 4, 5]
    inside = singles.xy[np.isfinite(singles.xy)]
    assert 4.5 <= inside.min() < 4.51
    assert 5.49 < inside.max() <= 5.5
    distance = np.linalg.norm(singles.xy[:, 0, :, None] - singles.xy[:, 0, None], axis=-1)
    closest = distance[np.isfinite(distance) & (distance > 0)].min()
    assert 0.52 * RAYLEIGH_PER_SIGMA * SIGMA <= closest < 0.4945


def test_the_published_share_of_frames_saturates_8_bits(singles):
    assert (singles.frames.max((1, 2, 3)) > 255).mean() == pytest.approx(0.44, abs=0.06)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_reproducible_and_a_small_set_begins_a_large_one(name):
    draw = DRAWS[name]
    options = {"seed": 5, "noise": (1.0, 4.0), "depth": 16}
    whole = draw(1300, **options)
    pieces = [draw(n, first=first, **options) for first, n in ((0, 7), (7, 993), (1000, 300))]
    for column in ("frames", "xy", "amplitude", "count", "noise"):
        np.testing.assert_array_equal(getattr(whole, column), np.concatenate([getattr(p, column) for p in pieces]))


@pytest.mark.parametrize("name", DRAWS)
def test_splits_and_seeds_never_share_a_draw(name):
    drawn = [DRAWS[name](200, seed=seed, split=split).amplitude for seed in (0, 1) for split in ("train", "val", "test")]
    values = np.concatenate([a[a > 0] for a in drawn])
    assert len(np.unique(values)) == len(values)


@pytest.mark.parametrize("name", DRAWS)
def test_noise_has_its_stated_level_and_does_not_change_the_targets(name):
    clean, noisy = DRAWS[name](2000, seed=1), DRAWS[name](2000, seed=1, noise=(0.0, 5.0))
    np.testing.assert_array_equal(clean.xy, noisy.xy)
    residual = (noisy.frames - clean.frames) / noisy.noise[:, None, None, None]
    assert residual.std() == pytest.approx(1, abs=0.01)
    assert residual.mean() == pytest.approx(0, abs=0.01)
    assert 0 < noisy.noise.min() < 0.1
    assert 4.9 < noisy.noise.max() <= 5


def test_digitised_frames_are_rounded_and_clipped():
    exact = seqcsist(100, noise=(3.0, 3.0))
    whole = seqcsist(100, noise=(3.0, 3.0), depth=16)
    assert whole.frames.dtype == np.uint16
    np.testing.assert_array_equal(whole.frames, np.rint(np.clip(exact.frames, 0, None)))
    narrow = seqcsist(100, noise=(3.0, 3.0), depth=8)
    assert narrow.frames.dtype == np.uint8
    np.testing.assert_array_equal(narrow.frames, np.minimum(whole.frames, 255))
    np.testing.assert_array_equal(seqcsist(100, noise=(3.0, 3.0), depth=16, ceiling=255).frames, narrow.frames)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trial"}, "split: expected one of train, val, test, got 'trial'"),
        ({"noise": (3.0, 1.0)}, "noise"),
        ({"seed": -1}, "seed"),
        ({"first": -1}, "from number 0 on"),
        ({"depth": 20}, "depth: expected 1 to 16 bits"),
        ({"rules": SeqCsistRules(paths=("spiral",))}, "paths: expected some of line, parabola, circle, wave, got spiral"),
        ({"rules": SeqCsistRules(start="here")}, "start: expected anywhere, columns or lattice, got 'here'"),
        ({"rules": SeqCsistRules(targets=(2, 5))}, "targets: expected 1 to 4, got 2 to 5"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        seqcsist(10, **options)
