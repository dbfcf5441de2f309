"""The tracker's own orders and small matrices agree with NumPy's."""

import numpy as np
import pytest

from irst_stream.track.compiled.matrices import product, product_transposed, solve_right
from irst_stream.track.compiled.ordering import falling_order, first_at_least, rising_order


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 100])
def test_orders_are_numpys_stable_ones(count):
    values = np.random.default_rng(count).integers(0, 9, count).astype(float)  # with equal ones
    values[::13] = np.nan
    assert np.array_equal(rising_order(values), np.argsort(values, kind="stable"))
    assert np.array_equal(falling_order(values), np.argsort(-values, kind="stable"))


def test_the_first_that_is_large_enough_is_found():
    rising = np.array([-1.0, 0.0, 0.0, 2.5])
    for value in (-2.0, -1.0, 0.0, 1.0, 2.5, 3.0):
        assert first_at_least(rising, value) == np.searchsorted(rising, value)
    assert first_at_least(np.zeros(0), 1.0) == 0


def test_products_and_solutions_of_small_matrices():
    rng = np.random.default_rng(3)
    root, right, other = rng.normal(size=(6, 6)), rng.normal(size=(4, 6)), rng.normal(size=(5, 6))
    matrix = root @ root.T
    assert np.allclose(product(right, matrix), right @ matrix, rtol=1e-12, atol=1e-12)
    assert np.allclose(product_transposed(right, other), right @ other.T, rtol=1e-12, atol=1e-12)
    assert np.allclose(solve_right(right, matrix) @ matrix, right, rtol=0, atol=1e-9)


def test_the_elimination_takes_pivots_and_a_singular_matrix_gives_0():
    swap = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert np.array_equal(solve_right(np.array([[1.0, 3.0]]), swap), [[1.5, 0.5]])
    assert np.array_equal(solve_right(np.ones((1, 2)), np.ones((2, 2))), [[0.0, 0.0]])
