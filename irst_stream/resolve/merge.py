"""Merges partial targets: a target on the border of two cells is claimed in part by each."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = ["merge"]

MAX_SHARE = 1.6  # parts whose shares add up to more are two targets


def merge(xy: Floats, share: Floats, reach: float) -> Ints:
    """Return, for each part, the row (N,) of the part that it is merged into, itself where it stands alone.

    xy (N, 2) px and share (N,) of a target at each, the largest share first. A part joins the nearest earlier one that
    stands alone, lies within reach, px, and whose sum of shares stays within MAX_SHARE.
    """
    places, shares = xy.tolist(), share.tolist()  # one or two dozen parts: plain Python is faster than NumPy
    owner, sums, heads = [], list(shares), list[int]()
    for k, (x, y) in enumerate(places):
        nearest, least = k, reach
        for head in heads:
            distance = math.hypot(places[head][0] - x, places[head][1] - y)
            if distance < least and sums[head] + shares[k] <= MAX_SHARE:
                nearest, least = head, distance
        owner.append(nearest)
        if nearest == k:
            heads.append(k)
        else:
            sums[nearest] += shares[k]
    return np.array(owner, np.int64)
