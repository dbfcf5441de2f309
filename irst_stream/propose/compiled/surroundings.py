"""How far peaks stand above all their surroundings, which tells a point from an edge or a line. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = ["heights_above_surroundings"]

NEAREST_PX, FARTHEST_PX = 3, 6  # distances at which a peak's surroundings are looked at
DIAGONAL = 0.70710678


@compiled
def heights_above_surroundings(light, at, sign):  # type: ignore[no-untyped-def]
    """Compute (K,): how far each peak rises above the brightest of its surroundings, of its height over their median.

    light (H, W) DN; at (K,): flat indices of the peaks; sign: -1 for dips. The surroundings are means of 3 x 3 px in the
    eight directions within the frame at one distance; the distance that shows the peak best counts, of NEAREST_PX to
    FARTHEST_PX. A point has nearly 1; an edge or a line, which goes on in some direction, nearly 0.
    """
    shares, ring = np.empty(len(at)), np.empty(8)
    height, width = light.shape
    for k in range(len(at)):
        row, column = at[k] // width, at[k] % width
        peak = -np.inf
        for r in range(row - 1, row + 2):
            for c in range(column - 1, column + 2):
                peak = max(peak, _mean_around(light, r, c, sign))
        best = 0.0
        for distance in range(NEAREST_PX, FARTHEST_PX + 1):
            slant = round(distance * DIAGONAL)
            n = 0
            for dr in (-1, 0, 1):
                for dc in (-1, 0, 1):
                    step = slant if dr != 0 and dc != 0 else distance
                    r, c = row + dr * step, column + dc * step
                    if (dr != 0 or dc != 0) and 0 <= r < height and 0 <= c < width:
                        ring[n] = _mean_around(light, r, c, sign)
                        n += 1
            known = np.sort(ring[:n])
            if n and peak > known[n // 2]:
                best = max(best, (peak - known[n - 1]) / (peak - known[n // 2]))
        shares[k] = best
    return shares


@compiled
def _mean_around(light, row, column, sign):  # type: ignore[no-untyped-def]
    """Mean of the 3 x 3 px about a pixel, times sign; at the frame's border, of those nearest to it."""
    height, width = light.shape
    row, column = min(max(row, 1), height - 2), min(max(column, 1), width - 2)
    total = 0.0
    for r in range(row - 1, row + 2):
        for c in range(column - 1, column + 2):
            total += light[r, c]
    return sign * total / 9
