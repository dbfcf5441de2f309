"""The update of a hypothesis by an event: detected targets are updated, missed ones become less likely. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    AGE,
    AMPLITUDE,
    AMPLITUDE_VAR,
    DETECTABILITY,
    DETECTION,
    ERROR_PARTS,
    ERROR_SOURCE,
    ERROR_VAR,
    EXISTENCE,
    LAST_ERROR_PARTS,
    LAST_ERROR_VAR,
    LAST_SEEN_S,
    LOG_RATIO,
    MISSES,
    SCORE,
    TINY,
)
from irst_stream.track.compiled.events import log_gain
from irst_stream.track.compiled.lives import count_detection
from irst_stream.track.compiled.places import gaussian_log_density, mean_position, measured_position
from irst_stream.track.compiled.sight import (
    LOG_JUMP,
    brightness_log_ratio,
    centroid_weights,
    count_targets,
    covariance_inflation,
    innovation,
    jump_variance,
)

__all__ = ["apply_event", "kalman_update"]


@compiled
def apply_event(masks, detections, workspace, c, prediction, h, rules):  # type: ignore[no-untyped-def]
    """Update hypothesis c of a workspace with an event; c is a copy of hypothesis h, to which `prediction` refers.

    masks: the targets that each detection shows.
    """
    measurements, amplitudes = detections.measurements, detections.amplitudes
    n = workspace.target_count[c]
    x, cov, mode_probs = workspace.x[c, :n], workspace.cov[c], workspace.mode_probs[c]
    floats, ints = workspace.floats[c, :n], workspace.ints[c, :n]
    merge_probs, log_unmerged, log_odds = prediction.merge_probs[h], prediction.log_unmerged[h], prediction.log_odds[h]
    weight, detected = 0.0, 0
    for i in range(n):
        weight += prediction.log_missed[h, i]
    prior_floats = floats.copy()
    gains = np.zeros(n)
    for j in range(len(detections.rows)):
        mask = masks[j]
        if mask == 0:
            continue
        detected |= mask
        log_jump = _let_jump(mask, measurements[j], cov, x.shape[2], prior_floats, ints, prediction, h, rules)
        brightness_gain = brightness_log_ratio(mask, prior_floats, amplitudes[j], detections.log_clutter[j], rules)
        inflation = covariance_inflation(mask, floats, measurements[j])
        weights = centroid_weights(mask, prior_floats)
        log_density = kalman_update(x, cov, mode_probs, mask, weights, measurements[j], inflation, rules.errors_in_state)
        log_ratio = measurements[j, LOG_RATIO] + log_density + log_jump
        weight += log_gain(mask, n, log_odds, log_unmerged, merge_probs, log_ratio, brightness_gain)
        _update_amplitudes(mask, floats, amplitudes[j])
        for i in range(n):
            if mask >> i & 1:
                gains[i] = log_ratio + brightness_gain
                floats[i, LAST_ERROR_VAR] = measurements[j, ERROR_VAR]
                floats[i, LAST_ERROR_PARTS:] = measurements[j, ERROR_PARTS:]
                ints[i, DETECTION], ints[i, ERROR_SOURCE] = detections.rows[j], detections.error_sources[j]
    for i in range(n):
        ints[i, AGE] += 1
        if detected >> i & 1:
            floats[i, EXISTENCE], floats[i, LAST_SEEN_S] = 1.0, detections.now_s
            x_mean, y_mean = mean_position(x, i, mode_probs, rules.errors_in_state)
            gain = gains[i] + math.log(floats[i, DETECTABILITY] / rules.detection_probability)
            count_detection(x_mean, y_mean, gain, floats[i], ints[i], rules)
        else:
            ints[i, DETECTION] = -1
            ints[i, MISSES] += 1
            existence, detection_prob = floats[i, EXISTENCE], prediction.detection_probs[h, i]
            floats[i, EXISTENCE] = existence * (1 - detection_prob) / (1 - existence * detection_prob)
            floats[i, SCORE] += math.log(1 - detection_prob) / rules.repeats
    workspace.log_weight[c] += weight


@compiled
def _let_jump(mask, measurement, cov, size, floats, ints, prediction, h, rules):  # type: ignore[no-untyped-def]
    """Widen the position of a single target that must have jumped to its detection, in place; return its log probability.

    0 where no target has jumped.
    """
    if mask & (mask - 1):
        return 0.0
    i = 0
    while not mask >> i & 1:
        i += 1
    dx, dy, xx, xy, yy = innovation(i, measurement, floats, prediction.positions[h], prediction.position_cov[h])
    jump = jump_variance(i, dx, dy, xx, xy, yy, ints, rules)
    if jump == 0.0:
        return 0.0
    for m in range(len(cov)):
        for p in range(size * i, size * i + 2):
            cov[m, p, p] += jump
    return LOG_JUMP


@compiled
def kalman_update(x, cov, mode_probs, mask, weights, measurement, inflation, errors_in_state):  # type: ignore[no-untyped-def]
    """Update targets, in place, with a measurement (x, y, xx, xy, yy) of their weighted mean; return its log density.

    x (n, M, D), cov (M, nD, nD), mode_probs (M,); mask: the targets measured, with weights (n,); inflation: factor of the
    measurement's covariance.
    """
    n, modes, size = x.shape
    gain, log_densities = np.empty((2, n * size)), np.empty(modes)
    for m in range(modes):
        dx, dy = measurement[0], measurement[1]
        gain[:] = 0.0
        for i in range(n):
            if mask >> i & 1:
                x_predicted, y_predicted = measured_position(x, i, m, errors_in_state)
                dx, dy = dx - weights[i] * x_predicted, dy - weights[i] * y_predicted
                for p in range(n * size):
                    for a in range(2):
                        value = cov[m, p, size * i + a]
                        if errors_in_state:
                            value += cov[m, p, size * (i + 1) - 2 + a]
                        gain[a, p] += weights[i] * value
        xx, xy = inflation * measurement[2], inflation * measurement[3]
        yx, yy = inflation * measurement[3], inflation * measurement[4]
        for i in range(n):
            if mask >> i & 1:
                p, u = size * i, size * (i + 1) - 2
                xx += weights[i] * (gain[0, p] + (gain[0, u] if errors_in_state else 0.0))
                xy += weights[i] * (gain[1, p] + (gain[1, u] if errors_in_state else 0.0))
                yx += weights[i] * (gain[0, p + 1] + (gain[0, u + 1] if errors_in_state else 0.0))
                yy += weights[i] * (gain[1, p + 1] + (gain[1, u + 1] if errors_in_state else 0.0))
        xy = (xy + yx) / 2
        log_densities[m], _ = gaussian_log_density(dx, dy, xx, xy, yy)
        determinant = max(xx * yy - xy * xy, TINY)
        a, b, c = yy / determinant, -xy / determinant, xx / determinant
        for p in range(n * size):
            left, right = gain[0, p] * a + gain[1, p] * b, gain[0, p] * b + gain[1, p] * c
            x[p // size, m, p % size] += left * dx + right * dy
            for q in range(p + 1):
                cov[m, p, q] -= left * gain[0, q] + right * gain[1, q]
        for p in range(n * size):
            for q in range(p):
                cov[m, q, p] = cov[m, p, q]
    highest, total = log_densities[0], 0.0
    for m in range(1, modes):
        highest = max(highest, log_densities[m])
    for m in range(modes):
        mode_probs[m] *= math.exp(log_densities[m] - highest)
        total += mode_probs[m]
    for m in range(modes):
        mode_probs[m] /= max(total, TINY)
    return highest + math.log(max(total, TINY))


@compiled
def _update_amplitudes(mask, floats, amplitude):  # type: ignore[no-untyped-def]
    """Update the amplitudes of targets, in place, with a detection's (mean, variance), which measures their sum."""
    if math.isnan(amplitude[0]):
        return
    mean, variance = 0.0, amplitude[1]
    for i in range(len(floats)):
        if mask >> i & 1:
            if math.isnan(floats[i, AMPLITUDE]):
                floats[i, AMPLITUDE], floats[i, AMPLITUDE_VAR] = amplitude[0] / count_targets(mask), amplitude[0] ** 2
            mean += floats[i, AMPLITUDE]
            variance += floats[i, AMPLITUDE_VAR]
    for i in range(len(floats)):
        if mask >> i & 1:
            gain = floats[i, AMPLITUDE_VAR] / variance
            floats[i, AMPLITUDE] += gain * (amplitude[0] - mean)
            floats[i, AMPLITUDE_VAR] *= 1 - gain
