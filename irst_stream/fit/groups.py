"""Groups of targets from one window to the next: where each has moved to, and in which region's patch it is looked at.

A region is but a place in the frame. Groups that meet share one, or have two that overlap, and part again; each keeps its
own targets and their common velocity all the way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.warm_start import WarmStart
from irst_stream.types import Floats, Ints

__all__ = ["HeldGroups", "overlapping", "placed", "united"]

LONG_AGO = 1_000_000  # windows: older than any fit gets that goes on from its last one
SAME_SPEED = 4.0  # times the spread of velocities within a group: two whose own differ by less may be one
RIM = 1.0  # px: groups that are one have no target nearer to their patch's border


class HeldGroups(NamedTuple):
    """G groups, each looked at in the patch of one of a window's regions.

    region (G,): that region's row; corner (G, 2) x, y px of the frame, where its patch begins; held: where the fits have
    ended, in px of these patches.
    """

    region: Ints
    corner: Floats
    held: WarmStart

    def of(self, which: Ints) -> HeldGroups:
        """Some of them."""
        return HeldGroups(self.region[which], self.corner[which], self.held.of(which))

    def beside(self, others: HeldGroups) -> HeldGroups:
        """These and others, region after region."""
        region, corner = np.append(self.region, others.region), np.concatenate([self.corner, others.corner])
        return HeldGroups(region, corner, self.held.beside(others.held)).of(np.argsort(region, kind="stable"))


def overlapping(corners: Floats, sides: tuple[int, int]) -> NDArray[np.bool_]:
    """(N, N): which patches share pixels, of those of these sides, x, y px, that begin at these corners (N, 2)."""
    beside = np.asarray((np.abs(corners[:, None] - corners) < sides).all(-1))
    np.fill_diagonal(beside, val=False)
    return beside


def placed(groups: HeldGroups, corners: Floats, sides: tuple[int, int]) -> HeldGroups:
    """The same in the regions whose middles are nearest; without those that are in none, or have no target beside others.

    One that is seen in another patch than before goes on there; where it has company, it is to be fitted from scratch, with
    what is held of it as one more start.

    corners (N, 2) px: of the regions' patches, N > 0; sides: x, y px of these.
    """
    half = (np.array(sides) - 1) / 2
    middle = np.where(groups.held.best[:, None] > 0, groups.held.mean()[:, :2], half)
    if _as_before(groups, corners, sides) and (np.abs(middle - half) < half + 0.5).all():
        return groups
    away = (np.abs((groups.corner + middle)[:, None] - (corners + half)) / (half + 0.5)).max(-1)  # 1 at a patch's border
    nearest = away.argmin(1)
    order = np.lexsort([groups.held.best == 0, nearest])
    order = order[away.min(1)[order] < 1]
    first = np.ones(len(order), np.bool_)
    first[1:] = nearest[order[1:]] != nearest[order[:-1]]
    kept = order[first | (groups.held.best[order] > 0)]
    region, offset = nearest[kept], groups.corner[kept] - corners[nearest[kept]]
    company = overlapping(corners, sides)[region].any(1) | (np.bincount(region, minlength=1)[region] > 1)
    moved = offset.any(1)
    held = groups.held.of(kept, offset)
    return HeldGroups(region, corners[region], held._replace(age=np.where(moved & company, LONG_AGO, held.age)))


def _as_before(groups: HeldGroups, corners: Floats, sides: tuple[int, int]) -> bool:
    """Whether nothing has moved, and each group has a region and its pixels to itself: what is usual, and soon seen."""
    same = len(groups.region) == len(corners) and bool((groups.corner == corners).all())
    return same and bool((groups.region == np.arange(len(corners))).all()) and not overlapping(corners, sides).any()


def united(groups: HeldGroups, spread: float, sides: tuple[int, int]) -> HeldGroups:
    """The same, in which two in one region that go the same way and together are not too many have become one.

    spread: px a frame, standard deviation of the velocities within a group; sides: x, y px of the patches.
    """
    if (groups.region[1:] != groups.region[:-1]).all():
        return groups
    velocity = groups.held.mean()[:, 2:4]
    alike = np.linalg.norm(velocity[:, None] - velocity, axis=-1) < SAME_SPEED * spread
    for one, other in np.argwhere(np.triu(alike & (groups.region[:, None] == groups.region), 1)):
        targets = np.concatenate([groups.held.targets(one), groups.held.targets(other)])
        xy, most = targets[:, :2], groups.held.solutions.shape[2]
        if len(targets) <= most and (xy > RIM - 0.5).all() and (xy < np.array(sides) - 0.5 - RIM).all():
            kept = np.delete(np.arange(len(groups.region)), other)
            return united(groups._replace(held=groups.held.with_targets(one, targets)).of(kept), spread, sides)
    return groups
