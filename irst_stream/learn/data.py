"""Training batches, generated on demand or drawn from a folder in the benchmark's layout.

A batch depends only on the seed and its number, so a run can be resumed at any batch. The benchmark's images are rounded
and clipped as a sensor does it at every noise level; a share of them has 8 bits, where the brightest pixels saturate.
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
from irst_stream.sim import PatchSequences, SeqCsistRules, csist100k, mixed, seqcsist
from irst_stream.sim.datasets import AMPLITUDE
from irst_stream.types import Floats, Truth
from irst_stream.unmix.stream import crop_corner, light_centre

__all__ = [
    "BatchSource",
    "Clips",
    "benchmark_batches",
    "crop_clips",
    "cut_clips",
    "folder_batches",
    "linear_guess",
    "mixed_batches",
]

EIGHT_BIT_SHARE = 0.2  # of the images
MAX_TARGETS = 5
NOISE_KNOWN_SHARE = 0.5  # of the benchmark's clips
ROUNDING_SD = 1 / math.sqrt(12)  # DN: noise added by rounding to whole DN
TRAINING_RULES = SeqCsistRules(slope=2.0, curvature_per_px=1.0, arm_px=(0.29, 0.31))  # wider, so no curve is memorised
BATCHES_PER_DRAW = 8  # the generator works in blocks, so several batches at once are cheaper


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """B clips of T frames: frames (B, T, h, w) float32 DN; xy (B, T, 5, 2) px, NaN where there is no target.

    amplitude (B, 5) DN, 0 where there is no target; facts (B, 4): what the network is told about each clip's sensor, see
    unmix.told, NaN where unknown.
    """

    frames: NDArray[np.float32]
    xy: Floats
    amplitude: Floats
    facts: Floats


class BatchSource(Protocol):
    """Returns batches of clips by their number."""

    def __call__(self, number: int, size: int, frames: int) -> Clips:
        """Batch `number`: `size` clips of `frames` frames each, always the same for the same arguments."""


def benchmark_batches(seed: int, noise: tuple[float, float], still: float, split: str = "train") -> BatchSource:
    """Batches of SeqCSIST's trajectories and CSIST-100K's images, by rules somewhat wider than the published ones.

    noise: range, DN, from which each clip's noise is drawn; still: share of CSIST-100K's single images, each shown as a
    stationary group.
    """

    @lru_cache(maxsize=1)
    def pool(number: int, size: int, frames: int) -> Clips:
        rng = np.random.default_rng((seed, number))
        single, eight_bit = rng.binomial(size, still), rng.binomial(size, EIGHT_BIT_SHARE)
        counts = {16: size - single - min(eight_bit, size - single), 8: min(eight_bit, size - single)}
        first, parts = number * size, []
        for depth, count in counts.items():
            if count:
                drawn = seqcsist(count, seed=seed, split=split, first=first, noise=noise, depth=depth, rules=TRAINING_RULES)
                parts.append(cut_clips(drawn, frames, rng))
                first += count
        if single:
            depth = 8 if rng.random() < EIGHT_BIT_SHARE else 16
            drawn = csist100k(single, seed=seed, split=split, first=number * size, noise=noise, depth=depth)
            parts.append(cut_clips(drawn, frames, rng))
        return _select(parts, rng.permutation(size))

    def draw(number: int, size: int, frames: int) -> Clips:
        drawn = pool(number // BATCHES_PER_DRAW, size * BATCHES_PER_DRAW, frames)
        rows = np.arange(size) + number % BATCHES_PER_DRAW * size
        return _select([drawn], rows)

    return draw


def _select(parts: list[Clips], rows: NDArray[np.int64]) -> Clips:
    """Select rows of several sets of clips, concatenated."""
    columns = [np.concatenate([getattr(p, name) for p in parts])[rows] for name in ("frames", "xy", "amplitude", "facts")]
    return Clips(*columns)


def mixed_batches(seed: int) -> BatchSource:
    """Batches of groups of many kinds, see sim.mixed."""

    def draw(number: int, size: int, frames: int) -> Clips:
        groups, facts = mixed(size, frames, seed=seed, number=number)
        return Clips(groups.frames, groups.xy, groups.amplitude, facts)

    return draw


def folder_batches(folder: Path, seed: int, noise: tuple[float, float]) -> BatchSource:
    """Batches from a split in the published layout, held in memory.

    noise: range, DN, from which the standard deviation of each clip's added Gaussian noise is drawn.
    """
    patches = _read(folder)

    def draw(number: int, size: int, frames: int) -> Clips:
        rng = np.random.default_rng((seed, number))
        rows = rng.integers(0, len(patches), size)
        columns = {name: getattr(patches, name)[rows] for name in ("frames", "xy", "amplitude", "count", "noise")}
        clips = cut_clips(PatchSequences(**columns), frames, rng)
        level = rng.uniform(*noise, (size, 1, 1, 1)).astype(np.float32)
        noisy = clips.frames + level * rng.standard_normal(clips.frames.shape, np.float32)
        return replace(clips, frames=noisy)

    return draw


def _read(folder: Path) -> PatchSequences:
    """Read the sequences of a folder with truth; those shorter than the longest are left out."""
    source = open_source(folder)
    if not source.has_truth:
        raise SourceError(f"{folder}: {source.kind}, without truth; expected a split with annotations")
    sequences: dict[str, list[tuple[NDArray[Any], Truth]]] = {}
    for frame, truth in zip(source, source.truths(), strict=True):
        sequences.setdefault(frame.stamp.sensor if source.dataset == "seqcsist" else frame.stamp.source, []).append(
            (frame.pixels, truth)
        )
    length = max(map(len, sequences.values()))
    complete = [s for s in sequences.values() if len(s) == length]
    shape = (len(complete), length, MAX_TARGETS)
    xy, amplitude = np.full((*shape, 2), np.nan), np.zeros((len(complete), MAX_TARGETS))
    for k, sequence in enumerate(complete):
        for t, (_, truth) in enumerate(sequence):
            if len(truth) > MAX_TARGETS:
                raise SourceError(f"{folder}: {len(truth)} targets in one image; expected at most {MAX_TARGETS}")
            xy[k, t, : len(truth)] = truth.xy
            amplitude[k, : len(truth)] = truth.amplitude
    images = np.stack([np.stack([pixels for pixels, _ in sequence]) for sequence in complete])
    return PatchSequences(images, xy, amplitude, (amplitude > 0).sum(1), np.zeros(len(complete)))


def crop_clips(clips: Clips, size: tuple[int, int], rng: np.random.Generator) -> Clips:
    """Crop each clip around its light, as a stream does, up to a pixel off centre; size: rows and columns of the crop.

    Clips of this size are returned unchanged.
    """
    shape = clips.frames.shape[2:]
    if shape == size:
        return clips
    middle = light_centre(clips.frames.mean(axis=1)) + rng.integers(-1, 2, (len(clips.frames), 2))
    corner = crop_corner(middle, shape, size)  # B 2, x y
    rows, columns = (corner[:, k, None] + np.arange(size[1 - k]) for k in (1, 0))
    at = np.arange(len(corner))[:, None, None, None], np.arange(clips.frames.shape[1])[:, None, None]
    frames = clips.frames[at[0], at[1], rows[:, None, :, None], columns[:, None, None, :]]
    return replace(clips, frames=frames, xy=clips.xy - corner[:, None, None])


def cut_clips(patches: PatchSequences, frames: int, rng: np.random.Generator) -> Clips:
    """Cut a clip of `frames` frames from a random place of each sequence; the last image of a shorter one is repeated."""
    n, length, targets = patches.xy.shape[:3]
    first = rng.integers(0, max(length - frames, 0) + 1, n)
    at = np.minimum(first[:, None] + np.arange(frames), length - 1)
    rows = np.arange(n)[:, None]
    xy = np.full((n, frames, MAX_TARGETS, 2), np.nan)
    xy[:, :, :targets] = patches.xy[rows, at]
    amplitude = np.zeros((n, MAX_TARGETS))
    amplitude[:, :targets] = patches.amplitude
    return Clips(patches.frames[rows, at].astype(np.float32), xy, amplitude, _benchmark_facts(patches.noise, rng))


def linear_guess(patches: Floats, labels: Floats) -> Floats:
    """Fit Qinit (cells, pixels): the linear map from patches (B, h, w) to labels (B, H, W) of least squared error.

    In double precision and with a small ridge, since pixels at the border are hardly ever lit.
    """
    y, x = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (patches, labels))
    ridge = 1e-6 * np.trace(y.T @ y) / y.shape[1] * np.eye(y.shape[1])
    return np.asarray(np.linalg.solve(y.T @ y + ridge, y.T @ x).T)


def _benchmark_facts(noise: Floats, rng: np.random.Generator) -> Floats:
    """(B, 4): the noise (B,) DN, unknown for a share of the clips, and the benchmark's PSF sigma and amplitudes."""
    known = np.where(rng.random(len(noise)) < NOISE_KNOWN_SHARE, np.hypot(noise, ROUNDING_SD), np.nan)
    mean, deviation = (AMPLITUDE[0] + AMPLITUDE[1]) / 2, (AMPLITUDE[1] - AMPLITUDE[0]) / math.sqrt(12)
    return np.column_stack([known, *(np.full(len(noise), value) for value in (SIGMA, mean, deviation))])
