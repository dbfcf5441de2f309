"""Regions of all kinds to try searches on, and when two searches answer the same."""

import numpy as np

from irst_stream.fit.compiled import NOTHING, PARAMETERS, UNKNOWN
from irst_stream.fit.fitter import priors_of
from irst_stream.fit.search import RegionBatch, nothing_found
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render
from irst_stream.types import at_rest

STRICT = priors_of(FitSettings(own_speed_px=0.001, sigma_doubt=0.0))  # of amplitudes that are known well, two starts
WIDE = {"amplitude_dn": 150.0, "amplitude_sd_dn": 100.0, "speed_px": 0.3, "own_speed_px": 0.005}
LOOSE = priors_of(FitSettings(**WIDE, starts=1, extra_target_odds=0.1, sigma_doubt=0.0))
SHOT = LOOSE._replace(shot=0.3)
SHAPE = 5, 11, 11
CHANGES = 1e-13, 1e-12, 1e-11, 1e-10, 1e-9  # of the noise, below what matters


def random_regions(known, count, seed, shape=SHAPE):
    """Regions of 0 to all targets: noisy, dark, saturated, with pixels that are unknown, with hints, right and wrong; half
    of them seen from platforms that shake.
    """
    rng = np.random.default_rng(seed)
    frames, height, width = shape
    (times, shifts), middle = at_rest(count, frames), np.array([width - 1, height - 1]) / 2
    room = known.most + 1  # hints may tell of more targets than there may be
    images, noise, limits = np.empty((count, *shape)), rng.choice([0.3, 1.0, 2.0, 5.0], count), np.zeros((count, 2))
    hints, hinted = np.zeros((count, room, PARAMETERS)), np.zeros(count, np.int64)
    for k in range(count):
        p = np.zeros((k % room, PARAMETERS))
        p[:, :2], p[:, 2:4] = middle + rng.uniform(-1.2, 1.2, (len(p), 2)), rng.normal(0, 0.04, 2)
        p[:, 4] = rng.normal(known.priors.amplitude_dn, 8, len(p))
        shifts[k] = (k % 2) * np.random.default_rng([seed, k]).normal(0, 0.2, (frames, 2))
        moving = p[:, :2] + times[:, None, None] * p[:, 2:4] + shifts[k, :, None]
        seen = render(moving, np.tile(p[:, 4], (frames, 1)), (height, width)) + noise[k] * rng.standard_normal(shape)
        kind, told = k // room % 4, k // room % 3
        images[k], limits[k] = seen, (NOTHING, -NOTHING)
        if kind in (1, 2):  # a dark sky, and one saturated
            limits[k] = 0, 255 if kind == 2 else -NOTHING
            images[k] = np.rint(np.clip(seen, *limits[k]))
        elif kind == 3:
            images[k].reshape(-1)[rng.integers(0, seen.size, 8)] = 10 * UNKNOWN
        if told:
            hinted[k] = len(p) if told == 1 else rng.integers(1, room + 1)
            hints[k, : hinted[k]] = (*middle, 0, 0, known.priors.amplitude_dn)
            hints[k, : len(p), :] = p
            hints[k, :, :2] += rng.normal(0, 0.05, (room, 2))
            hints[k, 0, 4] *= k % 7 > 0  # a target without light leaves the normal equations without a solution
    nothing = nothing_found(count, known.most)
    odds = np.where(rng.random((count, 1)) < 0.3, rng.normal(0, 3, (count, room)), 0)
    return RegionBatch(images, times, shifts, noise, limits, hints, hinted, nothing.solutions, nothing.number, odds)


def changed(regions, by, seed):
    """The same regions, their pixels that are known and within the limits changed by about so much of the noise."""
    images, limits = regions.images, regions.limits[..., None, None, None]
    plain = (images > np.maximum(limits[:, 0], UNKNOWN)) & (images < limits[:, 1])
    change = by * regions.noise[:, None, None, None] * np.random.default_rng(seed).standard_normal(images.shape)
    return regions._replace(images=np.where(plain, images + change, images))


def later(regions, answers):
    """The same regions a window later: half of them fitted on from their answers."""
    held = np.arange(len(regions.images)) % 2 == 0
    solutions = np.where(held[:, None, None, None], answers.solutions, 0)
    return changed(regions, 0.2, seed=2)._replace(
        held=solutions, begin=np.where(held, answers.number, 0), odds=answers.odds
    )


def answers_of(search, regions, most):
    answers = nothing_found(len(regions.images), most)
    search(np.arange(len(regions.images)), regions, answers)
    return answers


def same(answers, others, within):
    """(N,): whether both have the same number of targets, and each is within so many of its deviations of the other's."""
    agree = answers.number == others.number
    for k in np.flatnonzero(agree & (answers.number > 0)):
        n = answers.number[k]
        away = answers.points[k, :n, None, :2] - others.points[k, None, :n, :2]
        closest = np.linalg.norm(away, axis=-1).argmin(1)
        spread = np.sqrt(answers.cov[k, range(n), range(n)].trace(axis1=1, axis2=2) / 2)
        agree[k] = (np.linalg.norm(away, axis=-1).min(1) <= within * spread).all()
        joint, other = answers.cov[k, :n, :n], others.cov[k][np.ix_(closest, closest)]
        room = within * (1e-3 + 2 * (spread[:, None] * spread)[..., None, None])
        agree[k] &= np.array_equal(np.isnan(joint), np.isnan(other)) and not (np.abs(joint - other) > room).any()
        for name in ("amplitude_sd", "probability"):
            one, other = getattr(answers, name)[k, :n], getattr(others, name)[k, closest]
            agree[k] &= np.allclose(one, other, rtol=2 * within, atol=1e-3 * within, equal_nan=True)
        agree[k] &= np.allclose(answers.strain[k], others.strain[k], rtol=2 * within, atol=1e-3 * within)
        # Where a number of targets is too many, its fit may end anywhere, and its odds with it.
        alike = np.abs(answers.solutions[k] - others.solutions[k]).max(axis=(1, 2)) < within
        agree[k] &= np.allclose(answers.odds[k, alike], others.odds[k, alike], atol=10 * within)
    return agree


def settled(search, regions, most, within):
    """The CPU's answers, and (N,) whether they hang on nothing that rounding decides."""
    answers = answers_of(search, regions, most)
    again = [answers_of(search, changed(regions, by, seed), most) for seed, by in enumerate(CHANGES)]
    return answers, np.all([same(answers, other, within) for other in again], axis=0)
