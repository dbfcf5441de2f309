"""The sensor model: probabilities of merging and detection, and the brightness of merged targets. Compiled.

Sets of targets are masks, one bit for each target.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled
from irst_stream.track.compiled.beliefs import (
    AMPLITUDE,
    AMPLITUDE_VAR,
    CONFIRMED,
    DETECTABILITY,
    ERROR_PARTS,
    ERROR_VAR,
    EXISTENCE,
    LAST_ERROR_VAR,
    MAX_GROUP_TARGETS,
    TINY,
)
from irst_stream.track.compiled.places import mahalanobis_squared

__all__ = [
    "JUMP_GATE_CHI2",
    "LOG_JUMP",
    "brightness_log_ratio",
    "centroid_weights",
    "clutter_brightness",
    "count_targets",
    "covariance_inflation",
    "empty_prediction",
    "innovation",
    "jump_variance",
    "merge_probabilities",
    "merged_probability",
    "survival_terms",
]

MAX_LEARNT_DETECTIONS = 50  # of a frame, from which the usual brightness is learnt
MISS_EXCUSED_BY_MERGING = 0.7  # share of the merge probability by which the detection probability falls
JUMP_GATE_CHI2 = 9.0  # within which a detection may belong to a target that has jumped
LOG_JUMP = math.log(0.02)  # of the probability that a target jumps, from frame to frame
NO_MERGE_BEYOND_SD = 8.0  # standard deviations beyond the resolution: the merge probability is 0 from here on


class SensorPrediction(NamedTuple):
    """What the sensor is expected to see under each of K hypotheses of up to N = MAX_GROUP_TARGETS targets."""

    positions: Any  # (K, N, 2) px, predicted measurements
    position_cov: Any  # (K, N, N, 2, 2) px^2, their joint covariance
    merge_probs: Any  # (K, N, N): see merge_probabilities
    log_unmerged: Any  # (K, N), as the following: see survival_terms
    log_missed: Any  # (K, N)
    detection_probs: Any  # (K, N)
    log_odds: Any  # (K, N)


@compiled
def empty_prediction(hypotheses):  # type: ignore[no-untyped-def]
    """Zeros for this number of hypotheses."""
    n = MAX_GROUP_TARGETS
    return SensorPrediction(
        np.zeros((hypotheses, n, 2)),
        np.zeros((hypotheses, n, n, 2, 2)),
        np.zeros((hypotheses, n, n)),
        np.zeros((hypotheses, n)),
        np.zeros((hypotheses, n)),
        np.zeros((hypotheses, n)),
        np.zeros((hypotheses, n)),
    )


@compiled
def merge_probabilities(n, positions, position_cov, rules, merge_probs):  # type: ignore[no-untyped-def]
    """Fill (n, n): the probability that two targets are too close to be resolved, at most 0.98; 0 on the diagonal."""
    for i in range(n):
        merge_probs[i, i] = 0.0
        for j in range(i):
            dx, dy = positions[i, 0] - positions[j, 0], positions[i, 1] - positions[j, 1]
            distance = math.hypot(dx, dy)
            xx = position_cov[i, i, 0, 0] + position_cov[j, j, 0, 0] - position_cov[i, j, 0, 0] - position_cov[j, i, 0, 0]
            xy = position_cov[i, i, 0, 1] + position_cov[j, j, 0, 1] - position_cov[i, j, 0, 1] - position_cov[j, i, 0, 1]
            yy = position_cov[i, i, 1, 1] + position_cov[j, j, 1, 1] - position_cov[i, j, 1, 1] - position_cov[j, i, 1, 1]
            variance = (dx * dx * xx + 2 * dx * dy * xy + dy * dy * yy) / distance**2 if distance > 1e-6 else (xx + yy) / 2
            excess_sd = (distance - rules.resolution_px) / math.sqrt(max(variance, 0.0) + rules.resolution_sd_px**2)
            probability = min(0.5 * math.erfc(excess_sd / math.sqrt(2.0)), 0.98) if excess_sd < NO_MERGE_BEYOND_SD else 0.0
            merge_probs[i, j] = merge_probs[j, i] = probability


@compiled
def merged_probability(mask, n, merge_probs):  # type: ignore[no-untyped-def]
    """Probability that a mask's targets are one detection: the minimum over targets of the highest pairwise probability."""
    weakest = 1.0
    for i in range(n):
        if mask >> i & 1:
            strongest = 0.0
            for j in range(n):
                if j != i and mask >> j & 1:
                    strongest = max(strongest, merge_probs[i, j])
            weakest = min(weakest, strongest)
    return weakest


@compiled
def survival_terms(floats, merge_probs, rules, log_unmerged, log_missed, detection_probs, log_odds):  # type: ignore[no-untyped-def]
    """Fill the terms of existence and detection of n targets, (n,) each.

    log_unmerged: log probability of not being merged, half of it for each of two neighbours; log_missed: log probability
    of not being detected; detection_probs: detection probability of the target alone; log_odds: log of its existence
    probability over that of being missed.
    """
    n = len(floats)
    for i in range(n):
        merged = 0.0
        for j in range(n):
            if j != i:
                merged = max(merged, merge_probs[i, j] * floats[j, EXISTENCE])
        log_unmerged[i] = 0.5 * math.log(1 - merged)
        detection_probs[i] = floats[i, DETECTABILITY] * (1 - MISS_EXCUSED_BY_MERGING * merged)
        log_missed[i] = math.log(1 - floats[i, EXISTENCE] * detection_probs[i]) + log_unmerged[i]
        relative = floats[i, DETECTABILITY] / rules.detection_probability
        log_odds[i] = math.log(max(floats[i, EXISTENCE] * relative, TINY)) - log_missed[i]


