"""The bundled camera configuration on sensors whose PSF is not quite the configured one, and targets of any brightness."""

import numpy as np
import pytest

from irst_stream import Detections, Frame, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.config import read_config
from irst_stream.point_spread import gaussian
from irst_stream.system.shipped import find_config

SHAPE, FRAMES = (96, 112), 40
START = np.array([(20.3, 22.1), (80.4, 25.2), (25.1, 70.6), (84.2, 72.4)])
VELOCITY = np.array([(0.1, 0.05), (-0.08, 0.1), (0.12, -0.03), (-0.05, -0.1)])  # px a frame
AMPLITUDE = (90.0, 250.0, 900.0, 2000.0)  # DN
SIGMA_PX = 0.5  # as configured


def sampled(sigma):
    """The images of point targets whose light is taken at the pixels' centres, not integrated over them."""
    rows, columns = np.indices(SHAPE)

    def images(xy):
        square = (columns - xy[:, :1, None]) ** 2 + (rows - xy[:, 1:, None]) ** 2
        return np.exp(-square / (2 * sigma**2)) / (2 * np.pi * sigma**2)

    return images


def integrated(*psf):
    """The images of point targets by a Gaussian PSF."""
    return lambda xy: gaussian(*psf).images(xy, SHAPE)


SENSORS = {
    "as configured": integrated(SIGMA_PX),
    "10 % narrower": integrated(0.9 * SIGMA_PX),
    "5 % narrower": integrated(0.95 * SIGMA_PX),
    "10 % wider": integrated(1.1 * SIGMA_PX),
    "elliptical by 15 %": integrated(SIGMA_PX, 1.15, 30.0),
    "sampled": sampled(SIGMA_PX),
}


@pytest.mark.parametrize("sensor", SENSORS)
def test_each_target_is_one_detection_and_one_track(sensor):
    rng, images = np.random.default_rng(8), SENSORS[sensor]
    config = read_config(find_config("camera"))
    pipeline, truth, detections, ids = build_pipeline(config, tracks=True), [], 0, set()
    for k in range(FRAMES):
        truth.append(START + k * VELOCITY)
        light = np.tensordot(AMPLITUDE, images(truth[-1]), 1)
        pixels = 1000 + light + rng.normal(0, 1, SHAPE) * np.sqrt(16 + 0.1 * light)
        frame = Frame(Stamp("s", 0, k, k * 10**7), np.rint(pixels).astype(np.uint16))
        for result in pipeline.step([frame]):
            if isinstance(result, Detections):
                apart = np.hypot(*(truth[result.stamp.index][:, None] - result.xy).transpose(2, 0, 1))
                assert (apart.min(axis=1) < 0.5).all(), "each target is found in each frame"
                detections += len(result)
            elif isinstance(result, Tracks):
                ids |= set(result.id[result.confirmed].tolist())
    assert detections <= 1.05 * len(AMPLITUDE) * (FRAMES - 4), "none is split"
    assert len(ids) == len(AMPLITUDE), "each keeps one track"
