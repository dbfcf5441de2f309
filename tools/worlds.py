"""Worlds that accuracy is measured in: the rules as trained, worlds held out of all training, groups of no benchmark.

Each world says how its sequences are drawn, which configuration is used in it, and what that is told about the sensor. The
draws here share no code with the training's free groups (irst_stream.sim.mixed), so that a shared mistake shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from irst_stream.config import Config, read_config
from irst_stream.optics import PATCH, SIGMA, peak_response, render
from irst_stream.sim import PatchSequences, SeqCsistRules, csist100k, seqcsist
from irst_stream.sim.sensor import digitise
from irst_stream.system.shipped import find_config

__all__ = ["GROUPS", "WORLDS", "World", "free_groups"]

Draw = Callable[[int, int, int], PatchSequences]  # of so many sequences, from this number on, of this seed
FREE_FRAMES = 8  # of a free group: four windows
SPREAD = 1.3  # times the spacing: how far a target's nearest neighbour is at most
FREE_NOISE = 5.0  # DN, of groups of no benchmark
KNOWN = {"readout": "best", "tell_network": True}
TOLD = {"amplitude_dn": 235.0, "amplitude_sd_dn": 8.7}
DIMMER = {
    "amplitude_dn": 225.0,
    "amplitude_sd_dn": 12.5,
}  # of groups whose brightest has 220 to 250 DN, the others 0.88 to 1
COMMON_SPEED, OWN_SPEED = 0.05, 0.001  # px a frame: standard deviations


@dataclass(frozen=True)
class World:
    """How a world is drawn and read.

    group: "a", "b" or "c"; config: the shipped configuration that reads it, with `changes` to its fields and `fit` to its
    [fit]; sequences: drawn for each of the benchmark's --trajectories; arms: the arrangement's own model is a yardstick.
    """

    name: str
    group: str
    draw: Draw
    config: str = "seqcsist"
    changes: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    sequences: float = 1.0
    full_scale: float = 65535.0
    arms: bool = False

    def settings(self) -> Config:
        """The configuration that reads it."""
        config = read_config(find_config(self.config))
        return replace(config, **{**self.changes, "fit": replace(config.fit, **self.fit)})


def trajectories(
    count: int,
    first: int,
    seed: int,
    *,
    rules: SeqCsistRules = SeqCsistRules(),  # noqa: B008, frozen
    noise: tuple[float, float] = (0.0, 0.0),
    depth: int = 16,
) -> PatchSequences:
    """SeqCSIST by these rules, of the test split."""
    return seqcsist(count, first=first, seed=seed, split="test", noise=noise, depth=depth, rules=rules)


def evenly_counted(count: int, first: int, seed: int) -> PatchSequences:
    """CSIST-100K's images, of which five targets are as frequent as one: its generator draws crowded images again."""
    made = csist100k(8 * count, first=8 * first, seed=seed, split="test", depth=16)
    rows = np.concatenate([np.flatnonzero(made.count == n)[: -(-count // 5)] for n in range(1, 6)])[:count]
    return PatchSequences(*(getattr(made, name)[rows] for name in ("frames", "xy", "amplitude", "count", "noise")))


def free_groups(
    count: int,
    first: int,
    seed: int,
    *,
    spacing: float,
    amplitude: tuple[float, float],
    share: tuple[float, float] = (0.5, 1.0),
    noise: tuple[float, float] = (0.0, 0.0),
    sigma: tuple[float, float] = (SIGMA, SIGMA),
    depth: int | None = None,
) -> PatchSequences:
    """Groups of 1 to 5 targets without arrangement, whose nearest neighbours are 1 to 1.3 times the spacing, px, apart.

    amplitude: DN, of the brightest target, the others' a share of it; noise, DN; sigma: px, along x and y.
    """
    rng = np.random.default_rng((seed, first, 77))
    number = rng.integers(1, 6, count)
    exists = np.arange(5) < number[:, None]
    places = np.stack([_grown(rng, spacing) for _ in range(count)])
    middle = np.array([(places[k, :n].min(0) + places[k, :n].max(0)) / 2 for k, n in enumerate(number)])
    start = places - middle[:, None] + 5 + rng.uniform(-0.5, 0.5, (count, 1, 2))
    velocity = rng.normal(0, COMMON_SPEED, (count, 1, 2)) + rng.normal(0, OWN_SPEED, (count, 5, 2))
    xy = start[:, None] + velocity[:, None] * (np.arange(FREE_FRAMES) - FREE_FRAMES / 2)[:, None, None]
    light = (
        rng.uniform(*amplitude, (count, 1)) * np.column_stack([np.ones(count), rng.uniform(*share, (count, 4))]) * exists
    )
    level = rng.uniform(*noise, count)
    frames = render(xy, light[:, None], PATCH, *sigma)
    frames = (frames + level[:, None, None, None] * rng.standard_normal(frames.shape)).astype(np.float32)
    seen = frames if depth is None else digitise(frames, depth, None)
    return PatchSequences(seen, np.where(exists[:, None, :, None], xy, np.nan), light, number, level)


def _grown(rng: np.random.Generator, spacing: float) -> np.ndarray:
    """(5, 2): places, each 1 to SPREAD times the spacing from its nearest neighbour among those before it."""
    places = [np.zeros(2)]
    while len(places) < 5:
        angle = rng.uniform(0, 2 * math.pi)
        away = rng.uniform(spacing, SPREAD * spacing)
        thrown = places[rng.integers(len(places))] + away * np.array([math.cos(angle), math.sin(angle)])
        if np.linalg.norm(np.array(places) - thrown, axis=1).min() >= spacing:
            places.append(thrown)
    return np.array(places)


def _arms(name: str, group: str, noise: tuple[float, float], depth: int = 16, **rules: Any) -> World:
    draw = partial(trajectories, rules=SeqCsistRules(**rules), noise=noise, depth=depth)
    return World(name, group, draw, full_scale=2.0**depth - 1, arms=True)


def _other_arms(name: str, noise: tuple[float, float], **rules: Any) -> World:
    draw = partial(trajectories, rules=SeqCsistRules(**rules), noise=noise)
    return World(name, "b", draw, "general", KNOWN, TOLD)


def _free(name: str, known: Mapping[str, Any], sequences: float = 4.0, **options: Any) -> World:
    draw = partial(free_groups, **{"spacing": 0.5, "amplitude": (220.0, 250.0), "share": (0.88, 1.0), **options})
    return World(name, "b", draw, "general", KNOWN, known, sequences)


def _no_benchmark(snr: float, spacing: float, *, known: bool) -> World:
    brightest = snr * FREE_NOISE / peak_response()
    draw = partial(free_groups, spacing=spacing, amplitude=(brightest, brightest), noise=(FREE_NOISE, FREE_NOISE))
    told = {"amplitude_dn": 0.75 * brightest, "amplitude_sd_dn": 0.25 * brightest, "noise_dn": FREE_NOISE}
    name = f"SNR {snr:g}, {spacing:g} px" + ("" if known else ", unknown")
    return World(name, "c", draw, "general", KNOWN if known else {}, told if known else {}, 4.0)


SLANTED = {"paths": ("wave",), "step_px": 0.07}
WORLDS = (
    _arms("SeqCSIST 0 DN", "a", (0, 0)),
    _arms("SeqCSIST 2 DN", "a", (2, 2)),
    _arms("SeqCSIST 5 DN", "a", (5, 5)),
    _arms("SeqCSIST 0 DN, 8 bit", "a", (0, 0), 8),
    World("CSIST-100K 0 DN", "a", evenly_counted, "csist100k", sequences=13.0),
    _arms("waves at 0.07 px, 0 to 10 DN", "b", (0, 10), **SLANTED),
    _arms("whole columns, 2 DN", "b", (2, 2), start="columns"),
    _other_arms("arms at any angle, 3 DN", (3, 3), rotated=True),
    _other_arms("arms of 0.2 to 0.6 px, 3 DN", (3, 3), rotated=True, arm_px=(0.2, 0.6)),
    _free("no arrangement, 0 DN", DIMMER, depth=16),
    _free("no arrangement, 3 DN", DIMMER, noise=(3.0, 3.0)),
    _free(
        "100 to 500 DN, 3 DN",
        {"amplitude_dn": 300.0, "amplitude_sd_dn": 115.0},
        amplitude=(250.0, 500.0),
        share=(0.4, 1.0),
        noise=(3.0, 3.0),
    ),
    _free("optics 10 % wider, 3 DN", DIMMER, noise=(3.0, 3.0), sigma=(0.55, 0.55)),
    _free("optics 10 % narrower, 3 DN", DIMMER, noise=(3.0, 3.0), sigma=(0.45, 0.45)),
    _free("optics 15 % elliptical, 3 DN", DIMMER, noise=(3.0, 3.0), sigma=(0.535, 0.465)),
    *(_no_benchmark(snr, spacing, known=True) for snr in (10, 30, 100) for spacing in (0.5, 0.75, 1.0, 1.5)),
    *(_no_benchmark(snr, spacing, known=False) for snr in (10, 30, 100) for spacing in (0.5, 0.75, 1.0, 1.5)),
)
GROUPS = {"a": "the rules as trained", "b": "held-out worlds", "c": "groups of no benchmark"}
