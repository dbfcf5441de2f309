"""Which parts of an answer are on the same target: a target on the border of two cells is claimed in part by each."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = ["merge"]

FULL = 1.6  # parts that add up to more than this are on two targets


def merge(xy: Floats, share: Floats, reach: float) -> Ints:
    """Places (N, 2) px and which share of a target is at each (N,), the largest first, to the one each is merged into (N,).

    That is the nearest one before it within reach, px, that is not full yet; or itself.
    """
    places, shares = xy.tolist(), share.tolist()  # of a dozen or two, which Python itself goes through faster than NumPy
    owner, held, heads = [], list(shares), list[int]()
    for k, (x, y) in enumerate(places):
        nearest, least = k, reach
        for head in heads:
            distance = math.hypot(places[head][0] - x, places[head][1] - y)
            if distance < least and held[head] + shares[k] <= FULL:
                nearest, least = head, distance
        owner.append(nearest)
        if nearest == k:
            heads.append(k)
        else:
            held[nearest] += shares[k]
    return np.array(owner, np.int64)
