"""From the equations of single frames to those of a window. Compiled."""

from __future__ import annotations

from irst_stream.system.numba_cache import compiled

__all__ = ["MIN_EXCESS", "add_frame"]

MIN_EXCESS = 1e-2  # of a pixel's curvature: smaller excesses are not corrected


@compiled
def add_frame(time, frame_matrix, frame_vector, matrix, vector):  # type: ignore[no-untyped-def]
    """Add one frame's equations by (x, y, a) to those by (x, y, vx, vy, a), where d/dv = time d/dx."""
    targets = len(frame_vector) // 3
    for i in range(targets):
        for u in range(3):
            p = 5 * i + (u if u < 2 else 4)
            vector[p] += frame_vector[3 * i + u]
            if u < 2:
                vector[p + 2] += time * frame_vector[3 * i + u]
            for j in range(targets):
                for v in range(3):
                    q = 5 * j + (v if v < 2 else 4)
                    share = frame_matrix[3 * i + u, 3 * j + v]
                    matrix[p, q] += share
                    if u < 2:
                        matrix[p + 2, q] += time * share
                    if v < 2:
                        matrix[p, q + 2] += time * share
                    if u < 2 and v < 2:
                        matrix[p + 2, q + 2] += time * time * share
