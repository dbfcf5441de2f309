"""Fine maps, or a window's images themselves, to detections. The fit stands in resolve.fit, since it compiles."""

from irst_stream.resolve.cells import THRESHOLD, read_cell_centres

__all__ = ["THRESHOLD", "read_cell_centres"]
