"""A frame's detections as the arrays that the compiled tracker takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.track.compiled import BIRTH_PROBABILITY, ERROR_PARTS, ERROR_VAR, LOG_RATIO
from irst_stream.track.motion import window_noise
from irst_stream.track.settings import TrackSettings
from irst_stream.types import Detections, Floats, Ints, frames_after_centre

__all__ = ["MAX_ERROR_PARTS", "Measurements", "to_measurements"]

Flags = NDArray[np.bool_]
WHITE_NOISE_SHARE = 0.05  # of a detection's covariance that stays measurement noise where its error is part of the state
MAX_ERROR_PARTS = 20  # errors of more parts are taken to share none


class Measurements(NamedTuple):
    """Columns of each detection (N, 8 + 2 R), error_sources (N,) and amplitudes (N, 2): see compiled.FrameDetections."""

    columns: Floats
    error_sources: Ints
    amplitudes: Floats


def to_measurements(
    detections: Detections, density: Floats, first_id: int, frame_s: float, settings: TrackSettings
) -> Measurements:
    """Convert detections in the stabilised frame, with the settings' values where they give no covariance or amplitude_sd.

    density (N,): of clutter at each detection, px^-2 and frame; first_id: id of the track that the first detection may
    start, the others' follow; frame_s: seconds from frame to frame.
    """
    s, n = settings, len(detections)
    errors_in_state = s.shared_frames > 0
    columns = np.empty((n, ERROR_PARTS + (2 * MAX_ERROR_PARTS if errors_in_state else 0)))
    amplitudes = np.empty((n, 2))
    amplitude, deviation = detections.amplitude, detections.amplitude_sd
    amplitudes[:, 0] = amplitude
    with np.errstate(invalid="ignore", over="ignore"):
        amplitudes[:, 1] = np.maximum(np.where(deviation > 0, deviation, s.brightness_sd * np.abs(amplitude)), 1e-6) ** 2
        xx, xy, yy = detections.cov.reshape(-1, 4)[:, [0, 1, 3]].T
        known = (xx > 0) & (yy > 0) & (xx * yy > xy * xy) & np.isfinite(xx + yy)
    cov = np.where(known[:, None, None], detections.cov, np.eye(2) * s.default_sd_px**2)
    columns[:, :2] = detections.xy
    columns[:, 2:BIRTH_PROBABILITY] = cov.reshape(-1, 4)[:, [0, 1, 3]] * (WHITE_NOISE_SHARE if errors_in_state else 1.0)
    columns[:, [2, 4]] += s.jitter_px**2
    columns[:, BIRTH_PROBABILITY], columns[:, LOG_RATIO] = _birth_and_clutter(detections.score, density, s)
    columns[:, ERROR_VAR] = cov[:, 0, 0] + cov[:, 1, 1]
    error_sources = first_id + np.arange(n)
    if errors_in_state:
        variance = s.manoeuvre_px_s2**2 + s.own_manoeuvre_px_s2**2
        lag = frames_after_centre(s.shared_frames, s.shared_lag)
        columns[:, [2, 4]] += window_noise(s.shared_frames, lag, float(f"{frame_s:.3g}"), s.manoeuvre_s) * variance
        parts, shared = _error_parts(detections.factor, cov, known)
        columns[:, ERROR_PARTS:] = parts.reshape(n, 2 * MAX_ERROR_PARTS)
        first_row: dict[int, int] = {}
        first_of_region = [first_row.setdefault(region, row) for row, region in enumerate(detections.region.tolist())]
        same = np.array(first_of_region, np.int64)  # of no detections, too: another type would be compiled anew
        error_sources = first_id + np.where(shared, same, np.arange(n))
    return Measurements(columns, error_sources, amplitudes)


def _birth_and_clutter(score: Floats, density: Floats, s: TrackSettings) -> tuple[Floats, Floats]:
    """By each detection's score (N,), 1 where it is NaN: the probability that it is a new target if no target explains it,
    at least 1e-12; and the log of the detection probability over the density of clutter and new targets, px^2.
    """
    sure = np.minimum(np.maximum(np.where(np.isnan(score), 1.0, score), 0.0), 1.0)
    clutter = density + s.low_score_false_alarms * (1 - sure)
    birth = np.maximum(s.birth_density * sure / (s.birth_density * sure + clutter), 1e-12)
    return birth, np.log(s.detection_probability / (clutter + s.birth_density))


def _error_parts(factor: Floats, cov: Floats, known: Flags) -> tuple[Floats, Flags]:
    """Each error's parts (N, 2, MAX_ERROR_PARTS), and whether they are shared with other detections of its region (N,).

    Where a detection's factor does not say what is shared, its covariance is factored instead (Cholesky).
    """
    out, given = np.zeros((len(cov), 2, MAX_ERROR_PARTS)), factor.shape[2]
    shared = known & (0 < given <= MAX_ERROR_PARTS) & factor.any(axis=(1, 2)) & np.isfinite(factor).all(axis=(1, 2))
    if shared.any():
        out[shared, :, :given] = factor[shared]
    own = cov[~shared]
    out[~shared, 0, 0] = along = np.sqrt(own[:, 0, 0])
    out[~shared, 1, 0] = aside = own[:, 0, 1] / along
    out[~shared, 1, 1] = np.sqrt(np.maximum(own[:, 1, 1] - aside**2, 0.0))
    return out, shared
