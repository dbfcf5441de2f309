"""Static clutter and averages on platforms that move, and false regions over sky and ground."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream.optics import render
from irst_stream.propose.clutter import Clutter, ClutterMap
from irst_stream.propose.coarse import CellAverager
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Pose, Stamp

SHAPE = (96, 128)
QUIET = ProposeSettings(false_alarms=0.02)


def sky(rng, shape=SHAPE, level=1000.0, noise=8.0):
    return rng.normal(level, noise, shape).astype(np.float32)


def counted(image):
    return np.clip(np.rint(image), 0, 2**14 - 1).astype(np.uint16)


def with_targets(image, xy, amplitude):
    return image + render(np.array(xy, float), np.full(len(xy), float(amplitude)), image.shape).astype(np.float32)


def nearest(centres, xy):
    """The Chebyshev distance of the nearest centre, px."""
    return np.abs(centres - np.asarray(xy, float)).max(axis=1).min(initial=np.inf)


def test_neighbours_are_averaged_where_the_scene_was():
    """The platform jumps by whole pixels: a faint target that one frame hides stays at its place in the scene."""
    rng = np.random.default_rng(15)
    moves = [(0, 0), (7, -4), (-5, 3)]
    settings, found = replace(QUIET, false_alarms=0.5), []
    for place in (True, False):
        proposer, hits = Proposer(settings, SHAPE), 0
        for _ in range(20):
            frames = [counted(with_targets(sky(rng), [(60.0 + x, 50.0 + y)], 75)) for x, y in moves]
            ready = [proposer.prepare(f, m if place else (0, 0)) for f, m in zip(frames, moves, strict=True)]
            hits += nearest(proposer.propose(ready[0], ready[1:]).centres, (60, 50)) < 2.5
        found.append(hits)
    assert found[0] > 2 * found[1] + 5


def test_static_clutter_moves_with_the_scene():
    """A platform drifts and shakes over points that do not move: they are learnt; one that moves by itself is found."""
    rng = np.random.default_rng(16)
    world = rng.uniform(-60, 190, (60, 2))
    settings = ProposeSettings(false_alarms=0.1, min_snr=5.0, clutter_frames=200, most_regions=100)
    false = {}
    for follows in (True, False):
        proposer, counts, hits = Proposer(settings, SHAPE), [], 0
        for k in range(120):
            place = (round(0.3 * k + rng.normal()), round(rng.normal()))
            target = np.array([20.0 + 0.7 * k, 45.0])
            image = sky(rng) + render(np.vstack([world + place, target]), np.append(np.full(60, 150.0), 400.0), SHAPE)
            found = proposer.propose(proposer.prepare(counted(image), place if follows else (0, 0)))
            if k >= 60:
                hits += nearest(found.centres, target) < 2
                counts.append((np.abs(found.centres - target).max(axis=1) > 5).sum())
        false[follows] = np.mean(counts)
        assert hits > 50 or not follows
    assert 5 * false[True] < 5 < false[False]


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_sky_and_ground_have_no_more_false_regions_than_asked_for_and_both_show_targets(kind):
    """The ground has a pattern ten times the sky's noise, and flickers three times as much; from the first frame on."""
    rng = np.random.default_rng(18)
    shape, half, asked = (192, 256), 96, 4.0
    ground = 20 * rng.standard_normal((half, shape[1])).astype(np.float32)
    proposer = Proposer(ProposeSettings(false_alarms=asked, most_regions=100, clutter_frames=150), shape)
    false, hits = [], []
    for k in range(160):
        image = sky(rng, shape, noise=2.0)
        image[half:] += ground + 6 * rng.standard_normal(ground.shape).astype(np.float32)
        xy = np.array([(20.0 + k, 40.0), (220.0 - k, 150.0)])
        image += render(xy, np.array([80.0, 240.0]), shape)  # 19 times the noise of each half, at their peaks
        pixels = counted(image) if kind is np.uint16 else image
        centres = proposer.propose(proposer.prepare(pixels)).centres
        near = np.abs(centres[:, None] - xy).max(axis=2) < 2
        hits.append(near.any(axis=0))
        others = centres[~near.any(axis=1)]
        # the noise map blurs the edge between the halves over some 24 px
        false.append([(others[:, 1] < half - 24).sum(), (others[:, 1] > half + 24).sum()])
    share = (half - 24) / shape[0]
    for first, last in ((0, 20), (20, 60), (60, 160)):
        assert (np.mean(false[first:last], axis=0) <= asked * share).all()
    assert np.mean(hits[20:], axis=0).min() > 0.9


