"""Shares the time that a frame's fits may take among its regions, where there is too little for all."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.groups import WarmGroups
from irst_stream.fit.warm_start import AT_ONCE
from irst_stream.types import Floats, Ints

__all__ = ["SCRATCH_UNITS", "FitBudget", "Served"]

SCRATCH_UNITS = 3.0  # work of a fit from scratch; a warm-started one is 1
MEMORY = 0.9  # of the time a unit takes, from window to window
MAX_WAIT = 3  # frames: a region that has waited that long is served before the others
Flags = NDArray[np.bool_]


class Served(NamedTuple):
    """The groups of a window that are fitted: their rows (G,), and their work in units, where a warm-started fit is 1."""

    rows: Ints
    units: float


class FitBudget:
    """Decides which regions of one sensor's windows are fitted, and which groups from scratch once the results are out.

    `allowed_s`: time for the next fits, infinite where they may take what they need. Where it is too short, fits from
    scratch that are owed are postponed, and the last regions of a window are left out, in the window's order: regions of
    confirmed tracks stand first, then the strongest. A region left out MAX_WAIT times in a row comes first. `put_off`
    counts the fits "postponed" and the regions "unserved", since `drain` was called.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """clock: seconds that pass."""
        self.allowed_s, self.put_off = math.inf, Counter[str]()
        self._clock, self._began, self._unit_s = clock, 0.0, math.nan
        self._waited: dict[int, int] = {}  # frames, by region number

    def serve(self, groups: WarmGroups, regions: Ints) -> Served:
        """Choose the groups to fit now; regions (N,): the numbers of the window's regions, in its order."""
        self._began, start = self._clock(), groups.warm_start
        units = np.where((start.owed >= AT_ONCE) | (start.best == 0), SCRATCH_UNITS, 1.0)
        if self.allows(float(units.sum())):
            self._waited.clear()
            return Served(np.arange(len(units)), float(units.sum()))
        work_of = np.asarray(np.bincount(groups.region, units, minlength=len(regions)), np.float64)
        served = self._first(work_of, regions, self._affordable)
        rows = np.flatnonzero(served[groups.region])
        self.put_off["unserved"] += int((~served).sum())
        return Served(rows, float(units[rows].sum()))

    def pay(self, owed: Ints) -> Ints:
        """Choose the groups to fit from scratch now, those first that have waited longest; owed (G,): see WarmStart."""
        self._began = self._clock()
        waiting = np.flatnonzero(owed)
        if not len(waiting):
            return waiting
        longest_first = waiting[np.argsort(-owed[waiting], kind="stable")]
        paid = longest_first[: int(np.clip(self._affordable / SCRATCH_UNITS, 0, len(waiting)))]
        self.put_off["postponed"] += len(waiting) - len(paid)
        return np.sort(paid)

    def drain(self) -> Counter[str]:
        """Return what was put off since the last call."""
        drained = self.put_off
        if drained:
            self.put_off = Counter()
        return drained

    def allows(self, units: float) -> bool:
        """Whether there is time for this work."""
        return units <= self._affordable

    @property
    def _affordable(self) -> float:
        """Units that the time allows, infinite as long as nothing is known of how long one takes."""
        return self.allowed_s / self._unit_s if self._unit_s > 0 else math.inf

    def served(self, units: float) -> None:
        """Learn what the fits just done took, since they were chosen."""
        if units:
            unit_s = (self._clock() - self._began) / units
            self._unit_s = MEMORY * self._unit_s + (1 - MEMORY) * unit_s if self._unit_s > 0 else unit_s

    def _first(self, work: Floats, regions: Ints, affordable: float) -> Flags:
        """Tell which regions (N,) the affordable units serve, at least one; work (N,): units that each takes."""
        waited = np.array([self._waited.get(number, 0) for number in regions.tolist()])
        order = np.lexsort([np.arange(len(regions)), waited < MAX_WAIT])
        served = np.zeros(len(regions), np.bool_)
        served[order[: max(int(np.searchsorted(work[order].cumsum(), affordable, side="right")), 1)]] = True
        left = zip(regions[~served].tolist(), waited[~served].tolist(), strict=True)
        self._waited = {number: frames + 1 for number, frames in left}
        return served
