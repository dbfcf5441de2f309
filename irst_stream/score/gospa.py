"""GOSPA: generalised optimal sub-pattern assignment with alpha = 2, and its three parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.score.matching import best_pairs
from irst_stream.score.ragged import Pairs, Ragged
from irst_stream.types import Floats, Ints

__all__ = ["Gospa", "gospa", "gospa_parts", "mean_gospa"]


@dataclass(frozen=True, slots=True)
class Gospa:
    """Means over images. total: the distance, px; localisation, missed, false: its parts, px^p.

    In each image total^p = localisation + missed + false; each missed target and each false detection costs
    cutoff^p / 2.
    """

    total: float
    localisation: float
    missed: float
    false: float


def gospa(detections: Sequence[Floats], truths: Sequence[Floats], cutoff: float = 1.0, p: float = 2.0) -> Gospa:
    """Compute the mean GOSPA of images; detections, truths: one (m, 2 or more) array of x, y px each. No images: all NaN.

    Rahmathullah, Garcia-Fernandez, Svensson 2017: the cost of the best assignment, in which a pair costs distance^p, a
    missed target and a false detection cutoff^p / 2 each.
    """
    if len(detections) != len(truths):
        raise ValueError(f"expected one array of truths for each image, got {len(truths)} for {len(detections)} images")
    found, real = (Ragged.of([np.asarray(xy)[..., :2] for xy in side], (2,), "xy") for side in (detections, truths))
    return mean_gospa(gospa_parts(found.count, real, Pairs.within(found, real, cutoff), cutoff, p), p)


def mean_gospa(parts: Floats, p: float = 2.0) -> Gospa:
    """Average the parts (I, 3) of I images, as gospa_parts returns them. No images: all NaN."""
    if not len(parts):
        return Gospa(np.nan, np.nan, np.nan, np.nan)
    return Gospa(float(np.mean(parts.sum(1) ** (1 / p))), *map(float, parts.mean(0)))


def gospa_parts(found: Ints, real: Ragged, pairs: Pairs, cutoff: float = 1.0, p: float = 2.0) -> Floats:
    """Compute (I, 3) px^p: localisation, missed and false part of each of I images.

    found (I,): number of detections in each; pairs: all pairs of detection and truth at most `cutoff` apart, by row.
    """
    gain = cutoff**p - pairs.distance**p  # against one missed target and one false detection
    useful = np.flatnonzero(gain > 0)
    taken = useful[best_pairs(pairs.truth[useful], pairs.detection[useful], gain[useful])]
    image = real.image[pairs.truth[taken]]
    matched = np.bincount(image, minlength=len(found))
    localisation = np.bincount(image, pairs.distance[taken] ** p, minlength=len(found))
    penalty = cutoff**p / 2
    return np.column_stack([localisation, penalty * (real.count - matched), penalty * (found - matched)])
