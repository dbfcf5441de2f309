"""OSPA(2): one distance between the set of tracks and the set of true paths, identities included."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import Paths, TruthAndTracks

__all__ = ["ospa2"]


def ospa2(data: TruthAndTracks, p: float = 1.0) -> float:
    """Compute OSPA(2) (Beard, Vo, Vo 2017): the mean over sequences of the OSPA between sets of paths, px, 0 to the radius.

    The radius is the cut-off. The distance of two paths is the p-mean, over the frames in which either is present, of
    their distance; the cut-off replaces larger distances, and counts where one of the two is missing. Each sequence is one
    window. A sequence with neither truth nor tracks is 0; no sequence: NaN.
    """
    if not len(data.sequence):
        return np.nan
    worst = data.radius**p
    tracks = max(len(data.tracks.sequence), 1)
    key = data.truth.path[data.pairs.truth] * tracks + data.tracks.path[data.pairs.detection]
    couple, couple_of_pair = np.unique(key, return_inverse=True)
    target, track = np.divmod(couple, tracks)
    shared = _presence(data.truth, len(data.sequence)) @ _presence(data.tracks, len(data.sequence)).T
    either = data.truth.length[target] + data.tracks.length[track] - np.asarray(shared[target, track]).reshape(-1)
    gain = np.bincount(couple_of_pair, worst - data.pairs.distance**p, minlength=len(couple)) / either
    chosen = np.flatnonzero(gain > 0)
    chosen = chosen[best_pairs(target[chosen], track[chosen], gain[chosen])]
    sequences = int(data.sequence[-1]) + 1
    paths = [np.bincount(side.sequence, minlength=sequences) for side in (data.truth, data.tracks)]
    larger = np.maximum(*paths)
    saved = np.bincount(data.truth.sequence[target[chosen]], gain[chosen], minlength=sequences)
    cost = np.where(larger > 0, np.maximum(worst - saved / np.maximum(larger, 1), 0), 0)
    return float(np.mean(cost ** (1 / p)))


def _presence(paths: Paths, frames: int) -> csr_array:
    """(P, F): 1 where a path has a point in a frame."""
    ones = np.ones(len(paths.path), np.int64)
    return csr_array((ones, (paths.path, paths.points.image)), shape=(len(paths.sequence), frames))
