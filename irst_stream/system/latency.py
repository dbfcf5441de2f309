"""Where the time goes: a histogram of durations for each stage, of bounded size however long it runs.

Buckets grow by 2 %, so a percentile is right to about 1 %; the largest duration is kept exactly.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

__all__ = ["PERCENTILES", "Clocks", "Histogram", "Summary"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SHORTEST_NS, LONGEST_NS = 1e3, 1e12  # a microsecond, a quarter of an hour
GROWTH = math.log(1.02)
BUCKETS = math.ceil(math.log(LONGEST_NS / SHORTEST_NS) / GROWTH) + 1


class Summary(NamedTuple):
    """How many durations there were, their percentiles (PERCENTILES), the longest and the sum, all in ms."""

    samples: int
    percentiles: tuple[float, ...]
    longest: float
    total: float


class Histogram:
    """Durations, counted. One thread adds to it; any may read."""

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS  # a list: counting one in an array takes twice as long
        self.longest_ns = self.total_ns = 0

    def add(self, duration_ns: int) -> None:
        """Counts one duration; a negative one, of clocks that disagree, counts as none at all."""
        place = int(math.log(max(duration_ns, SHORTEST_NS) / SHORTEST_NS) / GROWTH)
        self.buckets[min(place, BUCKETS - 1)] += 1
        self.longest_ns = max(self.longest_ns, duration_ns)
        self.total_ns += max(duration_ns, 0)

    def summary(self) -> Summary:
        """Of no durations everything is 0."""
        counted = np.cumsum(self.buckets)
        places = np.searchsorted(counted, np.array(PERCENTILES) / 100 * counted[-1])
        longest = self.longest_ns / 1e6
        values = SHORTEST_NS * np.exp((places + 0.5) * GROWTH) / 1e6 if counted[-1] else np.zeros(len(PERCENTILES))
        return Summary(int(counted[-1]), tuple(np.minimum(values, longest).tolist()), longest, self.total_ns / 1e6)


class Timing:
    """Times a stage once; a class, since a generator's context takes twice as long to enter and leave."""

    __slots__ = ("_began", "_clocks", "_stage")

    def __init__(self, clocks: Clocks, stage: str) -> None:
        self._clocks, self._stage, self._began = clocks, stage, 0

    def __enter__(self) -> None:
        self._began = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self._clocks.add(self._stage, time.perf_counter_ns() - self._began)


class Clocks:
    """One histogram for each stage, made when it is first named; `with clocks("unmix"):` times a stage."""

    def __init__(self) -> None:
        self.stages: dict[str, Histogram] = {}

    def __call__(self, stage: str) -> Timing:
        """Times what is done inside, also where it fails."""
        return Timing(self, stage)

    def add(self, stage: str, duration_ns: int) -> None:
        """Counts a duration that was measured elsewhere."""
        histogram = self.stages.get(stage)
        if histogram is None:
            histogram = self.stages.setdefault(stage, Histogram())
        histogram.add(duration_ns)

    def summaries(self) -> dict[str, Summary]:
        """Every stage's, in the order in which they were first named."""
        return {stage: histogram.summary() for stage, histogram in list(self.stages.items())}

    def clear(self) -> None:
        """Forgets all that was measured, as after a warm-up."""
        self.stages.clear()
