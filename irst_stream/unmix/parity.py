"""Compare the outputs of two backends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.protocols import Unmixer
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import WINDOW, EngineManifest
from irst_stream.unmix.told import UNKNOWN_SENSOR, with_sensor_planes

__all__ = ["difference_on_noise", "largest_differences"]


def largest_differences(got: Unmixed, expected: Unmixed) -> dict[str, float]:
    """Return the largest absolute difference of "map" and of "claims", each as a fraction of the expected range.

    Every claim channel is divided by its own range; a probability's range counts as at least 1. Empty arrays differ by 0.
    """
    return {
        "map": _largest_difference(got.map, expected.map, channel_axis=None),
        "claims": _largest_difference(got.claims, expected.claims, channel_axis=1),
    }


def difference_on_noise(unmixer: Unmixer, oracle: Unmixer, manifest: EngineManifest, count: int = 8) -> float:
    """Return the largest difference of two backends on `count` windows of noise, as a fraction of the expected range.

    A map that the first one withholds (NaN) is left out. NaN in anything else gives NaN.
    """
    drawn = np.random.default_rng(0).uniform(0, 250, (count, WINDOW, *manifest.patch)).astype(np.float32)
    windows = np.ascontiguousarray(with_sensor_planes(drawn, np.tile(UNKNOWN_SENSOR, (count, 1)), manifest))
    places = np.tile(np.arange(WINDOW), (count, 1))
    got, expected = (_run(one, drawn, windows, places) for one in (unmixer, oracle))
    differences = largest_differences(got, expected)
    if np.isnan(got.map).all() and got.claims.size:
        del differences["map"]
    return float(np.max(list(differences.values())))


def _run(unmixer: Unmixer, patches: NDArray[np.float32], windows: NDArray[np.float32], places: Ints) -> Unmixed:
    maps = list(unmixer.unfold(patches.reshape(-1, *patches.shape[2:])))
    return unmixer.fuse([maps[k : k + WINDOW] for k in range(0, len(maps), WINDOW)], windows, places)


def _largest_difference(got: NDArray[Any], expected: NDArray[Any], channel_axis: int | None) -> float:
    if not got.size:
        return 0.0
    axes = tuple(k for k in range(got.ndim) if k != channel_axis)
    span = np.ptp(expected, axis=axes, keepdims=True)
    if channel_axis is not None:
        span[:, 0] = np.maximum(span[:, 0], 1)  # the first channel is a probability
    return float((np.abs(got - expected) / np.maximum(span, 1e-9)).max())
