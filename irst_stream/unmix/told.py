"""Describe the sensor to a network by constant planes that follow a window's patches; unknown values are flagged unknown.

Noise and brightness are relative to the network's light scale, so sensors that differ only in gain get the same planes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats
from irst_stream.unmix.engine import LIGHT_UNIT_DN, MIN_PEAK_DN, EngineManifest

__all__ = ["UNKNOWN_SENSOR", "SensorFacts", "sensor_planes", "with_sensor_planes"]

SensorFacts = tuple[
    float, float, float, float
]  # noise DN, PSF sigma px, mean and sd of targets' amplitudes DN; NaN: unknown
UNKNOWN_SENSOR: SensorFacts = (np.nan, np.nan, np.nan, np.nan)
TYPICAL_SIGMA_PX = 0.5  # maps to 0 in the plane of the PSF's sigma
MIN_RATIO = 1e-6  # keeps logarithms finite


def sensor_planes(facts: Floats, scale: Floats, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Turn sensor facts (B, 4), NaN where unknown, and light scales (B,) DN into planes (B, 7, h, w), constant per patch.

    Noise and PSF sigma take two planes each, a flag (1 if known) and the value; the amplitudes take three, a flag and the
    values of their mean and standard deviation. A value is 0 where it is unknown.
    """
    noise, sigma, mean, deviation = np.asarray(facts, np.float64).T
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            (noise, np.log(np.maximum(noise / scale, MIN_RATIO)) / 3),
            (sigma, 4 * (sigma - TYPICAL_SIGMA_PX)),
            (mean, np.log(np.maximum(mean / scale, MIN_RATIO))),
            (mean, np.log(np.maximum(deviation / np.maximum(mean, MIN_RATIO), MIN_RATIO)) / 2),
        ]
    known = [np.isfinite(given) & np.isfinite(value) for given, value in columns]
    values = [np.where(there, value, 0.0) for there, (_, value) in zip(known, columns, strict=True)]
    planes = np.stack([known[0], values[0], known[1], values[1], known[2], values[2], values[3]], axis=1)
    return np.broadcast_to(planes.astype(np.float32)[:, :, None, None], (*planes.shape, *shape))


def with_sensor_planes(windows: NDArray[np.float32], facts: Floats, manifest: EngineManifest) -> NDArray[np.float32]:
    """Append the planes of sensor facts (B, 4) to windows (B, 5, h, w) DN, giving (B, 12, h, w).

    Windows of an engine whose network takes no such planes are returned unchanged.
    """
    if not manifest.told:
        return windows
    unit = np.full(len(windows), LIGHT_UNIT_DN)
    scale = unit if manifest.scale == "none" else windows.max(axis=(1, 2, 3), initial=MIN_PEAK_DN).astype(np.float64)
    return np.concatenate([windows, sensor_planes(facts, scale, (windows.shape[2], windows.shape[3]))], axis=1)
