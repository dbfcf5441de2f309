"""The fit of a sensor's regions from window to window: each group is warm-started from its last window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.groups import STALE_AGE, WarmGroups, assign_regions, merge_groups, overlapping
from irst_stream.fit.overlap import fit_alternately
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.warm_start import WarmStart
from irst_stream.fit.work_budget import FitBudget
from irst_stream.types import Floats, Ints, Stamp, Window

__all__ = ["RegionFits"]

TURN_PX = 24.0  # groups farther apart are fitted from scratch in different windows
MAX_GAP = 8  # frames: an older fit gives no warm start


class RegionFits:
    """Fits the regions of one sensor's windows, one window after another."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter, self.budget = fitter, FitBudget()
        self._last: tuple[Stamp, WarmGroups] | None = None

    def __call__(self, window: Window, hints: Sequence[RegionTargets]) -> list[RegionTargets]:
        """The targets of each region, none of those that the budget leaves out.

        hints: targets found by another method, for each region.
        """
        groups, refit_every = self._groups_of(window), self._fitter.settings.refit_every
        served = self.budget.serve(groups, window.region, refit_every)
        chosen = groups if len(served.rows) == len(groups.region) else groups.of(served.rows)
        before, postponed = chosen.warm_start, served.postponed
        if postponed.any():
            chosen = chosen._replace(warm_start=before._replace(age=np.where(postponed, refit_every - 2, before.age)))
        found, warm_start = self._fit(window, hints, chosen)
        self.budget.served(served.units)
        if postponed.any():
            warm_start = warm_start._replace(age=np.where(postponed, before.age, warm_start.age))
        if refit_every > 1:
            whole = warm_start if chosen is groups else groups.warm_start.with_rows(served.rows, warm_start)
            self._last = window.stamp, groups._replace(warm_start=whole)
        return _by_region(found, chosen.region, len(window.region))

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
        known = known._replace(warm_start=known.warm_start._replace(age=self._ages(window, known)))
        unoccupied = np.bincount(known.region, minlength=len(rows)) == 0
        return known.joined(self._new_groups(window, rows[unoccupied])) if unoccupied.any() else known

    def _new_groups(self, window: Window, rows: Ints) -> WarmGroups:
        """New groups without a warm start, one in each of these regions."""
        return WarmGroups(rows, window.corners[rows], self._fitter.cold_start(np.full(len(rows), STALE_AGE)))

    def _ages(self, window: Window, groups: WarmGroups) -> Ints:
        """Return STALE_AGE (G,) for each group that this window fits from scratch, 0 for the others.

        Groups take turns, by the frame's number and their place: a count of windows would depend on where a run began, and
        so would all detections until its end.
        """
        turn = np.floor(groups.corner / TURN_PX).astype(np.int64) @ np.array([1, 3])
        due = (window.stamp.index + turn) % self._fitter.settings.refit_every == 0
        return np.where(due | (groups.warm_start.age >= STALE_AGE), STALE_AGE, 0)

    def _fit(
        self, window: Window, hints: Sequence[RegionTargets], groups: WarmGroups
    ) -> tuple[list[RegionTargets], WarmStart]:
        """Fit each group; return its targets and warm start. A hint counts only for a group that is alone in its region."""
        one_each = len(groups.region) == len(window.region)
        if not one_each:
            alone = np.bincount(groups.region)[groups.region] == 1
            hints = [hints[k] if is_alone else NO_TARGETS for k, is_alone in zip(groups.region, alone, strict=True)]

        def fit(rows: Ints, patches: Patches, warm_start: WarmStart) -> tuple[list[RegionTargets], WarmStart]:
            given = [hints[k] for k in rows.tolist()]
            return self._fitter.fit_regions(patches, given, warm_start)

        seen = window.patches, window.frame_times, window.platform_shifts, window.noise, window.ceiling
        patches = Patches(*seen, window.corners)
        patches = patches if one_each else patches.of(groups.region)
        overlaps = overlapping(groups.corner, window.patches.shape[:1:-1])
        if not overlaps.any():
            return fit(np.arange(len(overlaps)), patches, groups.warm_start)
        return fit_alternately(fit, patches, groups, overlaps, self._fitter.field, self._fitter.settings.model_error)


def _shift(window: Window, corners: Floats, passed: int) -> Floats:
    """(G, 2) px: displacement of still objects at these corners (G, 2) over the last `passed` frames, by the platform."""
    nearest = np.abs(corners[:, None] - window.corners).max(-1).argmin(1)
    shifts: Floats = window.platform_shifts[nearest, window.centre - passed]
    return -shifts


def _by_region(found: Sequence[RegionTargets], region: Ints, regions: int) -> list[RegionTargets]:
    """Join the targets of groups by region, none for a region without a group; region (G,): of each group, ascending."""
    each: list[list[RegionTargets]] = [[] for _ in range(regions)]
    for targets, k in zip(found, region.tolist(), strict=True):
        each[k].append(targets)
    return [RegionTargets.joined(parts) if len(parts) > 1 else (parts or [NO_TARGETS])[0] for parts in each]
