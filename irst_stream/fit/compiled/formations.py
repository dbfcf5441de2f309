"""Fits of a formation known beforehand, whichever of its seats are taken. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.evidence import evidence
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.compiled.likelihood import NOTHING, PARAMETERS
from irst_stream.system.numba_cache import compiled

__all__ = ["nearest", "seat_all", "shared_belief"]

FIRST_STEPS, STEPS = 6, 40
OUT_OF_REACH = 12.0  # of log evidence: what no fit makes good after its first steps
AGREES = 0.15  # px: a hypothesis that has a target this close has it too, as the score counts it


@compiled
def seat_all(seen, model, formation, possible, found):  # type: ignore[no-untyped-def]
    """Fits every way in which the formation's seats can be taken, F of them.

    possible (most + 1,): whether the light allows each number of targets; found: see moments. Gives each one's points
    (F, most, 5) and log evidence (F,), its prior weight and all, NOTHING where it was not tried, and the best one's matrix.
    """
    ways, most = formation.seats.shape[:2]
    points, logs = np.zeros((ways, most, PARAMETERS)), np.full(ways, NOTHING)
    best = np.empty((0, 0))
    if not ways:
        return points, logs, best
    for steps in (FIRST_STEPS, STEPS):
        reach = logs.max() - OUT_OF_REACH
        best_log = NOTHING
        for way in range(ways):
            n = formation.sizes[way]
            if not possible[n] or (steps == STEPS and logs[way] < reach):
                continue
            seats = np.empty((n, 3))
            seats[:, :2], seats[:, 2] = formation.seats[way, :n], formation.precision
            if steps == FIRST_STEPS:
                _sit_down(seats, found, model.priors, points[way, :n])
            p, misfit, matrix, _ = fit(points[way, :n], seen, model, seats, steps)
            points[way, :n] = p
            logs[way] = evidence(p, misfit, matrix, seen, model, n, formation.precision)
            logs[way] += formation.weights[way]
            if logs[way] > best_log:
                best, best_log = matrix, logs[way]
    return points, logs, best


@compiled
def _sit_down(seats, found, priors, p):  # type: ignore[no-untyped-def]
    """Fills p (K, 5): targets on their seats, the light's middle in their middle."""
    for k in range(len(seats)):
        for axis in range(2):
            p[k, axis] = found[1 + axis] + seats[k, axis] - seats[:, axis].mean()
            p[k, 2 + axis] = found[3 + axis]
        p[k, 4] = priors.amplitude_dn


@compiled
def shared_belief(p, agreed, own, solutions, logs, points, seated):  # type: ignore[no-untyped-def]
    """(K,): how likely each target of the chosen p (K, 5) is: the weight of all hypotheses that have it too.

    agreed (K,): how far the chosen hypothesis's own solutions agree; own: its number among the hypotheses, which are the
    free arrangements of each number of targets, then the formation's; solutions (most + 1, most, 5) and logs (most + 1,) of
    the former, points (F, most, 5) and seated (F,) of the latter.
    """
    free = len(logs)
    highest = max(logs.max(), seated.max()) if len(seated) else logs.max()
    total, shared = 0.0, np.zeros(len(p))
    for h in range(free + len(seated)):
        log = logs[h] if h < free else seated[h - free]
        if log <= NOTHING:
            continue
        weight = math.exp(log - highest)
        total += weight
        for k in range(len(p)):
            if h == own:
                shared[k] += weight * agreed[k]
                continue
            others = solutions[h] if h < free else points[h - free]
            if nearest(p[k], others) < AGREES:
                shared[k] += weight
    return shared / total


@compiled
def nearest(target, others):  # type: ignore[no-untyped-def]
    """How far the nearest of others (N, 5) is from a target (5,); those without light are none."""
    least = -NOTHING
    for k in range(len(others)):
        if others[k, 4] != 0.0:
            least = min(least, math.hypot(target[0] - others[k, 0], target[1] - others[k, 1]))
    return least
