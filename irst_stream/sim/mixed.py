"""Groups of many kinds, to train networks that are not limited to one benchmark.

1 to 5 targets, scattered, evenly spaced, on the arms of a cross at any angle, or crowded into one pixel; two decades of
signal-to-noise ratio; slightly elliptical PSFs of 0.4 to 0.8 px; straight motion of the group and of each target; residual
background; some sensors saturate, some clip at 0. Frames are float32 DN with the background removed. Each group comes with
the facts that a user would state about the sensor, see unmix.told.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH, line_response, render
from irst_stream.sim.datasets import DIRECTIONS, SPLITS, PatchSequences, draw_separated_offsets
from irst_stream.types import Floats

__all__ = ["MixedGroups", "mixed"]

MAX_TARGETS = 5
ARRANGEMENT_SHARES = (0.3, 0.3, 0.2, 0.2)  # scattered, evenly spaced, on a cross's arms, in one pixel
SCATTER_DISTANCE = (0.3, 3.0)  # px: from each target to an earlier one, log-uniform; its minimum holds for all pairs
EVEN_SPACING = (0.4, 1.6)  # px: smallest distance in an evenly spaced group, log-uniform
MAX_STRETCH = 1.5  # an evenly spaced target's distance from an earlier one, at most, in units of the group's spacing
CROSS_ARM = (0.2, 0.6)  # px; the arms of one cross differ by up to a tenth
MAX_OFFSET = 3.5  # px along either axis: of scattered targets from the first one
CENTRE_SHIFT = 1.0  # px: largest offset of the group's middle from the patch's, along either axis
SIGMA = (0.4, 0.8)  # px, of the PSF
ELLIPTICITY = 0.04  # standard deviation of the logarithm of the ratio of the PSF's axes
SNR = (3.0, 300.0)  # mean peak pixel of a group's targets over the noise, log-uniform
AMPLITUDE_SPREAD = (0.03, 0.4)  # standard deviation of a group's amplitudes over their mean, log-uniform
MIN_RELATIVE_AMPLITUDE = 0.2  # over the group's mean amplitude
NOISE = (0.5, 5.0)  # DN
SPEED, OWN_SPEED = 0.1, 0.005  # px per frame: standard deviations of the group's velocity, and of each target's own
STATIONARY_SHARE = 0.2  # of the groups have no common velocity
BACKGROUND = 1.5  # largest scale of the residual background, in units of the noise
NO_BACKGROUND_SHARE = 0.5  # of the groups
SATURATED_SHARE = 0.1  # of the sensors saturate, at 0.6 to 1 of the brightest pixel
CLIPPED_SHARE = 0.15  # of the sensors clip at 0
UNKNOWN_SHARE = 0.25  # how often each of noise, sigma and amplitudes is unknown
FACT_ERROR_SD = (0.05, 0.01)  # of the relative errors with which noise and sigma are stated
MAX_TRIES = 40  # at placing a target


class MixedGroups(NamedTuple):
    """N groups and the facts stated about the sensor of each.

    facts (N, 4): noise DN, sigma px, mean and standard deviation of the amplitudes DN; NaN where unknown.
    """

    patches: PatchSequences
    facts: Floats


def mixed(
    groups: int,
    frames: int = 5,
    *,
    seed: int = 0,
    split: str = "train",
    number: int = 0,
    snr: tuple[float, float] = SNR,
) -> MixedGroups:
    """Draw a batch of groups over some frames; the same arguments always give the same batch.

    number: of the batch; snr: range of a group's mean peak pixel over the noise, log-uniform. K is 5: xy (N, T, 5, 2).
    """
    if groups < 1 or frames < 1 or not 0 < snr[0] <= snr[1]:
        raise UsageError(f"mixed: expected groups, frames and SNR above 0, got {groups}, {frames}, {snr}")
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    count, places = _arrange(rng, groups)
    exists = np.arange(MAX_TARGETS) < count[:, None]
    start = places + (np.array(PATCH[::-1]) - 1) / 2 + rng.uniform(-CENTRE_SHIFT, CENTRE_SHIFT, (groups, 1, 2))
    common = rng.normal(0, SPEED, (groups, 1, 2)) * (rng.random((groups, 1, 1)) >= STATIONARY_SHARE)
    speed = common + rng.normal(0, OWN_SPEED, (groups, MAX_TARGETS, 2))
    xy = start[:, None] + speed[:, None] * (np.arange(frames) - frames // 2)[:, None, None]
    sigma, noise = rng.uniform(*SIGMA, groups), rng.uniform(*NOISE, groups)
    peak = line_response(np.zeros(groups), 1, sigma)[:, 0] ** 2
    mean, spread = _log_uniform(rng, snr, groups) * noise / peak, _log_uniform(rng, AMPLITUDE_SPREAD, groups)
    relative = np.maximum(1 + spread[:, None] * rng.standard_normal((groups, MAX_TARGETS)), MIN_RELATIVE_AMPLITUDE)
    amplitude = mean[:, None] * relative * exists
    ellipticity = np.exp(ELLIPTICITY / 2 * rng.standard_normal((groups, 1, 1)))
    light = render(xy, amplitude[:, None], PATCH, sigma[:, None, None] * ellipticity, sigma[:, None, None] / ellipticity)
    light += noise[:, None, None, None] * (_background(rng, groups) + rng.standard_normal(light.shape))
    recorded = _clip_some(rng, light)
    patches = PatchSequences(recorded, np.where(exists[:, None, :, None], xy, np.nan), amplitude, count, noise)
    return MixedGroups(patches, _draw_facts(rng, noise, sigma, mean, spread))


def _arrange(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, Floats]:
    """Draw the number of targets (N,) of each group and their offsets (N, 5, 2), px; surplus offsets are arbitrary."""
    kind = rng.choice(len(ARRANGEMENT_SHARES), groups, p=ARRANGEMENT_SHARES)
    count = rng.integers(1, MAX_TARGETS + 1, groups)
    spacing = _log_uniform(rng, EVEN_SPACING, groups)
    low = np.where(kind == 1, spacing, SCATTER_DISTANCE[0])
    high = np.where(kind == 1, spacing * MAX_STRETCH, SCATTER_DISTANCE[1])
    places = _scatter(rng, low, high)
    places -= _middle(places, count)[:, None]
    cross = np.flatnonzero(kind == 2)
    count[cross] = rng.integers(2, 5, len(cross))
    places[cross, :4] = _cross(rng, len(cross))
    crowded = np.flatnonzero(kind == 3)
    if len(crowded):
        count[crowded], places[crowded] = draw_separated_offsets(rng, len(crowded))
    return count, np.where(np.isfinite(places), places, 0.0)


def _middle(places: Floats, count: np.ndarray) -> Floats:
    """(N, 2): the midpoint, along each axis, of the range of the first count (N,) places (N, 5, 2)."""
    exists = (np.arange(MAX_TARGETS) < count[:, None])[..., None]
    low, high = np.where(exists, places, np.inf).min(1), np.where(exists, places, -np.inf).max(1)
    return np.asarray((low + high) / 2)


def _scatter(rng: np.random.Generator, low: Floats, high: Floats) -> Floats:
    """Draw places (N, 5, 2) px: the first at 0, each other low to high (N,) px from an earlier one.

    No two are closer than low; a target that finds no room is put at the edge, MAX_OFFSET below the first one.
    """
    groups = len(low)
    places = np.zeros((groups, MAX_TARGETS, 2))
    for k in range(1, MAX_TARGETS):
        rows = np.arange(groups)  # groups whose k-th target is not placed yet
        for _ in range(MAX_TRIES):
            parent = places[rows, rng.integers(0, k, len(rows))]
            distance = np.exp(rng.uniform(np.log(low[rows]), np.log(high[rows])))[:, None]
            angle = rng.uniform(0, 2 * np.pi, len(rows))
            drawn = parent + distance * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            nearest = np.hypot(*np.moveaxis(places[rows, :k] - drawn[:, None], -1, 0)).min(1)
            accepted = (nearest >= low[rows]) & (np.abs(drawn).max(1) <= MAX_OFFSET)
            places[rows[accepted], k] = drawn[accepted]
            rows = rows[~accepted]
            if not len(rows):
                break
        fallback = np.stack([low[rows] * k, np.full(len(rows), MAX_OFFSET)], axis=1)  # along the edge, where there is room
        places[rows, k] = places[rows, 0] + fallback
    return places


def _cross(rng: np.random.Generator, groups: int) -> Floats:
    """Draw the ends (N, 4, 2) px of a cross's arms, in random order."""
    direction = DIRECTIONS[np.argsort(rng.random((groups, 4)), axis=1)]
    turn = rng.uniform(0, np.pi / 2, (groups, 1)) * (rng.random((groups, 1)) < 0.5)  # half of the crosses are upright
    x, y = direction[..., 0], direction[..., 1]
    turned = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], axis=-1)
    arm = rng.uniform(*CROSS_ARM, (groups, 1, 1)) * rng.uniform(0.95, 1.05, (groups, 4, 1))
    return np.asarray(turned * arm)


