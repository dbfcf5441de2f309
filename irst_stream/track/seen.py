"""What the tracker's arithmetic asks of a frame's detections."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.track.compiled import ERROR_VAR, NEW, PARTS, WORTH
from irst_stream.track.motion import window_noise
from irst_stream.track.settings import TrackSettings
from irst_stream.types import Detections, Floats, Ints

__all__ = ["MOST_PARTS", "Measurements", "look"]

Flags = NDArray[np.bool_]
COMPARED = 0.05  # of a detection's covariance: what is left of it where its error is part of the state
MOST_PARTS = 20  # of which errors are made; of those made of more it is not known what they share


class Measurements(NamedTuple):
    """See compiled.advance: rows (N, 8 + 2 R), sources (N,), lights (N, 2)."""

    rows: Floats
    sources: Ints
    lights: Floats


def look(detections: Detections, first: int, frame_s: float, settings: TrackSettings) -> Measurements:
    """Detections in the stabilised frame, of which the first may start the track of that number, the others the next ones;
    frame_s: from frame to frame, s.
    """
    s, n = settings, len(detections)
    coloured = s.shared_frames > 0
    rows, lights = np.empty((n, PARTS + (2 * MOST_PARTS if coloured else 0))), np.empty((n, 2))
    light, deviation = detections.amplitude, detections.amplitude_sd
    lights[:, 0] = light
    with np.errstate(invalid="ignore", over="ignore"):
        lights[:, 1] = np.maximum(np.where(deviation > 0, deviation, s.brightness_sd * np.abs(light)), 1e-6) ** 2
        xx, xy, yy = detections.cov.reshape(-1, 4)[:, [0, 1, 3]].T
        known = (xx > 0) & (yy > 0) & (xx * yy > xy * xy) & np.isfinite(xx + yy)
    cov = np.where(known[:, None, None], detections.cov, np.eye(2) * s.default_sd_px**2)
    rows[:, :2] = detections.xy
    rows[:, 2:NEW] = cov.reshape(-1, 4)[:, [0, 1, 3]] * (COMPARED if coloured else 1.0)
    rows[:, NEW], rows[:, WORTH] = _doubts(detections.score, s)
    rows[:, ERROR_VAR] = cov[:, 0, 0] + cov[:, 1, 1]
    sources = first + np.arange(n)
    if coloured:
        rows[:, [2, 4]] += window_noise(s.shared_frames) * frame_s**3 * (s.sway_px_s**2 + s.own_sway_px_s**2)
        parts, shared = _parts(detections.factor, cov, known)
        rows[:, PARTS:] = parts.reshape(n, 2 * MOST_PARTS)
        begin: dict[int, int] = {}
        rows_of_region = [begin.setdefault(region, row) for row, region in enumerate(detections.region.tolist())]
        sources = first + np.where(shared, rows_of_region, np.arange(n))
    return Measurements(rows, sources, lights)


def _doubts(score: Floats, s: TrackSettings) -> tuple[Floats, Floats]:
    """Of each detection (N,), by what it says of itself: the chance that it is a new target, if nobody explains it; the log
    of how much likelier it is to be seen of a target than of clutter, px^2.
    """
    sure = np.minimum(np.maximum(np.where(np.isnan(score), 1.0, score), 0.0), 1.0)
    false = s.clutter_density + s.low_score_false_alarms * (1 - sure)
    new = np.maximum(s.birth_density * sure / (s.birth_density * sure + false), 1e-12)
    return new, np.log(s.detection_probability / (false + s.birth_density))


def _parts(factor: Floats, cov: Floats, known: Flags) -> tuple[Floats, Flags]:
    """Each error's parts (N, 2, MOST_PARTS), and of which it is known what they share with others of their region (N,)."""
    out, given = np.zeros((len(cov), 2, MOST_PARTS)), factor.shape[2]
    shared = known & (0 < given <= MOST_PARTS) & factor.any(axis=(1, 2)) & np.isfinite(factor).all(axis=(1, 2))
    if shared.any():
        out[shared, :, :given] = factor[shared]
    own = cov[~shared]
    out[~shared, 0, 0] = along = np.sqrt(own[:, 0, 0])
    out[~shared, 1, 0] = aside = own[:, 0, 1] / along
    out[~shared, 1, 1] = np.sqrt(np.maximum(own[:, 1, 1] - aside**2, 0.0))
    return out, shared
