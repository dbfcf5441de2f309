"""Fine maps, claims, or a window's images themselves, to detections. The fit stands in resolve.fit, since it compiles."""

from irst_stream.resolve.cells import THRESHOLD, read_cells, read_peaks
from irst_stream.resolve.claims import ClaimSettings, read_claims

__all__ = ["THRESHOLD", "ClaimSettings", "read_cells", "read_claims", "read_peaks"]
