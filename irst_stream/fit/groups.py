"""Groups of targets from one window to the next: their motion, and the region in whose patch each is fitted.

A region is only a place in the frame. Groups that meet share a region, or have two that overlap, and part again; each
group keeps its own targets and their common velocity throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.warm_start import WarmStart
from irst_stream.types import Floats, Ints

__all__ = ["WarmGroups", "assign_regions", "linked", "merge_groups", "overlapping"]

MERGE_SPEEDS = 4.0  # standard deviations of velocity within a group: groups closer in velocity may merge
DUPLICATE_PX = 1.0
MERGE_MARGIN_PX = 1.0  # groups are merged only if all their targets are at least this far inside the patch


class WarmGroups(NamedTuple):
    """G groups, each fitted in the patch of one of a window's regions.

    region (G,): row of that region; corner (G, 2): x, y of the patch's first pixel, px of the frame; warm_start: in px of
    these patches.
    """

    region: Ints
    corner: Floats
    warm_start: WarmStart

    def of(self, which: Ints) -> WarmGroups:
        """Select these groups."""
        return WarmGroups(self.region[which], self.corner[which], self.warm_start.of(which))

    def joined(self, others: WarmGroups) -> WarmGroups:
        """Concatenate these groups and the others, ordered by region."""
        region, corner = np.append(self.region, others.region), np.concatenate([self.corner, others.corner])
        return WarmGroups(region, corner, self.warm_start.joined(others.warm_start)).of(np.argsort(region, kind="stable"))


def overlapping(corners: Floats, sides: tuple[int, int]) -> NDArray[np.bool_]:
    """(N, N): which patches share pixels; corners (N, 2) x, y of each patch's first pixel, sides x, y, px."""
    if len(corners) < 2:
        return np.zeros((len(corners), len(corners)), np.bool_)
    overlaps = np.asarray((np.abs(corners[:, None] - corners) < sides).all(-1))
    np.fill_diagonal(overlaps, val=False)
    return overlaps


def linked(rows: Ints, overlaps: NDArray[np.bool_]) -> Ints:
    """These rows and all that overlap them, directly or through others, ascending; overlaps (N, N)."""
    reached = np.zeros(len(overlaps), np.bool_)
    reached[rows] = True
    while (more := reached | overlaps[reached].any(0)).sum() > reached.sum():
        reached = more
    return np.flatnonzero(reached)


def assign_regions(groups: WarmGroups, corners: Floats, sides: tuple[int, int]) -> WarmGroups:
    """Reassign each group to its nearest region; drop groups outside every region, and empty groups that share one.

    A group whose patch has moved keeps its warm start, in px of the new patch. Where it also shares pixels with another
    group, it is owed a fit from scratch.

    corners (N, 2) px: of the regions' patches, N > 0; sides: x, y px of the patches.
    """
    half = (np.array(sides) - 1) / 2
    centre = np.where(groups.warm_start.best[:, None] > 0, groups.warm_start.mean()[:, :2], half)
    if _is_unchanged(groups, corners, sides) and (np.abs(centre - half) < half + 0.5).all():
        return groups
    offsets = (groups.corner + centre)[:, None] - (corners + half)
    distance = (np.abs(offsets) / (half + 0.5)).max(-1)  # 1 at a patch's border
    nearest = distance.argmin(1)
    order = np.lexsort([groups.warm_start.best == 0, nearest])
    order = order[distance.min(1)[order] < 1]
    first = np.ones(len(order), np.bool_)
    first[1:] = nearest[order[1:]] != nearest[order[:-1]]
    kept = order[first | (groups.warm_start.best[order] > 0)]
    region, offset = nearest[kept], groups.corner[kept] - corners[nearest[kept]]
    shared = overlapping(corners, sides)[region].any(1) | (np.bincount(region, minlength=1)[region] > 1)
    warm_start = groups.warm_start.of(kept, offset)
    owed = np.maximum(warm_start.owed, offset.any(1) & shared)
    return WarmGroups(region, corners[region], warm_start._replace(owed=owed))


def _is_unchanged(groups: WarmGroups, corners: Floats, sides: tuple[int, int]) -> bool:
    """Whether no patch has moved and each group has its own region and pixels: the usual case, cheap to check."""
    same = len(groups.region) == len(corners) and bool((groups.corner == corners).all())
    return same and bool((groups.region == np.arange(len(corners))).all()) and not overlapping(corners, sides).any()


def merge_groups(groups: WarmGroups, spread: float, sides: tuple[int, int]) -> WarmGroups:
    """Merge groups that share a region and a velocity, as far as one fit can hold their targets.

    Where it cannot, a group all of whose targets are within DUPLICATE_PX of a brighter group's, or within an extended one's
    light, is dropped: both follow the same light. Where a fit holds one target, such groups are not told apart by their
    velocities either.

    spread: standard deviation of the velocities within a group, px a frame; sides: x, y px of the patches.
    """
    if (groups.region[1:] != groups.region[:-1]).all():
        return groups
    velocity = groups.warm_start.mean()[:, 2:4]
    same_velocity = np.linalg.norm(velocity[:, None] - velocity, axis=-1) < MERGE_SPEEDS * spread
    if groups.warm_start.solutions.shape[2] == 1:
        same_velocity[:] = True
    for one, other in np.argwhere(np.triu(same_velocity & (groups.region[:, None] == groups.region), 1)):
        targets = np.concatenate([groups.warm_start.targets(one), groups.warm_start.targets(other)])
        xy, most = targets[:, :2], groups.warm_start.solutions.shape[2]
        if (
            len(targets) <= most
            and (xy > MERGE_MARGIN_PX - 0.5).all()
            and (xy < np.array(sides) - 0.5 - MERGE_MARGIN_PX).all()
        ):
            kept = np.delete(np.arange(len(groups.region)), other)
            return merge_groups(
                groups._replace(warm_start=groups.warm_start.with_targets(one, targets)).of(kept), spread, sides
            )
        if len(targets) > most and (fainter := _fainter_duplicate(groups.warm_start, one, other)) is not None:
            return merge_groups(groups.of(np.delete(np.arange(len(groups.region)), fainter)), spread, sides)
    return groups


def _fainter_duplicate(warm_start: WarmStart, one: int, other: int) -> int | None:
    """The row of the fainter of two groups that follow the same light; None where one of its targets is another."""
    light = [warm_start.targets(row)[:, 4].sum() for row in (one, other)]
    fainter, brighter = (one, other) if light[0] < light[1] else (other, one)
    a, b = warm_start.targets(fainter)[:, None, :2], warm_start.targets(brighter)[:, :2]
    reach = DUPLICATE_PX + warm_start.extent[[fainter, brighter]].max()
    if not len(b) or (np.linalg.norm(a - b, axis=-1).min(axis=1) > reach).any():
        return None
    return fainter
