"""Sidecars: what a file does not say of itself, its rate, times and the form of raw frames."""

import media_files as media
import numpy as np
import pytest
import tifffile
from collect_errors import collect_until_error
from media_files import make_frames

from irst_stream import FormatError, SourceError, open_source
from irst_stream.io.files import DEFAULT_RATE_HZ
from irst_stream.io.media.raw import write_raw
from irst_stream.io.media.sidecar import Sidecar, is_configuration, read_sidecar, sidecar_path, write_sidecar


def test_a_folder_of_raw_frames_shares_one_sidecar(tmp_path):
    frames = make_frames(np.uint16, 3)
    (tmp_path / "a").mkdir()
    for k, frame in enumerate(frames, 9):
        (tmp_path / "a" / f"f{k}.raw").write_bytes(frame.tobytes())
    write_sidecar(tmp_path / "a", Sidecar(width=32, height=24, rate_hz=100.0))
    source = open_source(tmp_path / "a")
    got = list(source)
    assert (source.frames, source.rate_hz) == (3, 100)
    np.testing.assert_array_equal(np.stack([f.pixels for f in got]), frames)


class TestTimes:
    def test_the_rate_comes_from_the_caller_the_sidecar_the_container_or_the_default(self, tmp_path):
        folder = media.png_folder(tmp_path / "a", make_frames(np.uint8))
        clip = media.video(tmp_path / "b", make_frames(np.uint8))
        assert (open_source(folder).rate_hz, open_source(folder).rate_from) == (DEFAULT_RATE_HZ, "default")
        assert (open_source(clip).rate_hz, open_source(clip).rate_from) == (25, "container")
        write_sidecar(clip, Sidecar(rate_hz=40.0, start_ns=5))
        assert (open_source(clip).rate_hz, open_source(clip).rate_from) == (40, "sidecar")
        assert [f.stamp.time_ns for f in open_source(clip)][:3] == [5, 25_000_005, 50_000_005]
        stated = open_source(clip, rate_hz=10.0)
        assert (stated.rate_hz, stated.rate_from) == (10, "stated")
        assert [f.stamp.time_ns for f in stated][2] == 200_000_005

    def test_a_folder_takes_every_time_from_its_sidecar(self, tmp_path):
        folder = media.png_folder(tmp_path / "a", make_frames(np.uint8, 3))
        write_sidecar(folder, Sidecar(times_ns=(1, 5, 6)))
        assert sidecar_path(folder) == tmp_path / "a.toml"
        assert [f.stamp.time_ns for f in open_source(folder)] == [1, 5, 6]
        write_sidecar(folder, Sidecar(times_ns=(1, 5)))
        got, message = collect_until_error(open_source(folder))
        assert len(got) == 2
        assert "a.toml: times_ns has 2 times, but there is a frame 2" in message

    def test_an_imagej_stack_states_its_frame_interval(self, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, make_frames(np.uint16), imagej=True, metadata={"axes": "TYX", "finterval": 0.02})
        source = open_source(path)
        assert (source.rate_hz, source.rate_from) == (50, "container")
        assert len(list(source)) == 12


class TestRaw:
    def test_without_a_sidecar_the_error_names_the_required_fields(self, tmp_path):
        (tmp_path / "a.raw").write_bytes(bytes(100))
        with pytest.raises(SourceError, match=r"need a sidecar a\.raw\.toml that states at least width and height"):
            open_source(tmp_path / "a.raw")

    def test_bits_in_the_sidecar_set_the_full_scale(self, tmp_path):
        path = tmp_path / "a.raw"
        assert write_raw(path, make_frames(np.uint16), rate_hz=100.0, bits=14) == 12
        assert read_sidecar(path) == Sidecar(rate_hz=100.0, bits=14, width=32, height=24)
        assert open_source(path).full_scale == 16383

    def test_a_truncated_file_delivers_the_frames_before(self, tmp_path):
        path = tmp_path / "a.raw"
        write_raw(path, make_frames(np.uint16))
        path.write_bytes(path.read_bytes()[:-9])
        got, message = collect_until_error(open_source(path))
        assert len(got) == 11
        assert "a.raw: truncated in frame 11: 1527 of 1536 bytes" in message

    def test_any_file_name_is_accepted_with_a_sidecar(self, tmp_path):
        path = tmp_path / "dump.seq"
        write_raw(path, make_frames(np.uint8))
        assert len(list(open_source(path))) == 12

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('width = "many"', r"a\.raw\.toml: Expected `int.*`, got `str` - at `\$\.width`"),
            ("widht = 3", r"a\.raw\.toml: Object contains unknown field `widht`"),
            ("width = 0", r"a\.raw\.toml: Expected `int` >= 1"),
            ("width = ", r"a\.raw\.toml: "),
        ],
    )
    def test_an_invalid_sidecar_is_named_with_its_field(self, text, message, tmp_path):
        (tmp_path / "a.raw").write_bytes(bytes(100))
        (tmp_path / "a.raw.toml").write_text(text)
        with pytest.raises(FormatError, match=message):
            open_source(tmp_path / "a.raw")

    def test_a_configuration_of_a_sidecars_name_says_nothing_of_the_frames(self, tmp_path):
        folder = media.png_folder(tmp_path / "a", make_frames(np.uint8, 3))
        (tmp_path / "a.toml").write_text("window = 5\n[fit]\nsigma_px = 0.8\n")
        assert is_configuration(tmp_path / "a.toml")
        assert open_source(folder).rate_from == "default"
        (tmp_path / "a.toml").write_text("rate_hz = 40\n[fit]\nsigma_px = 0.8\n")
        assert not is_configuration(tmp_path / "a.toml")
        with pytest.raises(FormatError, match=r"unknown field `fit`; by its name it says what the frames of a are"):
            open_source(folder)

    def test_no_frames_and_frames_of_two_sizes_cannot_be_written(self, tmp_path):
        with pytest.raises(ValueError, match="frame 1: expected"):
            write_raw(tmp_path / "a.raw", [np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)])
        with pytest.raises(ValueError, match="expected at least one frame, got none"):
            write_raw(tmp_path / "a.raw", [])
