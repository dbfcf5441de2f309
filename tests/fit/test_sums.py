"""Sums, medians and extremes of a few numbers agree with NumPy's."""

import numpy as np
import pytest

from irst_stream.fit.compiled.sums import index_of_largest, index_of_least, median, total


@pytest.mark.parametrize("count", [1, 2, 3, 10, 121, 4096])
def test_they_are_numpys(count):
    values = np.random.default_rng(count).integers(-5, 6, count).astype(float)  # with equal ones
    assert total(values) == values.sum()
    assert index_of_largest(values) == values.argmax()
    assert index_of_least(values) == values.argmin()
    assert median(values.copy()) == np.median(values)


def test_a_column_is_summed_and_nothing_is_0():
    table = np.arange(6.0).reshape(3, 2)
    assert total(table[:, 1]) == 9.0
    assert total(np.zeros(0)) == index_of_largest(np.zeros(0)) == 0


def test_a_median_with_unknown_values_ends():
    median(np.array([np.nan, 1.0, np.nan, 3.0, 2.0]))
