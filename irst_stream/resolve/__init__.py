"""Fine maps to detections."""

from irst_stream.resolve.cells import THRESHOLD, read_cell_centres

__all__ = ["THRESHOLD", "read_cell_centres"]
