"""The search for how many targets there are. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.compiling import compiled
from irst_stream.resolve.compiled.equations import normal_equations
from irst_stream.resolve.compiled.evidence import certainty, evidence, strain, too_bright_or_dim
from irst_stream.resolve.compiled.fitting import fit
from irst_stream.resolve.compiled.formations import nearest, seat_all, shared_belief
from irst_stream.resolve.compiled.light import NO_PRIORS, NOTHING, PARAMETERS
from irst_stream.resolve.compiled.sharing import take_one
from irst_stream.resolve.compiled.starts import ellipses, merged, moments, split, with_one_more
from irst_stream.resolve.compiled.widths import width_tells

__all__ = ["search", "search_each"]

STEPS, FIRST_STEPS = 40, 6
OUT_OF_REACH = 10.0  # of log evidence: what no fit makes good after its first steps
NEAR = 20.0  # of misfit: starts this close to the best one after their first steps are finished too
SAME = 0.03  # px: two solutions whose targets are all this close are one
AGREES = 0.15  # px: a solution that has a target this close has it too, as the score counts it
WORTH = 2.5  # of log evidence: what a target that is not there would gain on its own by fitting the noise of a window
KEEP = 0.95  # of the odds of numbers of targets, from frame to frame: groups come apart and draw together
LONG_ODDS = 3.0  # of log evidence: that the optics are as said
LOOKS = 3  # widths that are tried besides the one that is said
ENOUGH, LONGEST_STEP = 0.01, 0.15  # of the logarithm of a width: the smallest step worth a search, the largest one
HOPE = 1.0  # of log evidence: a width is tried where it may gain that little less than it has to
FIRM = 10.0  # of log evidence: the odds are no longer than this, so that the number may change


@compiled
def search_each(  # type: ignore[no-untyped-def]
    which,
    taken,
    images,
    course,
    sigma,
    noise,
    shot,
    limits,
    priors,
    formation,
    turns,
    hints,
    hinted,
    held,
    begin,
    odds,
    doubt,
    out,
):
    """Searches some of N regions (N, T, H, W), the rows `which`; fills these rows of the arrays in `out`.

    taken (1,): how many of them have been begun with; threads that are given the same one share the work, each taking the
    next row when it is done with its last.
    course (N, T, 3), noise (N,), limits (N, 2); hints (N, M, 5), the first hinted (N,) of each count; held (N, most + 1,
    most, 5), begin (N,) and odds (N, most + 1): see search. out: number of targets (N,), their p (N, most, 5), cov
    (N, most, most, 2, 2), amplitude_sd (N, most) and probability (N, most), their strain (N, 2), and what to hold the next
    time, solutions and odds.
    """
    number, points, cov, amplitude_sd, probability, strains, solutions, odds_then = out
    most, sides = points.shape[1], (images.shape[3], images.shape[2])
    while True:
        place = take_one(taken)
        if place >= len(which):
            break
        k = which[place]
        bounds = (limits[k, 0], limits[k, 1])
        rest = most, turns, hints[k, : hinted[k]].copy(), held[k], begin[k], odds[k], doubt
        p, matrix, likely, logs, solutions[k], width = search(
            images[k], course[k], sigma, noise[k], shot, bounds, priors, formation, *rest
        )
        n = len(p)
        number[k], points[k, :n], probability[k, :n] = n, p, likely
        certainty(matrix, sides, cov[k, :n, :n], amplitude_sd[k, :n])
        if n > 0:
            strains[k, 0], strains[k, 1] = strain(p, images[k], course[k], width, noise[k], shot, bounds)
            odds_then[k] = odds[k]
            _leave(images[k], course[k], width, noise[k], shot, bounds, logs, solutions[k], n, odds_then[k])


@compiled
def search(  # type: ignore[no-untyped-def]
    images, course, sigma, noise, shot, limits, priors, formation, most, turns, hint, held, guess, odds, doubt
):
    """Fits the likely numbers of targets with optics of the width that is said and, where the light tells of another, with
    that; the evidence chooses.

    doubt: standard deviation of the logarithm of a width that is not as said; 0: it always is. The more light is left
    unexplained, the less the evidence counts. All else, and what it gives but for the width, px: see _search_at.
    """
    p, matrix, likely, logs, solutions, log = _search_at(
        images, course, sigma, noise, shot, limits, priors, formation, most, turns, hint, held, guess, odds
    )
    width, off, q, other, belief, more, answers = sigma, 0.0, p, matrix, likely, logs, solutions
    if doubt == 0.0:
        return p, matrix, likely, logs, solutions, width
    as_said, best = log, 0.0
    for turn in range(LOOKS + 1):
        if not len(q):
            break
        tried = sigma * math.exp(off)
        step, precision, loose = width_tells(q, other, images, course, tried, noise, shot, limits, off, doubt)
        if not precision > 0.0:
            break
        unexplained = max(1.0, *strain(q, images, course, tried, noise, shot, limits))
        gain = (log - as_said) / unexplained - LONG_ODDS
        gain -= math.log(doubt) + 0.5 * ((off / doubt) ** 2 + math.log(precision))
        if turn > 0 and gain > best:
            best, width, p, matrix, likely, logs, solutions = gain, tried, q, loose, belief, more, answers
        hoped = gain + 0.5 * step * step * precision / unexplained
        if turn == LOOKS or abs(step) < ENOUGH or hoped < best - HOPE:
            break
        off += min(max(step, -LONGEST_STEP), LONGEST_STEP)
        q, other, belief, more, answers, log = _search_at(
            images, course, sigma * math.exp(off), noise, shot, limits, priors, formation, most, turns, q, held, guess, odds
        )
    return p, matrix, likely, logs, solutions, width


@compiled
def _search_at(  # type: ignore[no-untyped-def]
    images, course, sigma, noise, shot, limits, priors, formation, most, turns, hint, held, guess, odds
):
    """Fits the likely numbers of targets with optics of this width.

    hint (K, 5): one more start for that number, K may be 0. held (most + 1, most, 5): a solution for each number, from
    which alone that number is fitted anew; amplitudes of 0 where there is none. guess: the number to begin with, 0 for what
    the light says. odds (most + 1,): log evidence of each number from frames before the window's. Gives the best p (K, 5),
    without a row where noise alone explains the light better, its matrix (5K, 5K), how likely each target is (K,), the log
    evidence of each number (most + 1,), odds and all, NOTHING where it was not tried, what to hold next, and that of p.
    """
    found = moments(images, course, sigma, noise)
    area = float(images.shape[1] * images.shape[2])
    logs, solutions = np.full(most + 1, NOTHING), np.zeros(held.shape)
    if guess == 0:
        guess = int(min(max(round(found[0] / priors.amplitude_dn), 1), most))
    starts = held[guess : guess + 1, :guess].copy()
    if held[guess, 0, 4] == 0.0:
        starts = ellipses(guess, found, priors.amplitude_dn, turns)
    if len(hint) == guess:
        starts = with_one_more(starts, hint)
    p, misfit, matrix, agreed = _best_of(starts, images, course, sigma, noise, shot, limits, priors, NOTHING)
    logs[guess] = evidence(p, misfit, matrix, images, sigma, noise, priors, area, 0, 0.0) + odds[guess]
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
            q, misfit, other, agrees = _best_of(starts, images, course, sigma, noise, shot, limits, priors, needed)
            solutions[targets, :targets] = q
            logs[targets] = evidence(q, misfit, other, images, sigma, noise, priors, area, 0, 0.0) + odds[targets]
            if logs[targets] <= logs[targets - direction]:
                break
            if logs[targets] >= logs.max():
                p, matrix, agreed = q, other, agrees
            targets += direction
    none, free = np.empty((0, PARAMETERS)), np.empty((0, 3))
    empty, nobody = np.empty((0, 0)), np.empty(0)
    logs[0] = -0.5 * normal_equations(none, images, course, sigma, noise, shot, limits, priors, free, empty, nobody)
    if logs[0] > logs[1:].max():
        return none, empty, nobody, logs, solutions, logs[0]
    possible = np.zeros(most + 1, np.bool_)
    for n in range(1, most + 1 if len(formation.sizes) else 1):
        possible[n] = not too_bright_or_dim(p, matrix, priors, n)
    points, seated, best = seat_all(images, course, sigma, noise, shot, limits, priors, formation, possible, found)
    logs[1:] = np.where(logs[1:] > NOTHING, logs[1:] + formation.free, NOTHING)
    own, highest = len(p), logs.max()
    if len(seated) and seated.max() > logs.max():
        way = int(seated.argmax())
        n, own, highest = formation.sizes[way], len(logs) + way, seated[way]
        p, matrix, agreed = points[way, :n].copy(), best, np.ones(n)
        solutions[n, :n] = p
    return p, matrix, shared_belief(p, agreed, own, solutions, logs, points, seated), logs, solutions, highest


@compiled
def _best_of(points, images, course, sigma, noise, shot, limits, priors, needed):  # type: ignore[no-untyped-def]
    """A few steps from every start (V, K, 5), all that may still win to the end; the best, and how the others agree.

    needed: log evidence; where the first steps leave it far out of reach, they are all.
    """
    variants, n, free = len(points), points[0].size, np.empty((0, 3))
    misfits, done, matrices = np.empty(variants), np.empty(variants, np.bool_), np.empty((variants, n, n))
    for v in range(variants):
        points[v], misfits[v], matrices[v], done[v] = fit(
            points[v], images, course, sigma, noise, shot, limits, priors, free, FIRST_STEPS
        )
    best = int(misfits.argmin())
    area = float(images.shape[1] * images.shape[2])
    log = evidence(points[best], misfits[best], matrices[best], images, sigma, noise, priors, area, 0, 0.0)
    if not done.all() and log >= needed - OUT_OF_REACH:
        first, reach = best, np.inf
        for turn in range(-1, variants):
            v = first if turn < 0 else turn
            if not done[v] and misfits[v] < reach:
                points[v], misfits[v], matrices[v], done[v] = fit(
                    points[v], images, course, sigma, noise, shot, limits, priors, free, STEPS
                )
            reach = misfits.min() + NEAR
        best = int(misfits.argmin())
    return points[best], misfits[best], matrices[best], _agreement(points, misfits, best)


@compiled
def _leave(images, course, sigma, noise, shot, limits, logs, solutions, best, odds):  # type: ignore[no-untyped-def]
    """Moves the odds (most + 1,) on by the window's first frame, which leaves it next: what that says of each number.

    They are relative to the best number's; of a number that was not tried nothing new is known. A solution of more targets
    fits more of the noise too, which WORTH makes up for.
    """
    said, free = np.full(len(odds), NOTHING), np.empty((0, 3))
    for k in range(1, len(odds)):
        if logs[k] > NOTHING and solutions[k, 0, 4] != 0.0:
            matrix, vector = np.empty((PARAMETERS * k, PARAMETERS * k)), np.empty(PARAMETERS * k)
            p = solutions[k, :k]
            misfit = normal_equations(
                p, images[:1], course[:1], sigma, noise, shot, limits, NO_PRIORS, free, matrix, vector
            )
            said[k] = -0.5 * misfit - WORTH * k / len(images)
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
            if counted[other] and _farthest(points[v], points[other]) < SAME:
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
