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
from irst_stream.types import Floats, Ints

__all__ = ["SCRATCH_UNITS", "FitBudget", "Served"]

SCRATCH_UNITS = 3.0  # work of a fit from scratch; a warm-started one is 1
MEMORY = 0.9  # of the time a unit takes, from window to window
MAX_WAIT = 3  # frames: a region that has waited that long is served before the others
Flags = NDArray[np.bool_]


class Served(NamedTuple):
    """The groups of a window that are fitted.

    rows (G,): which they are; postponed (G,): whether each is due for a fit from scratch but is warm-started once more;
    units: their work, where a warm-started fit is 1.
    """

    rows: Ints
    postponed: Flags
    units: float


class FitBudget:
    """Decides which regions of one sensor's windows are fitted, and which of them from scratch.

    `allowed_s`: time for the next window's fits, infinite where they may take what they need. Where it is too short, fits
    from scratch are postponed; then the last regions are left out, in the window's order: regions of confirmed tracks
    stand first, then the strongest. A region left out MAX_WAIT times in a row comes first. `put_off` counts the fits
    "postponed" and the regions "unserved".
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """clock: seconds that pass."""
        self.allowed_s, self.put_off = math.inf, Counter[str]()
        self._clock, self._began, self._unit_s = clock, 0.0, math.nan
        self._waited: dict[int, int] = {}  # frames, by region number

    def serve(self, groups: WarmGroups, regions: Ints, refit_every: int) -> Served:
        """Choose the groups to fit now; regions (N,): the numbers of the window's regions, in its order."""
        self._began = self._clock()
        age, is_new = groups.warm_start.age, groups.warm_start.best == 0
        units = np.where(is_new | (refit_every == 1), SCRATCH_UNITS, 1.0)
        extra = np.where(age + 1 >= refit_every, SCRATCH_UNITS - units, 0.0)
        affordable = self.allowed_s / self._unit_s if self._unit_s > 0 else math.inf
        if units.sum() + extra.sum() <= affordable:
            self._waited.clear()
            return Served(np.arange(len(units)), np.zeros(len(units), np.bool_), float(units.sum() + extra.sum()))
        work_of = np.asarray(np.bincount(groups.region, units, minlength=len(regions)), np.float64)
        served = self._first(work_of, regions, affordable)
        rows = np.flatnonzero(served[groups.region])
        work = float(units[rows].sum())
        oldest_first = np.argsort(-age[rows], kind="stable")
        postponed = extra[rows] > 0
        postponed[oldest_first] &= extra[rows][oldest_first].cumsum() > affordable - work
        self.put_off.update({"unserved": int((~served).sum()), "postponed": int(postponed.sum())})
        return Served(rows, postponed, work + float(extra[rows][~postponed].sum()))

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
