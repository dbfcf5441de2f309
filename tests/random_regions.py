"""Random regions of all kinds for tests of searches, and the comparison of two searches' results."""

import numpy as np

from irst_stream.fit.compiled import INFINITE, PARAMETERS, UNIFORM, UNKNOWN
from irst_stream.fit.fitter import priors_of
from irst_stream.fit.search import RegionBatch, empty_results
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render
from irst_stream.types import at_rest

STRICT = priors_of(FitSettings(own_speed_px=0.001, sigma_doubt=0.0))  # narrow amplitude prior, two starts
WIDE = {"amplitude_dn": 150.0, "amplitude_sd_dn": 100.0, "speed_px": 0.3, "own_speed_px": 0.005}
LOOSE = priors_of(FitSettings(**WIDE, starts=1, extra_target_odds=0.1, sigma_doubt=0.0))
SHAPE = 5, 11, 11
PERTURBATIONS = 1e-13, 1e-12, 1e-11, 1e-10, 1e-9  # of the noise: negligible, but above rounding


def random_regions(fit_priors, count, seed, shape=SHAPE, psf=None):
    """Regions of 0 to max_targets targets: noisy, dark, saturated, with unknown pixels, with right and wrong hints.

    Half of them have platform jitter. psf: of their targets, None for the round Gaussian of both data sets.
    """
    rng = np.random.default_rng(seed)
    frames, height, width = shape
    (times, shifts), middle = at_rest(count, frames), np.array([width - 1, height - 1]) / 2
    slots = fit_priors.max_targets + 1  # hints may have one target more than max_targets
    images, noise, limits = np.empty((count, *shape)), rng.choice([0.3, 1.0, 2.0, 5.0], count), np.zeros((count, 2))
    hints, hint_count = np.zeros((count, slots, PARAMETERS)), np.zeros(count, np.int64)
    for k in range(count):
        p = np.zeros((k % slots, PARAMETERS))
        p[:, :2], p[:, 2:4] = middle + rng.uniform(-1.2, 1.2, (len(p), 2)), rng.normal(0, 0.04, 2)
        p[:, 4] = rng.normal(fit_priors.priors.amplitude_dn, 8, len(p))
        shifts[k] = (k % 2) * np.random.default_rng([seed, k]).normal(0, 0.2, (frames, 2))
        moving = p[:, :2] + times[:, None, None] * p[:, 2:4] + shifts[k, :, None]
        draw = psf.render if psf else render
        seen = draw(moving, np.tile(p[:, 4], (frames, 1)), (height, width)) + noise[k] * rng.standard_normal(shape)
        kind, hint_kind = k // slots % 4, k // slots % 3
        images[k], limits[k] = seen, (-INFINITE, INFINITE)
        if kind in (1, 2):  # a sky clipped at 0, and saturation
            limits[k] = 0, 255 if kind == 2 else INFINITE
            images[k] = np.rint(np.clip(seen, *limits[k]))
        elif kind == 3:
            images[k].reshape(-1)[rng.integers(0, seen.size, 8)] = 10 * UNKNOWN
        if hint_kind:
            hint_count[k] = len(p) if hint_kind == 1 else rng.integers(1, slots + 1)
            hints[k, : hint_count[k]] = (*middle, 0, 0, fit_priors.priors.amplitude_dn)
            hints[k, : len(p), :] = p
            hints[k, :, :2] += rng.normal(0, 0.05, (slots, 2))
            hints[k, 0, 4] *= k % 7 > 0  # without light the normal equations are singular
    empty = empty_results(count, fit_priors.max_targets)
    odds = np.where(rng.random((count, 1)) < 0.3, rng.normal(0, 3, (count, slots)), 0)
    shot = 0.3 * (np.arange(count) // 2 % 2)
    return RegionBatch(
        images,
        times,
        shifts,
        noise,
        limits,
        hints,
        hint_count,
        empty.solutions,
        empty.number,
        odds,
        np.zeros(count),
        np.zeros((count, 2)),
        shot,
        np.zeros(count, np.int64),
        UNIFORM,
    )


def perturbed(regions, by, seed):
    """The regions with noise added to uncensored pixels; by: its standard deviation, in units of the region's noise."""
    images, limits = regions.images, regions.limits[..., None, None, None]
    plain = (images > np.maximum(limits[:, 0], UNKNOWN)) & (images < limits[:, 1])
    change = by * regions.noise[:, None, None, None] * np.random.default_rng(seed).standard_normal(images.shape)
    return regions._replace(images=np.where(plain, images + change, images))


def next_window(regions, results):
    """The regions a window later, half of them warm-started from their results."""
    held = np.arange(len(regions.images)) % 2 == 0
    solutions = np.where(held[:, None, None, None], results.solutions, 0)
    return perturbed(regions, 0.2, seed=2)._replace(
        warm_solutions=solutions, first_number=np.where(held, results.number, 0), odds=results.odds
    )


def results_of(search, regions, most):
    """The results of a search of all regions."""
    results = empty_results(len(regions.images), most)
    search(np.arange(len(regions.images)), regions, results)
    return results


def results_agree(results, others, within):
    """(N,): whether both have the same targets; within: tolerance, in standard deviations of a position."""
    agree = results.number == others.number
    for k in np.flatnonzero(agree & (results.number > 0)):
        n = results.number[k]
        away = results.targets[k, :n, None, :2] - others.targets[k, None, :n, :2]
        closest = np.linalg.norm(away, axis=-1).argmin(1)
        spread = np.sqrt(results.cov[k, range(n), range(n)].trace(axis1=1, axis2=2) / 2)
        agree[k] = (np.linalg.norm(away, axis=-1).min(1) <= within * spread).all()
        joint, other = results.cov[k, :n, :n], others.cov[k][np.ix_(closest, closest)]
        tolerance = within * (1e-3 + 2 * (spread[:, None] * spread)[..., None, None])
        agree[k] &= np.array_equal(np.isnan(joint), np.isnan(other)) and not (np.abs(joint - other) > tolerance).any()
        for name in ("amplitude_sd", "probability"):
            one, other = getattr(results, name)[k, :n], getattr(others, name)[k, closest]
            agree[k] &= np.allclose(one, other, rtol=2 * within, atol=1e-3 * within, equal_nan=True)
        agree[k] &= np.allclose(
            results.reduced_chi_square[k], others.reduced_chi_square[k], rtol=2 * within, atol=1e-3 * within
        )
        # The fit of too many targets may converge anywhere, and its odds with it: compare the odds of equal solutions only.
        alike = np.abs(results.solutions[k] - others.solutions[k]).max(axis=(1, 2)) < within
        agree[k] &= np.allclose(results.odds[k, alike], others.odds[k, alike], atol=10 * within)
    return agree


def stable_results(search, regions, most, within):
    """The CPU's results, and (N,) whether they stay the same under perturbations as small as rounding errors."""
    results = results_of(search, regions, most)
    others = [results_of(search, perturbed(regions, by, seed), most) for seed, by in enumerate(PERTURBATIONS)]
    return results, np.all([results_agree(results, other, within) for other in others], axis=0)
