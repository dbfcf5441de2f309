import math

import numpy as np
import pytest
from networks import BySensor, random_engine

from irst_stream import Frame, Stamp
from irst_stream.build import told_of
from irst_stream.chain.window import WindowBuilder
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.told import UNTOLD, told_planes, with_told


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), exported=False, head=True, by_peak=True, side=7, told=True)


def windows(noise):
    rng, held = np.random.default_rng(1), WindowBuilder(5)
    frames = [rng.normal(0, noise, (11, 11)).astype(np.float32) for _ in range(5)]
    for frame in frames:
        frame[5, 5] += 200
    seen = [held.push(Frame(Stamp("a", 0, t, 0), pixels)) for t, pixels in enumerate(frames)]
    return [window for window in seen if window is not None]


def test_what_is_unknown_is_marked_and_zero():
    planes = told_planes(
        np.array([UNTOLD, (5.0, 0.6, 200.0, 50.0), (np.nan, 0.4, np.nan, np.nan)]), np.full(3, 100.0), (2, 3)
    )
    assert planes.shape == (3, 7, 2, 3)
    assert planes.dtype == np.float32
    assert (planes[0] == 0).all()
    expected = [1, math.log(0.05) / 3, 1, 0.4, 1, math.log(2), math.log(0.25) / 2]
    np.testing.assert_allclose(planes[1, :, 1, 2], expected, rtol=1e-6)
    np.testing.assert_allclose(planes[2, :, 0, 0], [0, 0, 1, -0.4, 0, 0, 0], atol=1e-6)


def test_a_sensor_of_another_gain_is_told_the_same(engine):
    (window,) = windows(3.0)
    patches, told = window.patches[:, :, :7, :7], np.array([[3.0, 0.5, 200.0, 20.0]])
    once = with_told(patches, told, engine.manifest)
    tenfold = with_told(10 * patches, told * [10, 1, 10, 10], engine.manifest)
    np.testing.assert_allclose(tenfold[:, 5:], once[:, 5:], rtol=1e-5)


def test_an_engine_that_is_told_nothing_sees_the_patches_alone(tmp_path):
    deaf = random_engine(tmp_path, exported=False, head=True)
    patches = np.zeros((2, 5, 11, 11), np.float32)
    assert with_told(patches, np.array([UNTOLD] * 2), deaf.manifest) is patches


def test_what_is_told_changes_what_the_network_answers(engine):
    (window,) = windows(3.0)
    answers = [
        BySensor(NumpyUnmixer(engine), engine.manifest, told=told)([window])[0][0].unmixed.claims
        for told in (UNTOLD, (3.0, 0.5, 200.0, 20.0))
    ]
    assert np.abs(answers[0] - answers[1]).max() > 1e-3


def test_a_configuration_tells_what_its_fit_knows_unless_it_says_not_to():
    fit = FitSettings(sigma_px=0.6, amplitude_dn=90.0, amplitude_sd_dn=30.0, noise_dn=4.0, fixed_dn=3.0)
    assert told_of(Config(fit=fit)) == (5.0, 0.6, 90.0, 30.0)
    assert np.isnan(told_of(Config(fit=fit, tell_network=False))).all()
    assert math.isnan(told_of(Config())[0]), "then each window's measured noise is told"
