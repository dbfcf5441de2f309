"""Birth, confirmation and end of tracks. Compiled."""

from __future__ import annotations

import math

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    AGE,
    AMPLITUDE,
    AMPLITUDE_VAR,
    BIRTH_PROBABILITY,
    CONFIRMED,
    DETECTION,
    ERROR_PARTS,
    ERROR_SOURCE,
    ERROR_VAR,
    EXISTENCE,
    HIT_BITS,
    ID,
    LAST_ERROR_PARTS,
    LAST_ERROR_VAR,
    LAST_SEEN_S,
    MAX_GROUP_TARGETS,
    PARENT_ROW,
    SCORE,
    START_X,
    START_Y,
    error_covariance,
)
from irst_stream.track.compiled.sight import count_targets

__all__ = ["add_births", "confirmation", "has_ended"]


@compiled
def confirmation(x, y, floats, ints, rules):  # type: ignore[no-untyped-def]
    """1 where a track at x, y px meets the rule of confirmation, M of N or by score, and has moved far enough; else 0."""
    if math.hypot(x - floats[START_X], y - floats[START_Y]) < rules.confirm_travel_px:
        return 0
    if rules.confirm_by_score:
        return 1 if floats[SCORE] >= rules.confirm_score else 0
    return 1 if count_targets(ints[HIT_BITS] & ((1 << rules.confirm_window) - 1)) >= rules.confirm_hits else 0


@compiled
def has_ended(floats, ints, now_s, rules):  # type: ignore[no-untyped-def]
    """Whether a track ends: it is unlikely to exist, has coasted too long, or was not confirmed in time."""
    if floats[EXISTENCE] < rules.min_existence_probability or now_s - floats[LAST_SEEN_S] > rules.max_coast_s:
        return True
    if ints[CONFIRMED]:
        return False
    if rules.confirm_by_score:
        return floats[SCORE] < -rules.confirm_score
    frames = min(ints[AGE], rules.confirm_window)
    misses = frames - count_targets(ints[HIT_BITS] & ((1 << frames) - 1))
    too_old = ints[AGE] > rules.confirm_window and rules.confirm_travel_px == 0.0
    return too_old or misses > rules.confirm_window - rules.confirm_hits


@compiled
def add_births(workspace, c, masks, detections, rules):  # type: ignore[no-untyped-def]
    """Add a new target to hypothesis c for each detection that it does not explain and that is likely enough to be one."""
    size = workspace.x.shape[3]
    for j in range(len(detections.rows)):
        n, birth = workspace.target_count[c], detections.measurements[j, BIRTH_PROBABILITY]
        if masks[j] or n >= MAX_GROUP_TARGETS or birth < rules.min_existence_probability:
            continue
        a, b = n * size, (n + 1) * size
        workspace.cov[c, :, a:b, :b] = 0.0
        workspace.cov[c, :, :b, a:b] = 0.0
        _start_state(detections.measurements[j], rules, workspace.x[c, n], workspace.cov[c, :, a:b, a:b])
        _start_track(detections, j, rules, workspace.floats[c, n], workspace.ints[c, n])
        workspace.ints[c, n, ERROR_SOURCE] = detections.error_sources[j]
        workspace.target_count[c] = n + 1


@compiled
def _start_state(measurement, rules, x, cov):  # type: ignore[no-untyped-def]
    """Fill a new target's x (M, D) and cov (M, D, D) from its detection."""
    modes, size = x.shape
    x[:], cov[:] = 0.0, 0.0
    for m in range(modes):
        x[m, 0], x[m, 1] = measurement[0], measurement[1]
        for a in range(2, size - (2 if rules.errors_in_state else 0)):
            cov[m, a, a] = rules.speed_var if a < 4 else rules.acceleration_var
        for a in range(2):
            for b in range(2):
                cov[m, a, b] = measurement[2 + a + b]
                if rules.errors_in_state:
                    u, v = size - 2 + a, size - 2 + b
                    error = error_covariance(measurement[ERROR_PARTS:], measurement[ERROR_PARTS:], a, b)
                    cov[m, u, v], cov[m, a, v], cov[m, u, b] = error, -error, -error
                    cov[m, a, b] += error


@compiled
def _start_track(detections, j, rules, floats, ints):  # type: ignore[no-untyped-def]
    """Fill a new target's floats and ints from detection j."""
    row, measurement = detections.rows[j], detections.measurements[j]
    floats[AMPLITUDE], floats[AMPLITUDE_VAR] = detections.amplitudes[j, 0], detections.amplitudes[j, 1]
    floats[EXISTENCE], floats[SCORE] = measurement[BIRTH_PROBABILITY], math.log(measurement[BIRTH_PROBABILITY])
    floats[LAST_SEEN_S] = detections.now_s
    floats[LAST_ERROR_VAR], floats[LAST_ERROR_PARTS:] = measurement[ERROR_VAR], measurement[ERROR_PARTS:]
    ints[ID], ints[HIT_BITS], ints[AGE], ints[CONFIRMED] = detections.first_id + row, 1, 1, 0
    ints[DETECTION], ints[PARENT_ROW] = row, -1
    floats[START_X], floats[START_Y] = measurement[0], measurement[1]
    ints[CONFIRMED] = confirmation(measurement[0], measurement[1], floats, ints, rules)