def test_clutter_is_not_learnt_while_nobody_knows_where_the_platform_looks():
    proposer = Proposer(ProposeSettings(clutter_frames=50), SHAPE)
    for _ in range(3):
        proposer.prepare(counted(sky(np.random.default_rng(17)) + 3), None)
    assert not proposer.clutter.map.mean.any()


def test_a_known_map_holds_at_the_first_frame_wherever_its_pose_counts_from():
    rng = np.random.default_rng(3)
    known = ClutterMap.empty((40, 50))
    known.mean[:] = rng.normal(0, 20, (40, 50))
    for place in ((0, 0), (400, -30)):
        clutter = Clutter(8, (40, 50), known)
        clutter.follow(place)
        light = known.mean.copy()
        clutter.subtract(light)
        assert np.abs(light).max() < 1e-3
        clutter.follow((place[0] + 2, place[1] + 1))
        np.testing.assert_allclose(clutter.map.mean[1:, 2:], known.mean[:-1, :-2])


@pytest.mark.parametrize(
    ("kind", "noise"), [(np.uint16, 0.5), (np.uint16, 60.0), (np.float32, 0.02), (np.float32, 5.0), (np.float32, 800.0)]
)
def test_an_empty_map_finds_the_targets_and_nothing_else_from_the_first_frame_on(kind, noise):
    """Whether a pixel's values have steps or none, and however coarse these are beside the noise."""
    rng, shape, found, hits = np.random.default_rng(1), (160, 224), [], []
    proposer = Proposer(ProposeSettings(sigma_px=0.8, false_alarms=0.1, min_snr=5.0, clutter_frames=1000), shape)
    prepared = []
    for k in range(90):
        xy = np.array([[30.3 + 0.4 * k, 60.2], [180.0, 120.4 - 0.4 * k]])
        light = 10000 + noise * rng.standard_normal(shape) * np.linspace(1, 3, shape[1])
        frame = light + render(xy, np.array([40.0, 100.0]) * noise, shape, 0.8)
        prepared = [
            *prepared[-2:],
            proposer.prepare(frame.astype(kind) if kind is np.float32 else np.rint(frame).astype(kind)),
        ]
        if len(prepared) == 3:
            regions = proposer.propose(prepared[1], prepared[::2]).centres
            before = xy - [[0.4, 0.0], [0.0, -0.4]]
            near = np.hypot(*(regions[:, None] - before).transpose(2, 0, 1)) < 2
            found.append((~near.any(axis=1)).sum())
            hits.append(near.any(axis=0))
    assert np.mean(hits) > 0.95
    assert np.sum(found) <= 0.1 * len(found) + 3, "0.1 a frame are asked for"


def shaken(frames, seed=4):
    """Poses of a platform that shakes by 2 px and rolls by 3 mrad, from anywhere."""
    rng = np.random.default_rng(seed)
    return [
        Pose(Stamp("s", 0, k, k), 40 + rng.uniform(-2, 2), -7 + rng.uniform(-2, 2), 0.2 + rng.uniform(-0.003, 0.003))
        for k in range(frames)
    ]


def seen_from(pose, xy, shape):
    """Where a frame of that pose and shape sees still points (N, 2) of the scene, px."""
    c, s, middle = np.cos(pose.roll_rad), np.sin(pose.roll_rad), (np.array(shape[::-1]) - 1) / 2
    return (xy - middle) @ np.array([[c, s], [-s, c]]) + middle + (pose.x, pose.y)


