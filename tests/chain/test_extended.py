"""Targets larger than the PSF in the bundled camera configuration: one detection with a size, one track."""

import numpy as np
import pytest

from irst_stream import Detections, Frame, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.config import read_config
from irst_stream.point_spread import gaussian
from irst_stream.system.shipped import find_config

SHAPE, FRAMES, FINE = (96, 112), 24, 4
VELOCITY = np.array([0.4, 0.2])  # px a frame


def even_ellipse(length, width):
    """Frames' light of an evenly bright ellipse at an angle, 300 DN a pixel."""

    def light(xy):
        row, column = (np.indices((SHAPE[0] * FINE, SHAPE[1] * FINE)) + 0.5) / FINE - 0.5
        along = 0.9 * (column - xy[0]) + 0.435 * (row - xy[1])
        across = 0.9 * (row - xy[1]) - 0.435 * (column - xy[0])
        inside = (2 * along / length) ** 2 + (2 * across / width) ** 2 <= 1
        return 300 * inside.reshape(SHAPE[0], FINE, SHAPE[1], FINE).mean(axis=(1, 3))

    return light


def wide_spot(sigma):
    """Frames' light of a spot by a PSF of that width, px."""
    return lambda xy: 4000 * gaussian(sigma).images(xy, SHAPE)


@pytest.mark.parametrize(
    ("light", "size"),
    [
        (even_ellipse(10, 5), (2.2, 1.5)),
        (even_ellipse(14, 6), (3.2, 2.0)),
        (even_ellipse(18, 9), (4.1, 2.8)),
        (wide_spot(1.0), (0.9, 0.9)),
    ],
    ids=["10 px", "14 px", "18 px", "a spot twice as wide as the PSF"],
)
def test_an_extended_target_is_one_detection_with_a_size_and_one_track(light, size):
    rng, pipeline = np.random.default_rng(5), build_pipeline(read_config(find_config("camera")), tracks=True)
    ids, found = set(), 0
    for k in range(FRAMES):
        pixels = 1000 + light(50 + k * VELOCITY) + rng.normal(0, 5, SHAPE)
        for result in pipeline.step([Frame(Stamp("s", 0, k, k * 20_000_000), np.rint(pixels).astype(np.uint16))]):
            if isinstance(result, Detections):
                [score] = result.score
                assert score > 0.9
                assert result.xy[0] == pytest.approx(50 + result.stamp.index * VELOCITY, abs=0.3)
                assert result.size[0] == pytest.approx(size, rel=0.25)
                found += 1
            elif isinstance(result, Tracks):
                ids |= set(result.id[result.confirmed].tolist())
    assert found == FRAMES - 4
    assert len(ids) == 1
