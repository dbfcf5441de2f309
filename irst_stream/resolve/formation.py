"""A formation that targets are known to fly: its seats, and how they are taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from irst_stream.resolve.compiled import Formation

__all__ = ["FormationSettings", "formation_faults", "ways_to_sit"]

MOST_SEATS = 8


@dataclass(frozen=True)
class FormationSettings:
    """A formation whose seats, or some of them, are taken by targets; it keeps its orientation in the frame.

    seats_px: x, y of each seat from any common point; none: no formation is known. sd_px: standard deviation of a target
    about its seat, along each axis. members: fewest and most seats taken; each number is equally likely, and each choice of
    seats of one number. probability: prior probability that a group flies this formation; the closer to 1, the stronger
    the evidence against it must be.
    """

    seats_px: tuple[tuple[float, float], ...] = ()
    sd_px: float = 0.01
    members: tuple[int, int] = (1, MOST_SEATS)
    probability: float = 0.95


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


def formation_faults(settings: FormationSettings, most: int) -> Iterator[str]:
    """What makes no formation of settings, in words."""
    if len(settings.seats_px) > MOST_SEATS:
        yield f"fit.formation.seats_px: expected at most {MOST_SEATS}, got {len(settings.seats_px)}"
    if not np.isfinite(np.array(settings.seats_px, np.float64)).all():
        yield "fit.formation.seats_px: expected finite numbers"
    if not 0 < settings.sd_px < 1e3:
        yield f"fit.formation.sd_px: expected a number above 0, got {settings.sd_px}"
    if not 1 <= settings.members[0] <= settings.members[1]:
        yield f"fit.formation.members: expected the fewest, 1 or more, then the most, got {list(settings.members)}"
    if settings.seats_px and settings.members[0] > min(len(settings.seats_px), most):
        yield f"fit.formation.members: expected at most {min(len(settings.seats_px), most)}, got {settings.members[0]}"
    if not 0 < settings.probability < 1:
        yield f"fit.formation.probability: expected a number between 0 and 1, got {settings.probability}"
