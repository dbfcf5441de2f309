"""Fine maps, claims, or a window's images themselves, to detections. The fit stands in resolve.fit, since it compiles."""

from irst_stream.resolve.cells import THRESHOLD, read_cell_centres
from irst_stream.resolve.claims import ClaimSettings, read_claims

__all__ = ["THRESHOLD", "ClaimSettings", "read_cell_centres", "read_claims"]