@compiled
def count_targets(mask):  # type: ignore[no-untyped-def]
    """The number of targets in a mask."""
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@compiled
def covariance_inflation(mask, floats, measurement):  # type: ignore[no-untyped-def]
    """Factor, at least 1, by which a detection's covariance is inflated before it is compared with these targets.

    That covariance leaves out the error that the targets' states include, which is as large as the error of the detection
    that last updated them. Above 1 where the present error is larger; 1 where errors are not part of the state.
    """
    if len(measurement) == ERROR_PARTS:
        return 1.0
    last_error_var = 0.0
    for i in range(len(floats)):
        if mask >> i & 1:
            last_error_var += floats[i, LAST_ERROR_VAR] / count_targets(mask)
    return 1.0 + max(measurement[ERROR_VAR] - last_error_var, 0.0) / (measurement[2] + measurement[4])


@compiled
def innovation(i, measurement, floats, positions, position_cov):  # type: ignore[no-untyped-def]
    """Offset dx, dy of a detection from where target i is predicted, px, and its covariance xx, xy, yy, px^2."""
    inflation = covariance_inflation(1 << i, floats, measurement)
    xx = position_cov[i, i, 0, 0] + inflation * measurement[2]
    xy = position_cov[i, i, 0, 1] + inflation * measurement[3]
    yy = position_cov[i, i, 1, 1] + inflation * measurement[4]
    return measurement[0] - positions[i, 0], measurement[1] - positions[i, 1], xx, xy, yy


@compiled
def jump_variance(i, dx, dy, xx, xy, yy, ints, rules):  # type: ignore[no-untyped-def]
    """Variance, px^2, of the jump that target i must have made if an innovation outside the gate is its own; else 0.

    What is detected of a target larger than the PSF is its brightest part, which may change at once.
    """
    jumps = rules.jump_px > 0 and ints[i, CONFIRMED] and mahalanobis_squared(dx, dy, xx, xy, yy) >= rules.gate_chi2
    return rules.jump_px**2 if jumps else 0.0


@compiled
def centroid_weights(mask, floats):  # type: ignore[no-untyped-def]
    """(n,): the weight of each target of a mask in their merged position, by amplitude; they add up to 1."""
    weights, total = np.zeros(len(floats)), 0.0
    for i in range(len(floats)):
        if mask >> i & 1:
            amplitude = floats[i, AMPLITUDE]
            weights[i] = 1.0 if math.isnan(amplitude) else max(amplitude, 1e-9)
            total += weights[i]
    for i in range(len(floats)):
        weights[i] /= total
    return weights


@compiled
def brightness_log_ratio(mask, floats, amplitude, log_clutter, rules):  # type: ignore[no-untyped-def]
    """Log density of a detection's amplitude (mean, variance) if it comes from these targets, over that of clutter.

    0 where an amplitude is unknown or brightness is not used.
    """
    if not rules.brightness or math.isnan(amplitude[0]):
        return 0.0
    mean, variance = 0.0, amplitude[1]
    for i in range(len(floats)):
        if mask >> i & 1:
            if math.isnan(floats[i, AMPLITUDE]):
                return 0.0
            mean += floats[i, AMPLITUDE]
            variance += floats[i, AMPLITUDE_VAR]
    residual = amplitude[0] - mean
    return -0.5 * residual * residual / variance - 0.5 * math.log(2 * math.pi * variance) - log_clutter


@compiled
def clutter_brightness(amplitudes, mean, variance, learning_rate):  # type: ignore[no-untyped-def]
    """Log density of each detection's amplitude among all detections (N,), and the mean and variance of all, as updated.

    amplitudes (N, 2): DN and variance; mean, variance: as learnt so far, NaN before the first detection; learning_rate: the
    weight of each new amplitude.
    """
    learnt = 0
    for j in range(len(amplitudes)):
        value = amplitudes[j, 0]
        if not math.isfinite(value) or learnt == MAX_LEARNT_DETECTIONS:
            continue
        learnt += 1
        if math.isnan(mean):
            mean, variance = value, (0.3 * value) ** 2
        else:
            residual = value - mean
            mean, variance = mean + learning_rate * residual, variance + learning_rate * (residual * residual - variance)
    log_density = np.zeros(len(amplitudes))
    if not math.isnan(mean):
        wide_variance = max(2 * variance, (0.05 * mean) ** 2, 1e-12)
        for j in range(len(amplitudes)):
            residual = (amplitudes[j, 0] if math.isfinite(amplitudes[j, 0]) else 0.0) - mean
            log_density[j] = -0.5 * residual * residual / wide_variance - 0.5 * math.log(2 * math.pi * wide_variance)
    return log_density, mean, variance
