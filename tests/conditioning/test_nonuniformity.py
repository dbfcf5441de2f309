"""Gains and offsets of synthetic sensors, measured and corrected, and how noise goes through the correction."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream import FormatError, Frame, Pose, Stamp, UsageError
from irst_stream.conditioning.corrector import Corrector
from irst_stream.conditioning.nonuniformity import LevelMean, one_point, read_correction, two_point, write_correction
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings, check_conditioning
from irst_stream.sim.background import BACKGROUNDS, Sky

SHAPE = (80, 100)
FULL = 16383.0


class Array:
    """A sensor whose gains (5 %) and offsets (40 DN) are known; noise DN."""

    def __init__(self, seed=1, noise=6.0, gain=0.05, offset=40.0):
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.gain = 1 + gain * self.rng.standard_normal(SHAPE)
        self.offset = 500 + offset * self.rng.standard_normal(SHAPE)

    def expose(self, light):
        image = self.gain * light + self.offset + self.noise * self.rng.standard_normal(SHAPE)
        return np.clip(np.rint(image), 0, FULL).astype(np.uint16)

    def level(self, light, frames=64, where="level"):
        mean = LevelMean(where)
        for _ in range(frames):
            mean.add(self.expose(np.full(SHAPE, light)), FULL)
        return mean


def frame(pixels, k=0, x=None):
    stamp = Stamp("a", 0, k, k)
    return Frame(stamp, pixels, FULL, pose=None if x is None else Pose(stamp, x, 0.0, 0.0))


def corrected(table, pixels, **settings):
    return Corrector(CorrectSettings(**settings), pixels.shape, table)(frame(pixels)).pixels


def test_two_levels_give_the_gains_and_offsets():
    array = Array()
    table = two_point(array.level(1000.0), array.level(5000.0))
    scale = array.gain.mean()
    np.testing.assert_allclose(table.gain, scale / array.gain, rtol=0.003)
    np.testing.assert_allclose(table.offset, array.offset.mean() - scale / array.gain * array.offset, atol=12)
    assert table.bad == 0


@pytest.mark.parametrize("light", [1000.0, 3000.0, 5000.0, 8000.0])
def test_the_pattern_that_is_left_is_what_the_noise_in_the_table_explains(light):
    """Between the levels, at them, and beyond them."""
    array = Array(2)
    table = two_point(array.level(1000.0, 32), array.level(5000.0, 16))
    mean = np.mean([corrected(table, array.expose(np.full(SHAPE, light))) for _ in range(200)], axis=0)
    raw = array.gain * light + array.offset
    expected = np.hypot(table.error(mean.mean()), array.noise / np.sqrt(200))
    assert mean.std() == pytest.approx(expected, rel=0.1)
    assert mean.std() < 0.05 * raw.std()
    assert mean.mean() == pytest.approx(raw.mean(), rel=2e-3), "a DN stays a DN"


def test_temporal_noise_grows_with_the_gain_of_the_correction():
    array = Array(3, gain=0.15)
    table = two_point(array.level(1000.0), array.level(5000.0))
    images = np.array([corrected(table, array.expose(np.full(SHAPE, 2000.0))) for _ in range(100)])
    ratio = images.std(axis=0) / (table.gain * np.hypot(array.noise, 0.2887))
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    strong, weak = table.gain > 1.2, table.gain < 0.85
    assert ratio[strong].mean() == pytest.approx(ratio[weak].mean(), abs=0.03)


def test_one_level_gives_offsets_alone():
    array = Array(4, gain=0.0)
    table = one_point(array.level(1000.0))
    assert (table.gain == 1).all()
    assert np.std(corrected(table, array.expose(np.full(SHAPE, 4000.0)))) == pytest.approx(array.noise, rel=0.05)
    assert table.error(4000.0) == pytest.approx(array.noise / 8, rel=0.1)


@pytest.mark.parametrize("frames", [3, 64])
def test_one_level_finds_pixels_far_from_the_others_and_ones_that_never_change(frames):
    array = Array(4, gain=0.0)
    array.offset += np.linspace(0, 2000, SHAPE[1])  # shading is no pixel's fault
    array.offset[3, 5], array.offset[0, 9] = -2000, 4000
    level = LevelMean("level")
    for _ in range(frames):
        pixels = array.expose(np.full(SHAPE, 1000.0))
        pixels[40, 50] = int(1000 + array.offset[40, 50])
        level.add(pixels, FULL)
    still = [] if frames == 3 else [[40, 50]]  # three frames may well hold the same count
    assert np.argwhere(np.isnan(one_point(level).gain)).tolist() == [[0, 9], [3, 5], *still]


def test_saturated_pixels_stay_saturated_and_no_other_becomes_so():
    array = Array(5)
    table = two_point(array.level(1000.0), array.level(5000.0))
    pixels = np.full(SHAPE, 16000, np.uint16)
    pixels[10:20, 10:20] = 16383
    out = corrected(table, pixels)
    assert ((out >= FULL) == (pixels >= FULL)).all()


def test_bad_pixels_hold_no_measurement():
    array = Array(6)
    array.gain[3, 5], array.gain[7, 9] = 0.0, 30.0
    cold, hot = array.level(100.0, 32), array.level(400.0, 32)
    blinking = LevelMean("blinking")
    for k in range(32):
        pixels = array.expose(np.full(SHAPE, 100.0))
        pixels[40, 50] += 300 * (k % 2)
        blinking.add(pixels, FULL)
    assert two_point(cold, hot).bad == 2
    table = two_point(blinking, hot)
    out = corrected(table, array.expose(np.full(SHAPE, 200.0)))
    assert np.argwhere(np.isnan(out)).tolist() == [[3, 5], [7, 9], [40, 50]]


def test_levels_that_cannot_serve_are_refused_with_a_reason():
    array = Array(7)
    cold, hot = array.level(1000.0, 4, "cold.tiff"), array.level(1005.0, 4, "hot.tiff")
    with pytest.raises(UsageError, match=r"hot.tiff: .* DN above cold.tiff, of .* DN of noise; expected a much brighter"):
        two_point(cold, hot)
    with pytest.raises(UsageError, match=r"cold\.tiff: .* DN above hot\.tiff"):
        two_point(array.level(5000.0, 4, "hot.tiff"), cold)
    with pytest.raises(UsageError, match=r"bright\.tiff: 100% of pixels are saturated; expected a lower level"):
        two_point(cold, array.level(30000.0, 4, "bright.tiff"))
    with pytest.raises(UsageError, match=r"one\.tiff: 1 frames; expected 2 or more"):
        one_point(array.level(1000.0, 1, "one.tiff"))
    with pytest.raises(UsageError, match=r"cold\.tiff: frames of 100 x 80 and 5 x 4 px"):
        cold.add(np.zeros((4, 5), np.uint16), FULL)
    with pytest.raises(
        UsageError, match=r"correct\.table: T\.npz: is for frames of 100 x 80 px; the source's have 50 x 40"
    ):
        Corrector(CorrectSettings(table="T.npz"), (40, 50), one_point(array.level(1000.0)))
    with pytest.raises(UsageError, match=r"correct\.scene_frames: expected 0, or 20"):
        check_conditioning(CorrectSettings(scene_frames=3), RegisterSettings())


def test_a_table_is_read_as_written_and_anything_else_refused(tmp_path):
    array, path = Array(8), tmp_path / "t.npz"
    table = two_point(array.level(1000.0, 4), array.level(5000.0, 4))
    write_correction(path, table)
    again = read_correction(path)
    np.testing.assert_array_equal(again.gain, table.gain)
    assert (again.levels, again.errors) == (table.levels, table.errors)
    data = path.read_bytes()
    for broken in (b"", b"hello", data[:50], data[: len(data) // 2], data[:-30], data[:200] + b"\0" * 400 + data[600:]):
        path.write_bytes(broken)
        with pytest.raises(FormatError, match=r"t\.npz: not a correction table that irst-stream correct wrote") as caught:
            read_correction(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match="no such file"):
        read_correction(tmp_path / "none.npz")
    np.savez(path, gain=table.gain)
    with pytest.raises(FormatError, match="no array"):
        read_correction(path)
    np.savez(path, gain=table.gain, offset=table.offset[:3], levels=np.zeros(2), errors=np.zeros(2))
    with pytest.raises(FormatError, match="expected gain and offset"):
        read_correction(path)


@pytest.mark.parametrize("lines", ["rows", "columns", "both"])
def test_lines_that_share_an_offset_are_removed(lines):
    rng = np.random.default_rng(9)
    rows, columns = 8 * rng.standard_normal((256, 1)), 8 * rng.standard_normal((1, 320))
    stripes = (rows if lines != "columns" else 0) + (columns if lines != "rows" else 0)
    scene = 1000 + np.linspace(0, 300, 320) + 6 * rng.standard_normal((256, 320))
    clean, striped = (np.float32(image) for image in (scene, scene + stripes))
    out = corrected(None, striped, lines=lines)
    for axis, removed in ((1, lines != "columns"), (0, lines != "rows")):
        if removed:
            left = (out - clean).mean(axis=axis)
            assert np.diff(left).std() < 0.2 * np.diff(8 * rng.standard_normal(2000)).std()


def test_removing_lines_where_there_are_none_adds_no_noise():
    rng = np.random.default_rng(10)
    image = (1000 + 6 * rng.standard_normal((256, 320))).astype(np.float32)
    assert np.std(corrected(None, image, lines="both") - image) < 0.3


def moving(array, frames, step, seed=1):
    """Frames of a cloud through which a platform pans, with their poses."""
    sky = Sky(replace(BACKGROUNDS["cloud"], wind_x_px_s=0, wind_y_px_s=0), SHAPE[1], SHAPE[0], np.random.default_rng(seed))
    for k in range(frames):
        light = sky.view(0.0, (step * k, 0.3 * step * k))
        yield frame(array.expose(light), k, step * k), array.gain.mean() * light + array.offset.mean()


def fine(image):
    """The standard deviation of neighbours' differences: a pattern's, without what is smooth."""
    return np.diff(image, axis=1).std() / np.sqrt(2)


def test_offsets_are_learnt_from_a_scene_that_moves():
    array = Array(11, noise=4.0, gain=0.0)
    corrector = Corrector(CorrectSettings(scene_frames=200), SHAPE, None)
    left = []
    for given, light in moving(array, 300, 2.0):
        out = corrector(given)
        corrector.learn(out)
        left.append(fine(out.pixels - light))
    assert left[0] == pytest.approx(np.hypot(40, 4), rel=0.1)
    assert left[-1] < np.hypot(4, 4), "a pattern of 40 DN has fallen below the noise"


def test_nothing_is_learnt_from_a_scene_that_stays_unless_asked_for():
    array = Array(12, gain=0.0)
    for when, learns in (("moving", False), ("always", True)):
        corrector = Corrector(CorrectSettings(scene_frames=50, scene_when=when), SHAPE, None)
        for given, _ in moving(array, 30, 0.0):
            corrector.learn(corrector(given))
            corrector.learn(replace(corrector(given), pose=None))
        change = corrector(given).pixels - given.pixels
        assert (np.abs(change).max() > 20) == learns


def test_rounding_of_the_raw_counts_is_still_known_after_the_correction():
    array = Array(13)
    table = two_point(array.level(1000.0), array.level(5000.0))
    out = Corrector(CorrectSettings(), SHAPE, table)(frame(array.expose(np.full(SHAPE, 2000.0))))
    assert out.pixels.dtype == np.float32
    assert out.step_dn == pytest.approx(1, abs=0.02)
