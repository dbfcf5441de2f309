"""Which parts of an answer are on the same target: a target on the border of two cells is claimed in part by each."""

from __future__ import annotations

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = ["merge"]

FULL = 1.6  # parts that add up to more than this are on two targets


def merge(xy: Floats, share: Floats, reach: float) -> Ints:
    """Places (N, 2) px and which share of a target is at each (N,), the largest first, to the one each is merged into (N,).

    That is the nearest one before it within reach, px, that is not full yet; or itself.
    """
    owner = np.arange(len(share))
    held = share.copy()
    for k in range(1, len(share)):
        heads = np.flatnonzero(owner[:k] == np.arange(k))
        distance = np.hypot(*(xy[heads] - xy[k]).T)
        distance[held[heads] + share[k] > FULL] = np.inf
        nearest = int(distance.argmin())
        if distance[nearest] < reach:
            owner[k] = heads[nearest]
            held[heads[nearest]] += share[k]
    return owner