def test_static_clutter_follows_parts_of_a_pixel_and_rolls():
    shape, rng = (120, 160), np.random.default_rng(5)
    poses = shaken(120)
    scene = rng.uniform(-80, 240, (1200, 2))
    left = {}
    for exactly in (True, False):
        clutter, noise = Clutter(200, shape), np.full((8, 160), 1.0, np.float32)
        rows = CellAverager(shape, 16, row_step=2).rows
        rest = []
        for pose in poses:
            light = render(seen_from(pose, scene, shape), np.full(len(scene), 30.0), shape, 0.8).astype(np.float32)
            clutter.follow((round(pose.x), round(pose.y)), pose if exactly else None)
            before = np.std(light[10:-10, 10:-10])
            clutter.subtract(light)
            rest.append(np.std(light[10:-10, 10:-10]) / before)
            clutter.learn(light, noise, rows)
        left[exactly] = np.mean(rest[-20:])
    assert left[True] < 0.22
    assert left[False] > 1.7 * left[True]


def test_a_known_map_holds_at_the_first_frame_whatever_its_pose_says_of_the_roll():
    rng = np.random.default_rng(3)
    known = ClutterMap.empty((40, 50))
    known.mean[:] = rng.normal(0, 20, (40, 50))
    clutter = Clutter(8, (40, 50), known)
    clutter.follow((40, -7), Pose(Stamp("s", 0, 0, 0), 40.4, -7.3, 0.2))
    light = known.mean.copy()
    clutter.subtract(light)
    assert np.abs(light).max() < 1e-3


def test_tracks_hold_only_what_is_learnt():
    """A track may be of clutter that the map does not know yet; once it knows, a target that rests does not fade."""
    noise, rows = np.full((3, 50), 1.0, np.float32), CellAverager((40, 50), 16, row_step=2).rows
    learnt = {}
    for seen in (0, 100):
        clutter = Clutter(200, (40, 50), replace(ClutterMap.empty((40, 50)), frames=seen))
        for _ in range(30):
            clutter.hold(np.array([[25.0, 20.0]]))
            clutter.follow((0, 0))
            light = np.zeros((40, 50), np.float32)
            light[20, 25] = 5.0
            clutter.subtract(light)
            clutter.learn(light, noise, rows)
        learnt[seen] = clutter.map.mean[20, 25]
    assert learnt[0] > 2.0
    assert learnt[100] < 0.2


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.2])
def test_clutter_of_a_camera_that_adapts_its_gain_is_subtracted_whole(gain):
    rng = np.random.default_rng(5)
    mean = (20 * rng.standard_normal((64, 80))).astype(np.float32)
    light = (gain * mean + rng.standard_normal(mean.shape)).astype(np.float32)
    light[30:33, 40:43] += 60  # a target
    light[5, 5] = np.nan
    clutter = Clutter(100, mean.shape, ClutterMap(mean, np.zeros_like(mean), np.zeros((2, *mean.shape), np.float32), 100))
    clutter.subtract(light)
    assert np.isnan(light[5, 5])
    light[29:34, 39:44] = light[5, 5] = 0
    assert 0.9 < light.std() < 1.1


def test_noise_over_an_empty_map_changes_no_gain():
    light = np.random.default_rng(6).standard_normal((64, 80)).astype(np.float32)
    before = light.copy()
    Clutter(100, light.shape).subtract(light)
    np.testing.assert_array_equal(light, before)


@pytest.mark.parametrize(("gain", "same"), [(1.0, True), (0.7, True), (1.0, False)])
def test_a_known_map_of_another_scene_is_dropped_at_the_first_frame(gain, same, caplog):
    rng = np.random.default_rng(3)
    known = replace(ClutterMap.empty(SHAPE), frames=100)
    known.mean[:] = rng.normal(0, 20, SHAPE)
    known.deviation[:] = 1
    scene = known.mean if same else rng.normal(0, 20, SHAPE)
    clutter = Clutter(200, SHAPE, known)
    clutter.follow((0, 0))
    light = (scene * gain + rng.normal(0, 1, SHAPE)).astype(np.float32)
    clutter.subtract(light)
    assert clutter.is_learnt == same
    assert bool(clutter.map.mean.any()) == same
    assert ("another scene" in caplog.text) == (not same)
    assert np.std(light) == pytest.approx(1.0 if same else 20.0, rel=0.05)


