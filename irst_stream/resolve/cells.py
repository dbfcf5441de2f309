"""The readout the field uses: every fine cell that reaches a threshold is a detection at the cell's centre."""

from __future__ import annotations

import numpy as np

from irst_stream.optics import FineGrid
from irst_stream.types import Detections, Floats, Stamp

__all__ = ["THRESHOLD", "read_cell_centres"]

THRESHOLD = 70.0  # DN, the reference's


def read_cell_centres(stamp: Stamp, fine_map: Floats, grid: FineGrid, threshold: float = THRESHOLD) -> Detections:
    """A fine map (H c, W c) DN to one detection for each cell at or above the threshold, scored by its value.

    Positions are cell centres in px of the patch; there is no covariance. A map without such a cell gives none.
    """
    row, column = np.nonzero(fine_map >= threshold)
    value = fine_map[row, column]
    return Detections.bare(stamp, grid.centres[row, column], value, value)
