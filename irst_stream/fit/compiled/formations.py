"""Fits of the choices of seats of a known formation, and the probability of each target. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.evidence import evidence
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.compiled.likelihood import INFINITE, PARAMETERS
from irst_stream.fit.compiled.sums import index_of_largest, total
from irst_stream.system.numba_cache import compiled

__all__ = ["fit_formations", "nearest_distance", "target_probabilities"]

FIRST_STEPS, STEPS = 6, 40
HOPELESS_DEFICIT = 12.0  # log evidence: a fit this far behind after its first steps is not finished
AGREEMENT_PX = 0.15  # a hypothesis with a target this close has the same target, as the score counts it


@compiled
def fit_formations(region, model, formation, possible, moments):  # type: ignore[no-untyped-def]
    """Fit each of the F choices of the formation's seats.

    possible (most + 1,): whether the light allows each number of targets; moments: see light_moments. Returns each choice's
    targets (F, most, 5), its log evidence with its prior weight (F,), -INFINITE where it was not tried, and the best
    choice's matrix.
    """
    ways, most = formation.seats.shape[:2]
    points, logs = np.zeros((ways, most, PARAMETERS)), np.full(ways, -INFINITE)
    best = np.empty((0, 0))
    if not ways:
        return points, logs, best
    for steps in (FIRST_STEPS, STEPS):
        required = logs[index_of_largest(logs)] - HOPELESS_DEFICIT
        best_log = -INFINITE
        for way in range(ways):
            n = formation.sizes[way]
            if not possible[n] or (steps == STEPS and logs[way] < required):
                continue
            seats = np.empty((n, 3))
            seats[:, :2], seats[:, 2] = formation.seats[way, :n], formation.precision
            if steps == FIRST_STEPS:
                _start_on_seats(seats, moments, model.priors, points[way, :n])
            p, misfit, matrix, _ = fit(points[way, :n], region, model, seats, steps)
            points[way, :n] = p
            logs[way] = evidence(p, misfit, matrix, region, model, n, formation.precision)
            logs[way] += formation.weights[way]
            if logs[way] > best_log:
                best, best_log = matrix, logs[way]
    return points, logs, best


@compiled
def _start_on_seats(seats, moments, priors, p):  # type: ignore[no-untyped-def]
    """Fill p (K, 5) with targets on their seats, centred on the light."""
    for k in range(len(seats)):
        for axis in range(2):
            p[k, axis] = moments[1 + axis] + seats[k, axis] - total(seats[:, axis]) / len(seats)
            p[k, 2 + axis] = moments[3 + axis]
        p[k, 4] = priors.amplitude_dn


@compiled
def target_probabilities(p, agreed, own, solutions, logs, points, formation_logs):  # type: ignore[no-untyped-def]
    """(K,): the probability of each target of the chosen p (K, 5): the weight of all hypotheses that share it.

    The hypotheses are the free arrangements of each number of targets, solutions (most + 1, most, 5) with log evidence logs
    (most + 1,), then those of the formation, points (F, most, 5) with formation_logs (F,). own: index of the chosen one;
    agreed (K,): by how much of its own starts' weight each of its targets is shared.
    """
    free = len(logs)
    highest = logs[index_of_largest(logs)]
    if len(formation_logs):
        highest = max(highest, formation_logs[index_of_largest(formation_logs)])
    whole, shared = 0.0, np.zeros(len(p))
    for h in range(free + len(formation_logs)):
        log = logs[h] if h < free else formation_logs[h - free]
        if log <= -INFINITE:
            continue
        weight = math.exp(log - highest)
        whole += weight
        for k in range(len(p)):
            if h == own:
                shared[k] += weight * agreed[k]
                continue
            others = solutions[h] if h < free else points[h - free]
            if nearest_distance(p[k], others) < AGREEMENT_PX:
                shared[k] += weight
    return shared / whole


@compiled
def nearest_distance(target, others):  # type: ignore[no-untyped-def]
    """Distance, px, from a target (5,) to the nearest of others (N, 5), of which those of amplitude 0 do not count."""
    least = INFINITE
    for k in range(len(others)):
        if others[k, 4] != 0.0:
            least = min(least, math.hypot(target[0] - others[k, 0], target[1] - others[k, 1]))
    return least
