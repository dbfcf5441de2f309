"""Groups of every kind, for networks that must not know one benchmark only.

1 to 5 targets, scattered, evenly spaced, on the arms of a cross at any angle, or crowded into one pixel; brightness over
two decades of signal-to-noise ratio; optics of 0.4 to 0.8 px, not quite round; common and own motion in straight lines;
residual background; some sensors saturate, some clip at 0. Frames are float32 DN with the background removed. Each group
comes with what a user would tell the network about the sensor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH, line_response, render
from irst_stream.sim.datasets import DIRECTIONS, SPLITS, Patches, throw_darts
from irst_stream.types import Floats

__all__ = ["Mixed", "mixed"]

MOST = 5  # targets
SHARES = (0.3, 0.3, 0.2, 0.2)  # of groups that are scattered, evenly spaced, on a cross's arms, in one pixel
SCATTERED = (0.3, 3.0)  # px: from each target to one before it, evenly on a logarithmic scale; no two are closer
EVEN = (0.4, 1.6)  # px: the spacing of a group, evenly on a logarithmic scale
STRETCH = 1.5  # times a group's spacing: its targets' nearest neighbours are at most this far
ARM = (0.2, 0.6)  # px: of a cross; its targets' arms differ by up to a tenth
REACH = 3.5  # px: how far along either axis a group is thrown
WANDER = 1.0  # px: the group's middle from the patch's
SIGMA = (0.4, 0.8)  # px
OVALITY = 0.04  # standard deviation of the logarithm of the axes' ratio
SNR = (3.0, 300.0)  # a target's mean peak over the noise, evenly on a logarithmic scale
SPREAD = (0.03, 0.4)  # standard deviation of amplitudes, in shares of their mean, evenly on a logarithmic scale
DIMMEST = 0.2  # of the mean amplitude
NOISE = (0.5, 5.0)  # DN
SPEED, OWN_SPEED = 0.1, 0.005  # px a frame: standard deviations of the common velocity, and of each target's own
STILL = 0.2  # of the groups do not move together
BACKGROUND = 1.5  # in units of the noise: what is left over at most
CLEAN = 0.5  # of the groups stand before nothing
SATURATED = 0.1  # of the sensors, at 0.6 to 1 of the brightest pixel
CLIPPED = 0.15  # of the sensors have no pixel below 0
UNTOLD = 0.25  # how often each of noise, optics and brightness is not told
MISTOLD = (0.05, 0.01)  # standard deviations of the relative errors of the noise and of sigma as they are told
TRIES = 40  # at placing a target


class Mixed(NamedTuple):
    """Groups, and what is told of each: told (N, 4), the noise DN, sigma px, mean and deviation of amplitudes DN, NaN where
    nobody knows.
    """

    patches: Patches
    told: Floats


def mixed(
    groups: int,
    frames: int = 5,
    *,
    seed: int = 0,
    split: str = "train",
    number: int = 0,
    snr: tuple[float, float] = SNR,
) -> Mixed:
    """Draw number `number` of this many groups over this many frames; always the same for the same arguments.

    snr: a target's mean peak over the noise, drawn evenly on a logarithmic scale. K is 5. xy are (N, T, 5, 2).
    """
    if groups < 1 or frames < 1 or not 0 < snr[0] <= snr[1]:
        raise UsageError(f"mixed: expected groups, frames and SNR above 0, got {groups}, {frames}, {snr}")
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    count, places = _arrange(rng, groups)
    exists = np.arange(MOST) < count[:, None]
    start = places + (np.array(PATCH[::-1]) - 1) / 2 + rng.uniform(-WANDER, WANDER, (groups, 1, 2))
    common = rng.normal(0, SPEED, (groups, 1, 2)) * (rng.random((groups, 1, 1)) >= STILL)
    speed = common + rng.normal(0, OWN_SPEED, (groups, MOST, 2))
    xy = start[:, None] + speed[:, None] * (np.arange(frames) - frames // 2)[:, None, None]
    sigma, noise = rng.uniform(*SIGMA, groups), rng.uniform(*NOISE, groups)
    peak = line_response(np.zeros(groups), 1, sigma)[:, 0] ** 2
    mean, spread = _evenly_in_log(rng, snr, groups) * noise / peak, _evenly_in_log(rng, SPREAD, groups)
    share = np.maximum(1 + spread[:, None] * rng.standard_normal((groups, MOST)), DIMMEST)
    amplitude = mean[:, None] * share * exists
    oval = np.exp(OVALITY / 2 * rng.standard_normal((groups, 1, 1)))
    light = render(xy, amplitude[:, None], PATCH, sigma[:, None, None] * oval, sigma[:, None, None] / oval)
    light += noise[:, None, None, None] * (_background(rng, groups) + rng.standard_normal(light.shape))
    patches = Patches(_sensed(rng, light), np.where(exists[:, None, :, None], xy, np.nan), amplitude, count, noise)
    return Mixed(patches, _tell(rng, noise, sigma, mean, spread))


def _arrange(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, Floats]:
    """(N,) targets of each group and their (N, 5, 2) places, px about the origin."""
    kind = rng.choice(len(SHARES), groups, p=SHARES)
    count = rng.integers(1, MOST + 1, groups)
    even = _evenly_in_log(rng, EVEN, groups)
    low = np.where(kind == 1, even, SCATTERED[0])
    high = np.where(kind == 1, even * STRETCH, SCATTERED[1])
    places = _scatter(rng, low, high)
    places -= _middle(places, count)[:, None]
    cross = np.flatnonzero(kind == 2)
    count[cross] = rng.integers(2, 5, len(cross))
    places[cross, :4] = _cross(rng, len(cross))
    crowded = np.flatnonzero(kind == 3)
    if len(crowded):
        count[crowded], places[crowded] = throw_darts(rng, len(crowded))
    return count, np.where(np.isfinite(places), places, 0.0)


def _middle(places: Floats, count: np.ndarray) -> Floats:
    """(N, 2): halfway between the first and the last of the first count (N,) places along each axis."""
    there = (np.arange(MOST) < count[:, None])[..., None]
    low, high = np.where(there, places, np.inf).min(1), np.where(there, places, -np.inf).max(1)
    return np.asarray((low + high) / 2)


def _scatter(rng: np.random.Generator, low: Floats, high: Floats) -> Floats:
    """(N, 5, 2): places about the origin, each low to high (N,) px from one before it, none closer than low to another."""
    groups = len(low)
    places = np.zeros((groups, MOST, 2))
    for k in range(1, MOST):
        open_ = np.arange(groups)
        for _ in range(TRIES):
            parent = places[open_, rng.integers(0, k, len(open_))]
            distance = np.exp(rng.uniform(np.log(low[open_]), np.log(high[open_])))[:, None]
            angle = rng.uniform(0, 2 * np.pi, len(open_))
            thrown = parent + distance * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            apart = np.hypot(*np.moveaxis(places[open_, :k] - thrown[:, None], -1, 0)).min(1)
            good = (apart >= low[open_]) & (np.abs(thrown).max(1) <= REACH)
            places[open_[good], k] = thrown[good]
            open_ = open_[~good]
            if not len(open_):
                break
        places[open_, k] = places[open_, 0] + np.stack([low[open_] * k, np.full(len(open_), REACH)], axis=1)  # at the rim
    return places


def _cross(rng: np.random.Generator, groups: int) -> Floats:
    """(N, 4, 2): the ends of a cross's arms, in any order."""
    direction = DIRECTIONS[np.argsort(rng.random((groups, 4)), axis=1)]
    turn = rng.uniform(0, np.pi / 2, (groups, 1)) * (rng.random((groups, 1)) < 0.5)  # every other one is upright
    x, y = direction[..., 0], direction[..., 1]
    turned = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], axis=-1)
    arm = rng.uniform(*ARM, (groups, 1, 1)) * rng.uniform(0.95, 1.05, (groups, 4, 1))
    return np.asarray(turned * arm)


