"""FLIR's container: byte orders, compressions, radiometric JPEGs, damaged files."""

import struct
import sys

import cv2
import media_files as media
import numpy as np
import pytest
from collect_errors import collect_until_error
from media_files import encode_jpeg, fff, with_flir_segments
from real_data import real_file

from irst_stream import MissingPackageError, SourceError, open_source

FRAME = np.random.default_rng(0).integers(0, 16383, (24, 32)).astype(np.uint16)


def pixels_of(path, data=None):
    if data is not None:
        path.write_bytes(data)
    return np.stack([frame.pixels for frame in open_source(path)])


@pytest.mark.parametrize("packing", ["raw", "png", "jpegls"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("directory_order", ["<", ">"])
def test_pixels_are_in_the_byte_order_of_their_record(packing, order, directory_order, tmp_path):
    (got,) = pixels_of(tmp_path / "a.fff", fff(FRAME, order, directory_order, packing))
    np.testing.assert_array_equal(got, FRAME)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_cameras_rate_is_the_recordings(order, tmp_path):
    (tmp_path / "a.seq").write_bytes(fff(FRAME, order, rate_hz=30) * 2)
    source = open_source(tmp_path / "a.seq")
    assert (source.frames, source.rate_hz, source.rate_from) == (2, 30, "container")
    (tmp_path / "a.seq").write_bytes(fff(FRAME, order, rate_hz=0))
    assert open_source(tmp_path / "a.seq").rate_from == "default"


def test_a_radiometric_jpeg_gives_its_thermal_image_and_another_its_own(tmp_path):
    jpeg = encode_jpeg(np.full((48, 64), 7, np.uint8))
    for size in (100, 60_000):
        (got,) = pixels_of(tmp_path / "a.jpg", with_flir_segments(jpeg, fff(FRAME, packing="png"), size))
        np.testing.assert_array_equal(got, FRAME)
    no_pixels = fff(FRAME).replace(struct.pack(">2H", 1, 2), struct.pack(">2H", 5, 2), 1)  # the record has another type
    for data in (jpeg, with_flir_segments(jpeg, no_pixels)):
        (got,) = pixels_of(tmp_path / "a.jpg", data)
        np.testing.assert_array_equal(got, np.full((48, 64), 7))


def test_a_radiometric_jpeg_with_a_lost_segment_is_refused(tmp_path):
    whole = with_flir_segments(encode_jpeg(FRAME.astype(np.uint8)), fff(FRAME), 500)
    lost = whole.replace(b"FLIR\0\1\2", b"FLIX\0\1\2")
    with pytest.raises(SourceError, match=r"a\.jpg: truncated or damaged: 5 of 6 segments of its thermal image"):
        pixels_of(tmp_path / "a.jpg", lost)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"FFF\0" + bytes(100), "damaged header: expected a version from 100 to 199"),
        (fff(FRAME)[:50], "truncated in its header"),
        (fff(FRAME)[:100], "truncated in its directory of records"),
        (fff(FRAME)[:900], r"truncated in its raw thermal image: \d+ of 1568 bytes"),
        (
            fff(FRAME).replace(struct.pack("<3H", 2, 32, 24), struct.pack("<3H", 2, 32, 99)),
            "damaged: 32 x 99 px of 16 bits",
        ),
        (fff(FRAME).replace(struct.pack(">2H", 1, 2), struct.pack(">2H", 5, 2), 1), "no raw thermal image"),
        (fff(FRAME, packing="jpegls").replace(b"\xff\xf7", b"\xff\xf8"), "damaged JPEG-LS stream"),
        (fff(FRAME, packing="png").replace(b"IDAT", b"IDAX"), "damaged: checksum mismatch"),
    ],
)
def test_damaged_frames_are_refused_in_one_line(data, message, tmp_path):
    with pytest.raises(SourceError, match=message) as caught:
        pixels_of(tmp_path / "a.fff", data)
    assert "a.fff: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frame_whose_start_is_damaged_is_not_passed_over(tmp_path):
    frame = np.full((64, 64), 5, np.uint16)
    (tmp_path / "a.seq").write_bytes(fff(frame) + fff(frame).replace(b"FFF", b"FFX") + fff(frame))
    got, message = collect_until_error(open_source(tmp_path / "a.seq"), SourceError)
    assert len(got) == 1
    assert "a.seq: damaged: expected frame 1 at byte" in message


def test_a_folder_holds_one_frame_a_file(tmp_path):
    folder = media.fff_folder(tmp_path / "a", [FRAME])
    (folder / "frame_8.fff").write_bytes(fff(FRAME) * 2)
    with pytest.raises(SourceError, match=r"frame_8\.fff: several frames; expected one frame per file"):
        next(iter(open_source(folder)))


def test_jpeg_ls_names_the_extra_that_reads_it(tmp_path, monkeypatch):
    path = media.csq(tmp_path / "a", [FRAME])
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingPackageError, match=r"a\.csq: frame 0: JPEG-LS .* pip install 'irst-stream\[flir\]'"):
        list(open_source(path))


def test_a_cameras_frame_has_plausible_counts():
    (image,) = pixels_of(real_file("formats/frame_000000.fff"))
    assert image.shape == (512, 640)
    assert (image[0, 0], image.min(), image.max()) == (2641, 2623, 2739)
    assert np.abs(np.diff(image.astype(int), axis=1)).mean() < 10  # wrong byte order: thousands


def test_a_thermal_jpeg_of_8_bits_is_gray():
    path = real_file("formats/hituav_0_100_30_0_03280.jpg")
    np.testing.assert_array_equal(pixels_of(path)[0], cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def test_a_folder_has_the_rate_that_its_camera_states(tmp_path):
    for name in ("a", "b"):
        folder = media.fff_folder(tmp_path / name, [FRAME, FRAME])
        for file in folder.iterdir():
            file.write_bytes(fff(FRAME, rate_hz=30))
    one, both = open_source(tmp_path / "a"), open_source(tmp_path)
    assert (one.rate_hz, one.rate_from) == (both.rate_hz, both.rate_from) == (30, "container")
    assert [frame.stamp.time_ns for frame in one] == [0, round(1e9 / 30)]
    (tmp_path / "b" / "frame_8.fff").write_bytes(fff(FRAME, rate_hz=60))
    assert open_source(tmp_path).rate_from == "default"  # one rate for two cameras
    (tmp_path / "a" / "frame_8.fff").write_bytes(b"")
    assert open_source(tmp_path / "a").rate_from == "default"
