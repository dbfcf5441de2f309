"""Targets from a plain head's fine map, which holds each target's amplitude in its cell.

`read_cells` is the published readout: every cell that reaches a threshold is a target at the cell's centre. `read_peaks`
merges neighbouring cells that share one target's light, and places the target at their centroid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.optics import FineGrid
from irst_stream.resolve.merge import merge

__all__ = ["THRESHOLD", "read_cells", "read_peaks"]

THRESHOLD = 70.0  # DN, the reference implementation's
MIN_PART = 0.3  # of the threshold: a darker cell holds no part of a target
MERGE_CELLS = 1.1  # cells: the largest distance between parts of one target


def read_cells(fine_map: NDArray[np.floating], grid: FineGrid, threshold: float = THRESHOLD) -> RegionTargets:
    """Return one target at the centre of each cell of a fine map (H c, W c) DN at or above the threshold, DN.

    The score is the cell's value; the covariance is NaN. A map without such a cell gives no targets.
    """
    row, column = np.nonzero(fine_map >= threshold)
    value = np.asarray(fine_map[row, column], np.float64)
    unknown = np.full(len(value), np.nan)
    return RegionTargets.alone(grid.centres[row, column], np.full((len(value), 2, 2), np.nan), value, unknown, value)


def read_peaks(
    fine_map: NDArray[np.floating], grid: FineGrid, amplitude: float, threshold: float = THRESHOLD
) -> RegionTargets:
    """Merge neighbouring cells of a fine map (H c, W c) DN to targets at the centroids of their light.

    amplitude: the known amplitude of one target, DN; neighbours that together hold much more are two targets. Targets
    whose light stays below the threshold, DN, are dropped; none may be left. The amplitude reported is the light; the
    covariance is that of a uniform distribution over one cell.
    """
    row, column = np.nonzero(fine_map >= MIN_PART * threshold)
    order = np.argsort(-fine_map[row, column], kind="stable")
    row, column = row[order], column[order]
    light, xy, pitch = np.asarray(fine_map[row, column], np.float64), grid.centres[row, column], 1 / grid.division
    if not len(light):
        return NO_TARGETS
    owner = merge(xy, light / amplitude, MERGE_CELLS * pitch)
    share = (owner == np.unique(owner)[:, None]) * light  # (targets, cells)
    total = share.sum(1)
    share, total = share[total >= threshold], total[total >= threshold]
    cov = np.broadcast_to(np.eye(2) * pitch**2 / 12, (len(total), 2, 2))
    unknown = np.full(len(total), np.nan)
    return RegionTargets.alone(share @ xy / total[:, None], cov, total, unknown, np.minimum(total / amplitude, 1))
