"""A known formation of targets: the choices of its seats and their prior probabilities."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from irst_stream.fit.compiled import Formation
from irst_stream.fit.settings import FormationSettings

__all__ = ["seat_choices"]


def seat_choices(settings: FormationSettings, most: int) -> Formation:
    """Every choice of seats for up to `most` targets, with its log prior probability; none where there are no seats."""
    seats = np.array(settings.seats_px, np.float64).reshape(-1, 2)
    fewest, last = settings.members[0], min(settings.members[1], len(seats), most)
    numbers = range(fewest, last + 1) if len(seats) else range(0)
    choices = [choice for n in numbers for choice in combinations(range(len(seats)), n)]
    if not choices:
        return Formation(np.zeros((0, most, 2)), np.zeros(0, np.int64), 1.0, np.zeros(0), 0.0)
    taken, weights = np.zeros((len(choices), most, 2)), np.zeros(len(choices))
    for k, choice in enumerate(choices):
        taken[k, : len(choice)] = seats[list(choice)]
        weights[k] = math.log(settings.probability / len(numbers) / math.comb(len(seats), len(choice)))
    sizes = np.array([len(choice) for choice in choices], np.int64)
    return Formation(taken, sizes, settings.sd_px**-2, weights, math.log((1 - settings.probability) / most))
