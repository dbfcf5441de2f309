"""HOTA: higher-order tracking accuracy of point targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irst_stream.score.matching import best_pairs
from irst_stream.score.paths import TruthAndTracks
from irst_stream.types import Floats, Ints

__all__ = ["Hota", "hota"]

ALPHAS = np.arange(0.05, 0.99, 0.05)
TOLERANCE = np.finfo(np.float64).eps  # accepts a similarity equal to the threshold, as TrackEval does


@dataclass(frozen=True, slots=True)
class Hota:
    """Means over the thresholds ALPHAS, all fractions of 1, higher is better.

    hota: geometric mean of det_a and ass_a at each threshold; det_a, det_re, det_pr: accuracy, recall and precision of
    detection, regardless of identity; ass_a, ass_re, ass_pr: of association, over the matched pairs; loc_a: mean
    similarity of the matched pairs.
    """

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    det_re: float
    det_pr: float
    ass_re: float
    ass_pr: float


def hota(data: TruthAndTracks) -> Hota:
    """Compute HOTA (Luiten et al. 2021) with the similarity max(1 - distance / radius, 0).

    A threshold alpha thus accepts pairs within (1 - alpha) radius. As in TrackEval, pairs of identities that overlap most
    over all frames are preferred, counts are summed over sequences, and at a threshold without a matched pair ass_a is 0
    and loc_a 1. Neither truth nor tracks: all NaN.
    """
    truth, tracks = data.truth, data.tracks
    if not len(truth.path) + len(tracks.path):
        return Hota(*[np.nan] * 8)
    near = data.pairs.distance < data.radius
    truth_row, track_row = data.pairs.truth[near], data.pairs.detection[near]
    similarity = 1 - data.pairs.distance[near] / data.radius
    couple, couples = _couples(truth.path[truth_row], tracks.path[track_row], len(tracks.sequence))
    total_length = truth.length[couples[:, 0]] + tracks.length[couples[:, 1]]  # shared frames count twice
    overlap = np.bincount(couple, _overlap_shares(truth_row, track_row, similarity), minlength=len(couples))
    alignment = overlap / (total_length - overlap)
    matched = best_pairs(truth_row, track_row, alignment[couple] * similarity)
    metrics = [
        _metrics_at(alpha, couple[matched], similarity[matched], couples, truth.length, tracks.length)
        for alpha in ALPHAS - TOLERANCE
    ]
    return Hota(*map(float, np.mean(metrics, axis=0)))


def _couples(target: Ints, track: Ints, tracks: int) -> tuple[Ints, Ints]:
    """The distinct (target, track) identities (C, 2) of K point pairs, and the index (K,) of each pair's couple in them."""
    key, couple = np.unique(target * max(tracks, 1) + track, return_inverse=True)
    return couple, np.column_stack(np.divmod(key, max(tracks, 1)))


def _overlap_shares(truth: Ints, track: Ints, similarity: Floats) -> Floats:
    """(K,): each pair's similarity divided by the summed similarity of all pairs that contain either of its points."""
    by_truth, by_track = np.bincount(truth, similarity), np.bincount(track, similarity)
    return np.asarray(similarity / (by_truth[truth] + by_track[track] - similarity))


def _metrics_at(
    alpha: float, couple: Ints, similarity: Floats, couples: Ints, truth_length: Ints, track_length: Ints
) -> tuple[float, ...]:
    """Hota's fields, in order, at one threshold.

    couple, similarity (M,): of the matched pairs; truth_length, track_length (P,): frames of each identity.
    """
    accepted = similarity >= alpha
    true, truths, points = int(accepted.sum()), int(truth_length.sum()), int(track_length.sum())
    count = np.bincount(couple[accepted], minlength=len(couples))
    lengths = truth_length[couples[:, 0]], track_length[couples[:, 1]]
    ass_a, ass_re, ass_pr = (
        float(np.sum(count * count / whole)) / max(true, 1) for whole in (lengths[0] + lengths[1] - count, *lengths)
    )
    det_a = true / (truths + points - true)
    loc_a = float(similarity[accepted].sum()) / true if true else 1.0
    return (
        (det_a * ass_a) ** 0.5,
        det_a,
        ass_a,
        loc_a,
        true / max(truths, 1),
        true / max(points, 1),
        ass_re,
        ass_pr,
    )
