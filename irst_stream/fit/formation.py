"""A formation that targets are known to fly: its seats, and how they are taken."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from irst_stream.fit.compiled import Formation
from irst_stream.fit.settings import FormationSettings

__all__ = ["ways_to_sit"]


def ways_to_sit(settings: FormationSettings, most: int) -> Formation:
    """Every choice of seats for up to `most` targets, with its log prior probability."""
    seats = np.array(settings.seats_px, np.float64).reshape(-1, 2)
    fewest, last = settings.members[0], min(settings.members[1], len(seats), most)
    numbers = range(fewest, last + 1) if len(seats) else range(0)
    ways = [way for n in numbers for way in combinations(range(len(seats)), n)]
    if not ways:
        return Formation(np.zeros((0, most, 2)), np.zeros(0, np.int64), 1.0, np.zeros(0), 0.0)
    taken, weights = np.zeros((len(ways), most, 2)), np.zeros(len(ways))
    for k, way in enumerate(ways):
        taken[k, : len(way)] = seats[list(way)]
        weights[k] = math.log(settings.probability / len(numbers) / math.comb(len(seats), len(way)))
    sizes = np.array([len(way) for way in ways], np.int64)
    return Formation(taken, sizes, settings.sd_px**-2, weights, math.log((1 - settings.probability) / most))
