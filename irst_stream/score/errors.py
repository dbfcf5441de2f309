"""What a mean average precision hides: counts, and how far off in place and brightness the found targets are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.score.cso_map import match_nearest
from irst_stream.types import Floats

__all__ = ["Errors", "errors"]

REACH = 0.25  # px: a detection this near a free truth has found it


@dataclass(frozen=True, slots=True)
class Errors:
    """count_accuracy: share of images with the right number; recall, precision at REACH px; then over the found ones:
    position_rmse px (of the distance), position_bias_x and _y px, amplitude_rmse and amplitude_bias DN.

    NaN where there is nothing to average; targets of unknown amplitude do not count in the last two.
    """

    count_accuracy: float
    recall: float
    precision: float
    position_rmse: float
    position_bias_x: float
    position_bias_y: float
    amplitude_rmse: float
    amplitude_bias: float


def errors(
    detections: Sequence[Floats], amplitudes: Sequence[Floats], truths: Sequence[Floats], reach: float = REACH
) -> Errors:
    """detections: (m, 3) x, y, score for each image; amplitudes: (m,) DN; truths: (n, 3) x, y, amplitude."""
    right = [len(d) == len(t) for d, t in zip(detections, truths, strict=True)]
    for k, truth in enumerate(truths):
        if np.size(truth) and (np.ndim(truth) != 2 or np.shape(truth)[1] != 3):
            raise ValueError(f"truths[{k}]: expected shape (n, 3), x, y, amplitude, got {np.shape(truth)}")
    found, real = match_nearest(detections, truths, reach)
    rows, true_rows = _joined(detections, 3), _joined(truths, 3)
    offset = rows[found, :2] - true_rows[real, :2]
    brighter = np.concatenate([np.zeros(0), *amplitudes])[found] - true_rows[real, 2]
    return Errors(
        _mean(np.array(right, np.float64)),
        len(found) / len(true_rows) if len(true_rows) else np.nan,
        len(found) / len(rows) if len(rows) else np.nan,
        _mean((offset**2).sum(1)) ** 0.5,
        _mean(offset[:, 0]),
        _mean(offset[:, 1]),
        _mean(brighter[np.isfinite(brighter)] ** 2) ** 0.5,
        _mean(brighter[np.isfinite(brighter)]),
    )


def _joined(images: Sequence[Floats], columns: int) -> Floats:
    return np.concatenate([np.zeros((0, columns)), *(np.reshape(image, (-1, columns)) for image in images)])


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else np.nan
