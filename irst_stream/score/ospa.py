"""OSPA(2): one distance between all tracks and all truth, identities included."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import Encounters, Paths

__all__ = ["ospa2"]


def ospa2(met: Encounters, p: float = 1.0) -> float:
    """Beard, Vo, Vo 2017, px, 0 to the radius, which is its cut-off: the mean over sequences of OSPA between sets of paths.

    Two paths are apart by the p-mean, over the frames in which either is there, of their distance, and of the cut-off where
    it is larger or where one of them is missing. Each sequence is one window. A sequence with neither truth nor tracks is
    0; no sequence: NaN.
    """
    if not len(met.sequence):
        return np.nan
    worst = met.radius**p
    tracks = max(len(met.found.sequence), 1)
    key = met.real.path[met.pairs.truth] * tracks + met.found.path[met.pairs.detection]
    couple, which = np.unique(key, return_inverse=True)
    target, track = np.divmod(couple, tracks)
    together = _presence(met.real, len(met.sequence)) @ _presence(met.found, len(met.sequence)).T
    either = met.real.length[target] + met.found.length[track] - np.asarray(together[target, track]).reshape(-1)
    nearer = np.bincount(which, worst - met.pairs.distance**p, minlength=len(couple)) / either
    some = np.flatnonzero(nearer > 0)
    some = some[best_pairs(target[some], track[some], nearer[some])]
    sequences = int(met.sequence[-1]) + 1
    paths = [np.bincount(side.sequence, minlength=sequences) for side in (met.real, met.found)]
    larger = np.maximum(*paths)
    saved = np.bincount(met.real.sequence[target[some]], nearer[some], minlength=sequences)
    left = np.where(larger > 0, np.maximum(worst - saved / np.maximum(larger, 1), 0), 0)
    return float(np.mean(left ** (1 / p)))


def _presence(paths: Paths, frames: int) -> csr_array:
    """(P, F): 1 where a path is there."""
    ones = np.ones(len(paths.path), np.int64)
    return csr_array((ones, (paths.path, paths.points.image)), shape=(len(paths.sequence), frames))
