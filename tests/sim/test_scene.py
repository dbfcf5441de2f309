from dataclasses import replace

import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.optics import peak_response, psf
from irst_stream.point_spread import gaussian, tabulated
from irst_stream.psf_field import PsfField, write_psf
from irst_stream.sim import Background, Groups, Platform, Scene, SceneSettings, Sensor
from irst_stream.sim.background import BACKGROUNDS, Sky

QUIET = Sensor(
    width=64, height=48, rate_hz=20, read_noise_dn=0, electrons_per_dn=0, gain_spread=0, offset_spread_dn=0,
    column_spread_dn=0, dead_fraction=0, hot_fraction=0,
)  # fmt: skip
SMALL = SceneSettings(sensor=QUIET, background=Background(level_dn=100), groups=Groups(groups=4, singles=2))


def test_frames_are_the_background_plus_the_imaging_model_of_the_truth():
    scene = Scene(SMALL, 40, seed=2)
    for index in (0, 13, 39):
        truth = scene.truth(index)
        light = np.full((48, 64), 100.0)
        for xy, amplitude in zip(truth.xy, truth.amplitude, strict=True):
            light += amplitude * psf(xy, (48, 64))
        inner = np.s_[6:-6, 6:-6]  # targets centred outside the frame also shine at its border
        np.testing.assert_allclose(scene.frame(index).pixels[inner], np.rint(light)[inner], atol=1)


def test_frames_show_targets_by_the_psf_of_the_sensor(tmp_path):
    """An elliptical PSF, and a table that differs from place to place."""
    wide, narrow = (tabulated(gaussian(s, 1.4, 60.0).table[8:-8, 8:-8], 8) for s in (0.8, 0.8))
    field = PsfField(np.array([10.0, 50.0]), np.array([20.0]), ((wide, narrow),))
    write_psf(tmp_path / "cam.psf.npz", field)
    elliptical = replace(QUIET, sigma_px=0.7, axis_ratio=1.5, axis_angle_deg=30.0)
    for sensor in (elliptical, replace(QUIET, psf_table=str(tmp_path / "cam.psf.npz"))):
        scene = Scene(replace(SMALL, sensor=sensor), 3, seed=2)
        truth, light = scene.truth(1), np.full((48, 64), 100.0)
        for xy, amplitude in zip(truth.xy, truth.amplitude, strict=True):
            own = field.at(xy) if sensor.psf_table else gaussian(0.7, 1.5, 30.0)
            light += amplitude * own.images(xy, (48, 64))
        inner = np.s_[9:-9, 9:-9]
        np.testing.assert_allclose(scene.frame(1).pixels[inner], np.rint(light)[inner], atol=1)


def test_a_target_fades_in_at_the_border():
    settings = replace(SMALL, groups=Groups(groups=0, singles=8, speed_px_s=(20.0, 20.0)))
    scene = Scene(settings, 200, seed=1)
    known = set(scene.truth(0).id)
    for index in range(1, 200):
        truth = scene.truth(index)
        for xy in truth.xy[[key not in known for key in truth.id]]:
            x, y = np.clip(np.rint(xy).astype(int), 0, (63, 47))
            assert scene.frame(index - 1).pixels[y, x] > 100, "its light is visible before its centre is inside"
        known |= set(truth.id)


def test_frames_can_be_rendered_in_any_order():
    first, second = Scene(SMALL, 30, seed=4), Scene(SMALL, 30, seed=4)
    in_order = [frame.pixels for frame, _, _ in first]
    for index in (29, 3, 17):
        np.testing.assert_array_equal(second.frame(index).pixels, in_order[index])
    assert not np.array_equal(Scene(SMALL, 30, seed=5).frame(0).pixels, in_order[0])


def test_ids_and_groups_are_stable_and_paths_are_smooth():
    scene = Scene(replace(SMALL, groups=Groups(groups=6, singles=3, crossing=0.6)), 400, seed=1)
    paths, members = {}, {}
    for index in range(400):
        truth = scene.truth(index)
        for key, group, xy in zip(truth.id, truth.group, truth.xy, strict=True):
            paths.setdefault(key, []).append((index, *xy))
            members.setdefault(group, set()).add(key)
    assert all(1 <= len(keys) <= 5 for keys in members.values())
    assert len(members) > 9, "groups that leave are replaced"
    for path in paths.values():
        steps = np.diff(np.array(path), axis=0)
        consecutive = steps[steps[:, 0] == 1]
        assert np.abs(consecutive[:, 1:]).max(initial=0) < 8


def test_the_number_of_groups_in_view_stays_near_the_setting():
    scene = Scene(replace(SMALL, groups=Groups(groups=5, singles=0, crossing=0)), 600, seed=8)
    groups_in_view = [len(set(scene.truth(i).group)) for i in range(600)]
    assert 3 <= np.mean(groups_in_view) <= 5


