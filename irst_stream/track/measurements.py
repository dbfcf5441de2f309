"""A frame's detections as the arrays that the compiled tracker takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irst_stream.track.compiled import ERROR_PARTS, DetectionColumns, fill_columns
from irst_stream.track.motion import window_noise
from irst_stream.track.settings import TrackSettings
from irst_stream.types import Detections, Floats, Ints, frames_after_centre

__all__ = ["MAX_ERROR_PARTS", "Measurements", "to_measurements"]

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
    s, n, errors_in_state = settings, len(detections), settings.shared_frames > 0
    added_var = s.jitter_px**2
    if errors_in_state:
        variance = s.manoeuvre_px_s2**2 + s.own_manoeuvre_px_s2**2
        lag = frames_after_centre(s.shared_frames, s.shared_lag)
        added_var += window_noise(s.shared_frames, lag, float(f"{frame_s:.3g}"), s.manoeuvre_s) * variance
    rules = DetectionColumns(
        default_var=float(s.default_sd_px**2),
        added_var=float(added_var),
        birth_density=float(s.birth_density),
        detection_probability=float(s.detection_probability),
        low_score_false_alarms=float(s.low_score_false_alarms),
        brightness_sd=float(s.brightness_sd),
        errors_in_state=errors_in_state,
    )
    d = detections
    given = d.xy, d.cov, d.amplitude, d.amplitude_sd, d.score, d.factor, d.region, density
    seen = tuple(np.array(column, order="C") for column in given)  # of one type each, whether or not it may be written to
    columns = np.empty((n, ERROR_PARTS + (2 * MAX_ERROR_PARTS if errors_in_state else 0)))
    error_sources, amplitudes = np.empty(n, np.int64), np.empty((n, 2))
    fill_columns(seen, first_id, rules, columns, error_sources, amplitudes)
    return Measurements(columns, error_sources, amplitudes)
