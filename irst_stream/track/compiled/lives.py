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
    DETECTABILITY,
    DETECTION,
    ERROR_PARTS,
    ERROR_SOURCE,
    ERROR_VAR,
    EVIDENCE_AGE,
    EXISTENCE,
    HITS,
    ID,
    LAST_ERROR_PARTS,
    LAST_ERROR_VAR,
    LAST_SEEN_S,
    MAX_GROUP_TARGETS,
    MEAN_X,
    MEAN_Y,
    MISSES,
    PARENT_ROW,
    SCORE,
    error_covariance,
)

__all__ = ["add_births", "count_detection", "has_ended"]

GIVE_UP_SCORE = -4.6  # a track's log-likelihood ratio at which it is taken for clutter: one target in 100 starts again
DETECTABILITY_FRAMES = 40  # over which a target's own detection probability is averaged, at most
DETECTABILITY_PRIOR_FRAMES = 10  # for which the settings' detection probability counts
MIN_DETECTABILITY = 0.1
PART_REACH = 2.0  # times jump_px: parts of one target are that far from each other at most


@compiled
def count_detection(x, y, gain, floats, ints, rules):  # type: ignore[no-untyped-def]
    """Count a detection that updated a track to x, y px: its evidence, mean place, detectability and confirmation.

    gain: log-likelihood ratio of target to clutter. A false detection repeats while windows share the frame that caused
    it, so that only a detection that may not be a repetition of the last counted one is evidence.
    """
    if ints[AGE] - ints[EVIDENCE_AGE] >= rules.repeats:
        floats[SCORE] += gain
        ints[EVIDENCE_AGE] = ints[AGE]
    ints[HITS] += 1
    floats[MEAN_X] += (x - floats[MEAN_X]) / ints[HITS]
    floats[MEAN_Y] += (y - floats[MEAN_Y]) / ints[HITS]
    share = 1.0 / (DETECTABILITY_PRIOR_FRAMES + min(ints[AGE], DETECTABILITY_FRAMES))
    for _ in range(min(ints[MISSES], DETECTABILITY_FRAMES)):  # misses tell of detectability once the target is seen again
        floats[DETECTABILITY] -= share * floats[DETECTABILITY]
    floats[DETECTABILITY] += share * (rules.detection_probability - floats[DETECTABILITY])
    floats[DETECTABILITY] = max(floats[DETECTABILITY], MIN_DETECTABILITY)
    ints[MISSES] = 0
    if _is_confirmed(x, y, floats, rules):
        ints[CONFIRMED] = 1


@compiled
def _is_confirmed(x, y, floats, rules):  # type: ignore[no-untyped-def]
    """Whether a track at x, y px has the evidence that confirms it, and has moved far enough.

    What moves steadily is half its way from the mean of the places where it was seen. The mean, unlike the first place,
    does not depend on a single detection.
    """
    way = 2 * math.hypot(x - floats[MEAN_X], y - floats[MEAN_Y])
    return floats[SCORE] >= rules.confirm_score and way >= rules.confirm_travel_px


@compiled
def has_ended(floats, ints, now_s, rules):  # type: ignore[no-untyped-def]
    """Whether a track ends: it is unlikely to exist, has coasted too long, or looks like clutter before it is confirmed."""
    if floats[EXISTENCE] < rules.min_existence_probability or now_s - floats[LAST_SEEN_S] > rules.max_coast_s:
        return True
    return not ints[CONFIRMED] and floats[SCORE] < GIVE_UP_SCORE


@compiled
def add_births(workspace, c, masks, detections, rules):  # type: ignore[no-untyped-def]
    """Add a new target to hypothesis c for each detection that it does not explain and that is likely enough to be one."""
    size = workspace.x.shape[3]
    for j in range(len(detections.rows)):
        n, birth = workspace.target_count[c], detections.measurements[j, BIRTH_PROBABILITY]
        if masks[j] or n >= MAX_GROUP_TARGETS or birth < rules.min_existence_probability:
            continue
        if _is_part(detections.measurements[j], workspace.x[c, :n], workspace.ints[c], rules):
            continue
        a, b = n * size, (n + 1) * size
        workspace.cov[c, :, a:b, :b] = 0.0
        workspace.cov[c, :, :b, a:b] = 0.0
        _start_state(detections.measurements[j], rules, workspace.x[c, n], workspace.cov[c, :, a:b, a:b])
        _start_track(detections, j, rules, workspace.floats[c, n], workspace.ints[c, n])
        workspace.ints[c, n, ERROR_SOURCE] = detections.error_sources[j]
        workspace.target_count[c] = n + 1


@compiled
def _is_part(measurement, x, ints, rules):  # type: ignore[no-untyped-def]
    """Whether a detection is taken for another part of a confirmed target: where targets are larger than the PSF."""
    reach = PART_REACH * rules.jump_px
    for i in range(len(x)):
        if ints[i, CONFIRMED] and math.hypot(measurement[0] - x[i, 0, 0], measurement[1] - x[i, 0, 1]) < reach:
            return True
    return False


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
    floats[EXISTENCE], floats[SCORE] = measurement[BIRTH_PROBABILITY], 0.0
    floats[LAST_SEEN_S], floats[DETECTABILITY] = detections.now_s, rules.detection_probability
    floats[LAST_ERROR_VAR], floats[LAST_ERROR_PARTS:] = measurement[ERROR_VAR], measurement[ERROR_PARTS:]
    floats[MEAN_X], floats[MEAN_Y] = measurement[0], measurement[1]
    ints[ID], ints[HITS], ints[MISSES], ints[AGE], ints[EVIDENCE_AGE] = detections.first_id + row, 1, 0, 1, 1
    ints[DETECTION], ints[PARENT_ROW] = row, -1
    ints[CONFIRMED] = 1 if _is_confirmed(measurement[0], measurement[1], floats, rules) else 0
