"""Splitting any number of windows over a few batch sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irst_stream.unmix.batches import Batches

COST = {1: 0.3, 8: 0.5, 64: 1.5, 512: 9.0}


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (2, [8]), (8, [8]), (9, [8, 1]), (60, [64]), (65, [64, 1]), (1024, [512, 512])]
)
def test_the_split_with_the_least_total_time_is_chosen(count, sizes):
    assert Batches(COST).split(count) == sizes


def test_a_single_batch_size_works():
    assert Batches({8: 1.0}).split(17) == [8, 8, 8]


@given(st.integers(0, 5000), st.dictionaries(st.sampled_from([1, 2, 8, 20, 64, 512]), st.floats(0.1, 10), min_size=1))
def test_batches_hold_all_items_and_none_is_superfluous(count, cost):
    sizes = Batches(cost).split(count)
    assert sum(sizes) >= count
    assert sum(sizes) - min(sizes, default=0) < max(count, 1)
    assert set(sizes) <= set(cost)
    assert sizes == sorted(sizes, reverse=True)


@given(st.integers(1, 150), st.dictionaries(st.sampled_from([1, 3, 8, 64]), st.floats(0.1, 10), min_size=1))
def test_no_other_split_takes_less_time(count, cost):
    best = [0.0]
    for n in range(1, count + 1):
        best.append(min(cost[size] + best[max(n - size, 0)] for size in cost))
    if count <= 2 * max(cost):
        assert sum(cost[size] for size in Batches(cost).split(count)) == pytest.approx(best[count])