def test_members_keep_their_spacing_unless_they_cross():
    settings = replace(SMALL, groups=Groups(groups=6, members=(3, 5), singles=0, spacing_px=(0.8, 0.8), crossing=0))
    scene = Scene(settings, 200, seed=3)
    for index in range(0, 200, 25):
        truth = scene.truth(index)
        for group in set(truth.group):
            xy = truth.xy[truth.group == group]
            distance = np.linalg.norm(xy[:, None] - xy, axis=-1)[np.triu_indices(len(xy), 1)]
            assert (distance > 0.8 - 1e-6).all()


def test_crossing_members_pass_through_each_other():
    settings = replace(SMALL, groups=Groups(groups=4, members=(2, 2), singles=0, crossing=1.0))
    scene = Scene(settings, 300, seed=3)
    closest = {}
    for index in range(300):
        truth = scene.truth(index)
        for group in set(truth.group):
            xy = truth.xy[truth.group == group]
            if len(xy) == 2:
                closest.setdefault(group, []).append(np.linalg.norm(xy[0] - xy[1]))
    assert min(min(d) for d in closest.values()) < 0.1


def test_snr_is_the_peak_pixel_over_the_noise():
    sensor = replace(QUIET, read_noise_dn=4.0, electrons_per_dn=10.0)
    scene = Scene(replace(SMALL, sensor=sensor, groups=Groups(snr=(8.0, 8.0))), 20, seed=1)
    noise = np.sqrt(4.0**2 + 100 / 10)
    np.testing.assert_allclose(scene.truth(0).amplitude * peak_response() / noise, 8.0)


def test_noise_over_time_is_shot_and_read_noise():
    sensor = replace(QUIET, read_noise_dn=3.0, electrons_per_dn=2.0)
    settings = replace(SMALL, sensor=sensor, background=Background(level_dn=500), groups=Groups(groups=0, singles=0))
    stack = np.stack([frame.pixels for frame, _, _ in Scene(settings, 300, seed=1)]).astype(float)
    assert stack.std(axis=0).mean() == pytest.approx(np.sqrt(3.0**2 + 500 / 2 + 1 / 12), rel=0.01)
    assert stack.mean() == pytest.approx(500, abs=0.2)


def test_fixed_pattern_noise_is_constant_and_bad_pixels_are_bad():
    sensor = replace(QUIET, gain_spread=0.02, offset_spread_dn=5, column_spread_dn=3, dead_fraction=0.01, hot_fraction=0.01)
    settings = replace(SMALL, sensor=sensor, background=Background(level_dn=1000), groups=Groups(groups=0, singles=0))
    scene = Scene(settings, 3, seed=1)
    first, last = scene.frame(0).pixels, scene.frame(2).pixels
    np.testing.assert_array_equal(first, last)
    bad = (first == 0) | (first == 2**14 - 1)
    assert 0.01 < bad.mean() < 0.03
    spread = np.sqrt(20**2 + 5**2 + 3**2)
    assert first[~bad].std() == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_bright_scene_saturates_at_full_scale(bits):
    settings = replace(SMALL, sensor=replace(QUIET, bits=bits), background=Background(level_dn=2.0**bits - 1))
    pixels = Scene(settings, 1).frame(0).pixels
    assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (pixels == 2**bits - 1).all()


def test_the_pose_moves_targets_and_background_alike():
    """A platform that drifts, jitters and rolls sees the same world as a steady one, transformed by its pose."""
    platform = Platform(drift_x_px_s=15, drift_y_px_s=-6, jitter_px=0.7, roll_jitter_mrad=4)
    cloud = Background(level_dn=1000, cloud_dn=100, cloud_slope=2.5, wind_x_px_s=0, wind_y_px_s=0)
    settings = replace(SMALL, background=cloud, platform=platform, groups=Groups(groups=3, singles=0))
    scene = Scene(settings, 20, seed=6)
    pose, centre = scene.pose(19), np.array([63 / 2, 47 / 2])
    c, s = np.cos(pose.roll_rad), np.sin(pose.roll_rad)
    turn = np.array([[c, -s], [s, c]])
    steady = Scene(replace(settings, platform=Platform(drift_x_px_s=15, drift_y_px_s=-6)), 20, seed=6)
    drift = np.array([steady.pose(19).x, steady.pose(19).y])
    world = steady.truth(19).xy - drift
    moved = dict(zip(scene.truth(19).id, scene.truth(19).xy, strict=True))
    for key, xy in zip(steady.truth(19).id, world, strict=True):
        if key in moved:
            np.testing.assert_allclose(moved[key], turn @ (xy - centre) + centre + (pose.x, pose.y), atol=1e-9)
    sky = Sky(cloud, 64, 48, np.random.default_rng(0))
    at_rest, shifted = sky.view(0.0), sky.view(0.0, (3.0, -2.0))
    np.testing.assert_allclose(shifted[:-2, 3:], at_rest[2:, :-3], atol=0.05)


def test_the_gradient_is_fixed_in_the_world():
    sky = Sky(Background(level_dn=500, gradient_dn=100), 40, 30, np.random.default_rng(0))
    np.testing.assert_allclose(sky.view(0.0, (0.0, 6.0))[6:], sky.view(0.0)[:-6], atol=1e-3)
    tilted = sky.view(0.0, roll_rad=0.1)
    assert tilted[15, 0] > tilted[15, -1]


