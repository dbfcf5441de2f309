"""IDF1: for how long each target is followed by the one track that fits it best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import TruthAndTracks

__all__ = ["Identity", "identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """idf1, idp, idr: F-score, precision and recall of identities, fractions of 1, NaN where the denominator is 0.

    true, false, missed: numbers of points, with idp = true / (true + false), idr = true / (true + missed).
    """

    idf1: float
    idp: float
    idr: float
    true: int
    false: int
    missed: int


def identity(data: TruthAndTracks) -> Identity:
    """Compute the identity metrics of Ristani et al. 2016.

    Each target is assigned at most one track for its whole life, so that the number of true points is largest; a point is
    true where the target and its track are within the radius. Equals py-motmetrics and TrackEval.
    """
    tracks = max(len(data.tracks.sequence), 1)
    key = data.truth.path[data.pairs.truth] * tracks + data.tracks.path[data.pairs.detection]
    couple, shared = np.unique(key, return_counts=True)
    target, track = np.divmod(couple, tracks)
    true = int(shared[best_pairs(target, track, shared.astype(np.float64))].sum())
    truths, points = len(data.truth.path), len(data.tracks.path)
    return Identity(
        _ratio(2 * true, truths + points), _ratio(true, points), _ratio(true, truths), true, points - true, truths - true
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
