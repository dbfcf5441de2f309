"""Sensor planes: how they describe the sensor, and that the network uses them."""

import math

import numpy as np
import pytest
from random_networks import BySensor, random_engine

from irst_stream import Frame, Stamp
from irst_stream.build import told_of
from irst_stream.chain.window import WindowBuilder
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.told import UNKNOWN_SENSOR, sensor_planes, with_sensor_planes


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), exported=False, head=True, by_peak=True, side=7, told=True)


def windows(noise):
    rng, builder = np.random.default_rng(1), WindowBuilder(5)
    frames = [rng.normal(0, noise, (11, 11)).astype(np.float32) for _ in range(5)]
    for frame in frames:
        frame[5, 5] += 200
    pushed = [builder.push(Frame(Stamp("a", 0, t, 0), pixels)) for t, pixels in enumerate(frames)]
    return [window for window in pushed if window is not None]


def test_unknown_values_are_flagged_and_zero():
    planes = sensor_planes(
        np.array([UNKNOWN_SENSOR, (5.0, 0.6, 200.0, 50.0), (np.nan, 0.4, np.nan, np.nan)]), np.full(3, 100.0), (2, 3)
    )
    assert planes.shape == (3, 7, 2, 3)
    assert planes.dtype == np.float32
    assert (planes[0] == 0).all()
    expected = [1, math.log(0.05) / 3, 1, 0.4, 1, math.log(2), math.log(0.25) / 2]
    np.testing.assert_allclose(planes[1, :, 1, 2], expected, rtol=1e-6)
    np.testing.assert_allclose(planes[2, :, 0, 0], [0, 0, 1, -0.4, 0, 0, 0], atol=1e-6)


def test_sensors_of_different_gain_get_the_same_planes(engine):
    (window,) = windows(3.0)
    patches, facts = window.patches[:, :, :7, :7], np.array([[3.0, 0.5, 200.0, 20.0]])
    once = with_sensor_planes(patches, facts, engine.manifest)
    tenfold = with_sensor_planes(10 * patches, facts * [10, 1, 10, 10], engine.manifest)
    np.testing.assert_allclose(tenfold[:, 5:], once[:, 5:], rtol=1e-5)


def test_an_engine_without_sensor_planes_gets_the_patches_alone(tmp_path):
    plain = random_engine(tmp_path, exported=False, head=True)
    patches = np.zeros((2, 5, 11, 11), np.float32)
    assert with_sensor_planes(patches, np.array([UNKNOWN_SENSOR] * 2), plain.manifest) is patches


def test_sensor_facts_change_the_output(engine):
    (window,) = windows(3.0)
    claims = [
        BySensor(NumpyUnmixer(engine), engine.manifest, sensor=facts)([window])[0][0].unmixed.claims
        for facts in (UNKNOWN_SENSOR, (3.0, 0.5, 200.0, 20.0))
    ]
    assert np.abs(claims[0] - claims[1]).max() > 1e-3


def test_the_sensor_facts_come_from_the_fit_settings_unless_switched_off():
    fit = FitSettings(sigma_px=0.6, amplitude_dn=90.0, amplitude_sd_dn=30.0, noise_dn=4.0, fixed_dn=3.0)
    assert told_of(Config(fit=fit)) == (5.0, 0.6, 90.0, 30.0)
    assert np.isnan(told_of(Config(fit=fit, tell_network=False))).all()
    assert math.isnan(told_of(Config())[0]), "each window's measured noise is used instead"
