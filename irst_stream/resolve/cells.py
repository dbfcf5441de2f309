"""Targets from a plain head's fine map, which holds each target's amplitude in its cell.

`read_cells` is the readout the field uses: every cell that reaches a threshold, at its centre. `read_peaks` asks for local
maxima only and places each at the centroid of the light around it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.optics import FineGrid
from irst_stream.resolve.found import Found

__all__ = ["THRESHOLD", "read_cells", "read_peaks"]

THRESHOLD = 70.0  # DN, the reference's
CROSS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # a cell and its four neighbours, rows and columns away


def read_cells(fine_map: NDArray[np.floating], grid: FineGrid, threshold: float = THRESHOLD) -> Found:
    """A fine map (H c, W c) DN to one target for each cell at or above the threshold, at its centre, ranked by its value.

    There is no covariance. A map without such a cell gives none.
    """
    row, column = np.nonzero(fine_map >= threshold)
    value = np.asarray(fine_map[row, column], np.float64)
    unknown = np.full(len(value), np.nan)
    return Found(grid.centres[row, column], np.full((len(value), 2, 2), np.nan), value, unknown, value)


def read_peaks(fine_map: NDArray[np.floating], grid: FineGrid, threshold: float = THRESHOLD) -> Found:
    """A fine map (H c, W c) DN to one target for each cell brighter than its four neighbours, at the centroid of the cross.

    A cell beside several maxima shares its light among them. Targets whose light stays below the threshold are none. The
    covariance is that of a place anywhere in a cell; the amplitude is the light gathered.
    """
    light = np.pad(np.maximum(fine_map.astype(np.float64), 0), 1)
    beside = [np.roll(light, (-down, -right), (0, 1)) for down, right in CROSS[1:]]
    peak = (light > 0) & (light > beside[0]) & (light >= beside[1]) & (light > beside[2]) & (light >= beside[3])
    sharers = np.maximum(sum(np.roll(peak, (down, right), (0, 1)).astype(int) for down, right in CROSS[1:]), 1)
    row, column = np.nonzero(peak)
    share = [np.where(peak, light, light / sharers)[row + down, column + right] for down, right in CROSS]
    total = np.sum(share, axis=0)
    pitch = 1 / grid.division
    moved = [sum(s * step for s, step in zip(share, steps, strict=True)) for steps in zip(*CROSS, strict=True)]
    xy = grid.centres[row - 1, column - 1] + pitch * np.stack(moved[::-1], axis=1) / np.maximum(total, 1e-9)[:, None]
    kept = total >= threshold
    cov = np.broadcast_to(np.eye(2) * pitch**2 / 12, (int(kept.sum()), 2, 2))
    sure = total[kept] / max(float(total.max(initial=0.0)), 1e-9)
    return Found(xy[kept], cov, total[kept], np.full(len(sure), np.nan), sure)
