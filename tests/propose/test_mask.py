"""What is not searched: masks and polygons, in the search alone and in a whole pipeline."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from irst_stream import FormatError, Frame, Stamp, UsageError
from irst_stream.chain.window import WindowBuilder
from irst_stream.config import parse_config, read_config
from irst_stream.optics import render
from irst_stream.propose.clutter import ClutterMap
from irst_stream.propose.mask import excluded_pixels, read_mask, write_mask
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings, check_search

SHAPE = (96, 128)
PLACES = np.array([[30.2, 20.1], [90.4, 20.3], [30.1, 70.2], [90.3, 70.4]])
LEFT = ((0.0, 0.0), (63.5, 0.0), (63.5, 95.0), (0.0, 95.0))


def sky(seed=0, amplitude=400.0):
    rng = np.random.default_rng(seed)
    light = render(PLACES, np.full(len(PLACES), amplitude), SHAPE)
    return np.rint(rng.normal(1000, 8, SHAPE) + light).astype(np.uint16)


def found(settings):
    proposer = Proposer(settings, SHAPE, calm(8))
    return proposer.propose(proposer.prepare(sky())).centres


def calm(noise):
    """Static clutter of a sensor that has none, learnt on frames of that noise, DN."""
    level = np.full((2, *SHAPE), 0.8 * noise, np.float32)
    return ClutterMap(np.zeros(SHAPE, np.float32), level[0], level, 1000)


def near(centres, xy):
    return len(centres) > 0 and np.abs(centres - xy).max(axis=1).min() < 2


@pytest.mark.parametrize("clutter_frames", [0, 100])
def test_what_is_excluded_is_not_searched_and_all_else_is_found_as_before(clutter_frames):
    settings = ProposeSettings(false_alarms=0.02, min_snr=6, average=1, clutter_frames=clutter_frames)
    assert len(found(settings)) == 4
    left = found(replace(settings, include=(LEFT,)))
    right = found(replace(settings, exclude=(LEFT,)))
    assert [near(left, xy) for xy in PLACES] == [True, False, True, False]
    assert [near(right, xy) for xy in PLACES] == [False, True, False, True]
    assert (left[:, 0] <= 63).all()
    assert (right[:, 0] >= 64).all()


def test_burnt_in_text_raises_nothing_once_it_is_masked_and_targets_beside_it_are_found():
    image, text = sky(), np.zeros(SHAPE, np.uint8)
    cv2.putText(text, "TEMP 21.5 C", (2, 52), cv2.FONT_HERSHEY_PLAIN, 1.0, 1, 1)
    image[text > 0] = 65535
    excluded = cv2.dilate((image > 60000).astype(np.uint8), np.ones((5, 5))) > 0
    settings = ProposeSettings(false_alarms=0.02, min_snr=6, average=1)
    centres = []
    for mask in (None, excluded):
        proposer = Proposer(settings, SHAPE, excluded=mask)
        centres.append(proposer.propose(proposer.prepare(image)).centres)
    assert len(centres[0]) > 6
    assert len(centres[1]) == 4
    assert all(near(centres[1], xy) for xy in PLACES)


def test_masked_pixels_have_no_light_and_a_bright_neighbour_does_not_reach_the_search():
    excluded = np.zeros(SHAPE, bool)
    excluded[:, 64:] = True
    proposer = Proposer(ProposeSettings(average=1), SHAPE, excluded=excluded)
    prepared = proposer.prepare(sky(amplitude=4000.0))
    assert np.isnan(prepared.light[:, 64:]).all()
    assert not np.isnan(prepared.light[:, :64]).all()
    assert np.abs(np.nanmedian(prepared.light)) < 2  # of 8 DN of noise: the background near the edge is that of the sky
    assert prepared.noise[:, :3].mean() == pytest.approx(8, rel=0.15)


def test_the_threshold_beside_a_mask_is_that_of_the_noise_there():
    """Masked pixels hold no noise; counted as quiet ones, they would raise false alarms all along the mask's edge."""
    rng = np.random.default_rng(3)
    excluded = np.ones(SHAPE, bool)
    excluded[:, 20:36] = False
    settings = ProposeSettings(false_alarms=0.02, average=1, clutter_frames=1000)
    proposer = Proposer(settings, SHAPE, calm(8), excluded=excluded)
    raised = 0
    for _ in range(40):
        image = np.rint(rng.normal(1000, 8, SHAPE)).astype(np.uint16)
        raised += len(proposer.propose(proposer.prepare(image)).centres)
    assert raised <= 4


def test_a_polygon_holds_the_pixels_whose_centres_it_encloses():
    settings = ProposeSettings(exclude=(((2, 1), (5, 1), (5, 3), (2, 3)), ((10.5, 10.5), (13.5, 10.5), (10.5, 13.5))))
    excluded = excluded_pixels(settings, (20, 30))
    want = np.zeros((20, 30), bool)
    want[1:4, 2:6] = True
    want[11, 11:14], want[12, 11:13], want[13, 11] = True, True, True
    np.testing.assert_array_equal(excluded, want)