def test_an_edge_has_the_set_step_and_width():
    flat = Background(level_dn=500, edge_dn=200, edge_width_px=3, wind_x_px_s=0, wind_y_px_s=0)
    view = Sky(flat, 256, 256, np.random.default_rng(2)).view(0.0)
    assert np.percentile(view, 98) - np.percentile(view, 2) == pytest.approx(200, rel=0.05)
    steepest = np.abs(np.diff(view, axis=1)).max()
    assert 200 / 12 < steepest < 200


def test_a_wide_frame_does_not_repeat():
    view = Sky(BACKGROUNDS["cloud"], 1280, 64, np.random.default_rng(0)).view(0.0)
    left, right = view[:, :256].ravel(), view[:, 1024:].ravel()
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.9


def test_paths_of_groups_cross():
    def closest(crossing):
        groups = Groups(groups=6, members=(1, 1), singles=0, crossing=crossing, turn_px_s2=0)
        scene = Scene(replace(SMALL, groups=groups, sensor=replace(QUIET, width=400, height=400)), 600, seed=5)
        meetings = 0
        for index in range(0, 600, 2):
            xy = scene.truth(index).xy
            distance = np.linalg.norm(xy[:, None] - xy, axis=-1)[np.triu_indices(len(xy), 1)]
            meetings += int((distance < 2).sum())
        return meetings

    assert closest(1.0) > 3 * closest(0.0)


def test_speeds_and_brightness_stay_in_their_ranges():
    groups = Groups(groups=5, members=(1, 1), singles=0, speed_px_s=(10, 20), turn_px_s2=0, crossing=1.0, fluctuation=0.1)
    scene = Scene(replace(SMALL, groups=groups), 200, seed=2)
    speeds, brightness = [], {}
    for index in range(199):
        now, then = scene.truth(index), scene.truth(index + 1)
        here = dict(zip(now.id, now.xy, strict=True))
        speeds += [np.linalg.norm(xy - here[k]) * 20 for k, xy in zip(then.id, then.xy, strict=True) if k in here]
        for key, amplitude in zip(now.id, now.amplitude, strict=True):
            brightness.setdefault(key, []).append(amplitude)
    assert min(speeds) >= 10 - 1e-6
    assert max(speeds) <= 20 + 1e-6
    relative = np.concatenate([np.array(a) / np.mean(a) for a in brightness.values() if len(a) > 30])
    assert relative.std() == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("platform", [Platform(), Platform(jitter_px=2.0, roll_jitter_mrad=5.0)])
def test_no_target_appears_or_vanishes_inside_the_frame(platform):
    groups = Groups(groups=6, members=(2, 5), spacing_px=(1.0, 3.0), speed_px_s=(5, 40))
    scene = Scene(replace(SMALL, groups=groups, platform=platform), 300, seed=4)
    inner = 8 + 5 * platform.jitter_px
    for index in range(1, 300):
        before, after = scene.truth(index - 1), scene.truth(index)
        for one, other in ((before, after), (after, before)):
            unmatched = one.xy[~np.isin(one.id, other.id)]
            inside = (unmatched > inner).all(1) & (unmatched < np.array([63, 47]) - inner).all(1)
            assert not inside.any()


def test_wind_carries_the_cloud():
    sky = Sky(Background(cloud_dn=50, wind_x_px_s=4, wind_y_px_s=0), 40, 30, np.random.default_rng(1))
    sky._layers = sky._layers[:1]  # the other layer is slower
    np.testing.assert_allclose(sky.view(1.0)[:, 4:], sky.view(0.0)[:, :-4], atol=0.02)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_have_their_level_and_contrast(name):
    background = BACKGROUNDS[name]
    tile = Sky(background, 1024, 1024, np.random.default_rng(0)).view(0.0)
    assert tile.mean() == pytest.approx(background.level_dn, rel=0.08)
    assert tile.std() >= 0.7 * np.hypot(background.gradient_dn / np.sqrt(12), background.cloud_dn)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(SMALL, sensor=replace(QUIET, bits=17)), "bits: expected 8 to 16, got 17"),
        (replace(SMALL, sensor=replace(QUIET, width=5)), "size: expected 16x16 to"),
        (replace(SMALL, sensor=replace(QUIET, rate_hz=0.0)), "rate"),
        (replace(SMALL, groups=Groups(members=(0, 9))), "members"),
        (replace(SMALL, groups=Groups(crossing=2.0)), "crossing"),
        (replace(SMALL, groups=Groups(spacing_px=(2.0, 1.0))), "spacing"),
        (replace(SMALL, groups=Groups(speed_px_s=(0.0, 1.0))), "speed"),
        (replace(SMALL, background=Background(edge_width_px=0.0)), "edge_width_px"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Scene(settings, 10)


def test_a_frame_outside_the_scene_is_an_index_error():
    with pytest.raises(IndexError, match="frame 10 of a scene of 10 frames"):
        Scene(SMALL, 10).frame(10)
