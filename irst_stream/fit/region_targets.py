"""What one way of reading a region gives, before it becomes a frame's detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Detections, Floats, Stamp, Window

__all__ = ["CLOSE", "NO_TARGETS", "RegionTargets", "gather", "one_above_another", "side_by_side"]

CLOSE = 0.15  # px: a detection's score estimates the probability that a target is this close


class RegionTargets(NamedTuple):
    """The targets of one region.

    xy (K, 2) px of the patch, cov (K, 2, 2) px^2, amplitude and its deviation (K,) DN, and how likely each is to be there
    at all (K,); or, where cov is NaN and nothing of the kind is known, what ranks them. explained (K,): 1 where the targets
    explain the light, falling to 0 the less they do. factor: see Detections.
    """

    xy: Floats
    cov: Floats
    amplitude: Floats
    amplitude_sd: Floats
    probability: Floats
    explained: Floats
    factor: Floats

    @classmethod
    def alone(cls, xy: Floats, cov: Floats, amplitude: Floats, amplitude_sd: Floats, probability: Floats) -> RegionTargets:
        """Targets whose errors have nothing to do with each other, as far as is known."""
        return cls(xy, cov, amplitude, amplitude_sd, probability, np.ones(len(xy)), np.zeros((len(xy), 2, 0)))

    @classmethod
    def joined(cls, parts: Sequence[RegionTargets]) -> RegionTargets:
        """All that was found in these parts, each on its own."""
        columns = map(np.concatenate, zip(*(part[:-1] for part in parts), strict=True))
        xy, cov, amplitude, amplitude_sd, probability, explained = columns
        factor = side_by_side([part.factor for part in parts])
        return cls(xy, cov, amplitude, amplitude_sd, probability, explained, factor)

    def of(self, which: NDArray[Any]) -> RegionTargets:
        """Some of them."""
        return RegionTargets(*(column[which] for column in self))

    @property
    def score(self) -> Floats:
        """(K,): the probability that a target is within CLOSE, or what else ranks them."""
        spread = np.maximum((self.cov[:, 0, 0] + self.cov[:, 1, 1]) / 2, 1e-12)
        return self.probability * np.where(np.isnan(spread), 1, -np.expm1(-(CLOSE**2) / (2 * spread)))

    def detections(self, stamp: Stamp) -> Detections:
        """As the detections of a frame that is one region, the highest score first."""
        xy, cov, amplitude, sd, *_, factor = ranked = self.of(np.argsort(-self.score, kind="stable"))
        return Detections(stamp, xy, cov, amplitude, sd, ranked.score, np.zeros(len(xy), np.int64), factor)


NO_TARGETS = RegionTargets.alone(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), np.zeros(0))


def gather(window: Window, found: Sequence[RegionTargets]) -> Detections:
    """What was found in each region of a window as the detections of its centre frame, in px of the sensor's frame."""
    found = found or [NO_TARGETS]
    row = np.repeat(np.arange(len(found)), [len(f.xy) for f in found])
    xy, cov, amplitude, amplitude_sd, probability = (np.concatenate([f[k] for f in found]) for k in range(5))
    score = RegionTargets.alone(xy, cov, amplitude, amplitude_sd, probability).score
    factor = one_above_another([f.factor for f in found])
    xy += window.corners[row]
    return Detections(window.stamp, xy, cov, amplitude, amplitude_sd, score, window.region[row], factor)


def side_by_side(factors: Sequence[Floats]) -> Floats:
    """Factors (K, 2, R) of parts whose errors have nothing to do with each other as one of all (sum K, 2, sum R)."""
    rows, columns = np.cumsum([f.shape[::2] for f in factors], axis=0).T
    out = np.zeros((rows[-1], 2, columns[-1]))
    for factor, row, column in zip(factors, rows, columns, strict=True):
        out[row - len(factor) : row, :, column - factor.shape[2] : column] = factor
    return out


def one_above_another(factors: Sequence[Floats]) -> Floats:
    """The same of regions, (sum K, 2, most R): parts of the same number are others in each region."""
    out = np.zeros((sum(map(len, factors)), 2, max(f.shape[2] for f in factors)))
    row = 0
    for factor in factors:
        out[row : row + len(factor), :, : factor.shape[2]] = factor
        row += len(factor)
    return out
