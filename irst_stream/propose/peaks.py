"""The peaks of a filter's response: which are strong enough, and which are near tracks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats

__all__ = ["TAIL_MARGIN", "FilterPeaks", "is_near", "max_by_chance", "raised_threshold"]

TRACKED_RADIUS_PX = 4.0  # along each axis: a peak this near to a track counts from a lower threshold
TAIL_MARGIN = 1.15  # the few strongest dips exceed what the dips' mean predicts


class FilterPeaks(NamedTuple):
    """One filter's peaks, xy (K, 2) px and strength (K,), and the strengths (M,) of the dips beyond the threshold.

    left_out: the number of peaks and dips that were not examined.
    """

    xy: Floats
    strength: Floats
    dips: Floats
    left_out: int

    def above(self, threshold: Floats, tracked_threshold: float, tracked: Floats) -> tuple[Floats, Floats]:
        """Return the peaks above the threshold (K,) of each, and their strength in units of it.

        tracked (M, 2) px: places of tracks, about which the lower tracked_threshold counts.
        """
        keep = self.strength > threshold
        keep |= is_near(self.xy, tracked) & (self.strength > tracked_threshold)
        return self.xy[keep], self.strength[keep] / threshold[keep]


def is_near(xy: NDArray[Any], tracked: Floats) -> NDArray[np.bool_]:
    """Tell which places (K, 2) px are near those (M, 2) px of tracks."""
    if not len(tracked) or not len(xy):
        return np.zeros(len(xy), np.bool_)
    return np.asarray(np.abs(xy[:, None] - tracked).max(axis=2).min(axis=1) < TRACKED_RADIUS_PX)


def raised_threshold(base: float, dips: Floats, allowed: float) -> float:
    """Return the threshold for peaks: base, or a higher one where there are more dips than noise explains.

    dips (M,): their strengths, taken to fall off exponentially above base; the higher threshold leaves `allowed` of them.
    """
    if len(dips) <= max_by_chance(allowed):
        return base
    return float(base + TAIL_MARGIN * (dips - base).mean() * np.log(len(dips) / allowed))


def max_by_chance(expected: float) -> float:
    """Return the largest count that chance explains where that many are expected: about two standard deviations above."""
    return float(1 + expected + 2 * np.sqrt(expected))
