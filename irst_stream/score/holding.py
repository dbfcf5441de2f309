"""Whether confirmed tracks stay on their target, and how many lie on none: for single targets and for boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.score.hits import Criterion, pairs_on_target
from irst_stream.score.paths import TruthAndTracks
from irst_stream.types import Truth

__all__ = ["Holding", "holding", "is_single_target"]


@dataclass(frozen=True, slots=True)
class Holding:
    """What one criterion counts; NaN without a target or without frames.

    tracked: share of the targets' frames with a confirmed track on the target. one_id: the largest share of them under one
    identity, summed over targets. false_per_frame: mean number of confirmed tracks on no target.
    """

    tracked: float
    one_id: float
    false_per_frame: float


def is_single_target(truths: Sequence[Truth]) -> bool:
    """Whether no frame has more than one target."""
    return max(map(len, truths), default=0) <= 1


def holding(data: TruthAndTracks, criterion: Criterion) -> Holding:
    """Count by one criterion of score.hits, with the radius of `data`. A track may lie on several targets."""
    pairs = pairs_on_target(data.tracks.points, data.truth.points, data.size, data.radius, criterion)
    target, track = data.truth.path[pairs.truth], data.tracks.path[pairs.detection]
    couples, shared = np.unique(np.column_stack([target, track]), axis=0, return_counts=True)
    longest = np.zeros(len(data.truth.sequence), np.int64)
    np.maximum.at(longest, couples[:, 0], shared)
    frames, points, images = len(data.truth.path), len(data.tracks.path), len(data.index)
    return Holding(
        len(np.unique(pairs.truth)) / frames if frames else np.nan,
        int(longest.sum()) / frames if frames else np.nan,
        (points - len(np.unique(pairs.detection))) / images if images else np.nan,
    )
