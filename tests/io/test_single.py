"""Single images: every image is a sequence of its own, whatever its size."""

import media_files as media
import numpy as np
import pytest
from collect_errors import collect_until_error

from irst_stream import SourceError, UsageError, open_source
from irst_stream.io.media.images import encode_png
from irst_stream.io.media.sidecar import Sidecar, write_sidecar
from irst_stream.sim import SceneSettings, Sensor
from irst_stream.sim.on_disk import scene_set

RNG = np.random.default_rng(0)


def image_folder(path, **shapes):
    """A folder of PNG files by name, with random pixels of those shapes."""
    path.mkdir(parents=True)
    for name, shape in shapes.items():
        (path / f"{name}.png").write_bytes(encode_png(RNG.integers(0, 255, shape).astype(np.uint8)))
    return path


def stamps_of(path, **choices):
    return [(f.stamp.sensor, f.stamp.index, f.stamp.source) for f in open_source(path, single=True, **choices)]


def test_images_of_any_sizes_are_named_as_their_files(tmp_path):
    folder = image_folder(tmp_path / "a", sky=(20, 30), cloud=(50, 40))
    assert stamps_of(folder) == [("cloud", 0, "cloud.png"), ("sky", 0, "sky.png")]
    assert [f.pixels.shape for f in open_source(folder, single=True)] == [(50, 40), (20, 30)]
    assert stamps_of(folder / "sky.png") == [("sky", 0, "sky.png")]


def test_files_that_differ_in_the_suffix_alone_keep_it(tmp_path):
    folder = image_folder(tmp_path / "a", sky=(20, 30), cloud=(50, 40))
    (folder / "sky.jpg").write_bytes(media.encode_jpeg(np.zeros((8, 8), np.uint8)))
    assert [name for name, _, _ in stamps_of(folder)] == ["cloud", "sky.jpg", "sky.png"]


def test_images_of_several_folders_are_named_with_their_folder(tmp_path):
    for name in ("day", "night"):
        image_folder(tmp_path / name, sky=(20, 30))
    assert stamps_of(tmp_path) == [("day/sky", 0, "sky.png"), ("night/sky", 0, "sky.png")]


@pytest.mark.parametrize("write", [media.npy, media.tiff_stack, media.video, media.seq, media.fits, media.raw])
def test_pages_of_a_stack_are_numbered(write, tmp_path):
    frames = RNG.integers(0, 16383, (12, 24, 32)).astype(np.uint16)
    path = write(tmp_path / "flight", frames)
    got = list(open_source(path, single=True))
    assert [f.stamp.sensor for f in got] == [f"flight_{k:05d}" for k in range(12)]
    assert {f.stamp.index for f in got} == {0}
    np.testing.assert_array_equal([f.pixels for f in got], frames)


def test_times_go_on_from_image_to_image(tmp_path):
    path = media.npy(tmp_path / "a", np.zeros((3, 8, 9), np.uint8))
    write_sidecar(path, Sidecar(times_ns=(1, 5, 6)))
    assert [f.stamp.time_ns for f in open_source(path, single=True)] == [1, 5, 6]


def test_truth_has_the_stamps_of_its_images(tmp_path):
    made = scene_set(tmp_path / "sc", SceneSettings(sensor=Sensor(width=32, height=32)), 3)
    made.claim()
    made.fill(made.missing(), 1, lambda _: None)
    source = open_source(tmp_path / "sc", single=True)
    frames, truths = ([(r.stamp.sensor, r.stamp.index, r.stamp.time_ns) for r in rs] for rs in (source, source.truths()))
    assert frames == truths
    assert [name for name, _, _ in frames] == [f"scene_{k:05d}" for k in range(3)]


def test_images_of_several_sizes_are_not_taken_for_a_sequence(tmp_path):
    folder = image_folder(tmp_path / "a", sky=(20, 30), cloud=(50, 40))
    got, message = collect_until_error(open_source(folder), SourceError)
    assert len(got) == 1
    assert "sky.png: 30x20 uint8, but cloud.png is 40x50 uint8" in message
    assert "unrelated images: --single (in Python single=True) answers each by itself" in message


def test_a_damaged_image_is_named(tmp_path):
    folder = image_folder(tmp_path / "a", sky=(20, 30), cloud=(50, 40))
    (folder / "sky.png").write_bytes((folder / "sky.png").read_bytes()[:50])
    got, message = collect_until_error(open_source(folder, single=True), SourceError)
    assert len(got) == 1
    assert "sky.png: truncated" in message


def test_a_recording_holds_no_single_images(tmp_path):
    with pytest.raises(UsageError, match=r"--single: .*a\.mcap is a recording"):
        open_source(tmp_path / "a.mcap", single=True)