def _sensed(rng: np.random.Generator, light: Floats) -> np.ndarray:
    """Light as recorded, float32: some sensors saturate, some clip at 0."""
    groups = len(light)
    ceiling = light.max((1, 2, 3)) * np.where(rng.random(groups) < SATURATED, rng.uniform(0.6, 1.0, groups), 1)
    floor = np.where(rng.random(groups) < CLIPPED, 0.0, -np.inf)
    return np.clip(light, floor[:, None, None, None], ceiling[:, None, None, None]).astype(np.float32)


def _tell(rng: np.random.Generator, noise: Floats, sigma: Floats, mean: Floats, spread: Floats) -> Floats:
    """(N, 4): see Mixed."""
    groups = len(noise)
    errors = 1 + np.array(MISTOLD) * rng.standard_normal((groups, 2))
    told = np.stack([noise * errors[:, 0], sigma * errors[:, 1], mean, mean * spread], axis=1)
    untold = rng.random((groups, 3)) < UNTOLD
    return np.where(untold[:, [0, 1, 2, 2]], np.nan, told)


def _evenly_in_log(rng: np.random.Generator, limits: tuple[float, float], size: int) -> Floats:
    return np.exp(rng.uniform(math.log(limits[0]), math.log(limits[1]), size))


def _background(rng: np.random.Generator, groups: int) -> Floats:
    """(N, 1, h, w) in units of the noise: a tilted, bent plane of no mean, the same in all frames; or nothing."""
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
    strength = rng.uniform(0, BACKGROUND, (groups, 1)) * (rng.random((groups, 1)) >= CLEAN)
    weight = rng.normal(0, 1, (groups, len(shapes))) * strength
    return np.asarray(np.einsum("ns,shw->nhw", weight, shapes))[:, None]
