"""A calibration recovers what a sensor is made of: PSF, noise, gain, pattern, bad pixels, text, rate, speeds."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from synthetic_sensor import FULL_SCALE, SHAPE, Sensor

from irst_stream import Stamp
from irst_stream.calibrate.calibration import calibrate
from irst_stream.calibrate.frame_rate import FrameRate, rate_of_stamps
from irst_stream.calibrate.images import calibrate_images
from irst_stream.calibrate.noise import measure_noise
from irst_stream.calibrate.scene import PlatformFigures, companions, measure_platform
from irst_stream.calibrate.settings_file import Origin, Tables, warnings_of, write_settings
from irst_stream.config import parse_config

BAD = ((20, 60), (81, 44), (130, 100))
SENSOR = Sensor(text=True, bad=BAD, targets=5)
ORIGIN = Origin("cam.npy", FrameRate(40.0, 0.1, "stamps of 120 frames"))


@pytest.fixture(scope="module")
def result():
    return calibrate(SENSOR.stack(110), rate_hz=40.0, full_scale=FULL_SCALE)


def test_the_psf_is_recovered(result):
    assert result.psf.used >= 20
    assert result.psf.psf.sigma_x == pytest.approx(SENSOR.sigma, rel=0.06)
    assert result.psf.psf.sigma_y == pytest.approx(SENSOR.sigma, rel=0.06)


def test_noise_gain_and_pattern_are_recovered(result):
    noise = result.noise
    level = 1400  # of the middle of the sky
    assert noise.temporal == pytest.approx(math.sqrt(SENSOR.read**2 + SENSOR.gain * level), rel=0.12)
    assert noise.fixed == pytest.approx(SENSOR.pattern, rel=0.2)
    assert noise.gain == pytest.approx(SENSOR.gain, rel=0.15)
    assert not noise.compressed
    assert noise.rows < 3  # a pattern of single pixels has no rows
    assert noise.columns < 3


def test_bad_pixels_are_found_and_text_is_not_taken_for_them(result):
    assert {tuple(xy) for xy in result.noise.bad.tolist()} == set(BAD)


def test_text_is_masked_and_raises_nothing(result):
    assert any("text" in graphic.what for graphic in result.graphics.found)
    ink = (SENSOR.stack(60) == FULL_SCALE).any(axis=0)
    assert result.graphics.excluded[ink].mean() > 0.97
    assert result.graphics.share < 0.12
    rows = result.places[:, 1]
    assert not (rows < 18).any()


def test_targets_speeds_and_threshold(result):
    assert np.median(result.counts) == pytest.approx(SENSOR.targets, abs=1)
    assert np.median(result.speeds) == pytest.approx(SENSOR.speed, abs=0.1)
    assert len(result.dark_strengths) <= 0.2 * result.frames
    assert np.median(result.spots.amplitude) == pytest.approx(SENSOR.amplitude, rel=0.12)
    assert result.companions.max() <= 1


@pytest.mark.parametrize("sigma", [0.6, 1.2])
def test_other_widths_without_text_or_pattern(sigma):
    sensor = Sensor(sigma=sigma, targets=5, pattern=0.0, gain=0.0, amplitude=9000 * (sigma / 0.8) ** 2)
    found = calibrate(sensor.stack(32, seed=3), rate_hz=None, full_scale=FULL_SCALE)
    assert found.psf.psf.sigma == pytest.approx(sigma, rel=0.07)
    assert not found.noise.gain > 0.01
    assert found.noise.temporal == pytest.approx(6, rel=0.05)
    assert not found.graphics.found
    assert not len(found.noise.bad)


def test_the_settings_load_and_say_what_they_rest_on(result):
    text = write_settings(result, ORIGIN, Tables(clutter="c.clutter.npz", mask="c.mask.png"), "1.2")
    config = parse_config(text, "C.toml")
    assert config.propose.mask == "c.mask.png"
    assert config.fit.sigma_px == pytest.approx(SENSOR.sigma, rel=0.06)
    assert config.fit.shot_dn == pytest.approx(SENSOR.gain, rel=0.15)
    assert 40 * 0.3 <= config.track.speed_px_s <= 40 * 3
    for words in (
        "Frame rate: 40 frames/s by stamps of 120 frames, intervals within 0.1 ms",
        "Bad pixels: 3, x y: (81, 44), (20, 60), (130, 100)",
        "%, by their scatter",
        "3 x the 90th percentile of",
        "where no target is",
        "text of",
        "slope of the variance over time over the level",
    ):
        assert words in text, words
    assert all("#" in line for line in text.splitlines() if line.startswith(("amplitude_dn", "speed_px", "min_snr")))


def test_too_little_falls_back_and_says_so():
    empty = replace(SENSOR, targets=0, text=False, bad=())
    found = calibrate(empty.stack(12), rate_hz=None, full_scale=FULL_SCALE)
    origin = Origin("a\nb.npy", FrameRate(None, math.nan, "not stated"), ("3 frames missing",))
    said = list(warnings_of(found, origin))
    for words in (
        "3 frames missing",
        "frames: 12 only",
        "PSF: point-like spots: 0, too few",
        "frame rate: not stated",
        "speeds: no target",
    ):
        assert any(line.startswith(words) for line in said), (words, said)
    text = write_settings(found, origin, Tables(), "1.2")
    config = parse_config(text, "C.toml")
    assert config.fit.sigma_px == 0.8
    assert config.fit.sigma_doubt == 0.25
    assert "# Calibrated by irst-stream 1.2 on a?b.npy:" in text
    assert text.count("assumed") >= 4


def test_one_image_is_calibrated_by_itself():
    found = calibrate_images(SENSOR.stack(1), full_scale=FULL_SCALE)
    config = parse_config(write_settings(found, ORIGIN, Tables(), "1.2"), "C.toml")
    assert config.window == 1
    assert config.propose.average == 1
    assert not found.graphics.found


def test_masked_pixels_say_nothing_of_noise_and_range():
    stack = SENSOR.stack(40)
    masked = np.zeros(SHAPE, bool)
    masked[:, 100:] = True
    spoilt = stack.copy()
    spoilt[:, :, 100:] = np.random.default_rng(0).integers(0, 16384, spoilt[:, :, 100:].shape)
    want, have = measure_noise(stack, excluded=masked), measure_noise(spoilt, excluded=masked)
    for name in ("temporal", "fixed", "gain", "pedestal", "brightest", "frozen"):
        assert getattr(have, name) == pytest.approx(getattr(want, name), rel=0.05), name
    assert (have.bad[:, 0] < 100).all()


@pytest.mark.parametrize("deviation", [0.447, 1.5, 6.0])
def test_the_variances_of_all_levels_agree_with_the_noise(deviation):
    sky = np.linspace(100, 200, 64)[:, None] + np.random.default_rng(0).normal(0, deviation, (40, 64, 96))
    found = measure_noise(np.rint(sky).astype(np.uint8))
    assert found.compressed == (deviation < 1)
    assert found.variances.mean() == pytest.approx(found.temporal**2, rel=0.12)
    assert found.variances.mean() == pytest.approx(deviation**2 + 1 / 12, rel=0.05)
    assert math.isnan(found.gain)


def test_text_that_stands_still_does_not_hide_that_the_platform_moves():
    rng = np.random.default_rng(0)
    scene = np.kron(rng.normal(1000, 300, (60, 60)), np.ones((4, 4)))
    frames = np.stack([scene[20 : 20 + SHAPE[0], 20 + k : 20 + k + SHAPE[1]] for k in range(20)])
    masked = np.zeros(SHAPE, bool)
    masked[:24] = masked[-24:] = True
    frames[:, masked] = np.where(rng.random(masked.sum()) < 0.5, 0, 16383)
    platform = measure_platform(frames, masked)
    assert platform.known
    assert platform.drift[0] == pytest.approx(-1, abs=0.1)
    assert not platform.still


def test_a_platform_that_pans_jitters_or_stands_still():
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.normal(0, 1, (300, 460)), (0, 0), 2) * 2000 + 1500

    def seen(shifts):
        shown = [scene[20 + y : 148 + y, 20 + x : 180 + x] for x, y in np.asarray(shifts)]
        return measure_platform(np.stack(shown) + rng.normal(0, 60, (len(shifts), *SHAPE)))

    slow, fast = seen([(k, 0) for k in range(40)]), seen([(6 * k, 0) for k in range(40)])
    assert slow.drift == pytest.approx((-1, 0), abs=0.1)
    assert fast.drift == pytest.approx((-6, 0), abs=0.2)  # the first frame's scene leaves the frame
    assert not slow.still
    assert not fast.still
    shaking = seen(rng.integers(-1, 2, (40, 2)))
    assert 0.5 < shaking.jitter < 1.8
    assert seen(np.zeros((40, 2), int)).still
    sky = Sensor(pattern=0.0, targets=12, speed=0.6, amplitude=20_000.0)
    assert measure_platform(sky.stack(40)).still  # targets that move by themselves do not move the platform


def test_rates_from_stamps():
    def stamps(times_ns, indices=None):
        return [Stamp("cam", 0, k, t) for k, t in zip(indices or range(len(times_ns)), times_ns, strict=False)]

    assert rate_of_stamps(stamps([k * 20_000_000 for k in range(50)])).hz == pytest.approx(50)
    kept = [k for k in range(60) if k % 7]  # frames are missing
    assert rate_of_stamps(stamps([k * 20_000_000 for k in kept], kept)).hz == pytest.approx(50)
    coarse = rate_of_stamps(stamps([round(k / 30 * 1000) * 1_000_000 for k in range(200)]))  # whole milliseconds
    assert coarse.hz == pytest.approx(30, rel=1e-3)
    assert 0.2 < coarse.jitter_ms < 0.8
    paused = [k * 20_000_000 + (k > 25) * 5_000_000_000 for k in range(50)]
    assert rate_of_stamps(stamps(paused)).hz == pytest.approx(50)
    assert rate_of_stamps(stamps([0, 1, 2])).hz is None
    assert rate_of_stamps(stamps([5] * 20)).hz is None
    assert rate_of_stamps([]).hz is None


def test_regions_side_by_side_are_counted():
    np.testing.assert_array_equal(companions(np.array([[10.0, 10], [14, 12], [40, 40], [17, 10]])), [1, 2, 0, 1])
    assert companions(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(("farthest", "travel"), [(0.3, 1.0), (2.0, 3.0), (40.0, 6.0)])
def test_tracks_of_a_platform_that_moves_more_have_to_go_farther(result, farthest, travel):
    platform = PlatformFigures((0.0, 0.0), 0.1, farthest, True)
    text = write_settings(replace(result, platform=platform), ORIGIN, Tables(), "1.2")
    assert parse_config(text, "C.toml").track.confirm_travel_px == travel


def test_neighbours_that_share_their_noise_are_told_from_rows_and_targets():
    rng = np.random.default_rng(2)
    white = 100 + 5 * rng.standard_normal((20, 96, 128))
    rows = white + 3 * rng.standard_normal((20, 96, 1))
    enlarged = np.stack([cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for frame in white])
    moving = white + 60 * np.stack([np.sin((np.arange(128) + 0.4 * k) / 3)[None] * np.ones((96, 1)) for k in range(20)])
    told = [measure_noise(stack.astype(np.float32)) for stack in (white, rows, moving, enlarged)]
    assert [noise.correlated for noise in told] == [False, False, False, True]
    assert told[0].alike == pytest.approx(0, abs=0.05)
    assert told[3].alike > 0.5
