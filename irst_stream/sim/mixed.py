"""Groups of every kind, for networks that must not know one benchmark only.

1 to 5 targets, each 0.3 to 3 px from another one, anywhere in the middle of the patch; brightness over two decades of
signal-to-noise ratio; optics of 0.4 to 0.8 px; common and own motion in straight lines; what a background estimate leaves
over; some sensors that saturate. Frames are float32 DN with the background removed, so noise goes below zero.
"""

from __future__ import annotations

import math

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH, line_response, render
from irst_stream.sim.datasets import SPLITS, Patches
from irst_stream.types import Floats

__all__ = ["mixed"]

MOST = 5  # targets
SPACING = (0.3, 3.0)  # px: from each target to one before it, evenly on a logarithmic scale; no two are closer
REACH = 3.5  # px: how far along either axis a group is thrown
WANDER = 1.0  # px: the group's middle from the patch's
SIGMA = (0.4, 0.8)  # px
SNR = (3.0, 300.0)  # the brightest target's peak over the noise, evenly on a logarithmic scale
SHARE = (0.3, 1.0)  # of the brightest target's amplitude
NOISE = (0.5, 5.0)  # DN
SPEED, OWN_SPEED = 0.1, 0.005  # px a frame: standard deviations of the common velocity, and of each target's own
STILL = 0.2  # of the groups do not move together
BACKGROUND = 1.5  # in units of the noise: what is left over at most
SATURATED = 0.1  # of the sensors, at 0.6 to 1 of the brightest pixel
TRIES = 40  # at placing a target


def mixed(
    groups: int,
    frames: int = 5,
    *,
    seed: int = 0,
    split: str = "train",
    number: int = 0,
    snr: tuple[float, float] = SNR,
) -> Patches:
    """Draw number `number` of so many groups over so many frames; always the same for the same arguments.

    snr: the brightest target's peak over the noise, drawn evenly on a logarithmic scale. K is 5. xy are (N, T, 5, 2).
    """
    if groups < 1 or frames < 1 or not 0 < snr[0] <= snr[1]:
        raise UsageError(f"mixed: expected groups, frames and SNR above 0, got {groups}, {frames}, {snr}")
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    count = rng.integers(1, MOST + 1, groups)
    exists = np.arange(MOST) < count[:, None]
    start = _scatter(rng, groups) + (np.array(PATCH[::-1]) - 1) / 2 + rng.uniform(-WANDER, WANDER, (groups, 1, 2))
    common = rng.normal(0, SPEED, (groups, 1, 2)) * (rng.random((groups, 1, 1)) >= STILL)
    speed = common + rng.normal(0, OWN_SPEED, (groups, MOST, 2))
    times = np.arange(frames) - frames // 2
    xy = start[:, None] + speed[:, None] * times[:, None, None]
    sigma, noise = rng.uniform(*SIGMA, groups), rng.uniform(*NOISE, groups)
    peak = line_response(np.zeros(groups), 1, sigma)[:, 0] ** 2
    share = np.column_stack([np.ones(groups), rng.uniform(*SHARE, (groups, MOST - 1))])
    brightest = _evenly_in_log(rng, snr, groups) * noise / peak
    amplitude = brightest[:, None] * share * exists
    light = render(xy, amplitude[:, None], PATCH, sigma[:, None, None])
    light += noise[:, None, None, None] * (_background(rng, groups) + rng.standard_normal(light.shape))
    ceiling = light.max((1, 2, 3)) * np.where(rng.random(groups) < SATURATED, rng.uniform(0.6, 1.0, groups), 1)
    light = np.minimum(light, ceiling[:, None, None, None])
    return Patches(light.astype(np.float32), np.where(exists[:, None, :, None], xy, np.nan), amplitude, count, noise)


def _scatter(rng: np.random.Generator, groups: int) -> Floats:
    """(N, 5, 2): places about the origin, each SPACING from one before it."""
    places = np.zeros((groups, MOST, 2))
    for k in range(1, MOST):
        open_ = np.arange(groups)
        for _ in range(TRIES):
            parent = places[open_, rng.integers(0, k, len(open_))]
            distance = _evenly_in_log(rng, SPACING, len(open_))[:, None]
            angle = rng.uniform(0, 2 * np.pi, len(open_))
            thrown = parent + distance * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            apart = np.hypot(*np.moveaxis(places[open_, :k] - thrown[:, None], -1, 0)).min(1)
            good = (apart >= SPACING[0]) & (np.abs(thrown).max(1) <= REACH)
            places[open_[good], k] = thrown[good]
            open_ = open_[~good]
            if not len(open_):
                break
        places[open_, k] = places[open_, 0] + np.array([SPACING[0] * k, REACH])  # crowded: at the rim
    return np.asarray(places - places.mean(1, keepdims=True) / 2)


def _evenly_in_log(rng: np.random.Generator, limits: tuple[float, float], size: int) -> Floats:
    return np.exp(rng.uniform(math.log(limits[0]), math.log(limits[1]), size))


def _background(rng: np.random.Generator, groups: int) -> Floats:
    """(N, 1, h, w) in units of the noise: a tilted, bent plane of no mean, the same in all frames."""
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
    weight = rng.normal(0, 1, (groups, len(shapes))) * rng.uniform(0, BACKGROUND, (groups, 1))
    return np.asarray(np.einsum("ns,shw->nhw", weight, shapes))[:, None]
