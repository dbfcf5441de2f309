"""The fit of a sensor's regions from window to window: each group is warm-started from its last window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.groups import WarmGroups, assign_regions, linked, merge_groups, overlapping
from irst_stream.fit.overlap import MAX_PASSES, fit_alternately
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.warm_start import AT_ONCE, WarmStart
from irst_stream.fit.work_budget import SCRATCH_UNITS, FitBudget
from irst_stream.types import Floats, Ints, Stamp, Window

__all__ = ["RegionFits"]

TURN_PX = 24.0  # groups farther apart are fitted from scratch in different windows
MAX_GAP = 8  # frames: an older fit gives no warm start


class _Owing(NamedTuple):
    """What was put off until a window's results are out: fits from scratch, and those of groups that share light.

    odds (G, most + 1): of its groups, before they were fitted; stale (G,): whether another group's light has changed since.
    """

    window: Window
    hints: Sequence[RegionTargets]
    odds: Floats
    stale: NDArray[np.bool_]


class RegionFits:
    """Fits the regions of one sensor's windows, one window after another."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter, self.budget = fitter, FitBudget()
        self._last: tuple[Stamp, WarmGroups] | None = None
        self._owing: _Owing | None = None

    def __call__(self, window: Window, hints: Sequence[RegionTargets]) -> list[RegionTargets]:
        """The targets of each region, none of those that the budget leaves out.

        hints: targets found by another method, for each region.
        """
        self.fit_owed()
        groups = self._groups_of(window)
        served = self.budget.serve(groups, window.region)
        chosen = groups if len(served.rows) == len(groups.region) else groups.of(served.rows)
        puts_off = self._fitter.settings.refit_every > 1
        found, warm_start, stale = self._fit(window, hints, chosen, puts_off)
        self.budget.served(served.units)
        if puts_off:
            whole, again = warm_start, stale
            if chosen is not groups:
                whole, again = groups.warm_start.with_rows(served.rows, warm_start), np.zeros(len(groups.region), np.bool_)
                again[served.rows] = stale
            self._last = window.stamp, groups._replace(warm_start=whole)
            self._owing = _Owing(window, hints, groups.warm_start.odds, again)
        return _by_region(found, chosen.region, len(window.region))

    def fit_owed(self) -> None:
        """Fit groups from scratch whose turn it was in the last window, and those that share light until it holds still.

        The next window starts from what is found, and nobody has waited for it; the budget decides how much is done.
        """
        if self._owing is None or self._last is None:
            return
        (window, hints, odds, stale), self._owing = self._owing, None
        stamp, groups = self._last
        paid = self.budget.pay(groups.warm_start.owed)
        if not self.budget.allows(SCRATCH_UNITS * len(paid) + int(stale.sum())):
            stale[:] = False
        stale[paid] = True
        rows = linked(np.flatnonzero(stale), overlapping(groups.corner, window.patches.shape[:1:-1]))
        if not len(rows):
            return
        chosen, owed = groups.of(rows), groups.warm_start.owed[rows]
        owed[np.isin(rows, paid)] = AT_ONCE
        begun = chosen._replace(warm_start=chosen.warm_start._replace(odds=odds[rows], owed=owed))
        _, warm_start, _ = self._fit(window, hints, begun, puts_off=False)
        self.budget.served(SCRATCH_UNITS * len(paid) + len(rows) - len(paid))
        self._last = stamp, groups._replace(warm_start=groups.warm_start.with_rows(rows, warm_start))

    @property
    def alarm(self) -> str:
        """Why the fit runs on the CPU in place of a GPU, in one line; "" where nothing has failed."""
        return self._fitter.alarm

    def _groups_of(self, window: Window) -> WarmGroups:
        """The groups in a window's regions, predicted to its time, ordered by region.

        A region without a known group gets a new one.
        """
        last = self._last
        rows = np.arange(len(window.region))
        passed = 0 if last is None else window.stamp.index - last[0].index
        if last is None or last[0].epoch != window.stamp.epoch or not 0 < passed <= MAX_GAP or not len(rows):
            return self._new_groups(window, rows)
        reach = window.centre
        if passed > reach and window.platform_shifts.any():  # the window does not reach back to the last one's shifts
            return self._new_groups(window, rows)
        sides, groups = window.patches.shape[:1:-1], last[1]
        shift = _shift(window, groups.corner, min(passed, reach))
        known = assign_regions(
            groups._replace(warm_start=groups.warm_start.predicted(passed, shift)), window.corners, sides
        )
        known = merge_groups(known, self._fitter.settings.own_speed_px, sides)
        known = known._replace(warm_start=known.warm_start._replace(owed=self._owed(window, known)))
        unoccupied = np.bincount(known.region, minlength=len(rows)) == 0
        return known.joined(self._new_groups(window, rows[unoccupied])) if unoccupied.any() else known

    def _new_groups(self, window: Window, rows: Ints) -> WarmGroups:
        """New groups without a warm start, one in each of these regions."""
        return WarmGroups(rows, window.corners[rows], self._fitter.cold_start(len(rows)))

    def _owed(self, window: Window, groups: WarmGroups) -> Ints:
        """Return for how many windows (G,) each group has been owed a fit from scratch, this one counted.

        Groups take turns, by the frame's number and their place: a count of windows would depend on where a run began, and
        so would all detections until its end.
        """
        turn, owed = np.floor(groups.corner / TURN_PX).astype(np.int64) @ np.array([1, 3]), groups.warm_start.owed
        due = (window.stamp.index + turn) % self._fitter.settings.refit_every == 0
        return np.where(due | (owed > 0), np.minimum(owed + 1, AT_ONCE), 0)

    def _fit(
        self, window: Window, hints: Sequence[RegionTargets], groups: WarmGroups, puts_off: bool
    ) -> tuple[list[RegionTargets], WarmStart, NDArray[np.bool_]]:
        """Fit each group; return its targets, its warm start, and whether it is to be fitted again: see fit_alternately.

        A hint counts only for a group that is alone in its region. puts_off: known groups that share light are fitted once.
        """
        one_each = np.array_equal(groups.region, np.arange(len(window.region)))
        if not one_each:
            alone = np.bincount(groups.region)[groups.region] == 1
            hints = [hints[k] if is_alone else NO_TARGETS for k, is_alone in zip(groups.region, alone, strict=True)]

        def fit(rows: Ints, patches: Patches, warm_start: WarmStart) -> tuple[list[RegionTargets], WarmStart]:
            return self._fitter.fit_regions(patches, [hints[k] for k in rows.tolist()], warm_start)

        seen = window.patches, window.frame_times, window.platform_shifts, window.noise, window.ceiling
        patches = Patches(*seen, window.corners)
        patches = patches if one_each else patches.of(groups.region)
        overlaps = overlapping(groups.corner, window.patches.shape[:1:-1])
        if not overlaps.any():
            return *fit(np.arange(len(overlaps)), patches, groups.warm_start), np.zeros(len(overlaps), np.bool_)
        field, error = self._fitter.field, self._fitter.settings.model_error
        is_new = overlaps.any(axis=1) & (groups.warm_start.best == 0)
        passes = 1 if puts_off and not is_new.any() else MAX_PASSES
        return fit_alternately(fit, patches, groups, overlaps, field, error, passes)


def _shift(window: Window, corners: Floats, passed: int) -> Floats:
    """(G, 2) px: displacement of still objects at these corners (G, 2) over the last `passed` frames, by the platform."""
    if not window.platform_shifts.any():
        return np.zeros((len(corners), 2))
    nearest = np.abs(corners[:, None] - window.corners).max(-1).argmin(1)
    shifts: Floats = window.platform_shifts[nearest, window.centre - passed]
    return -shifts


def _by_region(found: Sequence[RegionTargets], region: Ints, regions: int) -> list[RegionTargets]:
    """Join the targets of groups by region, none for a region without a group; region (G,): of each group, ascending."""
    each: list[list[RegionTargets]] = [[] for _ in range(regions)]
    for targets, k in zip(found, region.tolist(), strict=True):
        each[k].append(targets)
    return [RegionTargets.joined(parts) if len(parts) > 1 else (parts or [NO_TARGETS])[0] for parts in each]
