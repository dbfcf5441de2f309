"""Detection probability, false detections and ROC: which detections lie on a target, by its centre or by its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from irst_stream.score.matching import best_pairs
from irst_stream.score.ragged import Pairs, Ragged
from irst_stream.types import Floats, Ints, Truth

__all__ = ["CRITERIA", "HIT_RADIUS", "Criterion", "Hits", "Roc", "hits", "pairs_on_target"]

Criterion = Literal["centre", "box"]
CRITERIA: tuple[Criterion, ...] = ("centre", "box")
HIT_RADIUS = 3.0  # px, as is usual for small targets
MAX_ROC_POINTS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """R thresholds of the score, falling, and what is left at each: detections that score at least as much.

    score (R,); found (R,): share of targets found; false_per_frame (R,). Without detections all are empty.
    """

    score: Floats
    found: Floats
    false_per_frame: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What one criterion counts; NaN where there is nothing to count.

    found: share of targets with a detection of their own (detection probability). false_per_frame: mean number of
    detections on no target; false_per_pixel: the same in relation to all pixels, NaN unless every frame's size is known.
    per_target: mean number of detections on a found target; exactly_one: share of found targets with exactly one.
    roc_area: probability that a detection on a target has a higher score than a false one, ties count half.
    error_p50, error_p90: percentiles of the distance between a found target's centre and its detection, px.
    """

    found: float
    false_per_frame: float
    false_per_pixel: float
    per_target: float
    exactly_one: float
    roc_area: float
    error_p50: float
    error_p90: float
    roc: Roc


def hits(detections: Sequence[Floats], truths: Sequence[Truth], radius: float, criterion: Criterion) -> Hits:
    """Count by one criterion; detections: one (m, 3) array of x, y, score for each truth.

    "centre": a detection lies on a target within `radius` px of its centre. "box": inside its box grown by `radius` px on
    every side; a point is a box without extent. Each target gets at most one detection of its own and each detection at
    most one target, so that the most targets are found, then at the least sum of distances. A further detection counts for
    its nearest target in range.
    """
    found, real = Ragged.of(detections, (3,), "detections"), Ragged.of([t.xy for t in truths], (2,), "truths")
    size = np.concatenate([np.zeros((0, 2)), *(t.size for t in truths)])
    pairs = pairs_on_target(found, real, size, radius, criterion)
    own = _own_pairs(pairs)
    target = _target_of(pairs, own, len(found.rows))
    on_target = target >= 0
    score = found.rows[:, 2] if found.rows.shape[1] == 3 else np.zeros(0)
    count = np.bincount(target[on_target], minlength=len(real.rows))
    count = count[count > 0]
    false = int((~on_target).sum())
    areas = [width * height for width, height in (t.frame_size for t in truths)]
    return Hits(
        _share(len(count), len(real.rows)),
        _share(false, len(truths)),
        _share(false, sum(areas)) if all(areas) else np.nan,
        float(count.mean()) if len(count) else np.nan,
        _share(int((count == 1).sum()), len(count)),
        _roc_area(score[on_target], score[~on_target]),
        _percentile(pairs.distance[own], 50),
        _percentile(pairs.distance[own], 90),
        _roc(score, target, len(real.rows), len(truths)),
    )


def pairs_on_target(found: Ragged, real: Ragged, size: Floats, radius: float, criterion: Criterion) -> Pairs:
    """All pairs of a point found and a target it lies on; their distance is that from the target's centre, px.

    size (R, 2): width and height of each row of `real`, px, NaN for a point.
    """
    if criterion == "centre":
        return Pairs.within(found, real, radius)
    half = np.where(np.isnan(size), 0.0, size) / 2 + radius
    reach = float(np.hypot(*half.T).max(initial=0.0))
    near = Pairs.within(found, real, reach)
    offset = np.abs(found.rows[near.detection, :2] - real.rows[near.truth, :2])
    inside = (offset <= half[near.truth]).all(axis=1)
    return Pairs(near.detection[inside], near.truth[inside], near.distance[inside])


def _own_pairs(pairs: Pairs) -> Ints:
    """Indices of the pairs that give targets a detection of their own: as many as possible, then the nearest."""
    gain = float(pairs.distance.max(initial=0.0)) * (len(pairs.distance) + 1) + 1  # exceeds any sum of distances
    return np.flatnonzero(best_pairs(pairs.truth, pairs.detection, gain - pairs.distance))


def _target_of(pairs: Pairs, own: Ints, detections: int) -> Ints:
    """(detections,): the target that each detection counts for, -1 for a false one."""
    target = np.full(detections, -1)
    order = np.lexsort((pairs.truth, pairs.distance, pairs.detection))
    detection, first = np.unique(pairs.detection[order], return_index=True)
    target[detection] = pairs.truth[order[first]]
    target[pairs.detection[own]] = pairs.truth[own]
    return target


def _roc_area(true: Floats, false: Floats) -> float:
    """Probability that a score of `true` (M,) exceeds one of `false` (N,), ties half; NaN if one of them is empty."""
    if not len(true) or not len(false):
        return np.nan
    ranked = np.sort(false)
    below, up_to = (np.searchsorted(ranked, true, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(false))


def _roc(score: Floats, target: Ints, targets: int, frames: int) -> Roc:
    """At most MAX_ROC_POINTS thresholds, evenly ranked; score, target (R,): of each detection, target -1 if false."""
    best = np.full(targets, -np.inf)
    np.maximum.at(best, target[target >= 0], score[target >= 0])
    levels = np.unique(score)[::-1]
    if len(levels) > MAX_ROC_POINTS:
        levels = levels[np.unique(np.linspace(0, len(levels) - 1, MAX_ROC_POINTS).round().astype(int))]
    found, false = (_count_at_least(values, levels) for values in (best, score[target < 0]))
    return Roc(levels, found / targets if targets else np.full(len(levels), np.nan), false / max(frames, 1))


def _count_at_least(values: Floats, levels: Floats) -> Floats:
    """(L,): how many values are at least as high as each level."""
    return np.asarray(len(values) - np.searchsorted(np.sort(values), levels, "left"), np.float64)


def _percentile(values: Floats, level: float) -> float:
    return float(np.percentile(values, level)) if len(values) else np.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else np.nan
