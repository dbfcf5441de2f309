"""The threshold rises where lights come and go, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream.errors import FormatError
from irst_stream.optics import render
from irst_stream.propose.clutter import ClutterMap, read_clutter_map, write_clutter_map
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.propose.transients import TransientClutter, TransientCounts

SHAPE, THRESHOLD, ALLOWED = (256, 320), 5.0, 0.1
NOWHERE = np.zeros((0, 2))


def glints(rng, rate, excess):
    """Endless frames of places (N, 2) and strengths (N,) of lights in the lower third that live one to six frames each."""
    alive = np.zeros((0, 4))
    while True:
        fresh = rng.poisson(rate)
        new = np.column_stack(
            [rng.uniform(0, 320, fresh), rng.uniform(170, 256, fresh), 5 + rng.exponential(excess, fresh)]
        )
        alive = np.concatenate([alive, np.column_stack([new, rng.integers(1, 7, fresh)])])
        yield alive[:, :2].copy(), alive[:, 2].copy()
        alive[:, 3] -= 1
        alive = alive[alive[:, 3] > 0]


@pytest.mark.parametrize("seed", [1, 2])
def test_glint_raises_the_threshold_of_its_place_until_few_pass(seed):
    rng = np.random.default_rng(seed)
    learnt, passed, source = TransientClutter(SHAPE, THRESHOLD, ALLOWED), [], glints(rng, 2.0, 4.0)
    for k in range(600):
        xy, strength = next(source)
        if k >= 300:
            passed.append(int((strength > learnt.thresholds(xy)).sum()))
        learnt.learn(xy, strength, (0, 0), NOWHERE)
    assert np.mean(passed) < 5 * ALLOWED, "of 7 a frame"
    assert learnt.thresholds(np.array([[160.0, 30.0]])) == THRESHOLD, "in the sky above"


@pytest.mark.parametrize("speed", [0.0, 0.3, 1.0, 4.0])
def test_targets_with_a_path_never_raise_it(speed):
    learnt, rng = TransientClutter(SHAPE, THRESHOLD, ALLOWED), np.random.default_rng(3)
    for k in range(500):
        start = (speed * k) % 300 + 10
        xy = np.array([[start, 60.0], [300 - start, 200.0]]) + 0.3 * rng.standard_normal((2, 2))
        learnt.learn(xy, np.array([9.0, 30.0]), (0, 0), NOWHERE)
    at = np.column_stack([np.arange(5.0, 320, 10), np.full(32, 60.0)])
    assert (learnt.thresholds(at) == THRESHOLD).all()


def test_a_target_that_the_platform_follows_has_a_path():
    """It rests in the frames, and races through the scene."""
    learnt, rng = TransientClutter(SHAPE, THRESHOLD, ALLOWED), np.random.default_rng(4)
    for k in range(300):
        xy = np.array([[160.0, 100.0]]) + 0.3 * rng.standard_normal((1, 2))
        learnt.learn(xy, np.array([30.0]), (-9 * k, 0), NOWHERE)
    assert (learnt.thresholds(np.array([[160.0, 100.0]])) == THRESHOLD).all()


def test_still_lights_of_a_scene_that_pans_have_a_path():
    learnt = TransientClutter(SHAPE, THRESHOLD, ALLOWED)
    for k in range(400):
        seen = np.array([[40.0 * j + 3 * k - 900, 100.0] for j in range(40)])
        seen = seen[(seen[:, 0] >= 0) & (seen[:, 0] < 320)]
        learnt.learn(seen, np.full(len(seen), 8.0), (3 * k, 0), NOWHERE)
    assert (learnt.thresholds(np.array([[160.0, 100.0]])) == THRESHOLD).all()


def test_peaks_of_tracks_do_not_count_and_without_peaks_there_is_nothing_to_learn():
    rng = np.random.default_rng(4)
    learnt, source = TransientClutter(SHAPE, THRESHOLD, ALLOWED), glints(rng, 2.0, 4.0)
    for _ in range(200):
        xy, strength = next(source)
        learnt.learn(xy, strength, (0, 0), xy)
        learnt.learn(NOWHERE, np.zeros(0), (0, 0), NOWHERE)
    assert (learnt.thresholds(np.array([[160.0, 210.0]])) == THRESHOLD).all()
    assert learnt.thresholds(NOWHERE).shape == (0,)


def test_the_search_leaves_glint_out_once_it_has_seen_it_and_finds_the_target():
    rng, shape = np.random.default_rng(8), (128, 160)
    proposer = Proposer(ProposeSettings(0.9, false_alarms=0.1, average=1, min_snr=5, clutter_frames=1000), shape)
    alive, regions, found = np.zeros((0, 4)), [], []
    for k in range(260):
        fresh = rng.poisson(1.5)
        new = np.column_stack([rng.uniform(5, 155, fresh), rng.uniform(80, 124, fresh), rng.uniform(60, 150, fresh)])
        alive = np.concatenate([alive, np.column_stack([new, rng.integers(1, 6, fresh)])])
        target = np.array([[20 + 0.4 * k, 30.0]])
        light = render(np.concatenate([target, alive[:, :2]]), np.concatenate([[120.0], alive[:, 2]]), shape, 0.9)
        frame = np.rint(100 + light + 2 * rng.standard_normal(shape)).astype(np.uint16)
        centres = proposer.propose(proposer.prepare(frame)).centres
        on_target = np.abs(centres - target).max(axis=1) < 2
        regions.append(int((~on_target).sum()))
        found.append(on_target.any())
        alive[:, 3] -= 1
        alive = alive[alive[:, 3] > 0]
    assert np.mean(regions[:12]) > 1, "nothing is known yet"
    assert np.mean(regions[100:]) < 0.1
    assert np.mean(found[30:]) > 0.97


def test_what_comes_and_goes_now_and_then_is_forgotten():
    learnt = TransientClutter(SHAPE, THRESHOLD, ALLOWED)
    for k in range(5000):
        xy = np.array([[150.0, 100.0]]) if k % 100 == 50 else NOWHERE
        learnt.learn(xy, np.full(len(xy), 20.0), (0, 0), NOWHERE)
    assert learnt.thresholds(np.array([[150.0, 100.0]])) == THRESHOLD


def test_rare_glint_over_a_wide_sea_raises_the_threshold_there_and_not_in_the_sky():
    """Fewer lights about each place than would tell by themselves."""
    rng, shape = np.random.default_rng(5), (512, 640)
    learnt, passed, seen = TransientClutter(shape, THRESHOLD, ALLOWED), [], []
    for k in range(400):
        if k % 2 == 0:
            xy = np.column_stack([rng.uniform(0, 640, 1), rng.uniform(350, 512, 1)])
            strength = 5 + rng.exponential(3.0, 1)
        if k >= 250:
            passed.append(int((strength > learnt.thresholds(xy)).sum()))
            seen.append(len(xy))
        learnt.learn(xy, strength, (0, 0), NOWHERE)
    assert np.mean(seen) == 1
    assert np.mean(passed) < 3 * ALLOWED
    assert learnt.thresholds(np.array([[320.0, 200.0]])) == THRESHOLD


def test_what_was_learnt_holds_from_the_first_frame_of_the_next_run(tmp_path):
    source, frames = glints(np.random.default_rng(1), 2.0, 4.0), 300
    learnt = TransientClutter(SHAPE, THRESHOLD, ALLOWED)
    for _ in range(frames):
        learnt.learn(*next(source), (0, 0), NOWHERE)
    known = replace(ClutterMap.empty(SHAPE), frames=frames, transients=learnt.learnt())
    path = tmp_path / "known.npz"
    write_clutter_map(path, known)
    proposer = Proposer(ProposeSettings(min_snr=THRESHOLD, clutter_frames=1000, clutter_map=str(path)), SHAPE)
    again = proposer.learnt_clutter().transients
    np.testing.assert_allclose(again.counts, learnt.learnt().counts)
    assert again.frames == learnt.learnt().frames
    places = np.array([[160.0, 210.0], [160.0, 30.0]])
    fresh = TransientClutter(SHAPE, THRESHOLD, ALLOWED, again)
    np.testing.assert_allclose(fresh.thresholds(places), learnt.thresholds(places))
    other = TransientClutter((512, 640), THRESHOLD, ALLOWED, again)
    assert (other.thresholds(places) == THRESHOLD).all(), "of frames of another size"


def test_what_was_learnt_of_another_scene_is_dropped():
    rng, counts = np.random.default_rng(1), np.ones((3, 8, 10), np.float32)
    scene, other = (rng.normal(0, 40, SHAPE).astype(np.float32) for _ in range(2))
    for image, kept in ((scene, True), (other, False)):
        known = replace(ClutterMap.empty(SHAPE), frames=100, transients=TransientCounts(counts, 100.0))
        known.mean[:], known.deviation[:] = scene, 1
        proposer = Proposer(ProposeSettings(clutter_frames=1000), SHAPE, known)
        proposer.prepare((500 + image).astype(np.float32))
        assert bool(proposer.learnt_clutter().transients.counts.any()) == kept


def test_a_file_whose_counts_are_not_counts_is_refused(tmp_path):
    path = tmp_path / "known.npz"
    write_clutter_map(path, ClutterMap.empty(SHAPE))
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {"transients": np.zeros((2, 3, 4))}))
    with pytest.raises(
        FormatError, match=r"known\.npz: not a clutter map .* expected transients \(3, m, n\), got \(2, 3, 4\)"
    ):
        read_clutter_map(path)
    del arrays["transients"]
    np.savez(path, **arrays)
    with pytest.raises(FormatError, match=r"known\.npz: not a clutter map"):
        read_clutter_map(path)


@pytest.mark.parametrize("speed", [0.3, 1.6])
def test_a_faint_target_that_passes_the_threshold_now_and_then_never_raises_it(speed):
    learnt, rng = TransientClutter(SHAPE, THRESHOLD, ALLOWED), np.random.default_rng(3)
    for k in range(400):
        noise = rng.poisson(20)
        xy = np.concatenate([rng.uniform((0, 0), (320, 256), (noise, 2)), [[(speed * k) % 300 + 10, 120.0]]])
        strength = np.concatenate([rng.uniform(3.5, 4.5, noise), rng.normal(4.7, 0.8, 1)])
        learnt.learn(xy, strength, (0, 0), NOWHERE)
        at = np.column_stack([np.arange(5.0, 320, 10), np.full(32, 120.0)])
        assert (learnt.thresholds(at) == THRESHOLD).all()
