"""Whose a target is that several regions see: theirs whose middle is nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irst_stream.fit.groups import overlapping
from irst_stream.fit.region_targets import RegionTargets
from irst_stream.types import Ints, Window

__all__ = ["moved_to_nearest", "of_nearest"]


def of_nearest(window: Window, found: Sequence[RegionTargets]) -> list[RegionTargets]:
    """What each region's own answer says of the targets that are its own: what is said twice is left once."""
    if not _overlaps(window):
        return list(found)
    return [f.of(_nearest(window, f, k) == k) for k, f in enumerate(found)]


def moved_to_nearest(window: Window, found: Sequence[RegionTargets]) -> list[RegionTargets]:
    """What was found once, whichever region's answer it is in, each target in the answer of the region whose own it is."""
    if not _overlaps(window):
        return list(found)
    owner = [_nearest(window, f, k) for k, f in enumerate(found)]
    moved = []
    for k, corner in enumerate(window.corners):
        parts = [f.of(o == k) for f, o in zip(found, owner, strict=True)]
        parts = [p._replace(xy=p.xy + there - corner) for p, there in zip(parts, window.corners, strict=True)]
        moved.append(RegionTargets.joined(parts))
    return moved


def _overlaps(window: Window) -> bool:
    return bool(overlapping(window.corners, window.patches.shape[:1:-1]).any())


def _nearest(window: Window, found: RegionTargets, region: int) -> Ints:
    """(K,): the row of the region whose middle is nearest to each target found in this one."""
    away = found.xy[:, None] + window.corners[region] - window.corners - (np.array(window.patches.shape[:1:-1]) - 1) / 2
    return np.asarray((away**2).sum(-1).argmin(1))
