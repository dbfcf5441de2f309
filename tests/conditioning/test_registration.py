"""The platform's motion, measured on frames of known motion."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from real_data import real_file

from irst_stream import Stamp, UsageError, open_source
from irst_stream.conditioning.registration import Registration
from irst_stream.conditioning.settings import RegisterSettings
from irst_stream.optics import render
from irst_stream.sim.background import BACKGROUNDS, Sky
from irst_stream.sim.sensor import Detector, Sensor

SMALL, LARGE = (256, 320), (512, 640)


def scene(name, shape, poses, seed=1, wind=0.0):
    """Frames (T, H, W) of a background, seen with poses (T, 3): x, y px, roll rad."""
    rng = np.random.default_rng(seed)
    background = replace(BACKGROUNDS[name], wind_x_px_s=wind, wind_y_px_s=0.0)
    sky, detector = Sky(background, shape[1], shape[0], rng), Detector(Sensor(shape[1], shape[0]), rng)
    return [detector.expose(sky.view(k / 100, (x, y), roll), rng) for k, (x, y, roll) in enumerate(poses)]


def shaken(frames, drift=(0.5, 0.2), jitter=1.0, roll=0.0, seed=2):
    rng = np.random.default_rng(seed)
    path = np.outer(np.arange(frames), [*drift, 0.0]) + rng.standard_normal((frames, 3)) * [jitter, jitter, roll]
    return path - path[0]


def located(frames, settings=None, registration=None):
    """x, y, roll and deviation of each frame (T, 4), NaN where unknown."""
    registration = registration or Registration(settings or RegisterSettings("auto"), frames[0].shape)
    poses = [registration.locate(pixels, Stamp("a", 0, k, k)) for k, pixels in enumerate(frames)]
    return np.array([[np.nan] * 4 if p is None else [p.x, p.y, p.roll_rad, p.sd_px] for p in poses])


@pytest.mark.parametrize(
    ("name", "shape", "limit"), [("cloud", SMALL, 0.06), ("broken-cloud", SMALL, 0.03), ("cloud", LARGE, 0.06)]
)
def test_drift_and_jitter_are_measured_to_hundredths_of_a_pixel(name, shape, limit):
    path = shaken(40)
    found = located(scene(name, shape, path))
    assert np.isfinite(found).all()
    steps = np.diff(found[:, :2] - path[:, :2], axis=0) / np.sqrt(2)
    assert np.sqrt((steps**2).mean()) < limit
    assert np.abs(found[:, :2] - path[:, :2]).max() < 5 * limit
    claimed = np.sqrt((found[1:, 3] ** 2).mean())
    assert 0.5 < np.sqrt((steps**2).mean()) / claimed < 1.6, "errors are as large as the deviation says"


def test_a_pan_and_a_roll_are_followed_from_key_frame_to_key_frame():
    path = shaken(60, (3.0, 1.0), 2.0, 2e-3)
    found = located(scene("broken-cloud", LARGE, path))
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2] - path[:, :2]).max() < 0.2
    assert np.std(found[:, 2] - path[:, 2]) < 2e-4


def test_where_nothing_rolls_hardly_any_roll_is_found():
    found = located(scene("cloud", SMALL, shaken(80)))
    assert np.std(found[40:, 2]) < 2e-4


@pytest.mark.parametrize("name", ["dark", "gradient"])
def test_a_calm_sky_has_no_pose_whatever_flies_through_it(name):
    """Ten bright targets move together: they are no ground."""
    path = shaken(30)
    frames = scene(name, SMALL, path)
    assert not np.isfinite(located(frames)[1:]).any()
    places = np.random.default_rng(3).uniform(40, 200, (10, 2))
    bright = [f + render(places + 0.7 * k, np.full(10, 3000.0), SMALL).astype(np.uint16) for k, f in enumerate(frames)]
    assert not np.isfinite(located(bright)[1:]).any()


def test_a_horizon_alone_has_no_pose():
    """It says nothing of motion along itself."""
    rng, rows = np.random.default_rng(4), np.arange(256)[:, None]
    edge = 400 * np.tanh((rows - 128) / 3.0) + 1000
    frames = [(edge + 6 * rng.standard_normal(SMALL)).astype(np.float32) for _ in range(20)]
    assert not np.isfinite(located(frames)[1:]).any()


def test_bright_targets_do_not_draw_the_estimate():
    path = shaken(30, jitter=0.3)
    frames = scene("cloud", SMALL, path)
    places = np.random.default_rng(5).uniform([40, 40], [200, 200], (5, 2))
    flown = [f + render(places + 2.0 * k, np.full(5, 60000.0), SMALL).astype(np.uint16) for k, f in enumerate(frames)]
    alone, together = located(frames), located(flown)
    assert np.isfinite(together).all()
    assert np.abs(alone - together)[:, :2].max() < 0.08


def test_a_large_object_that_moves_does_not_draw_the_estimate():
    """It covers a tenth of the frame and has texture of its own."""
    path = shaken(30, jitter=0.3)
    frames = scene("broken-cloud", SMALL, path)
    texture = np.random.default_rng(6).uniform(500, 3000, (24, 28)).repeat(4, 0).repeat(4, 1).astype(np.uint16)
    for k, frame in enumerate(frames):
        frame[80:176, 40 + 3 * k : 152 + 3 * k] = texture[:, : SMALL[1] - 40 - 3 * k]
    found = located(frames)
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2] - path[:, :2]).max() < 0.15


def test_an_object_over_a_quarter_of_a_scene_at_rest_is_not_taken_for_it():
    rng = np.random.default_rng(5)
    still, moves = (1000 + 1500 * cv2.GaussianBlur(rng.standard_normal(s), (0, 0), 2.0) for s in (SMALL, (150, 150)))
    frames = [(still + 3 * rng.standard_normal(SMALL)).astype(np.float32) for _ in range(20)]
    for k, frame in enumerate(frames):
        frame[60:210, 10 + 4 * k : 160 + 4 * k] = moves
    found = located(frames)
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2]).max() < 0.05


def test_the_sensors_own_pattern_in_an_empty_sky_does_not_outvote_the_ground():
    """The ground pans by 6.8 px a frame in the lower third; above it is a faint pattern, always the same."""
    rng = np.random.default_rng(7)
    ground, pattern = (
        a * cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 2.0) for a, shape in ((1500.0, (81, 800)), (200.0, SMALL))
    )
    path = np.outer(np.arange(40), [-6.8, 0.0])
    frames = []
    for x, _ in path:
        view = 1000 + pattern + 3 * rng.standard_normal(SMALL)
        view[175:] += cv2.warpAffine(ground, np.array([[1, 0, x], [0, 1, 0.0]]), (320, 81))
        frames.append(view.astype(np.float32))
    found = located(frames)
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2] - path).max() < 0.2


def test_gaps_and_a_spoilt_frame_cost_one_pose_each_and_a_cut_two():
    path = shaken(40, (0.8, 0.3))
    frames = scene("broken-cloud", SMALL, path)
    gone = [*range(10), *range(17, 40)]
    found = located([frames[k] for k in gone])
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2] - path[gone, :2]).max() < 0.1
    spoilt = [*frames[:20], np.full_like(frames[0], 700), *frames[21:]]
    found = located(spoilt)
    assert np.flatnonzero(~np.isfinite(found[:, 0])).tolist() == [20]
    assert np.abs(found[21:, :2] - path[21:, :2]).max() < 0.1
    other = scene("broken-cloud", SMALL, path, seed=9)
    found = located([*frames[:20], *other[20:]])
    assert np.flatnonzero(~np.isfinite(found[:, 0])).tolist() == [20, 21]
    after = found[22:, :2] - path[22:, :2]
    assert np.abs(after - after[0]).max() < 0.1, "after the cut the motion is measured as before"


def test_cloud_that_moves_and_changes_is_the_scene_where_there_is_no_other():
    found = located(scene("cloud", SMALL, shaken(120), wind=12.0))
    assert np.isfinite(found).mean() > 0.95


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_odd_frames_are_no_error(dtype):
    top = np.float32(1e6) if dtype is np.float32 else np.iinfo(dtype).max
    for value in (0, top):
        assert not np.isfinite(located([np.full(SMALL, value, dtype)] * 4)[1:]).any()
    if dtype is np.float32:
        empty = np.full(SMALL, np.nan, np.float32)
        assert not np.isfinite(located([empty, empty, empty])[1:]).any()
        path = shaken(5)
        frames = [f.astype(np.float32) for f in scene("broken-cloud", SMALL, path)]
        for frame in frames:
            frame[30:33, 60:90] = np.nan
        assert np.abs(located(frames)[:, :2] - path[:, :2]).max() < 0.1
    assert not np.isfinite(located([np.zeros((64, 64), dtype)] * 3)).any(), "patches are not registered"


def test_settings_out_of_range_are_refused():
    with pytest.raises(UsageError, match=r"register\.max_sd_px: expected 0\.001 to 10 px, got 0"):
        Registration(RegisterSettings("auto", 0.0), SMALL)


def test_copies_of_a_real_frame_are_placed_where_they_were_cut():
    """Whole shifts, so that nothing is interpolated; the noise over time is added anew."""
    frame = next(iter(open_source(real_file("drone-ir-cc0/IR_DRONE_142.mp4")))).pixels.astype(np.float32)
    rng = np.random.default_rng(7)
    path = np.vstack([[0, 0], rng.integers(-12, 13, (25, 2))])
    cut = [frame[28 - y : 228 - y, 30 - x : 290 - x] + 1.5 * rng.standard_normal((200, 260)) for x, y in path]
    found = located([np.float32(c) for c in cut])
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2] - path).max() < 0.12


def test_a_real_staring_sensor_stands_still():
    frames = [
        f.pixels for f, _ in zip(open_source(real_file("drone-ir-cc0/IR_AIRPLANE_045.mp4")), range(100), strict=False)
    ]
    found = located(frames)
    assert np.isfinite(found).mean() > 0.98
    assert np.nanmax(np.abs(found[:, :2])) < 0.3


def test_a_still_scene_stays_where_windows_repeat_and_the_gain_wanders():
    """A smooth sky of whole DN has steps that move with the gain, and one row of windows looks like the next."""
    rng, frames = np.random.default_rng(4), []
    rows, columns = np.indices(SMALL)
    scene = 60 + 40 * rows / SMALL[0]
    for left, right, top in ((20, 60, 120), (90, 150, 150), (190, 230, 100), (250, 300, 140)):
        scene[top:, left:right] = 130
        lit = (rows >= top + 4) & (columns >= left + 4) & (columns < right - 4) & (rows % 9 < 3) & (columns % 8 < 3)
        scene[lit] = 165
    for k in range(40):
        gain, offset = 1 + 0.08 * np.sin(0.7 * k), 8 * np.sin(0.45 * k)
        frames.append(np.rint((scene - 100) * gain + 100 + offset + 0.3 * rng.standard_normal(SMALL)).astype(np.uint8))
    found = located(frames)
    assert np.isfinite(found[:, 0]).mean() > 0.8
    assert np.nanmax(np.abs(found[:, :2])) < 0.5
