"""Latency histograms: percentiles accurate to one bucket, in bounded memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irst_stream.system.latency import BUCKETS, PERCENTILES, Clocks, Histogram


@given(st.lists(st.integers(1_000, 10**11), min_size=1, max_size=300))
def test_percentiles_are_accurate_to_two_percent(durations):
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    summary = histogram.summary()
    expected = np.percentile(durations, PERCENTILES, method="inverted_cdf") / 1e6
    np.testing.assert_allclose(summary.percentiles, expected, rtol=0.021)
    assert summary.samples == len(durations)
    assert summary.longest == max(durations) / 1e6
    assert summary.total == pytest.approx(sum(durations) / 1e6)
    assert len(histogram.buckets) == BUCKETS


def test_durations_out_of_range_count_in_the_first_and_last_bucket():
    histogram = Histogram()
    for duration in (-5, 0, 1, 10**15):
        histogram.add(duration)
    assert histogram.buckets[0] == 3
    assert histogram.buckets[-1] == 1
    assert histogram.summary().longest == 10**9


def test_the_summary_of_no_durations_is_zero():
    assert Histogram().summary() == (0, (0.0,) * len(PERCENTILES), 0.0, 0.0)
    assert Clocks().summaries() == {}


def test_a_stage_that_raises_is_timed_too():
    clocks = Clocks()
    with clocks("good"):
        pass
    with pytest.raises(KeyError), clocks("bad"):
        raise KeyError
    assert {stage: s.samples for stage, s in clocks.summaries().items()} == {"good": 1, "bad": 1}
    clocks.clear()
    assert clocks.summaries() == {}
