"""The places of a frame to mark and enlarge: groups of targets, targets far from each other, detections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from irst_stream.optics import PATCH
from irst_stream.types import Detections, Floats, Truth

__all__ = ["Place", "enclosing_place", "places"]

MIN_REACH = 3  # px shown around a place
MARGIN = 1.2  # a place is this many times as wide as what it shows


class Place(NamedTuple):
    """A square of 2 reach + 1 px a side about a pixel x, y."""

    x: int
    y: int
    reach: int

    def holds(self, low: Floats, high: Floats) -> bool:
        """Whether all boxes with these edges (N, 2) px lie inside."""
        half = self.reach + 0.5
        return bool((low >= (self.x - half, self.y - half)).all() and (high <= (self.x + half, self.y + half)).all())

    def overlaps(self, shape: tuple[int, int]) -> bool:
        """Whether a frame of this shape, rows and columns, shows any of it."""
        rows, columns = shape
        return -self.reach <= self.x < columns + self.reach and -self.reach <= self.y < rows + self.reach


def enclosing_place(low: Floats, high: Floats) -> Place:
    """Return the place that shows boxes with these edges (N, 2) px, points being boxes without a size; N is at least 1."""
    first, last = low.min(axis=0), high.max(axis=0)
    x, y = (int(value) for value in np.rint((first + last) / 2))
    half = float(np.abs([first - (x, y), last - (x, y)]).max())
    return Place(x, y, max(MIN_REACH, math.ceil(MARGIN * half - 0.5)))


def places(truth: Truth | None, detections: Detections | None, shape: tuple[int, int]) -> list[Place]:
    """Return the places of a frame of this shape that hold all true targets, or else all detections.

    A group whose targets are within a patch of each other is one place, any other target is one by itself, unless an
    earlier place shows it. The largest groups come first, then the brightest targets.
    """
    found: list[Place] = []
    if truth is not None:
        low, high = _edges(truth)
        parts = _parts(truth)
    else:
        low = high = np.zeros((0, 2)) if detections is None else detections.xy
        parts = ([k] for k in range(len(low)))
    for part in parts:
        if not any(place.holds(low[part], high[part]) for place in found):
            place = enclosing_place(low[part], high[part])
            found += [place] * place.overlaps(shape)
    return found


def _edges(truth: Truth) -> tuple[Floats, Floats]:
    """Lower and upper edges (N, 2) px of the targets; a point's are where it is."""
    half = np.nan_to_num(truth.size) / 2
    return truth.xy - half, truth.xy + half


def _parts(truth: Truth) -> Iterator[list[int]]:
    """Yield the indices of the targets of each group that one place shows, the largest first; then single ones."""
    groups = sorted((np.flatnonzero(truth.group == group) for group in np.unique(truth.group)), key=len, reverse=True)
    together = [group for group in groups if (np.ptp(truth.xy[group], axis=0) < PATCH[::-1]).all()]
    yield from (group.tolist() for group in together if len(group) > 1)
    several = {int(k) for group in together if len(group) > 1 for k in group}
    brightest = np.argsort(-np.nan_to_num(truth.amplitude, nan=-np.inf), kind="stable")
    yield from ([k] for k in brightest.tolist() if k not in several)
