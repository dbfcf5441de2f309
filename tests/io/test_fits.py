"""FITS: which image is read, what its values mean, damaged files."""

import media_files as media
import numpy as np
import pytest
from collect_errors import collect_until_error
from media_files import fits_hdu
from real_data import real_file

from irst_stream import SourceError, open_source

RNG = np.random.default_rng(0)
EXTENSION = "XTENSION= 'IMAGE   '"


def pixels_of(path, variable=None):
    return np.stack([frame.pixels for frame in open_source(path, variable=variable)])


def written(tmp_path, *hdus):
    path = tmp_path / "a.fits"
    path.write_bytes(b"".join(hdus))
    return path


def test_the_first_image_is_read_unless_another_is_chosen_by_name_or_number(tmp_path):
    sky, error = RNG.random((3, 20, 30)).astype(np.float32), RNG.random((20, 30)).astype(np.float32)
    table = fits_hdu(np.zeros((7, 9), np.uint8), "XTENSION= 'BINTABLE'", PCOUNT=2000, GCOUNT=1)
    hdus = [fits_hdu(sky, EXTENSION, EXTNAME="'SCI'"), table, fits_hdu(error, EXTENSION, EXTNAME="'O''Neill '")]
    path = written(tmp_path, fits_hdu(None), *hdus)
    for variable in (None, "1", "sci"):
        np.testing.assert_array_equal(pixels_of(path, variable), sky)
    for variable in ("3", "O'Neill"):
        np.testing.assert_array_equal(pixels_of(path, variable), error[None])
    with pytest.raises(SourceError, match=r"no image '2'. Images in the file: 1 SCI \(3x20x30\), 3 O'Neill \(1x20x30\)"):
        open_source(path, variable="2")


@pytest.mark.parametrize(
    ("stored", "cards", "expected"),
    [
        (np.uint8([[3, 4]]), {}, np.uint8([[3, 4]])),
        (np.uint8([[0, 255]]), {"BZERO": -128}, np.float32([[-128, 127]])),
        (np.int16([[-7, 4]]), {}, np.float32([[-7, 4]])),
        (np.int16([[-32768, 32767]]), {"BZERO": "3.2768D4"}, np.uint16([[0, 65535]])),
        (np.int16([[-32768, 32767]]), {"BZERO": 32768, "BLANK": -32768}, np.float32([[np.nan, 65535]])),
        (np.int16([[-7, 4]]), {"BSCALE": 0.5, "BZERO": 0.25}, np.float32([[-3.25, 2.25]])),
        (np.int32([[-1, 1 << 24]]), {}, np.float32([[-1, 1 << 24]])),
        (np.int64([[-1, 5]]), {"BLANK": -1, "BZERO": 0.1}, np.float32([[np.nan, 5.1]])),
        (np.float64([[np.nan, 0.1]]), {"BLANK": 3}, np.float32([[np.nan, 0.1]])),
        (np.float64([[1e300, -1]]), {}, np.float32([[np.inf, -1]])),
    ],
)
def test_values_are_physical_and_blank_ones_are_no_measurement(stored, cards, expected, tmp_path):
    got = pixels_of(written(tmp_path, fits_hdu(stored, **cards)))[0]
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_axes_of_one_before_the_frames_are_left_out(tmp_path):
    cube = RNG.random((1, 1, 3, 8, 9)).astype(np.float32)
    np.testing.assert_array_equal(pixels_of(written(tmp_path, fits_hdu(cube))), cube[0, 0])


@pytest.mark.parametrize(
    ("hdus", "message"),
    [
        ([fits_hdu(None)], r"a\.fits: no image of 2 or 3 axes. Images in the file: none$"),
        ([fits_hdu(np.zeros(9, np.uint8))], "no image of 2 or 3 axes"),
        ([fits_hdu(None), fits_hdu(np.zeros((2, 9), np.uint8), "XTENSION= 'BINTABLE'", ZIMAGE="T")], "funpack"),
        ([fits_hdu(np.zeros((2, 9), np.uint8)).replace(b" 8 /", b" 7 /", 1)], "HDU 0: BITPIX: expected one of .*, got 7"),
        ([fits_hdu(np.zeros((2, 9), np.uint8), BSCALE="'x'")], "HDU 0: BSCALE, BZERO: expected numbers, got 'x', 0"),
        ([fits_hdu(None)[:200]], "no end of the header of HDU 0"),
        ([fits_hdu(np.int32([[(1 << 24) + 1]]))], "frame 0: integers above 16,777,216"),
        (
            [fits_hdu(np.zeros((2, 9), np.uint8)).replace(b"          9 /", b"99999999999 /", 1)],
            r"expected at most \d+ in all",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(hdus, message, tmp_path):
    with pytest.raises(SourceError, match=message) as caught:
        pixels_of(written(tmp_path, *hdus))
    assert "\n" not in str(caught.value)


def test_a_truncated_file_delivers_the_frames_before(tmp_path):
    frames = RNG.integers(0, 65535, (4, 64, 64)).astype(np.uint16)
    for path in (media.fits(tmp_path / "a", frames), media.fits_gzipped(tmp_path / "b", frames)):
        path.write_bytes(path.read_bytes()[:-9000])
        got, message = collect_until_error(open_source(path), SourceError)
        np.testing.assert_array_equal(np.stack([frame.pixels for frame in got]), frames[: len(got)])
        assert 2 <= len(got) <= 3
        assert f"{path.name}: truncated" in message


def test_a_folder_holds_one_frame_a_file(tmp_path):
    folder = media.fits_folder(tmp_path / "a", RNG.random((2, 3, 20, 30)).astype(np.float32))
    with pytest.raises(SourceError, match=r"frame_8\.fit: 3 frames; expected one frame per file"):
        next(iter(open_source(folder)))


def test_a_published_image_has_its_values():
    expected = np.load(real_file("spitzer/spitzer_irac2.npy"))
    (image,) = pixels_of(real_file("spitzer/spitzer_example_image.fits"))
    assert np.isnan(image).sum() == 3
    np.testing.assert_array_equal(np.nan_to_num(image), expected)
