"""Model selection: the search for the number of targets in a region. Compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.fit.compiled.evidence import evidence, fill_covariances, light_rules_out, reduced_chi_square
from irst_stream.fit.compiled.extended import extended_model, fit_extended
from irst_stream.fit.compiled.formations import fit_formations, nearest_distance, target_probabilities
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.compiled.likelihood import INFINITE, PARAMETERS
from irst_stream.fit.compiled.normal_equations import normal_equations
from irst_stream.fit.compiled.records import NO_PRIORS, FitPriors, ImagingModel, PsfShape, RegionImages
from irst_stream.fit.compiled.starts import append_start, ellipse_starts, light_moments, merge_nearest, split_brightest
from irst_stream.fit.compiled.sums import index_of_largest, index_of_least, total
from irst_stream.fit.compiled.widths import width_step
from irst_stream.fit.compiled.work_queue import take_next
from irst_stream.system.numba_cache import compiled
from irst_stream.types import Floats

__all__ = ["search", "search_regions"]

STEPS, FIRST_STEPS = 40, 6
HOPELESS_DEFICIT = 10.0  # log evidence: a fit this far behind after its first steps is not finished
FINISH_MISFIT = 20.0  # starts this close to the smallest misfit after their first steps are finished too
DUPLICATE_PX = 0.03  # two solutions whose targets are all this close are duplicates
AGREEMENT_PX = 0.15  # a solution with a target this close has the same target, as the score counts it
OVERFIT_PENALTY = 2.5  # log evidence that a false target gains by fitting the noise of a window
ODDS_DECAY = 0.95  # of the odds of each number of targets per frame, because groups separate and merge
WIDTH_PENALTY = 3.0  # log evidence in favour of the expected width
MAX_WIDTHS = 3  # widths tried after the expected one
MIN_WIDTH_STEP = 0.01  # of the logarithm of the width: a smaller step is not worth another search
MAX_WIDTH_STEP = 0.15  # of the logarithm of the width
WIDTH_SLACK = 1.0  # log evidence by which a width's expected gain may fall short and the width still be tried
POINT = (0.0, 0.0)  # the extent of point targets
EXTENT_PENALTY = 3.0  # log evidence against an extended target, for the two extents that it has of its own
QUESTIONABLE_CHI_SQUARE = 1.5  # of a single point target, beyond which it may be an extended one
MAX_ODDS = 10.0  # log evidence: bounds the odds, so that the number of targets may still change


@compiled
def search_regions(which, taken, regions, fit_priors, results):  # type: ignore[no-untyped-def]
    """Search the rows `which` of N regions and fill these rows of the results: see search.RegionBatch and FitResults.

    taken (1,): number of rows begun. Threads that share it share the work: each takes the next row when it is free.
    fit_priors: see FitPriors.
    """
    sides = regions.images.shape[3], regions.images.shape[2]
    everywhere = fit_priors
    while True:
        position = take_next(taken)
        if position >= len(which):
            break
        k = which[position]
        fit_priors = _priors_at(everywhere, regions.psfs, regions.psf[k]) if len(regions.psfs.sigma) else everywhere
        limits = (regions.limits[k, 0], regions.limits[k, 1])
        region = RegionImages(
            regions.images[k], regions.times, regions.shifts[k], regions.noise[k], limits, regions.shot[k]
        )
        hint = regions.hints[k, : regions.hint_count[k]].copy()
        warm = regions.warm_solutions[k], regions.first_number[k], regions.odds[k]
        if max(regions.extent[k, 0], regions.extent[k, 1]) > 0.0:
            found = _follow_extended(region, fit_priors, *warm, regions.extent[k])
        elif regions.width_ratio[k] > 0.0:
            width = regions.width_ratio[k] * fit_priors.sigma
            found = _search_with_width(region, fit_priors, hint, *warm, width)
        else:
            found = search(region, fit_priors, hint, *warm)
            if fit_priors.extended > -INFINITE and len(found.p):
                found = _or_extended(region, fit_priors, found, regions.odds[k])
        n = len(found.p)
        model = extended_model(found.width, fit_priors.shape, fit_priors.priors, *found.extent)
        results.number[k], results.targets[k, :n], results.probability[k, :n] = n, found.p, found.probability
        results.solutions[k], results.width_ratio[k] = found.solutions, found.width / fit_priors.sigma if n > 0 else 0.0
        results.extent[k, 0], results.extent[k, 1] = found.extent
        fill_covariances(found.matrix, sides, results.cov[k, :n, :n], results.amplitude_sd[k, :n])
        if n > 0:
            results.reduced_chi_square[k, 0], results.reduced_chi_square[k, 1] = reduced_chi_square(found.p, region, model)
            results.odds[k] = regions.odds[k]
            _carry_evidence_forward(region, model, found.logs, found.solutions, n, results.odds[k])


@compiled
def _priors_at(everywhere, psfs, i):  # type: ignore[no-untyped-def]
    """The FitPriors with PSF i of a PsfBank."""
    sigma = psfs.sigma[i]
    stretch_x, stretch_y = psfs.stretches[i, 0], psfs.stretches[i, 1]
    columns, rows = psfs.columns[i], psfs.rows[i]
    return FitPriors(
        sigma,
        PsfShape(stretch_x, stretch_y, columns, rows, psfs.first[i], psfs.per_width[i], sigma),
        everywhere.priors,
        everywhere.formation,
        everywhere.start_count,
        everywhere.max_targets,
        everywhere.sigma_doubt,
        everywhere.extended,
    )


class RegionSolution(NamedTuple):
    """The selected fit of a region, and the best fit of each number of targets.

    p (K, 5), matrix (5K, 5K) and probability (K,) of each target; logs (most + 1,): log evidence of each number of targets
    with its odds, -INFINITE where it was not tried; solutions (most + 1, most, 5) of each number; evidence: log evidence of
    p; width: of the PSF, px; extent: standard deviations of an extended target along x and y, px, 0 for point targets.
    """

    p: Floats
    matrix: Floats
    probability: Floats
    logs: Floats
    solutions: Floats
    evidence: float
    width: float
    extent: tuple[float, float]


@compiled
def search(region, fit_priors, hint, warm_solutions, guess, odds):  # type: ignore[no-untyped-def]
    """Search with the PSF's expected width and, where the light asks for another, with that; return the likelier solution.

    The evidence of another width counts less the more light the fit leaves unexplained. Arguments: see _search_with.
    """
    doubt, offset, best = fit_priors.sigma_doubt, 0.0, 0.0
    model = ImagingModel(fit_priors.sigma, fit_priors.shape, fit_priors.priors)
    chosen = expected = _search_with(region, model, fit_priors, hint, warm_solutions, guess, odds)
    if doubt == 0.0 or not len(expected.p):
        return expected
    expected_gain, step, start = _most_promising_step(region, model, fit_priors, expected)
    for _ in range(MAX_WIDTHS):
        if abs(step) < MIN_WIDTH_STEP or expected_gain < best - WIDTH_SLACK:
            break
        offset += min(max(step, -MAX_WIDTH_STEP), MAX_WIDTH_STEP)
        model = ImagingModel(fit_priors.sigma * math.exp(offset), fit_priors.shape, fit_priors.priors)
        tried = _search_with(region, model, fit_priors, start, expected.solutions, len(start), odds)
        if not len(tried.p):
            break
        step, precision, marginal = width_step(tried.p, tried.matrix, region, model, offset, doubt)
        if not precision > 0.0:
            break
        unexplained = max(1.0, *reduced_chi_square(tried.p, region, model))
        gain = (tried.evidence - expected.evidence) / unexplained - WIDTH_PENALTY
        gain -= math.log(doubt) + 0.5 * ((offset / doubt) ** 2 + math.log(precision))
        if gain > best:
            best = gain
            chosen = RegionSolution(
                tried.p, marginal, tried.probability, tried.logs, tried.solutions, tried.evidence, tried.width, POINT
            )
        expected_gain, start = gain + 0.5 * step * step * precision / unexplained, tried.p
    return chosen


@compiled
def _most_promising_step(region, model, fit_priors, found):  # type: ignore[no-untyped-def]
    """The evidence to be gained by another PSF width, the step of its logarithm, and the fit (K, 5) that asks for it.

    Asks the fit of every number of targets that was tried, because light of a wider PSF looks like more targets.
    """
    most_gain, best_step, start, doubt = -INFINITE, 0.0, found.p, fit_priors.sigma_doubt
    unexplained = max(1.0, *reduced_chi_square(found.p, region, model))
    for n in range(1, len(found.logs)):
        if found.logs[n] <= -INFINITE or found.solutions[n, 0, 4] == 0.0:
            continue
        p, matrix, log = found.solutions[n, :n].copy(), np.empty((PARAMETERS * n, PARAMETERS * n)), found.logs[n]
        normal_equations(p, region, model, np.empty((0, 3)), matrix, np.empty(PARAMETERS * n))
        if n == len(found.p):
            p, matrix, log = found.p, found.matrix, found.evidence
        step, precision, _ = width_step(p, matrix, region, model, 0.0, doubt)
        if not precision > 0.0:
            continue
        gain = (log - found.evidence + 0.5 * step * step * precision) / unexplained - WIDTH_PENALTY
        gain -= math.log(doubt) + 0.5 * math.log(precision)
        if gain > most_gain:
            most_gain, best_step, start = gain, step, p
    return most_gain, best_step, start


@compiled
def _search_with_width(region, fit_priors, hint, warm_solutions, guess, odds, width):  # type: ignore[no-untyped-def]
    """Search with a PSF width that an earlier window found; where it is not the expected one, it stays uncertain."""
    model = ImagingModel(width, fit_priors.shape, fit_priors.priors)
    found = _search_with(region, model, fit_priors, hint, warm_solutions, guess, odds)
    if width == fit_priors.sigma or not len(found.p):
        return found
    offset = math.log(width / fit_priors.sigma)
    marginal = width_step(found.p, found.matrix, region, model, offset, fit_priors.sigma_doubt)[2]
    return RegionSolution(
        found.p, marginal, found.probability, found.logs, found.solutions, found.evidence, found.width, POINT
    )


@compiled
def _or_extended(region, fit_priors, found, odds):  # type: ignore[no-untyped-def]
    """The solution of point targets, or one extended target where the light prefers that.

    A single target that explains the light is not questioned. The evidence counts less the more light both leave
    unexplained.
    """
    points = ImagingModel(found.width, fit_priors.shape, fit_priors.priors)
    unexplained = max(1.0, *reduced_chi_square(found.p, region, points))
    if len(found.p) == 1 and unexplained < QUESTIONABLE_CHI_SQUARE:
        return found
    model = ImagingModel(fit_priors.sigma, fit_priors.shape, fit_priors.priors)
    p, log, matrix, extent_x, extent_y = fit_extended(region, model, _merged(found.p))
    wide = extended_model(model.sigma, model.shape, model.priors, extent_x, extent_y)
    unexplained = min(unexplained, max(1.0, *reduced_chi_square(p, region, wide)))
    gain = (log + odds[1] - found.evidence) / unexplained + fit_priors.extended - EXTENT_PENALTY
    if gain < 0.0:
        return found
    return _extended_solution(p, matrix, log, fit_priors, found.logs, found.solutions, (extent_x, extent_y))


@compiled
def _merged(p):  # type: ignore[no-untyped-def]
    """One target (1, 5) with the light of p (K, 5), at the place of the brightest."""
    brightest = index_of_largest(p[:, 4])
    one = p[brightest : brightest + 1].copy()
    one[0, 4] = total(p[:, 4])
    return one


@compiled
def _extended_solution(p, matrix, log, fit_priors, logs, solutions, extent):  # type: ignore[no-untyped-def]
    """The RegionSolution of one extended target p (1, 5); logs, solutions: of point targets, of which one is replaced."""
    logs, solutions = np.full(len(logs), -INFINITE), solutions.copy()
    logs[1], solutions[1, 0] = log, p[0]
    return RegionSolution(p, matrix, np.full(1, 1.0), logs, solutions, log, fit_priors.sigma, extent)


@compiled
def _follow_extended(region, fit_priors, warm_solutions, guess, odds, extent):  # type: ignore[no-untyped-def]
    """Fit the extended target that an earlier window found; guess is that of its solution."""
    model = extended_model(fit_priors.sigma, fit_priors.shape, fit_priors.priors, extent[0], extent[1])
    start = warm_solutions[guess, :guess].copy()
    p, misfit, matrix, _ = fit(start, region, model, np.empty((0, 3)), STEPS)
    log = evidence(p, misfit, matrix, region, model, 0, 0.0)
    empty = np.zeros(warm_solutions.shape)
    return _extended_solution(p, matrix, log, fit_priors, odds, empty, (extent[0], extent[1]))


@compiled
def _likely_number(light, priors, most):  # type: ignore[no-untyped-def]
    """The number of targets that a region's light, DN, suggests: where the amplitude's prior is wide, few bright ones."""
    typical = max(priors.amplitude_dn, 1.0 / math.sqrt(priors.amplitude))
    return int(min(max(round(light / typical), 1), most))


@compiled
def _warm_or_ellipse(targets, warm_solutions, moments, priors, count):  # type: ignore[no-untyped-def]
    """The last solution of a number of targets as the only start (1, K, 5); where there is none, starts on the ellipse."""
    if warm_solutions[targets, 0, 4] == 0.0:
        return ellipse_starts(targets, moments, priors.amplitude_dn, count)
    return warm_solutions[targets : targets + 1, :targets].copy()


@compiled
def _search_with(region, model, fit_priors, hint, warm_solutions, guess, odds):  # type: ignore[no-untyped-def]
    """Fit the likely numbers of targets with a model's PSF; return the likeliest RegionSolution.

    hint (K, 5): an additional start for K targets, (0, 5) for none. warm_solutions (most + 1, most, 5): each number's last
    solution, which is then its only start but for the hint; amplitude 0 where there is none. guess: the number of targets
    to begin with, 0 to take it from the light. odds (most + 1,): log evidence of each number from frames before the window.
    The solution has no target where noise alone explains the light better.
    """
    most, start_count = fit_priors.max_targets, fit_priors.start_count
    priors, formation = fit_priors.priors, fit_priors.formation
    moments = light_moments(region, model.sigma)
    logs, solutions = np.full(most + 1, -INFINITE), np.zeros(warm_solutions.shape)
    guess = guess or _likely_number(moments[0], priors, most)
    starts = _warm_or_ellipse(guess, warm_solutions, moments, priors, start_count)
    if len(hint) == guess:
        starts = append_start(starts, hint)
    p, misfit, matrix, agreed = _best_fit(starts, region, model, -INFINITE)
    logs[guess] = evidence(p, misfit, matrix, region, model, 0, 0.0) + odds[guess]
    solutions[guess, :guess] = first = p
    for direction in (1, -1):
        targets, q = guess + direction, first
        while 1 <= targets <= most and not light_rules_out(p, matrix, priors, targets):
            grown = len(hint) != targets
            count = 0 if grown and start_count == 1 else start_count
            starts = _warm_or_ellipse(targets, warm_solutions, moments, priors, count)
            if grown and warm_solutions[targets, 0, 4] == 0.0:
                starts = append_start(starts, split_brightest(q, moments) if direction > 0 else merge_nearest(q))
            if len(hint) == targets:
                starts = append_start(starts, hint)
            required = logs[targets - direction] - odds[targets]
            q, misfit, other, agrees = _best_fit(starts, region, model, required)
            solutions[targets, :targets] = q
            logs[targets] = evidence(q, misfit, other, region, model, 0, 0.0) + odds[targets]
            if logs[targets] <= logs[targets - direction]:
                break
            if logs[targets] >= logs[index_of_largest(logs)]:
                p, matrix, agreed = q, other, agrees
            targets += direction
    none, free = np.empty((0, PARAMETERS)), np.empty((0, 3))
    empty, no_vector = np.empty((0, 0)), np.empty(0)
    logs[0] = -0.5 * normal_equations(none, region, model, free, empty, no_vector)
    if logs[0] > logs[1 + index_of_largest(logs[1:])]:
        return RegionSolution(none, empty, no_vector, logs, solutions, logs[0], model.sigma, POINT)
    possible = np.zeros(most + 1, np.bool_)
    for n in range(1, most + 1 if len(formation.sizes) else 1):
        possible[n] = not light_rules_out(p, matrix, priors, n)
    points, formation_logs, best = fit_formations(region, model, formation, possible, moments)
    for n in range(1, len(logs)):
        if logs[n] > -INFINITE:
            logs[n] += formation.free
    own, highest, way = len(p), logs[index_of_largest(logs)], index_of_largest(formation_logs)
    if len(formation_logs) and formation_logs[way] > highest:
        n, own, highest = formation.sizes[way], len(logs) + way, formation_logs[way]
        p, matrix, agreed = points[way, :n].copy(), best, np.full(n, 1.0)
        solutions[n, :n] = p
    probability = target_probabilities(p, agreed, own, solutions, logs, points, formation_logs)
    return RegionSolution(p, matrix, probability, logs, solutions, highest, model.sigma, POINT)


@compiled
def _best_fit(points, region, model, required):  # type: ignore[no-untyped-def]
    """Fit from every start (V, K, 5): a few steps each, then those that may still win to the end.

    required: log evidence; a best start far below it after the first steps ends the fit. Returns the best p (K, 5), its
    misfit, its matrix and its _agreement with the others.
    """
    variants, n, free = len(points), points[0].size, np.empty((0, 3))
    misfits, done, matrices = np.empty(variants), np.empty(variants, np.bool_), np.empty((variants, n, n))
    for v in range(variants):
        points[v], misfits[v], matrices[v], done[v] = fit(points[v], region, model, free, FIRST_STEPS)
    best = index_of_least(misfits)
    log = evidence(points[best], misfits[best], matrices[best], region, model, 0, 0.0)
    if not done.all() and log >= required - HOPELESS_DEFICIT:
        first, limit = best, np.inf
        for order in range(-1, variants):  # the best start first, for it lowers the limit
            v = first if order < 0 else order
            if not done[v] and misfits[v] < limit:
                points[v], misfits[v], matrices[v], done[v] = fit(points[v], region, model, free, STEPS)
            limit = misfits[index_of_least(misfits)] + FINISH_MISFIT
        best = index_of_least(misfits)
    return points[best], misfits[best], matrices[best], _agreement(points, misfits, best)


@compiled
def _carry_evidence_forward(region, model, logs, solutions, best, odds):  # type: ignore[no-untyped-def]
    """Add to the odds (most + 1,) the evidence of the window's first frame, which the next window no longer holds.

    Odds are relative to the best number's; a number that was not tried gains nothing. More targets also fit more of the
    noise, for which OVERFIT_PENALTY compensates.
    """
    frame_evidence, free, frames = np.full(len(odds), -INFINITE), np.empty((0, 3)), len(region.images)
    first = RegionImages(region.images[:1], region.times[:1], region.shifts[:1], region.noise, region.limits, region.shot)
    without_priors = ImagingModel(model.sigma, model.shape, NO_PRIORS)
    for k in range(1, len(odds)):
        if logs[k] > -INFINITE and solutions[k, 0, 4] != 0.0:
            matrix, vector = np.empty((PARAMETERS * k, PARAMETERS * k)), np.empty(PARAMETERS * k)
            p = solutions[k, :k]
            misfit = normal_equations(p, first, without_priors, free, matrix, vector)
            frame_evidence[k] = -0.5 * misfit - OVERFIT_PENALTY * k / frames
    before = odds.copy()
    for k in range(1, len(odds)):
        gain = frame_evidence[k] - frame_evidence[best] if frame_evidence[k] > -INFINITE else 0.0
        odds[k] = min(max(ODDS_DECAY * (before[k] - before[best] + gain), -MAX_ODDS), MAX_ODDS)


@compiled
def _agreement(points, misfits, best):  # type: ignore[no-untyped-def]
    """(K,): for each target of the best solution, the weight of all solutions (V, K, 5) that share it, 0 to 1.

    A solution weighs exp(-misfit / 2); duplicates count once.
    """
    variants, targets = points.shape[:2]
    shared, total = np.zeros(targets), 0.0
    counted = np.zeros(variants, np.bool_)
    for v in range(variants):
        weight = math.exp(-0.5 * (misfits[v] - misfits[best]))
        for other in range(v):
            if counted[other] and _largest_distance(points[v], points[other]) < DUPLICATE_PX:
                weight = 0.0
        counted[v] = weight > 0.0
        total += weight
        for k in range(targets):
            if nearest_distance(points[best, k], points[v]) < AGREEMENT_PX:
                shared[k] += weight
    return shared / total


@compiled
def _largest_distance(p, q):  # type: ignore[no-untyped-def]
    """Largest distance, px, from a target of p (K, 5) to its nearest target of q (K, 5)."""
    farthest = 0.0
    for k in range(len(p)):
        farthest = max(farthest, nearest_distance(p[k], q))
    return farthest
