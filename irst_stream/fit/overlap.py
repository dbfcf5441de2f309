"""Groups that share light, fitted in turns: what the others shine into a group's patch is taken off before it is fitted.

Each fit goes by where the others' targets are taken to be, which their last window tells, or their turn in this one; a
group has another turn where others have since been found to shine otherwise. So no light is fitted twice, and each group
keeps a velocity of its own, however near they are. Of two groups of which nothing is held, the one that comes first leaves
to the other the pixels that are nearer to that one's region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.groups import HeldGroups
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.warm_start import WarmStart
from irst_stream.optics import render
from irst_stream.types import Floats, Ints

__all__ = ["Fit", "Patches", "fit_in_turns"]

Flags = NDArray[np.bool_]
CHANGED = 1.0  # of the noise: others' light that has changed by more calls for another turn
TURNS = 3  # of a group, at most


Fit: TypeAlias = Callable[[Ints, Patches, WarmStart], tuple[list[RegionTargets], WarmStart]]  # of these rows


def fit_in_turns(
    fit: Fit, patches: Patches, groups: HeldGroups, beside: Flags, sigma: float
) -> tuple[list[RegionTargets], WarmStart]:
    """What is found in N groups' patches, and what to hold of it.

    fit: of single groups; beside (N, N): which groups' patches share pixels; sigma: px, of the optics.
    """
    work = _Work(patches, groups, beside, sigma)
    turns = list(_turns(beside, np.argsort(groups.held.best > 0, kind="stable")))
    for _ in range(TURNS):
        fitted = [work.take_turn(fit, rows) for rows in turns]
        if not any(fitted):
            break
    return work.found, work.held


def _turns(beside: Flags, order: Ints) -> Iterator[Ints]:
    """The groups that are fitted at once, turn by turn, no two of them beside each other; taken in this order."""
    turn = np.full(len(beside), -1)
    for k in order:
        taken = set(turn[beside[k]].tolist())
        turn[k] = next(t for t in range(len(beside)) if t not in taken)
    return (np.flatnonzero(turn == t) for t in range(turn.max(initial=-1) + 1))


class _Work:
    """How far the fits of groups beside each other have come."""

    def __init__(self, patches: Patches, groups: HeldGroups, beside: Flags, sigma: float) -> None:
        self.found, self.held = [NO_TARGETS] * len(beside), groups.held.of(np.arange(len(beside)))
        self._patches, self._corners = patches, groups.corner
        self._beside, self._sigma, self._shape = beside, sigma, (patches.images.shape[2], patches.images.shape[3])
        self._taken_off = np.full(patches.images.shape, np.inf)  # the others' light when each was last fitted
        self._fitted = np.zeros(len(beside), np.bool_)
        self._odds = groups.held.odds  # every turn begins with them: a window is counted once
        self._unknown: Flags = np.asarray(groups.held.best == 0)

    def take_turn(self, fit: Fit, rows: Ints) -> bool:
        """Fits those of these groups that were not yet, or whose neighbours' light has changed; whether there was one."""
        light = np.stack([self._others_light(k) for k in rows])
        changed = np.abs(light - self._taken_off[rows]).max(axis=(1, 2, 3))
        stale = np.flatnonzero(changed > CHANGED * np.nan_to_num(self._patches.noise[rows], nan=0.0))
        rows, light = rows[stale], light[stale]
        if not len(rows):
            return False
        patches = self._patches.of(rows).without(light)
        left_alone = np.stack([self._left_to_others(k) for k in rows])
        patches.images[np.broadcast_to(left_alone[:, None], patches.images.shape)] = np.nan
        self._taken_off[rows] = light
        self._taken_off[rows[left_alone.any(axis=(1, 2))]] = np.inf
        held = self.held.of(rows)
        found, held = fit(rows, patches, held._replace(age=held.age - self._fitted[rows], odds=self._odds[rows]))
        for k, answer in zip(rows.tolist(), found, strict=True):
            self.found[k] = answer
        for column, new in zip(self.held, held, strict=True):
            column[rows] = new
        self._fitted[rows] = True
        self._unknown[rows] = False
        return True

    def _others_light(self, k: int) -> Floats:
        """(T, H, W) DN: what the groups beside group k shine into its patch."""
        others = np.flatnonzero(self._beside[k])
        offsets = self._corners[others] - self._corners[k]
        if not self.held.best[others].any():
            return np.zeros(self._patches.images.shape[1:])
        p = np.concatenate([self.held.targets(j) for j in others.tolist()])
        xy = p[:, :2] + np.repeat(offsets, self.held.best[others], axis=0)
        moved = self._patches.times[:, None, None] * p[:, 2:4] + self._patches.shifts[k, :, None]
        return render(xy + moved, p[:, 4], self._shape, self._sigma)

    def _left_to_others(self, k: int) -> Flags:
        """(H, W): the pixels of group k's patch nearer to the middle of another, of neither of which anything is known."""
        left = np.zeros(self._shape, np.bool_)
        if not self._unknown[k]:
            return left
        rows, columns = np.indices(self._shape)
        pixels, half = np.stack([columns, rows], axis=-1), (np.array(self._shape[::-1]) - 1) / 2
        for j in np.flatnonzero(self._beside[k] & self._unknown):
            middle = self._corners[j] - self._corners[k] + half
            left |= np.linalg.norm(pixels - middle, axis=-1) < np.linalg.norm(pixels - half, axis=-1)
        return left
