"""The search for how many targets there are. Compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.fit.compiled.evidence import certainty, evidence, strain, too_bright_or_dim
from irst_stream.fit.compiled.formations import nearest, seat_all, shared_belief
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.compiled.likelihood import NO_PRIORS, NOTHING, PARAMETERS, Model, Seen
from irst_stream.fit.compiled.normal_equations import normal_equations
from irst_stream.fit.compiled.starts import ellipses, merged, moments, split, with_one_more
from irst_stream.fit.compiled.widths import width_tells
from irst_stream.fit.compiled.work_queue import take_one
from irst_stream.system.numba_cache import compiled
from irst_stream.types import Floats

__all__ = ["search", "search_each"]

STEPS, FIRST_STEPS = 40, 6
OUT_OF_REACH = 10.0  # of log evidence: what no fit makes good after its first steps
NEAR = 20.0  # of misfit: starts this close to the best one after their first steps are finished too
DUPLICATE_PX = 0.03  # two solutions whose targets are all this close are one
AGREES = 0.15  # px: a solution that has a target this close has it too, as the score counts it
OVERFIT_PENALTY = 2.5  # of log evidence: what a false target gains by fitting the noise of a window
KEEP = 0.95  # of the odds of numbers of targets, from frame to frame: groups come apart and draw together
LONG_ODDS = 3.0  # of log evidence: that the optics are as said
LOOKS = 3  # widths that are tried besides the one that is said
ENOUGH, LONGEST_STEP = 0.01, 0.15  # of the logarithm of a width: the smallest step worth a search, the largest one
HOPE = 1.0  # of log evidence: a width is tried where it may gain that little less than it has to
FIRM = 10.0  # of log evidence: the odds are no longer than this, so that the number may change


@compiled
def search_each(which, taken, regions, known, answers):  # type: ignore[no-untyped-def]
    """Search the rows `which` of N regions, and fill these rows of the answers: see search.RegionBatch and FitResults.

    taken (1,): how many of them have been begun. Threads that are given the same one share the work, each taking the next
    row when it is done with its last. known: see FitPriors.
    """
    sides = regions.images.shape[3], regions.images.shape[2]
    while True:
        place = take_one(taken)
        if place >= len(which):
            break
        k = which[place]
        limits = (regions.limits[k, 0], regions.limits[k, 1])
        seen = Seen(regions.images[k], regions.times, regions.shifts[k], regions.noise[k], limits)
        hint = regions.hints[k, : regions.hinted[k]].copy()
        found = search(seen, known, hint, regions.held[k], regions.begin[k], regions.odds[k])
        n, model = len(found.p), Model(found.width, known.shot, known.priors)
        answers.number[k], answers.points[k, :n], answers.probability[k, :n] = n, found.p, found.likely
        answers.solutions[k] = found.solutions
        certainty(found.matrix, sides, answers.cov[k, :n, :n], answers.amplitude_sd[k, :n])
        if n > 0:
            answers.strain[k, 0], answers.strain[k, 1] = strain(found.p, seen, model)
            answers.odds[k] = regions.odds[k]
            _carry_evidence_forward(seen, model, found.logs, found.solutions, n, answers.odds[k])


class Solution(NamedTuple):
    """The best answer to a region, and what is held for the next window.

    p (K, 5), its matrix (5K, 5K), likely (K,): how likely each target is; logs (most + 1,): log evidence of each number of
    targets, odds and all, NOTHING where it was not tried; solutions (most + 1, most, 5) of each number; evidence: the log
    evidence of p; width: px, of the PSF.
    """

    p: Floats
    matrix: Floats
    likely: Floats
    logs: Floats
    solutions: Floats
    evidence: float
    width: float


@compiled
def search(seen, known, hint, held, guess, odds):  # type: ignore[no-untyped-def]
    """Search with a PSF of the width that is said and, where the light tells of another, with that; the evidence chooses.

    The more light is left unexplained, the less the evidence counts. All else: see _search_at.
    """
    doubt, off, best = known.doubt, 0.0, 0.0
    said = _search_at(seen, Model(known.sigma, known.shot, known.priors), known, hint, held, guess, odds)
    chosen = tried = said
    for turn in range(LOOKS + 1):
        if doubt == 0.0 or not len(tried.p):
            break
        model = Model(tried.width, known.shot, known.priors)
        step, precision, loose = width_tells(tried.p, tried.matrix, seen, model, off, doubt)
        if not precision > 0.0:
            break
        unexplained = max(1.0, *strain(tried.p, seen, model))
        gain = (tried.evidence - said.evidence) / unexplained - LONG_ODDS
        gain -= math.log(doubt) + 0.5 * ((off / doubt) ** 2 + math.log(precision))
        if turn > 0 and gain > best:
            best = gain
            chosen = Solution(tried.p, loose, tried.likely, tried.logs, tried.solutions, tried.evidence, tried.width)
        hoped = gain + 0.5 * step * step * precision / unexplained
        if turn == LOOKS or abs(step) < ENOUGH or hoped < best - HOPE:
            break
        off += min(max(step, -LONGEST_STEP), LONGEST_STEP)
        model = Model(known.sigma * math.exp(off), known.shot, known.priors)
        tried = _search_at(seen, model, known, tried.p, held, guess, odds)
    return chosen


@compiled
def _search_at(seen, model, known, hint, held, guess, odds):  # type: ignore[no-untyped-def]
    """Fit the likely numbers of targets with the PSF of a model.

    hint (K, 5): one more start for that number, K may be 0. held (most + 1, most, 5): a solution for each number, which
    then is its only start; amplitudes of 0 where there is none. guess: the number to begin with, 0 for what the light says.
    odds (most + 1,): log evidence of each number from frames before the window's. The solution has no target where noise
    alone explains the light better.
    """
    most, turns, priors, formation = known.most, known.turns, known.priors, known.formation
    found = moments(seen, model.sigma)
    logs, solutions = np.full(most + 1, NOTHING), np.zeros(held.shape)
    if guess == 0:
        guess = int(min(max(round(found[0] / priors.amplitude_dn), 1), most))
    starts = held[guess : guess + 1, :guess].copy()
    if held[guess, 0, 4] == 0.0:
        starts = ellipses(guess, found, priors.amplitude_dn, turns)
    if len(hint) == guess:
        starts = with_one_more(starts, hint)
    p, misfit, matrix, agreed = _best_of(starts, seen, model, NOTHING)
    logs[guess] = evidence(p, misfit, matrix, seen, model, 0, 0.0) + odds[guess]
    solutions[guess, :guess] = first = p
    for direction in (1, -1):
        targets, q = guess + direction, first
        while 1 <= targets <= most and not too_bright_or_dim(p, matrix, priors, targets):
            starts = held[targets : targets + 1, :targets].copy()
            if held[targets, 0, 4] == 0.0:
                grown = len(hint) != targets
                starts = ellipses(targets, found, priors.amplitude_dn, 0 if grown and turns == 1 else turns)
                if grown:
                    starts = with_one_more(starts, split(q, found) if direction > 0 else merged(q))
            if len(hint) == targets:
                starts = with_one_more(starts, hint)
            needed = logs[targets - direction] - odds[targets]
            q, misfit, other, agrees = _best_of(starts, seen, model, needed)
            solutions[targets, :targets] = q
            logs[targets] = evidence(q, misfit, other, seen, model, 0, 0.0) + odds[targets]
            if logs[targets] <= logs[targets - direction]:
                break
            if logs[targets] >= logs.max():
                p, matrix, agreed = q, other, agrees
            targets += direction
    none, free = np.empty((0, PARAMETERS)), np.empty((0, 3))
    empty, nobody = np.empty((0, 0)), np.empty(0)
    logs[0] = -0.5 * normal_equations(none, seen, model, free, empty, nobody)
    if logs[0] > logs[1:].max():
        return Solution(none, empty, nobody, logs, solutions, logs[0], model.sigma)
    possible = np.zeros(most + 1, np.bool_)
    for n in range(1, most + 1 if len(formation.sizes) else 1):
        possible[n] = not too_bright_or_dim(p, matrix, priors, n)
    points, seated, best = seat_all(seen, model, formation, possible, found)
    logs[1:] = np.where(logs[1:] > NOTHING, logs[1:] + formation.free, NOTHING)
    own, highest = len(p), logs.max()
    if len(seated) and seated.max() > logs.max():
        way = int(seated.argmax())
        n, own, highest = formation.sizes[way], len(logs) + way, seated[way]
        p, matrix, agreed = points[way, :n].copy(), best, np.ones(n)
        solutions[n, :n] = p
    likely = shared_belief(p, agreed, own, solutions, logs, points, seated)
    return Solution(p, matrix, likely, logs, solutions, highest, model.sigma)


@compiled
def _best_of(points, seen, model, needed):  # type: ignore[no-untyped-def]
    """A few steps from every start (V, K, 5), all that may still win to the end; the best, and how the others agree.

    needed: log evidence; where the first steps leave it far out of reach, they are all.
    """
    variants, n, free = len(points), points[0].size, np.empty((0, 3))
    misfits, done, matrices = np.empty(variants), np.empty(variants, np.bool_), np.empty((variants, n, n))
    for v in range(variants):
        points[v], misfits[v], matrices[v], done[v] = fit(points[v], seen, model, free, FIRST_STEPS)
    best = int(misfits.argmin())
    log = evidence(points[best], misfits[best], matrices[best], seen, model, 0, 0.0)
    if not done.all() and log >= needed - OUT_OF_REACH:
        first, reach = best, np.inf
        for turn in range(-1, variants):
            v = first if turn < 0 else turn
            if not done[v] and misfits[v] < reach:
                points[v], misfits[v], matrices[v], done[v] = fit(points[v], seen, model, free, STEPS)
            reach = misfits.min() + NEAR
        best = int(misfits.argmin())
    return points[best], misfits[best], matrices[best], _agreement(points, misfits, best)


@compiled
def _carry_evidence_forward(seen, model, logs, solutions, best, odds):  # type: ignore[no-untyped-def]
    """Add to the odds (most + 1,) what the window's first frame, which leaves it next, says of each number of targets.

    They are relative to the best number's; of a number that was not tried nothing new is known. A solution of more targets
    fits more of the noise too, which OVERFIT_PENALTY makes up for.
    """
    said, free, frames = np.full(len(odds), NOTHING), np.empty((0, 3)), len(seen.images)
    first = Seen(seen.images[:1], seen.times[:1], seen.shifts[:1], seen.noise, seen.limits)
    bare = Model(model.sigma, model.shot, NO_PRIORS)
    for k in range(1, len(odds)):
        if logs[k] > NOTHING and solutions[k, 0, 4] != 0.0:
            matrix, vector = np.empty((PARAMETERS * k, PARAMETERS * k)), np.empty(PARAMETERS * k)
            p = solutions[k, :k]
            said[k] = -0.5 * normal_equations(p, first, bare, free, matrix, vector) - OVERFIT_PENALTY * k / frames
    before = odds.copy()
    for k in range(1, len(odds)):
        gain = said[k] - said[best] if said[k] > NOTHING else 0.0
        odds[k] = min(max(KEEP * (before[k] - before[best] + gain), -FIRM), FIRM)


@compiled
def _agreement(points, misfits, best):  # type: ignore[no-untyped-def]
    """(K,): for each target of the best solution the weight of all solutions that have it too, 0 to 1.

    A solution weighs exp(-misfit / 2); one that several starts have led to counts once.
    """
    variants, targets = points.shape[:2]
    shared, total = np.zeros(targets), 0.0
    counted = np.zeros(variants, np.bool_)
    for v in range(variants):
        weight = math.exp(-0.5 * (misfits[v] - misfits[best]))
        for other in range(v):
            if counted[other] and _farthest(points[v], points[other]) < DUPLICATE_PX:
                weight = 0.0
        counted[v] = weight > 0.0
        total += weight
        for k in range(targets):
            if nearest(points[best, k], points[v]) < AGREES:
                shared[k] += weight
    return shared / total


@compiled
def _farthest(p, q):  # type: ignore[no-untyped-def]
    """How far the target of p that is farthest from all of q is from them."""
    farthest = 0.0
    for k in range(len(p)):
        farthest = max(farthest, nearest(p[k], q))
    return farthest