def _clip_some(rng: np.random.Generator, light: Floats) -> np.ndarray:
    """Light (N, T, h, w) DN as recorded, float32: some sensors saturate, some clip at 0."""
    groups = len(light)
    ceiling = light.max((1, 2, 3)) * np.where(rng.random(groups) < SATURATED_SHARE, rng.uniform(0.6, 1.0, groups), 1)
    floor = np.where(rng.random(groups) < CLIPPED_SHARE, 0.0, -np.inf)
    return np.clip(light, floor[:, None, None, None], ceiling[:, None, None, None]).astype(np.float32)


def _draw_facts(rng: np.random.Generator, noise: Floats, sigma: Floats, mean: Floats, spread: Floats) -> Floats:
    """Draw the facts (N, 4) of MixedGroups: true values with small errors, some of them unknown."""
    groups = len(noise)
    errors = 1 + np.array(FACT_ERROR_SD) * rng.standard_normal((groups, 2))
    facts = np.stack([noise * errors[:, 0], sigma * errors[:, 1], mean, mean * spread], axis=1)
    unknown = rng.random((groups, 3)) < UNKNOWN_SHARE
    return np.where(unknown[:, [0, 1, 2, 2]], np.nan, facts)


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float], size: int) -> Floats:
    return np.exp(rng.uniform(math.log(limits[0]), math.log(limits[1]), size))


def _background(rng: np.random.Generator, groups: int) -> Floats:
    """Draw residual backgrounds (N, 1, h, w) in units of the noise, equal in all frames: a quadratic of mean 0, or 0."""
    rows, columns = (np.linspace(-1, 1, side) for side in PATCH)
    shapes = np.stack(
        [
            np.broadcast_to(columns, PATCH),
            np.broadcast_to(rows[:, None], PATCH),
            rows[:, None] * columns,
            np.broadcast_to(columns**2 - np.mean(columns**2), PATCH),
            np.broadcast_to((rows**2 - np.mean(rows**2))[:, None], PATCH),
        ]
    )
    strength = rng.uniform(0, BACKGROUND, (groups, 1)) * (rng.random((groups, 1)) >= NO_BACKGROUND_SHARE)
    weight = rng.normal(0, 1, (groups, len(shapes))) * strength
    return np.asarray(np.einsum("ns,shw->nhw", weight, shapes))[:, None]
