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

__all__ = ["THRESHOLDS", "CsoMap", "Mode", "cso_map", "match_nearest"]

THRESHOLDS = (0.05, 0.10, 0.15, 0.20, 0.25)  # px
Mode = Literal["standard", "legacy"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CsoMap:
    """map: the mean of ap; ap (T,) average precision at each of thresholds (T,) px, fractions of 1.

    curves: for each threshold the recall and precision (R,) after each detection in order of score. Without a single
    truth all of these are NaN.
    """

    map: float
    ap: Floats
    thresholds: Floats
    curves: tuple[tuple[Floats, Floats], ...]


def cso_map(
    detections: Sequence[Floats],
    truths: Sequence[Floats],
    thresholds: Sequence[float] = THRESHOLDS,
    mode: Mode = "standard",
) -> CsoMap:
    """Scores detections, one (m, 3) array of x, y, score for each image, against truths, (n, 2 or 3) of x, y.

    In each image detections are taken by falling score; equal scores keep the order they are given in, within an image
    and between images. What a detection counts as depends on the mode:

    "standard"  it takes the nearest truth in range that is still free; with none, it is false.
    "legacy"    as the reference scorer: it looks only at its nearest truth of all, and is false when that one is taken
                or out of range, even if another free truth is in range. Positions and distances are 32-bit floats
                there, which decides cases on a threshold.

    Truths at x = 0 and x = 0.2, detections at 0.05 (score 2) and 0.08 (score 1), threshold 0.15: both detections are
    nearest to the first truth. The first takes it. The second is false by "legacy" (AP 0.5), and takes the free truth
    0.12 away by "standard" (AP 1).

    Defined where the reference crashes: an image without truths makes all its detections false; one image alone, or no
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
    take = _take_nearest if mode == "legacy" else _take_best_free
    hits = [take(found, len(real.rows), _nearer(pairs, precision(limit))) >= 0 for limit in limits]
    order = np.argsort(-_scores(found), kind="stable")
    curves = tuple(_precision_recall(hit[order], len(real.rows)) for hit in hits)
    ap = np.array([_area(*curve) if len(real.rows) else np.nan for curve in curves])
    return CsoMap(float(ap.mean()), ap, limits, curves)


def match_nearest(detections: Sequence[Floats], truths: Sequence[Floats], reach: float) -> tuple[Ints, Ints]:
    """Pairs detections with truths as "standard" does: rows (P,) of all detections, and of all truths, joined in order."""
    found, real = Ragged.of(detections, (3,), "detections"), Ragged.of(truths, (2, 3), "truths")
    taken = _take_best_free(found, len(real.rows), Pairs.within(found, real, reach))
    matched = np.flatnonzero(taken >= 0)
    return matched, taken[matched]


def _precision_recall(hits: Bools, truths: int) -> tuple[Floats, Floats]:
    """Recall and precision after each detection, given whether each, in order of score, is true."""
    true = np.cumsum(hits, dtype=np.float64)
    recall = true / truths if truths else np.full(len(hits), np.nan)
    return recall, true / np.arange(1, len(hits) + 1)


def _area(recall: Floats, precision: Floats) -> float:
    """The area under the precision envelope, over all points."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _scores(found: Ragged) -> Floats:
    return found.rows[:, 2] if found.rows.shape[1] == 3 else np.zeros(0)


def _rank(found: Ragged) -> Ints:
    """(R,): the row numbers, by image, then by falling score, then as given."""
    return np.lexsort((np.arange(len(found.rows)), -_scores(found), found.image))


def _nearer(pairs: Pairs, limit: np.floating[Any]) -> Pairs:
    near = pairs.distance <= limit
    return Pairs(pairs.detection[near], pairs.truth[near], pairs.distance[near])


def _take_nearest(found: Ragged, _: int, pairs: Pairs) -> Ints:
    """(R,): the truth each detection takes, or -1; of those that share a nearest truth the first by score takes it.

    The nearest truth of all, where it is in range, is the nearest of those in range.
    """
    order = np.lexsort((pairs.truth, pairs.distance, pairs.detection))
    detection, which = np.unique(pairs.detection[order], return_index=True)
    nearest = np.full(len(found.rows), -1)
    nearest[detection] = pairs.truth[order[which]]
    rank = _rank(found)
    rank = rank[nearest[rank] >= 0]
    truth, which = np.unique(nearest[rank], return_index=True)
    taken = np.full(len(found.rows), -1)
    taken[rank[which]] = truth
    return taken


def _take_best_free(found: Ragged, truths: int, pairs: Pairs) -> Ints:
    """(R,): the truth each detection takes, or -1.

    Round k settles the k-th detection, by score, of every image at once.
    """
    taken = np.full(len(found.rows), -1)
    free = np.ones(truths, bool)
    place = np.empty(len(found.rows), np.int64)
    place[_rank(found)] = np.arange(len(found.rows)) - np.repeat(found.start, found.count)
    order = np.lexsort((pairs.truth, pairs.distance, pairs.detection, place[pairs.detection]))
    detection, truth = pairs.detection[order], pairs.truth[order]
    rounds = np.flatnonzero(np.diff(place[detection], prepend=-1, append=-1))
    for first, last in pairwise(rounds):
        open_ = first + np.flatnonzero(free[truth[first:last]])
        who, which = np.unique(detection[open_], return_index=True)
        taken[who] = truth[open_[which]]
        free[taken[who]] = False
    return taken