def test_a_polygon_outside_the_frame_is_told_once(caplog):
    outside = ((1000.0, 1000.0), (1500.0, 1000.0), (1500.0, 1500.0))
    for _ in range(2):
        assert excluded_pixels(ProposeSettings(include=(LEFT,), exclude=(LEFT[:3], outside)), SHAPE).any()
    says = "propose.exclude[1]: holds no pixel of frames of 128 x 96 px, so it has no effect"
    assert [record.getMessage() for record in caplog.records] == [says]


def test_polygons_and_mask_together(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[:10] = True
    write_mask(tmp_path / "m.png", mask)
    settings = ProposeSettings(
        mask=str(tmp_path / "m.png"), include=(LEFT,), exclude=(((0, 0), (20, 0), (20, 95), (0, 95)),)
    )
    excluded = excluded_pixels(settings, SHAPE)
    assert excluded[:10].all()
    assert excluded[:, 64:].all()
    assert excluded[:, :21].all()
    assert not excluded[10:, 21:64].any()
    assert excluded_pixels(ProposeSettings(), SHAPE) is None


def test_a_mask_is_written_and_read(tmp_path):
    excluded = np.random.default_rng(0).random(SHAPE) < 0.3
    write_mask(tmp_path / "m.png", excluded)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ~excluded)


def test_bad_masks_give_one_clear_line(tmp_path):
    path = tmp_path / "m.png"

    def refused(kind=FormatError, shape=SHAPE, **more):
        with pytest.raises(kind) as error:
            excluded_pixels(ProposeSettings(mask=str(path), **more), shape)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "m.png: mask cannot be read: No such file" in refused()
    path.write_bytes(b"")
    assert "not a PNG file" in refused()
    path.write_text("no picture")
    assert "not a PNG file" in refused()
    write_mask(path, np.eye(*SHAPE) > 0)
    whole = path.read_bytes()
    for cut in (8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "damaged or cut off" in refused()
    path.write_bytes(whole[:60] + bytes(len(whole) - 72) + whole[-12:])
    assert "damaged or cut off" in refused()
    path.write_bytes(cv2.imencode(".png", np.full((*SHAPE, 3), 255, np.uint8))[1].tobytes())
    assert "has 3 channels; expected a gray mask" in refused()
    write_mask(path, np.ones(SHAPE, bool))
    assert "black everywhere" in refused()
    write_mask(path, np.zeros((64, 80), bool))
    assert "is a mask for frames of 80 x 64 px, these have 128 x 96 px" in refused(UsageError)
    write_mask(path, np.arange(SHAPE[1]) % 200 + np.zeros((SHAPE[0], 1)) < 64)
    assert "leave nothing to search in frames of 128 x 96 px" in refused(UsageError, include=(LEFT,))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exclude = [[[1, 2], [3, 4]]]", r"propose.exclude\[0\]: expected 3 corners \[x, y\] or more, got 2"),
        ("include = [[[1, 2], [3, 4], [5, inf]]]", r"propose.include\[0\]: expected corners of finite numbers"),
        ("exclude = [[1, 2], [3, 4], [5, 6]]", "propose.exclude: expected"),
        ("exclude = [[[1, 2, 3], [3, 4, 5], [5, 6, 7]]]", "propose.exclude"),
        ('mask = ["a.png"]', "propose.mask: expected"),
    ],
)
def test_bad_polygons_are_named(text, line):
    with pytest.raises(FormatError, match=line):
        parse_config(f"[propose]\n{text}\n", "C.toml")


def test_polygons_come_from_toml_and_a_mask_stands_beside_its_configuration(tmp_path):
    write_mask(tmp_path / "m.png", np.eye(*SHAPE) > 0)
    path = tmp_path / "c.toml"
    path.write_text('[propose]\nmask = "m.png"\ninclude = [[[0, 0], [63.5, 0], [63.5, 95], [0, 95]]]\n')
    config = read_config(path, here=True)
    assert config.propose.mask == str(tmp_path / "m.png")
    assert config.propose.include == (LEFT,)
    check_search(config.propose)
    (tmp_path / "m.png").write_bytes(b"")
    with pytest.raises(FormatError, match=r"propose.mask: .*not a PNG file"):
        read_config(path, here=True)


def test_a_sensor_of_another_size_is_dropped_and_counted_and_the_others_go_on(tmp_path, caplog):
    write_mask(tmp_path / "m.png", np.eye(*SHAPE) > 0)
    settings = ProposeSettings(mask=str(tmp_path / "m.png"), average=1)
    for shape, answered in ((SHAPE, 3), ((80, 100), 0)):
        windows = WindowBuilder(1, settings)
        frames = [Frame(Stamp("cam", 0, k, k), np.zeros(shape, np.uint16)) for k in range(3)]
        assert sum(windows.push(frame) is not None for frame in frames) == answered
        assert windows.events["cam", "mask"] == 3 - answered
    assert [r.getMessage() for r in caplog.records] == [
        f"cam: {tmp_path}/m.png: is a mask for frames of 128 x 96 px, these have 100 x 80 px; its frames are dropped"
    ]
