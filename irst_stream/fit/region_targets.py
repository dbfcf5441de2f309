"""Targets found in single regions, and how they become a frame's detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.settings import CLOSE_PX
from irst_stream.types import Detections, Floats, Stamp, Window

__all__ = ["CLOSE_PX", "NO_TARGETS", "RegionTargets", "block_diagonal", "gather", "stack_factors"]


class RegionTargets(NamedTuple):
    """The targets of one region.

    xy (K, 2) px of the patch; cov (K, 2, 2) px^2; amplitude and amplitude_sd (K,) DN; probability (K,) that each exists, or
    any quantity that ranks them where the method gives no cov, which is then NaN. explained (K,): 1 where the targets
    explain the light, falling to 0 the less they do. size (K, 2) px and factor (K, 2, R): see Detections.
    """

    xy: Floats
    cov: Floats
    amplitude: Floats
    amplitude_sd: Floats
    probability: Floats
    explained: Floats
    size: Floats
    factor: Floats

    @classmethod
    def alone(cls, xy: Floats, cov: Floats, amplitude: Floats, amplitude_sd: Floats, probability: Floats) -> RegionTargets:
        """Point targets whose errors are independent, or whose common errors are unknown: explained 1, no factor."""
        n = len(xy)
        return cls(xy, cov, amplitude, amplitude_sd, probability, np.ones(n), np.zeros((n, 2)), np.zeros((n, 2, 0)))

    @classmethod
    def joined(cls, parts: Sequence[RegionTargets]) -> RegionTargets:
        """Concatenate the targets of these parts, whose errors are independent of each other."""
        columns = map(np.concatenate, zip(*(part[:-1] for part in parts), strict=True))
        xy, cov, amplitude, amplitude_sd, probability, explained, size = columns
        factor = block_diagonal([part.factor for part in parts])
        return cls(xy, cov, amplitude, amplitude_sd, probability, explained, size, factor)

    def of(self, which: NDArray[Any]) -> RegionTargets:
        """Select these targets."""
        return RegionTargets(*(column[which] for column in self))

    @property
    def score(self) -> Floats:
        """(K,): the probability that a target is within CLOSE_PX; the probability column where cov is NaN."""
        return self.score_within(CLOSE_PX)

    def score_within(self, radius: float) -> Floats:
        """(K,): the probability that a target is within that radius, px; the probability column where cov is NaN."""
        spread = np.maximum((self.cov[:, 0, 0] + self.cov[:, 1, 1]) / 2, 1e-12)
        return self.probability * np.where(np.isnan(spread), 1, -np.expm1(-(radius**2) / (2 * spread)))

    def detections(self, stamp: Stamp) -> Detections:
        """The detections of a frame that is a single region, highest score first."""
        xy, cov, amplitude, sd, *_, size, factor = ranked = self.of(np.argsort(-self.score, kind="stable"))
        return Detections(stamp, xy, cov, amplitude, sd, ranked.score, np.zeros(len(xy), np.int64), factor, size)


NO_TARGETS = RegionTargets.alone(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), np.zeros(0))


def gather(window: Window, found: Sequence[RegionTargets], score_radius: float = CLOSE_PX) -> Detections:
    """Detections of a window's centre frame, px of the sensor's frame, from the targets of each region.

    score_radius: px, see RegionTargets.score_within.
    """
    if len(found) == 1:
        only = found[0]
        region, score = np.full(len(only.xy), window.region[0]), only.score_within(score_radius)
        seen = only.xy + window.corners[0], only.cov, only.amplitude, only.amplitude_sd
        return Detections(window.stamp, *seen, score, region, only.factor, only.size)
    found = found or [NO_TARGETS]
    row = np.repeat(np.arange(len(found)), [len(f.xy) for f in found])
    xy, cov, amplitude, amplitude_sd, probability = (np.concatenate([f[k] for f in found]) for k in range(5))
    score = RegionTargets.alone(xy, cov, amplitude, amplitude_sd, probability).score_within(score_radius)
    size, factor = np.concatenate([f.size for f in found]), stack_factors([f.factor for f in found])
    xy += window.corners[row]
    return Detections(window.stamp, xy, cov, amplitude, amplitude_sd, score, window.region[row], factor, size)


def block_diagonal(factors: Sequence[Floats]) -> Floats:
    """Join factors (K, 2, R) of parts whose errors are independent into one, (sum K, 2, sum R)."""
    rows, columns = np.cumsum([f.shape[::2] for f in factors], axis=0).T
    out = np.zeros((rows[-1], 2, columns[-1]))
    for factor, row, column in zip(factors, rows, columns, strict=True):
        out[row - len(factor) : row, :, column - factor.shape[2] : column] = factor
    return out


def stack_factors(factors: Sequence[Floats]) -> Floats:
    """Stack factors (K, 2, R) of regions into (sum K, 2, max R); the R errors of each region are its own."""
    out = np.zeros((sum(map(len, factors)), 2, max(f.shape[2] for f in factors)))
    row = 0
    for factor in factors:
        out[row : row + len(factor), :, : factor.shape[2]] = factor
        row += len(factor)
    return out
