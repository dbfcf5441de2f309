import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.optics import render
from irst_stream.propose.coarse import sample_map
from irst_stream.propose.prepared_frame import region_corners
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.sim import Groups, Platform, Scene, SceneSettings, Sensor
from irst_stream.sim.background import BACKGROUNDS

SHAPE = (96, 128)
FULL = (512, 640)
QUIET = ProposeSettings(false_alarms=0.02)  # for tests that are not about false alarms


def sky(rng, shape=SHAPE, level=1000.0, noise=8.0):
    return rng.normal(level, noise, shape).astype(np.float32)


def with_targets(image, xy, amplitude):
    return image + render(np.array(xy, float), np.full(len(xy), float(amplitude)), image.shape).astype(np.float32)


def counted(image):
    return np.clip(np.rint(image), 0, 2**14 - 1).astype(np.uint16)


def nearest(centres, xy):
    """The Chebyshev distance of the nearest centre, px."""
    return np.abs(centres - np.asarray(xy, float)).max(axis=1).min(initial=np.inf)


def search(name, snr, seed, sensor=None, window=5, **groups):
    """Search some frames of a scene: which groups are found, which single targets, and the false regions of each frame."""
    platform = Platform(jitter_px=0.2, drift_x_px_s=10)
    flying = Groups(groups=8, singles=5, snr=snr, **groups)
    settings = SceneSettings(sensor or Sensor(), BACKGROUNDS[name], flying, platform)
    scene = Scene(settings, 9, seed)
    proposer = Proposer(ProposeSettings(), FULL)
    prepared = [proposer.prepare(frame.pixels) for frame, _, _ in scene]
    grouped, single, false, half = [], [], [], window // 2
    for index in range(2, 7):
        around = [prepared[k] for k in range(index - half, index + half + 1) if k != index]
        centres = proposer.propose(prepared[index], around).centres
        truth = scene.truth(index)
        far = np.ones(len(centres), bool)
        for group in set(truth.group):
            xy = truth.xy[truth.group == group]
            middle = xy.mean(axis=0)
            far &= np.abs(centres - middle).max(axis=1) > 8
            if (middle > 3).all() and (middle < np.array([636, 508])).all():
                (grouped if len(xy) > 1 else single).append(nearest(centres, middle) <= 4)
        false.append(int(far.sum()))
    return grouped, single, false


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("name", ["dark", "gradient", "cloud"])
def test_groups_are_found_at_few_false_alarms(name, window):
    runs = [search(name, snr, seed, window=window) for seed, snr in enumerate([(6, 6), (6, 20)])]
    grouped, single, false = (np.concatenate(part) for part in zip(*runs, strict=True))
    assert grouped.mean() >= 0.98
    assert false.mean() <= 1
    assert single.mean() >= (0.95 if window == 5 else 0.7), "a window shows single targets that one frame does not"


def test_wide_groups_are_found():
    grouped, _, false = search("cloud", (6, 20), 5, members=(2, 3), spacing_px=(1.5, 2.0))
    assert np.mean(grouped) >= 0.98
    assert np.mean(false) <= 1


@pytest.mark.parametrize("window", [1, 5])
def test_broken_cloud_raises_few_false_alarms(window):
    runs = [search("broken-cloud", (8, 20), seed, window=window) for seed in range(4)]
    grouped, _, false = (np.concatenate(part) for part in zip(*runs, strict=True))
    assert false.mean() <= 1.2
    assert grouped.mean() >= 0.9


def test_many_bad_pixels_neither_hide_groups_nor_raise_false_alarms():
    sensor = Sensor(dead_fraction=5e-4, hot_fraction=5e-4)
    grouped, _, false = search("dark", (8, 20), 1, sensor)
    assert np.mean(grouped) >= 0.95
    assert np.mean(false) <= 1


def test_noise_alone_raises_the_false_alarms_of_the_settings():
    rng = np.random.default_rng(1)
    settings = ProposeSettings(false_alarms=4.0, most_regions=100)
    for window in (1, 5):
        proposer, found, held = Proposer(settings, FULL), 0, []
        for _ in range(24):
            held = [*held, proposer.prepare(counted(sky(rng, FULL)))][-window:]
            if len(held) == window:
                found += len(proposer.propose(held[0], held[1:]).centres)
        assert 2 < found / (25 - window) < 8


