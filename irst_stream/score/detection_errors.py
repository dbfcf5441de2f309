"""Count accuracy, recall, precision, and position and amplitude errors of detections, which CSO-mAP does not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.score.cso_map import match_nearest
from irst_stream.types import Floats

__all__ = ["DetectionErrors", "detection_errors"]

REACH = 0.25  # px: largest distance of a match


@dataclass(frozen=True, slots=True)
class DetectionErrors:
    """count_accuracy: share of images with the right number of targets; recall, precision: at the match distance.

    Over the matches: position_rmse px (of the distance), position_bias_x and _y px, amplitude_rmse and amplitude_bias DN.
    Biases are detection minus truth. NaN where there is nothing to average; unknown amplitudes are left out.
    """

    count_accuracy: float
    recall: float
    precision: float
    position_rmse: float
    position_bias_x: float
    position_bias_y: float
    amplitude_rmse: float
    amplitude_bias: float


def detection_errors(
    detections: Sequence[Floats], amplitudes: Sequence[Floats], truths: Sequence[Floats], reach: float = REACH
) -> DetectionErrors:
    """Compare detections, matched to truths within `reach` px as match_nearest does, with the truths.

    For each image: detections (m, 3) x, y, score; amplitudes (m,) DN; truths (n, 3) x, y, amplitude.
    """
    count_correct = [len(d) == len(t) for d, t in zip(detections, truths, strict=True)]
    for k, truth in enumerate(truths):
        if np.size(truth) and (np.ndim(truth) != 2 or np.shape(truth)[1] != 3):
            raise ValueError(f"truths[{k}]: expected shape (n, 3), x, y, amplitude, got {np.shape(truth)}")
    rows, true_rows = _concatenate(detections, 3), _concatenate(truths, 3)
    found, real = match_nearest(detections, [np.reshape(truth, (-1, 3))[:, :2] for truth in truths], reach)
    offset = rows[found, :2] - true_rows[real, :2]
    amplitude_error = np.concatenate([np.zeros(0), *amplitudes])[found] - true_rows[real, 2]
    known_error = amplitude_error[np.isfinite(amplitude_error)]
    return DetectionErrors(
        _mean(np.array(count_correct, np.float64)),
        len(found) / len(true_rows) if len(true_rows) else np.nan,
        len(found) / len(rows) if len(rows) else np.nan,
        _mean((offset**2).sum(1)) ** 0.5,
        _mean(offset[:, 0]),
        _mean(offset[:, 1]),
        _mean(known_error**2) ** 0.5,
        _mean(known_error),
    )


def _concatenate(images: Sequence[Floats], columns: int) -> Floats:
    return np.concatenate([np.zeros((0, columns)), *(np.reshape(image, (-1, columns)) for image in images)])


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else np.nan
