"""How far two backends' answers are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Unmixed

__all__ = ["apart"]


def apart(got: Unmixed, expected: Unmixed) -> dict[str, float]:
    """The largest difference of "map" and "claims" in shares of the expected range.

    Of claims, each kind's own range, a probability's being 1 at least.
    """
    return {"map": _apart(got.map, expected.map, 0), "claims": _apart(got.claims, expected.claims, 1)}


def _apart(got: NDArray[Any], expected: NDArray[Any], kinds: int) -> float:
    if not got.size:
        return 0.0
    axes = tuple(k for k in range(got.ndim) if k != kinds or not kinds)
    span = np.ptp(expected, axis=axes, keepdims=True)
    if kinds:
        span[:, 0] = np.maximum(span[:, 0], 1)
    return float((np.abs(got - expected) / np.maximum(span, 1e-9)).max())
