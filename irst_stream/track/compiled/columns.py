"""A frame's detections as the columns of numbers that the update takes. Compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import BIRTH_PROBABILITY, ERROR_PARTS, ERROR_VAR, LOG_RATIO

__all__ = ["DetectionColumns", "fill_columns"]

WHITE_NOISE_SHARE = 0.05  # of a detection's covariance that stays measurement noise where its error is part of the state
LEAST_BIRTH, LEAST_SD = 1e-12, 1e-6  # probability, DN


class DetectionColumns(NamedTuple):
    """What detections are converted with: see TrackSettings.

    default_var: variance along an axis where a detection gives no covariance; added_var: by jitter and manoeuvres; px^2.
    """

    default_var: float
    added_var: float
    birth_density: float
    detection_probability: float
    low_score_false_alarms: float
    brightness_sd: float
    errors_in_state: bool


@compiled
def fill_columns(seen, first_id, rules, measurements, error_sources, amplitudes):  # type: ignore[no-untyped-def]
    """Fill the columns of N detections: see FrameDetections, whose fields measurements, error_sources and amplitudes are.

    seen: xy (N, 2) px, cov (N, 2, 2) px^2, amplitude and amplitude_sd (N,) DN, score (N,), factor (N, 2, R) px, region (N,)
    and the density (N,) of clutter at each, px^-2 and frame; first_id: id of the track that the first one may start; rules:
    see DetectionColumns.
    """
    xy, cov, amplitude, amplitude_sd, score, factor, region, density = seen
    share = WHITE_NOISE_SHARE if rules.errors_in_state else 1.0
    for i in range(len(xy)):
        xx, cross, yy = cov[i, 0, 0], cov[i, 0, 1], cov[i, 1, 1]
        known = xx > 0.0 and yy > 0.0 and xx * yy > cross * cross and math.isfinite(xx + yy)
        if not known:
            xx, cross, yy = rules.default_var, 0.0, rules.default_var
        sure = 1.0 if math.isnan(score[i]) else min(max(score[i], 0.0), 1.0)
        clutter, new = density[i] + rules.low_score_false_alarms * (1.0 - sure), rules.birth_density * sure
        row = measurements[i]
        row[0], row[1] = xy[i, 0], xy[i, 1]
        row[2], row[3], row[4] = share * xx + rules.added_var, share * cross, share * yy + rules.added_var
        row[BIRTH_PROBABILITY] = max(new / (new + clutter), LEAST_BIRTH)
        row[LOG_RATIO] = math.log(rules.detection_probability / (clutter + rules.birth_density))
        row[ERROR_VAR] = xx + yy
        deviation = amplitude_sd[i] if amplitude_sd[i] > 0.0 else rules.brightness_sd * abs(amplitude[i])
        amplitudes[i, 0] = amplitude[i]
        amplitudes[i, 1] = LEAST_SD**2 if deviation < LEAST_SD else deviation * deviation  # NaN stays
        error_sources[i] = first_id + i
        if rules.errors_in_state and _add_error_parts(row, xx, cross, yy, factor[i], known):
            for j in range(i + 1):  # the first detection of its region
                if region[j] == region[i]:
                    error_sources[i] = first_id + j
                    break


@compiled
def _add_error_parts(row, xx, cross, yy, factor, known):  # type: ignore[no-untyped-def]
    """Fill the parts of a detection's error, from its factor (2, R); return whether it may share them with others.

    Where the factor does not say what is shared, the covariance is factored instead (Cholesky).
    """
    parts, given = (len(row) - ERROR_PARTS) // 2, factor.shape[1]
    row[ERROR_PARTS:] = 0.0
    size = 0.0
    for axis in range(2):
        for k in range(given):
            size += abs(factor[axis, k])
    shared = known and 0 < given <= parts and 0.0 < size < np.inf
    if shared:
        for axis in range(2):
            for k in range(given):
                row[ERROR_PARTS + axis * parts + k] = factor[axis, k]
    else:
        along = math.sqrt(xx)
        aside = cross / along
        row[ERROR_PARTS] = along
        row[ERROR_PARTS + parts] = aside
        row[ERROR_PARTS + parts + 1] = math.sqrt(max(yy - aside * aside, 0.0))
    return shared
