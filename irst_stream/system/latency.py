"""Measure the latency of each stage in a histogram of fixed size.

Bucket widths grow by 2 %, so a percentile is accurate to about 1 %; the longest duration is exact.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

__all__ = ["PERCENTILES", "Clocks", "Durations", "Histogram", "Summary"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SHORTEST_NS, LONGEST_NS = 1e3, 1e12  # 1 us, about 17 minutes
GROWTH = math.log(1.02)  # log of the ratio of neighbouring bucket limits
BUCKETS = math.ceil(math.log(LONGEST_NS / SHORTEST_NS) / GROWTH) + 1


class Summary(NamedTuple):
    """Statistics of durations: their number, their percentiles at PERCENTILES, the longest and the sum, in ms."""

    samples: int
    percentiles: tuple[float, ...]
    longest: float
    total: float


class Durations(NamedTuple):
    """A histogram as it travels: its counts by bucket without the empty ones, its longest duration and its sum, ns."""

    counts: dict[int, int]
    longest_ns: int
    total_ns: int


class Histogram:
    """A histogram of durations. One thread adds to it; any thread may read it."""

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS  # a list, since incrementing an array element takes twice as long
        self.longest_ns = self.total_ns = 0

    def add(self, duration_ns: int) -> None:
        """Add one duration; a negative one, from clocks that disagree, counts as 0."""
        bucket = int(math.log(max(duration_ns, SHORTEST_NS) / SHORTEST_NS) / GROWTH)
        self.buckets[min(bucket, BUCKETS - 1)] += 1
        self.longest_ns = max(self.longest_ns, duration_ns)
        self.total_ns += max(duration_ns, 0)

    def durations(self) -> Durations:
        """Return what `merge` takes."""
        buckets = np.array(self.buckets)
        filled = np.flatnonzero(buckets)
        return Durations(dict(zip(filled.tolist(), buckets[filled].tolist(), strict=True)), self.longest_ns, self.total_ns)

    def merge(self, other: Durations) -> None:
        """Add all durations of another histogram."""
        for bucket, count in other.counts.items():
            self.buckets[bucket] += count
        self.longest_ns = max(self.longest_ns, other.longest_ns)
        self.total_ns += other.total_ns

    def summary(self) -> Summary:
        """Return the statistics of all durations; all 0 for no durations."""
        cumulative = np.cumsum(self.buckets)
        buckets = np.searchsorted(cumulative, np.array(PERCENTILES) / 100 * cumulative[-1])
        longest = self.longest_ns / 1e6
        values = SHORTEST_NS * np.exp((buckets + 0.5) * GROWTH) / 1e6 if cumulative[-1] else np.zeros(len(PERCENTILES))
        return Summary(int(cumulative[-1]), tuple(np.minimum(values, longest).tolist()), longest, self.total_ns / 1e6)


class Timing:
    """Context manager that times a stage once; a class, since a generator-based one takes twice as long."""

    __slots__ = ("_began", "_clocks", "_stage")

    def __init__(self, clocks: Clocks, stage: str) -> None:
        self._clocks, self._stage, self._began = clocks, stage, 0

    def __enter__(self) -> None:
        self._began = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self._clocks.add(self._stage, time.perf_counter_ns() - self._began)


class Clocks:
    """One histogram per stage, created on first use; `with clocks("unmix"):` times a stage."""

    def __init__(self) -> None:
        self.stages: dict[str, Histogram] = {}

    def __call__(self, stage: str) -> Timing:
        """Return a context manager that adds the time spent inside it, also if it raises."""
        return Timing(self, stage)

    def add(self, stage: str, duration_ns: int) -> None:
        """Add a duration that was measured elsewhere."""
        histogram = self.stages.get(stage)
        if histogram is None:
            histogram = self.stages.setdefault(stage, Histogram())
        histogram.add(duration_ns)

    def summaries(self) -> dict[str, Summary]:
        """Return the summary of every stage, in the order of first use."""
        return {stage: histogram.summary() for stage, histogram in list(self.stages.items())}

    def clear(self) -> None:
        """Drop all measurements, as after a warm-up."""
        self.stages.clear()