def test_hot_and_dead_pixels_are_masked_at_once_then_learnt_and_forgotten():
    rng = np.random.default_rng(2)
    proposer = Proposer(QUIET, SHAPE)
    places = {(40, 30): 2**14 - 1, (90, 60): 0, (91, 60): 0, (60, 80): 1300, (0, 50): 9000}
    for _ in range(12):
        frame = counted(sky(rng))
        for (x, y), value in places.items():
            frame[y, x] = value
        prepared = proposer.prepare(frame)
        assert all(np.isnan(prepared.light[y, x]) for x, y in places)
        assert np.isnan(prepared.light).sum() == len(places)
        assert len(proposer.propose(prepared).centres) == 0
    assert set(map(tuple, proposer.bad_pixels)) == set(places)
    for _ in range(130):
        prepared = proposer.prepare(counted(sky(rng)))
    assert len(proposer.bad_pixels) == 0
    assert not np.isnan(prepared.light).any()


def test_a_faint_hot_pixel_is_learnt_over_time():
    rng = np.random.default_rng(3)
    proposer = Proposer(ProposeSettings(), SHAPE)
    for _ in range(80):
        frame = sky(rng)
        frame[40, 50] += 8 * 8
        prepared = proposer.prepare(counted(frame))
    assert proposer.bad_pixels.tolist() == [[50, 40]]
    assert nearest(proposer.propose(prepared).centres, (50, 40)) > 3


@pytest.mark.parametrize("amplitude", [110, 300, 5000, 60_000])
def test_targets_at_rest_are_never_taken_for_bad_pixels(amplitude):
    rng = np.random.default_rng(4)
    places = [
        (30.0, 30.0),
        (60.5, 30.0),
        (90.5, 30.5),
        (30.3, 60.2),
        (60.0, 0.2),
        (0.0, 90.0),
        (100.0, 70.0),
        (101.4, 70.9),
    ]
    proposer = Proposer(QUIET, SHAPE)
    still = render(np.array(places), np.full(len(places), float(amplitude)), SHAPE)
    for _ in range(100):
        prepared = proposer.prepare(counted(sky(rng) + still))
    assert len(proposer.bad_pixels) == 0
    assert np.isnan(prepared.light).sum() == 0
    found = proposer.propose(prepared, [prepared])
    if amplitude >= 300:
        assert all(nearest(found.centres, xy) <= 1.5 for xy in places)


def test_a_target_over_a_dead_pixel_is_found():
    rng = np.random.default_rng(5)
    proposer = Proposer(QUIET, SHAPE)
    for _ in range(10):
        frame = with_targets(sky(rng), [(50.4, 40.2), (51.2, 40.9)], 300)
        frame[40, 50] = 0
        prepared = proposer.prepare(counted(frame))
    assert proposer.bad_pixels.tolist() == [[50, 40]]
    assert nearest(proposer.propose(prepared).centres, (50.8, 40.5)) <= 2


