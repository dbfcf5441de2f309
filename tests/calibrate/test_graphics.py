"""Burnt-in text, counters, borders and cross-hairs are found; what hovers, drifts or stands about is not."""

import cv2
import numpy as np
import pytest
from real_data import real_file

from irst_stream import open_source
from irst_stream.calibrate.graphics import find_graphics
from irst_stream.optics import render

SHAPE = (120, 160)
FRAMES = 80


def sky(noise=2.0, level=90.0, frames=FRAMES, seed=0):
    """Frames (T, H, W) of 8 bits: a slope of sky and noise."""
    rng = np.random.default_rng(seed)
    slope = level + np.linspace(0, 30, SHAPE[0])[:, None] + np.zeros(SHAPE)
    return np.clip(np.rint(rng.normal(slope, noise, (frames, *SHAPE))), 0, 255).astype(np.uint8)


def spot(frames, xy, amplitude, sigma=1.0):
    """Add a target at xy (T, 2) px, saturated where it is bright enough."""
    for frame, place in zip(frames, xy, strict=True):
        light = render(np.array([place]), np.full(1, amplitude), SHAPE, sigma)
        frame[:] = np.clip(np.rint(frame + light), 0, 255).astype(np.uint8)


def write(frame, text, x, y, value=255, scale=0.8):
    cv2.putText(frame, text, (x, y), cv2.FONT_HERSHEY_PLAIN, scale, value, 1)


def mask_of(frames):
    return find_graphics(frames).excluded


def test_text_is_masked_and_nothing_else():
    frames = sky()
    clean = frames.copy()
    for frame in frames:
        write(frame, "AZ 12.75 EL 3.60", 6, 16)
    excluded, ink = mask_of(frames), (frames != clean).any(axis=0)
    assert (excluded & ink).sum() == ink.sum()
    rows, columns = np.nonzero(ink)
    assert not excluded[rows.max() + 4 :].any()
    assert not excluded[:, columns.max() + 4 :].any()
    assert "text of" in str(find_graphics(frames).found[0])


def test_black_text_is_masked_too():
    frames = sky(level=120)
    for frame in frames:
        write(frame, "RANGE 3.45 KM", 6, 100, value=0)
    excluded = mask_of(frames)
    assert excluded[90:102, 8:90].mean() > 0.9
    assert excluded.mean() < 0.12


def test_a_counter_that_blinks_at_its_place_is_masked():
    frames = sky()
    clean = frames.copy()
    for k, frame in enumerate(frames):
        write(frame, f"FRAME {1000 + 37 * k:06d}", 6, 16)
    excluded, ink = mask_of(frames), (frames != clean).any(axis=0)
    assert (excluded & ink).sum() >= 0.97 * ink.sum()
    assert excluded.mean() < 0.13
    assert "changing" in str(find_graphics(frames).found[0])


@pytest.mark.parametrize("value", [0, 16, 255])
def test_letterbox_borders_are_masked(value):
    frames = sky()
    frames[:, :14] = frames[:, -9:] = value
    frames[:, :, :6] = value
    excluded = mask_of(frames)
    want = np.zeros(SHAPE, bool)
    want[:14] = want[-9:] = want[:, :6] = True
    np.testing.assert_array_equal(excluded, want)
    assert {graphic.what for graphic in find_graphics(frames).found} == {"top border", "bottom border", "left border"}


def test_a_letterbox_that_a_codec_has_blurred_is_masked_with_text_beside_it():
    frames = sky()
    frames[:, :20] = frames[:, -20:] = 16
    for k, frame in enumerate(frames):
        write(frame, f"AZ {100 + k:03d}", 6, 34)
        frame[:] = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_GRAYSCALE)
    excluded = mask_of(frames)
    assert excluded[:20].all()
    assert excluded[-20:].all()
    assert {graphic.what for graphic in find_graphics(frames).found} >= {"top border", "bottom border"}


def test_a_flat_sky_that_grows_brighter_downwards_is_no_border():
    frames = np.zeros((FRAMES, *SHAPE), np.uint8)
    frames += (40 + np.arange(SHAPE[0]) * 0.8).astype(np.uint8)[:, None]
    frames[:, -10:, ::2] = 255
    assert not mask_of(frames).any()


def test_a_cross_hair_is_masked_by_its_lines_and_what_it_encloses_is_searched():
    frames = sky()
    for frame in frames:
        cv2.rectangle(frame, (60, 40), (99, 79), 255, 1)
        cv2.line(frame, (80, 50), (80, 56), 255, 1)
    excluded = mask_of(frames)
    assert excluded[40, 60:100].all()
    assert excluded[40:80, 99].all()
    assert not excluded[65:75, 64:94].any()


