"""IDF1: how long each target kept the one track that follows it best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import Encounters

__all__ = ["Identity", "identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """idf1, idp, idr: F-score, precision and recall, fractions of 1, NaN where there is nothing to divide by.

    true, false, missed: points of tracks and truth, with idp = true / (true + false), idr = true / (true + missed).
    """

    idf1: float
    idp: float
    idr: float
    true: int
    false: int
    missed: int


def identity(met: Encounters) -> Identity:
    """Ristani et al. 2016: each target is given at most one track for its whole life, so that most points are true.

    A point is true where target and its track are within the radius. Equals py-motmetrics and TrackEval.
    """
    tracks = max(len(met.found.sequence), 1)
    key = met.real.path[met.pairs.truth] * tracks + met.found.path[met.pairs.detection]
    couple, shared = np.unique(key, return_counts=True)
    target, track = np.divmod(couple, tracks)
    true = int(shared[best_pairs(target, track, shared.astype(np.float64))].sum())
    real, found = len(met.real.path), len(met.found.path)
    return Identity(
        _ratio(2 * true, real + found), _ratio(true, found), _ratio(true, real), true, found - true, real - true
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
