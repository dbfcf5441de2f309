"""The fit over the regions of any number of sensors: each group goes on from its last window, beside those it meets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.groups import HeldGroups, overlapping, placed, united
from irst_stream.fit.overlap import fit_in_turns
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.warm_start import WarmStart
from irst_stream.types import Floats, Ints, Stamp, Window

__all__ = ["RegionFits"]

LONGEST = 8  # frames: a fit of longer ago tells nothing


class RegionFits:
    """What the fit finds in each region of one sensor's windows."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter = fitter
        self._last: tuple[Stamp, HeldGroups] | None = None

    def __call__(self, window: Window, hints: Sequence[RegionTargets]) -> list[RegionTargets]:
        """hints: what something else found, for each region."""
        groups = self._recall(window)
        found, held = self._fit(window, hints, groups)
        if self._fitter.settings.refit_every > 1:
            self._last = window.stamp, groups._replace(held=held)
        return _by_region(found, groups.region, len(window.region))

    @property
    def alarm(self) -> str:
        """Why the fit runs on the CPU in place of a GPU, in words; "" where nothing has failed."""
        return self._fitter.alarm

    def _recall(self, window: Window) -> HeldGroups:
        """The groups in a window's regions, brought to its time, region after region.

        A region without one that is known has a new one; these differ in when they are fitted from scratch next.
        """
        held = self._last
        rows = np.arange(len(window.region))
        passed = 0 if held is None else window.stamp.index - held[0].index
        if held is None or held[0].epoch != window.stamp.epoch or not 0 < passed <= LONGEST or not len(rows):
            return self._new(window, rows)
        reach = len(window.frame_times) // 2
        if passed > reach and window.platform_shifts.any():  # how far the platform has moved since, no frame here tells
            return self._new(window, rows)
        sides, groups = window.patches.shape[:1:-1], held[1]
        shift = _shift(window, groups.corner, min(passed, reach))
        known = placed(groups._replace(held=groups.held.later(passed, shift)), window.corners, sides)
        known = united(known, self._fitter.settings.own_speed_px, sides)
        free = np.bincount(known.region, minlength=len(rows)) == 0
        return known.beside(self._new(window, rows[free])) if free.any() else known

    def _new(self, window: Window, rows: Ints) -> HeldGroups:
        """Groups of which nothing is known, one in each of these regions."""
        age = window.region[rows] % self._fitter.settings.refit_every
        return HeldGroups(rows, window.corners[rows], self._fitter.nothing(age))

    def _fit(
        self, window: Window, hints: Sequence[RegionTargets], groups: HeldGroups
    ) -> tuple[list[RegionTargets], WarmStart]:
        """What is found of each group, and what to hold of it; a hint is one for a group that has its region to itself."""
        one_each = len(groups.region) == len(window.region)
        if not one_each:
            alone = np.bincount(groups.region)[groups.region] == 1
            hints = [hints[k] if by_itself else NO_TARGETS for k, by_itself in zip(groups.region, alone, strict=True)]

        def fit(rows: Ints, patches: Patches, held: WarmStart) -> tuple[list[RegionTargets], WarmStart]:
            given = [hints[k] for k in rows.tolist()]
            return self._fitter.follow(patches, given, held)

        patches = Patches(window.patches, window.frame_times, window.platform_shifts, window.noise, window.ceiling)
        patches = patches if one_each else patches.of(groups.region)
        beside = overlapping(groups.corner, window.patches.shape[:1:-1])
        if not beside.any():
            return fit(np.arange(len(beside)), patches, groups.held)
        return fit_in_turns(fit, patches, groups, beside, self._fitter.settings.sigma_px)


def _shift(window: Window, corners: Floats, passed: int) -> Floats:
    """(G, 2) px: by how much the platform has moved what stands still at these corners (G, 2) in the last frames."""
    nearest = np.abs(corners[:, None] - window.corners).max(-1).argmin(1)
    shifts: Floats = window.platform_shifts[nearest, len(window.frame_times) // 2 - passed]
    return -shifts


def _by_region(found: Sequence[RegionTargets], region: Ints, regions: int) -> list[RegionTargets]:
    """What was found of groups in the regions (G,), rising, region by region."""
    each: list[list[RegionTargets]] = [[] for _ in range(regions)]
    for answer, k in zip(found, region.tolist(), strict=True):
        each[k].append(answer)
    return [parts[0] if len(parts) == 1 else RegionTargets.joined(parts) for parts in each]
