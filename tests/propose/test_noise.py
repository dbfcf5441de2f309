"""Coarse maps of a frame's noise."""

import numpy as np
import pytest

from irst_stream.propose.noise import NOISE_CELL_PX, NoiseMapper

CELLS = (16, 20)
SHAPE = tuple(NOISE_CELL_PX * n for n in CELLS)


def test_the_noise_near_a_place_is_that_of_the_responses_about():
    squares = np.full(SHAPE, 4.0, np.float32)
    squares[:, 160:] = 900.0
    noise = NoiseMapper(SHAPE).measure_near(squares, 0.5, None)
    assert noise.shape == CELLS
    np.testing.assert_allclose(noise[:, :9], 2.0, rtol=1e-6)
    np.testing.assert_allclose(noise[:, 11:], 30.0, rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_masked_parts_beside_bright_ones_have_the_least_noise(seed):
    """Responses of 1e-10 and 100 side by side, as text that is masked leaves them: sums round to either sign."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-20, 4, CELLS)
    squares = np.kron(size, np.ones((NOISE_CELL_PX, NOISE_CELL_PX))) * rng.random(SHAPE)
    noise = NoiseMapper(SHAPE).measure_near(squares.astype(np.float32), 0.5, None)
    assert noise.min() >= 0.5
    assert np.isfinite(noise).all()