@pytest.mark.parametrize("posed", [True, False])
def test_a_known_map_is_found_again_by_a_frame_that_begins_some_pixels_off(posed):
    rng, shift = np.random.default_rng(6), (7.3, -4.6)
    places = rng.uniform((-20, -20), (148, 116), (300, 2))

    def light(xy):
        return (render(xy, np.full(300, 400.0), SHAPE, 1.0) + rng.standard_normal(SHAPE)).astype(np.float32)

    known = replace(ClutterMap.empty(SHAPE), frames=100)
    known.mean[:], known.deviation[:] = light(places), 1
    clutter = Clutter(200, SHAPE, known)
    rest = []
    for k in range(2):  # of which the second is half a pixel farther
        seen = light(places + shift + [0.5 * k, 0])
        clutter.follow((0, 0), Pose(Stamp("s", 0, k, k), 0.5 * k, 0.0, 0.0) if posed else None)
        before = np.std(seen[12:-12, 12:-12])
        clutter.subtract(seen)
        rest.append(np.std(seen[12:-12, 12:-12]) / before)
    assert clutter.is_learnt
    assert rest[0] < (0.2 if posed else 0.55)
    assert not posed or rest[1] < 0.2


def test_a_place_that_comes_into_view_asks_for_more_until_its_clutter_is_known():
    rng, settings = np.random.default_rng(8), replace(QUIET, average=1, min_snr=5.0, unknown_snr=40.0, clutter_frames=200)
    known = replace(ClutterMap.empty(SHAPE), frames=100)
    known.levels[:] = 6
    known.mean[:, :10] = np.nan
    proposer = Proposer(settings, SHAPE, known)
    seen = []
    for k in range(80):
        y = 40 + 0.5 * k
        image = counted(with_targets(sky(rng), [(4, y), (60, y)], 250 if k in (0, 79) else 0))
        found = proposer.propose(proposer.prepare(image))
        seen.append([nearest(found.centres, (x, y)) < 2 for x in (4, 60)])
    assert seen[0] == [False, True]
    assert seen[79] == [True, True]


def test_known_shares_are_those_of_the_least_known_pixel_that_a_filter_sees():
    known = replace(ClutterMap.empty(SHAPE), frames=30)
    known.mean[:, :10] = np.nan
    shares = Clutter(200, SHAPE, known).known_shares(np.array([(12.0, 50.0), (13.0, 50.0), (127.0, 0.0)]))
    np.testing.assert_allclose(shares, [0.0, 0.5, 0.5])
    assert Clutter(200, SHAPE, known).known_shares(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(("points", "whole"), [(4, False), (60, True)])
def test_structure_that_the_map_does_not_know_counts_as_noise_and_a_few_targets_do_not(points, whole):
    rng, shape = np.random.default_rng(2), (128, 160)
    known = replace(ClutterMap.empty(shape), frames=100)
    known.levels[:] = 0.8
    clutter, out = Clutter(200, shape, known), np.empty(shape, np.float32)
    places = rng.uniform((56, 40), (104, 88), (points, 2))
    light = render(places, np.full(points, 200.0), shape, 1.2)
    response = (light + rng.standard_normal(shape)).astype(np.float32)
    squares = clutter.squares(response, 0, 0.1, None, out)[40:88, 56:104].mean()
    assert (squares > 0.9 * (response[40:88, 56:104] ** 2).mean()) == whole
    assert (squares < 2.5) == (not whole)


@pytest.mark.parametrize(("length", "width"), [(20.0, 8.0), (12.0, 12.0)])
def test_a_large_target_is_no_noise_about_itself(length, width):
    rng, shape = np.random.default_rng(3), (128, 160)
    known = replace(ClutterMap.empty(shape), frames=100)
    known.levels[:] = 0.8
    clutter, out = Clutter(200, shape, known), np.empty(shape, np.float32)
    y, x = np.indices(shape)
    light = 100.0 * (np.hypot((x - 80) / length, (y - 64) / width) < 0.5)
    response = (light + rng.standard_normal(shape)).astype(np.float32)
    assert clutter.squares(response, 0, 0.1, None, out).max() < 30, "of 10,000"
