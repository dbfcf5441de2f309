"""CSO-mAP: the mean, over five distances, of the average precision of detections ranked by score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.score.ragged import Pairs, Ragged
from irst_stream.types import Floats, Ints

__all__ = ["THRESHOLDS", "CsoMap", "MatchingMode", "cso_map", "match_nearest"]

THRESHOLDS = (0.05, 0.10, 0.15, 0.20, 0.25)  # px
MatchingMode = Literal["standard", "legacy"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CsoMap:
    """map: the mean of ap; ap (T,): average precision at each of thresholds (T,) px, as fractions of 1.

    curves: for each threshold the recall and precision (R,) after each detection in order of score. Without any truth,
    map, ap and the recalls are NaN.
    """

    map: float
    ap: Floats
    thresholds: Floats
    curves: tuple[tuple[Floats, Floats], ...]


def cso_map(
    detections: Sequence[Floats],
    truths: Sequence[Floats],
    thresholds: Sequence[float] = THRESHOLDS,
    mode: MatchingMode = "standard",
) -> CsoMap:
    """Score detections, one (m, 3) array of x, y, score for each image, against truths, (n, 2 or 3) of x, y.

    In each image detections are matched in order of falling score; equal scores keep their input order, within an image
    and between images. The mode decides which truth a detection takes:

    "standard"  it takes the nearest free truth in range; if there is none, it is false.
    "legacy"    as the reference scorer: it considers only its nearest truth of all, and is false if that one is taken or
                out of range, even if another free truth is in range. Positions and distances are 32-bit floats there,
                which decides cases on a threshold.

    Truths at x = 0 and x = 0.2, detections at 0.05 (score 2) and 0.08 (score 1), threshold 0.15: both detections are
    nearest to the first truth. The first takes it. The second is false by "legacy" (AP 0.5), and takes the free truth
    0.12 away by "standard" (AP 1).

    Defined where the reference crashes: all detections of an image without truths are false; one image alone, or no
    detection at all (AP 0), is scored like any other.
    """
    if len(detections) != len(truths):
        raise ValueError(f"expected one array of truths for each image, got {len(truths)} for {len(detections)} images")
    if mode not in ("standard", "legacy"):
        raise ValueError(f'mode: expected "standard" or "legacy", got {mode!r}')
    found, real = Ragged.of(detections, (3,), "detections"), Ragged.of(truths, (2, 3), "truths")
    limits = np.asarray(thresholds, np.float64)
    if not len(limits):
        raise ValueError("thresholds: expected at least one")
    precision = np.float32 if mode == "legacy" else np.float64
    pairs = Pairs.within(found, real, float(limits.max()), precision)
    match = _take_nearest if mode == "legacy" else _take_nearest_free
    hits = [match(found, len(real.rows), _pairs_within(pairs, precision(limit))) >= 0 for limit in limits]
    order = np.argsort(-_scores(found), kind="stable")
    curves = tuple(_precision_recall(hit[order], len(real.rows)) for hit in hits)
    ap = np.array([_average_precision(*curve) if len(real.rows) else np.nan for curve in curves])
    return CsoMap(float(ap.mean()), ap, limits, curves)


def match_nearest(detections: Sequence[Floats], truths: Sequence[Floats], reach: float) -> tuple[Ints, Ints]:
    """Match detections to truths within `reach` px as cso_map's "standard" mode does.

    Returns for each of P matches the row (P,) among all images' detections, concatenated, and the row among all truths.
    """
    found, real = Ragged.of(detections, (3,), "detections"), Ragged.of(truths, (2, 3), "truths")
    taken = _take_nearest_free(found, len(real.rows), Pairs.within(found, real, reach))
    matched = np.flatnonzero(taken >= 0)
    return matched, taken[matched]


def _precision_recall(hits: Bools, truths: int) -> tuple[Floats, Floats]:
    """Recall and precision after each detection; hits (R,), in order of score: whether each is true."""
    true = np.cumsum(hits, dtype=np.float64)
    recall = true / truths if truths else np.full(len(hits), np.nan)
    return recall, true / np.arange(1, len(hits) + 1)


def _average_precision(recall: Floats, precision: Floats) -> float:
    """The area under the precision envelope, over all points."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _scores(found: Ragged) -> Floats:
    """The detections' scores (R,); empty input may have lost its score column."""
    return found.rows[:, 2] if found.rows.shape[1] == 3 else np.zeros(0)


def _rows_by_score(found: Ragged) -> Ints:
    """(R,): the row numbers sorted by image, then by falling score, then by input order."""
    return np.lexsort((np.arange(len(found.rows)), -_scores(found), found.image))


def _pairs_within(pairs: Pairs, limit: np.floating[Any]) -> Pairs:
    near = pairs.distance <= limit
    return Pairs(pairs.detection[near], pairs.truth[near], pairs.distance[near])


def _take_nearest(found: Ragged, _: int, pairs: Pairs) -> Ints:
    """(R,): the truth that each detection takes, or -1; of detections with the same nearest truth the best score takes it.

    `pairs` holds only those in range, which is enough: the nearest truth of all, if in range, is the nearest in range.
    """
    order = np.lexsort((pairs.truth, pairs.distance, pairs.detection))
    detection, first = np.unique(pairs.detection[order], return_index=True)
    nearest = np.full(len(found.rows), -1)
    nearest[detection] = pairs.truth[order[first]]
    ranked = _rows_by_score(found)
    ranked = ranked[nearest[ranked] >= 0]
    truth, first = np.unique(nearest[ranked], return_index=True)
    taken = np.full(len(found.rows), -1)
    taken[ranked[first]] = truth
    return taken


def _take_nearest_free(found: Ragged, truths: int, pairs: Pairs) -> Ints:
    """(R,): the truth that each detection takes, or -1.

    Round k matches the k-th detection, by score, of every image at once.
    """
    taken = np.full(len(found.rows), -1)
    free = np.ones(truths, bool)
    rank = np.empty(len(found.rows), np.int64)  # within the detection's image
    rank[_rows_by_score(found)] = np.arange(len(found.rows)) - np.repeat(found.start, found.count)
    order = np.lexsort((pairs.truth, pairs.distance, pairs.detection, rank[pairs.detection]))
    detection, truth = pairs.detection[order], pairs.truth[order]
    rounds = np.flatnonzero(np.diff(rank[detection], prepend=-1, append=-1))
    for first, last in pairwise(rounds):
        candidates = first + np.flatnonzero(free[truth[first:last]])
        matched, nearest = np.unique(detection[candidates], return_index=True)
        taken[matched] = truth[candidates[nearest]]
        free[taken[matched]] = False
    return taken
