"""What one way of reading a region gives, before it becomes a frame's detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irst_stream.types import Detections, Floats, Stamp, Window

__all__ = ["CLOSE", "NOTHING_FOUND", "Found", "gather"]

CLOSE = 0.15  # px: a detection's score estimates the probability that a target is this close


class Found(NamedTuple):
    """The targets of one region.

    xy (K, 2) px of the patch, cov (K, 2, 2) px^2, amplitude and its deviation (K,) DN, and how likely each is to be there
    at all (K,); or, where cov is NaN and nothing of the kind is known, what ranks them.
    """

    xy: Floats
    cov: Floats
    amplitude: Floats
    amplitude_sd: Floats
    probability: Floats

    @property
    def score(self) -> Floats:
        """(K,): the probability that a target is within CLOSE, or what else ranks them."""
        spread = np.maximum((self.cov[:, 0, 0] + self.cov[:, 1, 1]) / 2, 1e-12)
        return self.probability * np.where(np.isnan(spread), 1, -np.expm1(-(CLOSE**2) / (2 * spread)))

    def detections(self, stamp: Stamp) -> Detections:
        """As the detections of a frame that is one region, the highest score first."""
        order = np.argsort(-self.score, kind="stable")
        xy, cov, amplitude, sd, _ = (column[order] for column in self)
        return Detections(stamp, xy, cov, amplitude, sd, self.score[order], np.zeros(len(order), np.int64))


NOTHING_FOUND = Found(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), np.zeros(0))


def gather(window: Window, found: Sequence[Found]) -> Detections:
    """What was found in each region of a window as the detections of its centre frame, in px of the sensor's frame."""
    found = found or [NOTHING_FOUND]
    row = np.repeat(np.arange(len(found)), [len(f.xy) for f in found])
    xy, cov, amplitude, amplitude_sd = (np.concatenate([f[k] for f in found]) for k in range(4))
    score = np.concatenate([f.score for f in found])
    return Detections(window.stamp, xy + window.corners[row], cov, amplitude, amplitude_sd, score, window.region[row])
