"""What a network is told of the sensor: constant planes that follow a window's patches; unknown values are marked unknown.

Light is counted in the network's scale, so a sensor of another gain is described by the same numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats
from irst_stream.unmix.engine import FAINTEST, UNIT, EngineManifest

__all__ = ["UNTOLD", "Told", "told_planes", "with_told"]

Told = tuple[float, float, float, float]  # noise DN, sigma px, mean and standard deviation of targets' amplitudes DN
UNTOLD: Told = (np.nan, np.nan, np.nan, np.nan)
USUAL_SIGMA = 0.5  # px
TINY = 1e-6


def told_planes(told: Floats, scale: Floats, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Told (B, 4), NaN where unknown, and scales (B,) DN to planes (B, 7, h, w), each constant over the patch.

    For noise, optics and brightness: whether it is known, then its value, 0 where it is not.
    """
    noise, sigma, mean, deviation = np.asarray(told, np.float64).T
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            (noise, np.log(np.maximum(noise / scale, TINY)) / 3),
            (sigma, 4 * (sigma - USUAL_SIGMA)),
            (mean, np.log(np.maximum(mean / scale, TINY))),
            (mean, np.log(np.maximum(deviation / np.maximum(mean, TINY), TINY)) / 2),
        ]
    known = [np.isfinite(given) & np.isfinite(value) for given, value in columns]
    values = [np.where(there, value, 0.0) for there, (_, value) in zip(known, columns, strict=True)]
    planes = np.stack([known[0], values[0], known[1], values[1], known[2], values[2], values[3]], axis=1)
    return np.broadcast_to(planes.astype(np.float32)[:, :, None, None], (*planes.shape, *shape))


def with_told(windows: NDArray[np.float32], told: Floats, manifest: EngineManifest) -> NDArray[np.float32]:
    """Windows (B, 5, h, w) DN as an engine's network takes them: followed by the planes of told (B, 4) if it takes any."""
    if not manifest.told:
        return windows
    usual = np.full(len(windows), UNIT)
    scale = usual if manifest.scale == "none" else windows.max(axis=(1, 2, 3), initial=FAINTEST).astype(np.float64)
    return np.concatenate([windows, told_planes(told, scale, (windows.shape[2], windows.shape[3]))], axis=1)
