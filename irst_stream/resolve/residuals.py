"""What real light leaves over: detections in the misfit of a brighter one, and regions that barely pass the threshold."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.region_targets import RegionTargets
from irst_stream.types import Detections

__all__ = ["probability_of", "weigh_by_strength", "without_residuals"]

RESIDUAL_REACH_PX = 7.0  # the PSF's misfit reaches so far
RESIDUAL_FACTOR = 2.5  # model errors: light up to this share of a brighter target's may be its misfit
FALL_OFF = 0.15  # of the threshold: false alarms become fewer by a factor e with each such step


def weigh_by_strength(found: RegionTargets, strength: float) -> RegionTargets:
    """Multiply a region's probabilities by that of its light being of a target; strength: see Window, NaN for unknown.

    Half at the threshold; the odds of a false alarm fall exponentially above it.
    """
    if math.isnan(strength):
        return found
    return found._replace(probability=found.probability * probability_of(strength))


def probability_of(strength: float) -> float:
    """Return the probability that a light of this strength is of a target: half at the threshold."""
    return 1 / (1 + math.exp(-(min(strength, 10.0) - 1) / FALL_OFF))


def without_residuals(detections: Detections, model_error: float) -> Detections:
    """Drop the detections that may be the misfit of a brighter one nearby; model_error: the PSF's, a share of the peak."""
    if model_error == 0 or len(detections) < 2:
        return detections
    apart = np.hypot(*(detections.xy[:, None] - detections.xy[None]).T)
    light = detections.amplitude
    brighter = light[None].T * RESIDUAL_FACTOR * model_error > light[None]
    residual = (apart < RESIDUAL_REACH_PX) & brighter
    return detections.of(~residual.any(axis=0)) if residual.any() else detections
