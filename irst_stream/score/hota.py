"""HOTA: higher order tracking accuracy, of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import Encounters
from irst_stream.types import Floats, Ints

__all__ = ["Hota", "hota"]

ALPHAS = np.arange(0.05, 0.99, 0.05)
TOLERANCE = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True)
class Hota:
    """Means over the thresholds ALPHAS, all fractions of 1, higher is better.

    hota: the geometric mean of det_a and ass_a at each threshold; det_a, det_re, det_pr: accuracy, recall and precision of
    presence, whoever it is; ass_a, ass_re, ass_pr: of identity, over the pairs that are right in place; loc_a: the mean
    similarity of those pairs.
    """

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    det_re: float
    det_pr: float
    ass_re: float
    ass_pr: float


def hota(met: Encounters) -> Hota:
    """Luiten et al. 2021, with the similarity 1 - distance / radius, which is 0 from the radius on.

    So a threshold alpha accepts pairs within (1 - alpha) radius. As in TrackEval, identities that overlap most over all
    frames are paired first, several sequences count as if their sums were taken, and where no pair is right at a threshold,
    its ass_a is 0 and its loc_a 1. Neither truth nor tracks: all NaN.
    """
    real, found = met.real, met.found
    if not len(real.path) + len(found.path):
        return Hota(*[np.nan] * 8)
    near = met.pairs.distance < met.radius
    truth, track = met.pairs.truth[near], met.pairs.detection[near]
    similarity = 1 - met.pairs.distance[near] / met.radius
    couple, couples = _couples(real.path[truth], found.path[track], len(found.sequence))
    apart = real.length[couples[:, 0]] + found.length[couples[:, 1]]  # frames of both, those they share counted twice
    overlap = np.bincount(couple, _shares(truth, track, similarity), minlength=len(couples))
    aligned = overlap / (apart - overlap)
    taken = best_pairs(truth, track, aligned[couple] * similarity)
    at = [_at(alpha, couple[taken], similarity[taken], couples, real.length, found.length) for alpha in ALPHAS - TOLERANCE]
    return Hota(*map(float, np.mean(at, axis=0)))


def _couples(left: Ints, right: Ints, rights: int) -> tuple[Ints, Ints]:
    """(K,) which couple of identities each pair is of, and the couples (C, 2)."""
    key, couple = np.unique(left * max(rights, 1) + right, return_inverse=True)
    return couple, np.column_stack(np.divmod(key, max(rights, 1)))


def _shares(truth: Ints, track: Ints, similarity: Floats) -> Floats:
    """(K,): each pair's similarity over that of all pairs which either of the two is in."""
    by_truth, by_track = np.bincount(truth, similarity), np.bincount(track, similarity)
    return np.asarray(similarity / (by_truth[truth] + by_track[track] - similarity))


def _at(alpha: float, couple: Ints, similarity: Floats, couples: Ints, real: Ints, found: Ints) -> tuple[float, ...]:
    """What Hota lists, at one threshold; couple and similarity (M,) of the matched, real and found (P,) frames of each."""
    right = similarity >= alpha
    true, truths, tracks = int(right.sum()), int(real.sum()), int(found.sum())
    count = np.bincount(couple[right], minlength=len(couples))
    ofs = real[couples[:, 0]], found[couples[:, 1]]
    ass_a, ass_re, ass_pr = (
        float(np.sum(count * count / whole)) / max(true, 1) for whole in (ofs[0] + ofs[1] - count, *ofs)
    )
    det_a = true / (truths + tracks - true)
    loc_a = float(similarity[right].sum()) / true if true else 1.0
    return (
        (det_a * ass_a) ** 0.5,
        det_a,
        ass_a,
        loc_a,
        true / max(truths, 1),
        true / max(tracks, 1),
        ass_re,
        ass_pr,
    )
