"""Colour: nearly equal channels are gray, other colour is converted on demand alone."""

import cv2
import numpy as np
import pytest
import tifffile

from irst_stream import SourceError, open_source
from irst_stream.io.media.medium import gray_pixels

RED, GREEN, BLUE = 200, 100, 40
LUMINANCE = 0.299 * RED + 0.587 * GREEN + 0.114 * BLUE
COLOUR = np.broadcast_to(np.array([RED, GREEN, BLUE], np.uint8), (24, 32, 3)).copy()


def written(folder):
    """The same colours in every kind of file."""
    for name in ("a.png", "a.bmp", "a.jpg"):
        cv2.imwrite(str(folder / name), COLOUR[..., ::-1])
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([COLOUR[..., ::-1], COLOUR[..., :1]]))
    tifffile.imwrite(folder / "a.tif", COLOUR, photometric="rgb")
    tifffile.imwrite(folder / "planes.tif", COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    palette = np.repeat(COLOUR[0, 0].astype(np.uint16)[:, None], 256, 1) * 257
    tifffile.imwrite(folder / "palette.tif", np.zeros((24, 32), np.uint8), photometric="palette", colormap=palette)
    writer = cv2.VideoWriter(str(folder / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 24))
    for _ in range(3):
        writer.write(COLOUR[..., ::-1])
    writer.release()
    return sorted(folder.iterdir())


def test_colour_becomes_luminance_on_demand(tmp_path):
    for path in written(tmp_path):
        with pytest.raises(SourceError, match=r"colour, \d channels; expected gray. --gray"):
            list(open_source(path))
        pixels = next(iter(open_source(path, gray=True))).pixels
        depth = 257 if pixels.dtype == np.uint16 else 1  # of a palette
        np.testing.assert_allclose(pixels / depth, LUMINANCE, atol=2, err_msg=path.name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_equal_channels_keep_their_values(dtype, channels):
    gray = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (24, 32), dtype, endpoint=True)
    colour = np.stack([gray] * 3 + [np.full_like(gray, 9)] * (channels - 3), -1)
    np.testing.assert_array_equal(gray_pixels(colour, "a"), gray)
    np.testing.assert_array_equal(gray_pixels(colour.astype(colour.dtype.newbyteorder(">")), "a"), gray)


def test_channels_that_a_lossy_codec_parts_are_gray(tmp_path):
    rng = np.random.default_rng(0)
    gray = cv2.GaussianBlur(rng.integers(0, 255, (48, 64)).astype(np.uint8), (0, 0), 3)
    cv2.imwrite(str(tmp_path / "a.jpg"), cv2.merge([gray] * 3) + rng.integers(0, 9, (48, 64, 3)).astype(np.uint8))
    pixels = next(iter(open_source(tmp_path / "a.jpg"))).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - gray.astype(int) - 4).mean() < 4


def test_samples_that_are_no_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([COLOUR] * 2), photometric="minisblack", planarconfig="contig")
    with pytest.raises(SourceError, match=r"a\.tif: page 0: 6 samples a pixel \(MINISBLACK\); expected gray or RGB"):
        list(open_source(tmp_path / "a.tif", gray=True))
    with pytest.raises(SourceError, match="a: 2 channels of uint8; expected gray, or colour of 8 or 16 bits"):
        gray_pixels(COLOUR[..., :2], "a", convert=True)
    with pytest.raises(SourceError, match="a: 3 channels of float32; expected gray, or colour of 8 or 16 bits"):
        gray_pixels(COLOUR.astype(np.float32), "a", convert=True)
