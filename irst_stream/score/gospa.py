"""GOSPA: generalised optimal sub-pattern assignment, with alpha = 2, split into its three parts."""

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
    found, real = (Ragged.of([np.asarray(xy)[..., :2] for xy in side], (2,), "xy") for side in (detections, truths))
    return mean_gospa(gospa_parts(found.count, real, Pairs.within(found, real, cutoff), cutoff, p), p)


def mean_gospa(parts: Floats, p: float = 2.0) -> Gospa:
    """The means over I images of their parts (I, 3), as gospa_parts gives them. No images: all NaN."""
    if not len(parts):
        return Gospa(np.nan, np.nan, np.nan, np.nan)
    return Gospa(float(np.mean(parts.sum(1) ** (1 / p))), *map(float, parts.mean(0)))


def gospa_parts(found: Ints, real: Ragged, pairs: Pairs, cutoff: float = 1.0, p: float = 2.0) -> Floats:
    """(I, 3) px^p: localisation, missed and false of each of I images.

    found (I,): how many were found in each; pairs: all of them, by row, with all that is real, no farther than cutoff.
    """
    gain = cutoff**p - pairs.distance**p  # what is saved by pairing two that would be missed and false
    some = np.flatnonzero(gain > 0)
    taken = some[best_pairs(pairs.truth[some], pairs.detection[some], gain[some])]
    image = real.image[pairs.truth[taken]]
    near = np.bincount(image, minlength=len(found))
    localisation = np.bincount(image, pairs.distance[taken] ** p, minlength=len(found))
    lost = cutoff**p / 2
    return np.column_stack([localisation, lost * (real.count - near), lost * (found - near)])
