"""GOSPA: generalised optimal sub-pattern assignment, with alpha = 2, split into its three parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from irst_stream.types import Floats

__all__ = ["Gospa", "gospa"]


@dataclass(frozen=True, slots=True)
class Gospa:
    """Means over images. total, px: the distance; localisation, missed, false: its parts to the p-th power, px^p.

    In each image total^p = localisation + missed + false, with missed and false at cutoff^p / 2 each target.
    """

    total: float
    localisation: float
    missed: float
    false: float


def gospa(detections: Sequence[Floats], truths: Sequence[Floats], cutoff: float = 1.0, p: float = 2.0) -> Gospa:
    """Mean GOSPA of images: detections and truths one (m, 2 or more) array of x, y px each. No images: all NaN.

    Rahmathullah, Garcia-Fernandez, Svensson 2017: the best assignment, in which a pair costs distance^p, a missed
    target and a false detection cutoff^p / 2 each.
    """
    if len(detections) != len(truths):
        raise ValueError(f"expected one array of truths for each image, got {len(truths)} for {len(detections)} images")
    if not detections:
        return Gospa(np.nan, np.nan, np.nan, np.nan)
    parts = np.array([_parts(d, t, cutoff, p) for d, t in zip(detections, truths, strict=True)])
    return Gospa(float(np.mean(parts.sum(1) ** (1 / p))), *map(float, parts.mean(0)))


def _parts(detections: Floats, truths: Floats, cutoff: float, p: float) -> tuple[float, float, float]:
    """Localisation, missed and false of one image."""
    lost = cutoff**p / 2
    if not len(detections) or not len(truths):
        return 0.0, lost * len(truths), lost * len(detections)
    cost = np.linalg.norm(truths[:, None, :2] - detections[None, :, :2], axis=-1)
    cost = np.minimum(cost, cutoff) ** p
    paired = cost[linear_sum_assignment(cost)]
    near = paired < cutoff**p
    pairs = int(near.sum())
    return float(paired[near].sum()), lost * (len(truths) - pairs), lost * (len(detections) - pairs)
