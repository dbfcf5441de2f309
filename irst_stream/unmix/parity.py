"""Compare the outputs of two backends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Unmixed

__all__ = ["largest_differences"]


def largest_differences(got: Unmixed, expected: Unmixed) -> dict[str, float]:
    """Return the largest absolute difference of "map" and of "claims", each as a fraction of the expected range.

    Every claim channel is divided by its own range; a probability's range counts as at least 1. Empty arrays differ by 0.
    """
    return {
        "map": _largest_difference(got.map, expected.map, channel_axis=None),
        "claims": _largest_difference(got.claims, expected.claims, channel_axis=1),
    }


def _largest_difference(got: NDArray[Any], expected: NDArray[Any], channel_axis: int | None) -> float:
    if not got.size:
        return 0.0
    axes = tuple(k for k in range(got.ndim) if k != channel_axis)
    span = np.ptp(expected, axis=axes, keepdims=True)
    if channel_axis is not None:
        span[:, 0] = np.maximum(span[:, 0], 1)  # the first channel is a probability
    return float((np.abs(got - expected) / np.maximum(span, 1e-9)).max())
