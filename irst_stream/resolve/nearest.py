"""Removes duplicates between overlapping regions: each target belongs to the region whose centre is nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irst_stream.fit.groups import overlapping
from irst_stream.fit.region_targets import RegionTargets
from irst_stream.types import Ints, Window

__all__ = ["keep_nearest", "reassign_to_nearest"]


def keep_nearest(window: Window, found: Sequence[RegionTargets]) -> list[RegionTargets]:
    """Drop from each region the targets that are nearer to another region's centre.

    Use it where every region reports all targets in its patch, so that targets in an overlap are reported twice.
    """
    if not _overlaps(window):
        return list(found)
    return [f.of(_nearest(window, f, k) == k) for k, f in enumerate(found)]


def reassign_to_nearest(window: Window, found: Sequence[RegionTargets]) -> list[RegionTargets]:
    """Move each target to the region whose centre is nearest, with its place in px of that region's patch.

    Use it where each target is reported by one region only.
    """
    if not _overlaps(window):
        return list(found)
    owner = [_nearest(window, f, k) for k, f in enumerate(found)]
    moved = []
    for k, corner in enumerate(window.corners):
        parts = [f.of(o == k) for f, o in zip(found, owner, strict=True)]
        parts = [p._replace(xy=p.xy + origin - corner) for p, origin in zip(parts, window.corners, strict=True)]
        moved.append(RegionTargets.joined(parts))
    return moved


def _overlaps(window: Window) -> bool:
    """Tell whether any two regions of the window overlap."""
    return len(window.corners) > 1 and bool(overlapping(window.corners, window.patches.shape[:1:-1]).any())


def _nearest(window: Window, found: RegionTargets, region: int) -> Ints:
    """Return, for each target found in a region, the row (K,) of the region whose centre is nearest."""
    offset = found.xy[:, None] + window.corners[region] - window.corners - (np.array(window.patches.shape[:1:-1]) - 1) / 2
    return np.asarray((offset**2).sum(-1).argmin(1))
