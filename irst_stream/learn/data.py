"""Batches for training, drawn from the generator as they are needed or from a folder of the benchmark's layout.

A batch depends on the seed and its number only, so a run can be resumed at any batch. Every noise level's images are
rounded and clipped as a sensor does it; a share of them by 8 bits, where the brightest pixels saturate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.io.files import open_source
from irst_stream.optics import SIGMA
from irst_stream.sim import Patches, SeqCsistRules, csist100k, mixed, seqcsist
from irst_stream.sim.datasets import AMPLITUDE
from irst_stream.types import Floats, Truth
from irst_stream.unmix.stream import corner_of, light_centre

__all__ = ["Clips", "Draw", "anything", "benchmark", "crop", "cut", "from_folder"]

EIGHT_BIT = 0.2  # of the images
PLACES = 5  # for targets
NOISE_TOLD = 0.5  # of the benchmark's clips
WHOLE = 1 / math.sqrt(12)  # DN: what rounding to whole numbers adds to the noise
LEARNT = SeqCsistRules(
    slope=2.0, curvature_per_px=1.0, arm_px=(0.29, 0.31)
)  # wider than the defaults: no curve is learnt by heart
POOLED = 8  # batches drawn at once, since the generator works in blocks


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """B clips: frames (B, T, h, w) float32 DN, xy (B, T, 5, 2) px, NaN where there is no target, amplitude (B, 5) DN, and
    what the network is told of each, (B, 4): see unmix.told.
    """

    frames: NDArray[np.float32]
    xy: Floats
    amplitude: Floats
    told: Floats


class Draw(Protocol):
    """Gives batch number `number`: `size` clips of `frames` frames each."""

    def __call__(self, number: int, size: int, frames: int) -> Clips:
        """Always the same for the same arguments."""


def benchmark(seed: int, noise: tuple[float, float], still: float, split: str = "train") -> Draw:
    """SeqCSIST's trajectories and CSIST-100K's images by their rules, each with noise of its own from this range, DN.

    still: the share of CSIST-100K's single frames, each shown as a group that stands still.
    """

    @lru_cache(maxsize=1)
    def pool(number: int, size: int, frames: int) -> Clips:
        rng = np.random.default_rng((seed, number))
        single, coarse = rng.binomial(size, still), rng.binomial(size, EIGHT_BIT)
        counts = {16: size - single - min(coarse, size - single), 8: min(coarse, size - single)}
        first, parts = number * size, []
        for depth, count in counts.items():
            if count:
                made = seqcsist(count, seed=seed, split=split, first=first, noise=noise, depth=depth, rules=LEARNT)
                parts.append(cut(made, frames, rng))
                first += count
        if single:
            depth = 8 if rng.random() < EIGHT_BIT else 16
            made = csist100k(single, seed=seed, split=split, first=number * size, noise=noise, depth=depth)
            parts.append(cut(made, frames, rng))
        return _pick(parts, rng.permutation(size))

    def draw(number: int, size: int, frames: int) -> Clips:
        whole = pool(number // POOLED, size * POOLED, frames)
        rows = np.arange(size) + number % POOLED * size
        return _pick([whole], rows)

    return draw


def _pick(parts: list[Clips], rows: NDArray[np.int64]) -> Clips:
    """Some rows of several sets of clips taken as one."""
    columns = [np.concatenate([getattr(p, name) for p in parts])[rows] for name in ("frames", "xy", "amplitude", "told")]
    return Clips(*columns)


def anything(seed: int) -> Draw:
    """Groups of every kind: sim.mixed."""

    def draw(number: int, size: int, frames: int) -> Clips:
        made, told = mixed(size, frames, seed=seed, number=number)
        return Clips(made.frames, made.xy, made.amplitude, told)

    return draw


def from_folder(folder: Path, seed: int, noise: tuple[float, float]) -> Draw:
    """A split of the published layout, all of it held in memory, with Gaussian noise from this range added, DN."""
    patches = _read(folder)

    def draw(number: int, size: int, frames: int) -> Clips:
        rng = np.random.default_rng((seed, number))
        rows = rng.integers(0, len(patches), size)
        kept = {name: getattr(patches, name)[rows] for name in ("frames", "xy", "amplitude", "count", "noise")}
        clips = cut(Patches(**kept), frames, rng)
        level = rng.uniform(*noise, (size, 1, 1, 1)).astype(np.float32)
        noisy = clips.frames + level * rng.standard_normal(clips.frames.shape, np.float32)
        return replace(clips, frames=noisy)

    return draw


def _read(folder: Path) -> Patches:
    """Every sequence of a folder with truth, all of the same length."""
    source = open_source(folder)
    if not source.has_truth:
        raise SourceError(f"{folder}: {source.kind}, without truth; expected a split with annotations")
    sequences: dict[str, list[tuple[NDArray[Any], Truth]]] = {}
    for frame, truth in zip(source, source.truths(), strict=True):
        sequences.setdefault(frame.stamp.sensor if source.dataset == "seqcsist" else frame.stamp.source, []).append(
            (frame.pixels, truth)
        )
    length = max(map(len, sequences.values()))
    whole = [s for s in sequences.values() if len(s) == length]
    shape = (len(whole), length, PLACES)
    xy, amplitude = np.full((*shape, 2), np.nan), np.zeros((len(whole), PLACES))
    for k, sequence in enumerate(whole):
        for t, (_, truth) in enumerate(sequence):
            if len(truth) > PLACES:
                raise SourceError(f"{folder}: {len(truth)} targets in one image; expected at most {PLACES}")
            xy[k, t, : len(truth)] = truth.xy
            amplitude[k, : len(truth)] = truth.amplitude
    images = np.stack([np.stack([pixels for pixels, _ in sequence]) for sequence in whole])
    return Patches(images, xy, amplitude, (amplitude > 0).sum(1), np.zeros(len(whole)))


def crop(clips: Clips, size: tuple[int, int], rng: np.random.Generator) -> Clips:
    """The part of each clip around its light, up to a pixel off, as a stream cuts it; rows and columns of the part."""
    shape = clips.frames.shape[2:]
    if shape == size:
        return clips
    middle = light_centre(clips.frames.mean(axis=1)) + rng.integers(-1, 2, (len(clips.frames), 2))
    corner = corner_of(middle, shape, size)  # B 2, x y
    rows, columns = (corner[:, k, None] + np.arange(size[1 - k]) for k in (1, 0))
    at = np.arange(len(corner))[:, None, None, None], np.arange(clips.frames.shape[1])[:, None, None]
    frames = clips.frames[at[0], at[1], rows[:, None, :, None], columns[:, None, None, :]]
    return replace(clips, frames=frames, xy=clips.xy - corner[:, None, None])


def cut(patches: Patches, frames: int, rng: np.random.Generator) -> Clips:
    """A clip from a random place of each sequence; a single image stands still for as long as is asked."""
    n, length, places = patches.xy.shape[:3]
    first = rng.integers(0, max(length - frames, 0) + 1, n)
    at = np.minimum(first[:, None] + np.arange(frames), length - 1)
    rows = np.arange(n)[:, None]
    xy = np.full((n, frames, PLACES, 2), np.nan)
    xy[:, :, :places] = patches.xy[rows, at]
    amplitude = np.zeros((n, PLACES))
    amplitude[:, :places] = patches.amplitude
    return Clips(patches.frames[rows, at].astype(np.float32), xy, amplitude, _told_of_benchmark(patches.noise, rng))


def _told_of_benchmark(noise: Floats, rng: np.random.Generator) -> Floats:
    """(B, 4): the noise (B,) DN of some, and what the benchmark's rules say of optics and brightness."""
    known = np.where(rng.random(len(noise)) < NOISE_TOLD, np.hypot(noise, WHOLE), np.nan)
    mean, deviation = (AMPLITUDE[0] + AMPLITUDE[1]) / 2, (AMPLITUDE[1] - AMPLITUDE[0]) / math.sqrt(12)
    return np.column_stack([known, *(np.full(len(noise), value) for value in (SIGMA, mean, deviation))])