@pytest.mark.parametrize("amplitude", [300, 5_000, 100_000])
@pytest.mark.parametrize("sigma", [0.6, 1.3, 2.5])
def test_a_target_that_hovers_all_the_time_is_never_masked(amplitude, sigma):
    for noise in (0.0, 2.0):
        frames = sky(noise)
        spot(frames, np.full((FRAMES, 2), (70.3, 50.6)), amplitude, sigma)
        assert not mask_of(frames).any()


def test_targets_that_hover_side_by_side_are_never_masked():
    rng = np.random.default_rng(1)
    for amplitude in (800, 5_000, 60_000):
        frames = sky()
        for k in range(5):  # a formation in line, as level and as evenly spaced as print
            spot(frames, np.array([50 + 9 * k, 40.0]) + rng.normal(0, 0.2, (FRAMES, 2)), amplitude, 1.2)
        assert not mask_of(frames).any()


def test_a_target_that_drifts_and_one_that_circles_are_never_masked():
    turn = np.linspace(0, 2 * np.pi, FRAMES)
    frames = sky()
    spot(frames, np.stack([np.linspace(40, 52, FRAMES), np.full(FRAMES, 30.0)], axis=1), 4000, 1.2)
    spot(frames, np.stack([100 + 7 * np.cos(turn), 80 + 7 * np.sin(turn)], axis=1), 4000, 1.2)
    spot(frames, np.stack([40 + 5 * np.cos(turn), 80 + 5 * np.sin(3 * turn)], axis=1), 40_000, 1.2)
    assert not mask_of(frames).any()


def test_a_target_that_hovers_beside_text_is_not_masked():
    frames = sky()
    for frame in frames:
        write(frame, "ZOOM 1.24 X", 6, 16)
    spot(frames, np.full((FRAMES, 2), (40.2, 32.4)), 5000, 1.2)
    spot(frames, np.full((FRAMES, 2), (140.2, 12.4)), 5000, 1.2)  # in its rows, farther along
    excluded = mask_of(frames)
    assert excluded[8:17, 8:70].mean() > 0.9
    assert not excluded[26:40, 34:48].any()
    assert not excluded[5:20, 134:148].any()


def test_dead_pixels_a_flat_sky_and_saturated_ground_are_not_graphics():
    frames = sky()
    rng = np.random.default_rng(2)
    for x, y in rng.integers(5, 100, (40, 2)):
        frames[:, y, x] = rng.choice([0, 255])
    frames[:, 100:] = 255  # ground in saturation: a band, but one whose upper edge is a treetop line
    for column, top in enumerate(rng.integers(88, 100, SHAPE[1])):
        frames[:, top:100, column] = 255
    found = find_graphics(frames).found
    assert all("border" in graphic.what for graphic in found), found
    assert not find_graphics(frames).excluded[:88].any()
    flat = np.full((FRAMES, *SHAPE), 80, np.uint8)
    assert not mask_of(flat).any()
    assert not mask_of(sky(0.0)).any()


def test_few_frames_floats_and_missing_pixels():
    frames = sky()
    for frame in frames:
        write(frame, "AZ 12.75 EL 3.60", 6, 16)
    assert not mask_of(frames[:5]).any()
    assert find_graphics(frames[:0]).share == 0
    holes = frames.astype(np.float32)
    holes[:, 50:60, 50:60] = np.nan
    assert mask_of(holes)[8:17, 8:100].mean() > 0.9
    assert not mask_of(np.full((20, *SHAPE), np.nan, np.float32)).any()


def test_the_text_of_a_real_recording_and_nothing_else():
    source = open_source(real_file("antiuav-mit/antiuav_crops_raw_4.avi"), gray=True)
    graphics = find_graphics(np.stack([frame.pixels for frame in source][::8]))
    assert graphics.excluded[15:33, 181:398].mean() > 0.99  # the date
    assert graphics.excluded[63:81, 11:308].mean() > 0.99  # the angles
    assert graphics.excluded[17:32, 452:526].mean() > 0.99  # the clock, which runs
    assert graphics.share < 0.06
    assert not graphics.excluded[95:].any()  # birds and trees


@pytest.mark.parametrize("name", ["IR_AIRPLANE_045", "IR_DRONE_142", "IR_BIRD_005", "IR_DRONE_059"])
def test_nothing_is_masked_in_real_clips_without_graphics(name):
    source = open_source(real_file(f"drone-ir-cc0/{name}.mp4"), gray=True)
    assert not find_graphics(np.stack([frame.pixels for frame in source][::8])).found
