"""Targets from a plain head's fine map, which holds each target's amplitude in its cell.

`read_cells` is the readout the field uses: every cell that reaches a threshold, at its centre. `read_peaks` merges cells
side by side that share one target's light, and places it at their centroid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.optics import FineGrid
from irst_stream.resolve.merge import merge

__all__ = ["THRESHOLD", "read_cells", "read_peaks"]

THRESHOLD = 70.0  # DN, the reference's
FAINTEST = 0.3  # of the threshold: cells below it hold no part of a target
BESIDE = 1.1  # cells: how far apart parts of one target are at most


def read_cells(fine_map: NDArray[np.floating], grid: FineGrid, threshold: float = THRESHOLD) -> RegionTargets:
    """A fine map (H c, W c) DN to one target for each cell at or above the threshold, at its centre, ranked by its value.

    There is no covariance. A map without such a cell gives none.
    """
    row, column = np.nonzero(fine_map >= threshold)
    value = np.asarray(fine_map[row, column], np.float64)
    unknown = np.full(len(value), np.nan)
    return RegionTargets.alone(grid.centres[row, column], np.full((len(value), 2, 2), np.nan), value, unknown, value)


def read_peaks(
    fine_map: NDArray[np.floating], grid: FineGrid, amplitude: float, threshold: float = THRESHOLD
) -> RegionTargets:
    """A fine map (H c, W c) DN to one target for each cell, or cells side by side, with the light of one, at the centroid.

    amplitude: what one target is known to have, DN; neighbours that hold much more together are on two. Targets whose light
    stays below the threshold are none. The covariance is that of a place anywhere in a cell; the amplitude is the light.
    """
    row, column = np.nonzero(fine_map >= FAINTEST * threshold)
    order = np.argsort(-fine_map[row, column], kind="stable")
    row, column = row[order], column[order]
    light, xy, pitch = np.asarray(fine_map[row, column], np.float64), grid.centres[row, column], 1 / grid.division
    if not len(light):
        return NO_TARGETS
    owner = merge(xy, light / amplitude, BESIDE * pitch)
    share = (owner == np.unique(owner)[:, None]) * light  # (targets, cells)
    total = share.sum(1)
    share, total = share[total >= threshold], total[total >= threshold]
    cov = np.broadcast_to(np.eye(2) * pitch**2 / 12, (len(total), 2, 2))
    unknown = np.full(len(total), np.nan)
    return RegionTargets.alone(share @ xy / total[:, None], cov, total, unknown, np.minimum(total / amplitude, 1))