@pytest.mark.parametrize("shape", [(65, 65), (67, 131), SHAPE, (300, 257)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_uniform_frames_give_no_region(dtype, shape):
    top = np.float32(1) if dtype is np.float32 else np.iinfo(dtype).max
    for value in (0, 100 if dtype is not np.float32 else 0.3, top):
        proposer = Proposer(ProposeSettings(), shape)
        for _ in range(2):
            prepared = proposer.prepare(np.full(shape, value, dtype))
            found = proposer.propose(prepared, [prepared])
            assert found.centres.shape == (0, 2)
            assert found.left_out == len(found.strength) == len(found.noise) == len(found.background) == 0
        assert prepared.background == pytest.approx(float(value), rel=1e-5)


def test_pixels_that_are_not_finite_are_masked():
    rng = np.random.default_rng(6)
    proposer = Proposer(QUIET, SHAPE)
    nothing = proposer.prepare(np.full(SHAPE, np.nan, np.float32))
    assert np.isnan(nothing.light).all()
    assert len(proposer.propose(nothing).centres) == 0
    frame = with_targets(sky(rng), [(100.0, 40.0)], 400)
    holes = np.zeros(SHAPE, bool)
    holes[20:70, 30:60] = holes[:, 5] = holes[3, 77] = holes[40, 101] = True
    frame[holes] = rng.choice([np.nan, np.inf, -np.inf], holes.sum())
    prepared = proposer.prepare(frame)
    np.testing.assert_array_equal(np.isnan(prepared.light), holes)
    found = proposer.propose(prepared)
    assert len(found.centres) == 1
    assert nearest(found.centres, (100, 40)) <= 1
    assert found.noise[0] == pytest.approx(8, rel=0.2)
    assert found.background[0] == pytest.approx(1000, abs=4)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_the_unit_of_light_does_not_matter(scale):
    frame = with_targets(sky(np.random.default_rng(7)), [(30, 40), (31.0, 40.6), (80.2, 50.1)], 200)
    found = [_propose(f.astype(np.float32)) for f in (frame, frame * np.float32(scale))]
    np.testing.assert_allclose(found[1].centres, found[0].centres, atol=1e-2)
    np.testing.assert_allclose(found[1].strength, found[0].strength, rtol=1e-2)
    np.testing.assert_allclose(found[1].noise, found[0].noise * scale, rtol=1e-2)


def test_a_scene_moved_by_whole_cells_moves_its_regions():
    """The cells of background and noise move with the scene, so that results differ at the borders only."""
    image = with_targets(sky(np.random.default_rng(8), (160, 192)), [(60, 60), (61, 60.7), (100.3, 90.2)], 250)
    here, there = _propose(counted(image)), _propose(counted(np.roll(image, (16, 32), axis=(0, 1))))
    np.testing.assert_allclose(there.centres, here.centres + np.array([32, 16]), atol=1e-6)
    np.testing.assert_allclose(there.strength, here.strength, rtol=0.02)


def test_centres_are_where_the_light_is():
    rng = np.random.default_rng(9)
    for _ in range(10):
        middle = rng.uniform(20, 70, 2)
        offsets = rng.uniform(-1.2, 1.2, (4, 2))
        frame = with_targets(sky(rng), middle + offsets, 400)
        found = _propose(counted(frame))
        assert len(found.centres) == 1
        assert nearest(found.centres, middle + offsets.mean(axis=0)) < 1


def test_one_group_is_proposed_once_and_two_groups_twice():
    rng = np.random.default_rng(10)
    wide = with_targets(sky(rng), [(40, 40), (43.5, 41.0), (41.5, 43.5)], 300)
    assert len(_propose(counted(wide)).centres) == 1
    two = with_targets(sky(rng), [(40, 40), (40.8, 40.5), (48, 40), (48.5, 41)], 300)
    assert len(_propose(counted(two)).centres) == 2


@pytest.mark.parametrize("distance", [3, 4, 5, 6, 8])
def test_every_target_of_neighbouring_groups_is_well_inside_a_region(distance):
    """Also where one group outshines the other: 4 px from the region's centre leave room for the wings of its PSF."""
    rng = np.random.default_rng(14)
    for _ in range(15):
        angle, middle = rng.uniform(0, 2 * np.pi), rng.uniform(40, 55, 2)
        aside = distance * np.array([np.cos(angle), np.sin(angle)])
        xy = middle + np.concatenate([rng.uniform(-1, 1, (5, 2)), aside + rng.uniform(-1, 1, (2, 2))])
        found = _propose(counted(with_targets(sky(rng), xy, 350)))
        assert len(found.centres) <= 3
        assert np.abs(xy[:, None] - np.rint(found.centres)).max(-1).min(1).max() <= 4


def test_the_strongest_are_kept_and_the_rest_counted():
    rng = np.random.default_rng(11)
    places = np.array([(x, y) for y in (15, 40, 65) for x in (15, 40, 65, 90)], float)
    brightness = np.linspace(300, 900, len(places))
    frame = counted(sky(rng) + render(places, brightness, SHAPE))
    found = _propose(frame, replace(QUIET, min_snr=5.0, most_regions=5))
    assert found.left_out == 7
    assert len(found.centres) == 5
    assert (np.diff(found.strength) <= 0).all()
    assert all(nearest(found.centres, xy) < 1 for xy in places[-5:])


def test_regions_of_confirmed_tracks_come_first_then_the_strongest():
    rng = np.random.default_rng(11)
    places = np.array([(x, y) for y in (15, 40, 65) for x in (15, 40, 65, 90)], float)
    proposer = Proposer(replace(QUIET, min_snr=5.0, most_regions=5), SHAPE)
    prepared = proposer.prepare(counted(sky(rng) + render(places, np.linspace(300, 900, len(places)), SHAPE)))
    proposer.hold(places[:2] + 1.5)
    found = proposer.propose(prepared)
    assert found.left_out == 7
    assert nearest(found.centres[:2], places[0]) < 1
    assert nearest(found.centres[:2], places[1]) < 1
    assert all(nearest(found.centres[2:], xy) < 1 for xy in places[-3:])
    proposer.hold(np.zeros((0, 2)))
    assert all(nearest(proposer.propose(prepared).centres, xy) < 1 for xy in places[-5:])


def test_peaks_beyond_the_settings_are_counted_and_those_of_tracks_kept():
    rng = np.random.default_rng(12)
    places = np.array([(x, y) for y in range(15, 90, 15) for x in range(15, 120, 15)], float)
    frame = counted(sky(rng) + render(places, np.linspace(400, 900, len(places)), SHAPE))
    for most, left in ((10, len(places) - 10), (0, 0)):
        proposer = Proposer(replace(QUIET, most_regions=40, most_peaks=most), SHAPE)
        prepared = proposer.prepare(frame)
        proposer.hold(places[:1])
        found = proposer.propose(prepared)
        assert left <= found.left_peaks <= left + 8 * bool(left), "rims are dips, which count too"
        assert nearest(found.centres, places[0]) < 1


def test_a_prepared_frame_depends_on_the_frame_and_the_bad_pixels_alone():
    rng = np.random.default_rng(12)
    frames = [counted(with_targets(sky(rng), [(40 + k, 50)], 300)) for k in range(5)]
    used = Proposer(QUIET, SHAPE)
    for frame in frames:
        used.propose(used.prepare(frame))
    again, fresh = used.prepare(frames[2]), Proposer(QUIET, SHAPE).prepare(frames[2])
    np.testing.assert_array_equal(again.light, fresh.light)
    np.testing.assert_array_equal(again.noise, fresh.noise)


def test_prepared_light_has_no_background_and_its_noise_is_measured():
    rng = np.random.default_rng(13)
    slope = np.linspace(500, 700, SHAPE[1], dtype=np.float32)
    prepared = Proposer(QUIET, SHAPE).prepare(counted(sky(rng, level=0, noise=6) + slope))
    assert prepared.light[8:-8, 8:-8].mean() == pytest.approx(0, abs=0.2)
    middle = np.array([[64.0, 48.0]])
    assert sample_map(prepared.noise, middle, SHAPE)[0] == pytest.approx(6, rel=0.1)
    assert sample_map(prepared.background, middle, SHAPE)[0] == pytest.approx(slope[64], abs=4)


def test_a_coarse_map_is_interpolated_between_its_cells():
    ramp = np.add.outer(10 * np.arange(8.0), np.arange(10.0)).astype(np.float32)
    xy = np.array([(1.5, 1.5), (5.5, 1.5), (3.5, 5.5), (-5, -5), (100, 100)])
    np.testing.assert_allclose(sample_map(ramp, xy, (32, 40)), [0, 1, 10.5, 0, 79])


def test_corners_are_whole_and_inside():
    middles = np.array([(5.0, 5.0), (0.0, 0.0), (127.0, 95.0), (60.4, 40.6)])
    np.testing.assert_array_equal(region_corners(middles, SHAPE), [(0, 0), (0, 0), (117, 85), (55, 36)])
    assert region_corners(np.zeros((0, 2)), SHAPE).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma_px", 0.0),
        ("sigma_px", 9.0),
        ("sigma_px", np.nan),
        ("false_alarms", 0.0),
        ("false_alarms", 1e3),
        ("most_regions", 0),
        ("average", 2),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=f"propose.{name}: expected .* got"):
        Proposer(replace(ProposeSettings(), **{name: value}), SHAPE)


def _propose(frame, settings=QUIET):
    proposer = Proposer(settings, frame.shape)
    return proposer.propose(proposer.prepare(frame))


def test_compiling_and_loading_processes_give_the_same_bytes(tmp_path):
    code = (
        "import numpy as np; from irst_stream.propose.proposer import Proposer;"
        "from irst_stream.propose.settings import ProposeSettings;"
        "pixels = np.random.default_rng(1).normal(1000, 9, (200, 240)).astype(np.float32);"
        "proposer = Proposer(ProposeSettings(false_alarms=50.0), pixels.shape);"
        "found = proposer.propose(proposer.prepare(pixels));"
        "print(found.centres.tobytes().hex(), found.noise.tobytes().hex())"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = [sys.executable, "-c", code]
    first, second = (subprocess.run(run, capture_output=True, env=environment, check=True).stdout for _ in range(2))
    assert first == second
    assert len(first) > 1000
