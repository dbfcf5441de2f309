"""The pass that corrects each pixel of a frame. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = ["correct_pixels"]


@compiled
def correct_pixels(pixels, gain, offset, full_scale, largest, corrected):  # type: ignore[no-untyped-def]
    """Fill corrected (H, W) float32 with gain x pixel + offset, DN.

    pixels (H, W); gain, offset (H, W): NaN at bad pixels. A pixel at or above full_scale stays at it, and no other reaches
    it: largest is the next number below.
    """
    for r in range(len(corrected)):
        source, times, plus, out = pixels[r], gain[r], offset[r], corrected[r]
        for c in range(len(out)):
            raw = np.float32(source[c])
            value = min(times[c] * raw + plus[c], largest)
            out[c] = full_scale if raw >= full_scale and times[c] == times[c] else value
