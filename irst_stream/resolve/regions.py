"""The fit over the regions of any number of sensors, each going on from its last window."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from irst_stream.resolve.fit import Fitter, Held
from irst_stream.resolve.found import Found
from irst_stream.types import Ints, Window

__all__ = ["RegionFits"]

MOST_SENSORS = 256  # whose regions are held; those of one that comes back after more others are fitted from scratch
MOVED = 4.0  # px along each axis: a region that follows its group is put so far from where it was, at most
LONGEST = 8  # frames: a region's fit of longer ago tells nothing


class RegionFits:
    """What the fit finds in each region of a window."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter = fitter
        self._sensors: OrderedDict[str, tuple[Window, Held]] = OrderedDict()

    def __call__(self, window: Window, hints: Sequence[Found]) -> list[Found]:
        """hints: what something else found, for each region."""
        held, sensor = self._recall(window), window.stamp.sensor
        found, held = self._fitter.follow(window.patches, window.times, hints, window.noise, window.ceiling, held)
        if self._fitter.settings.anew > 1:
            self._sensors[sensor] = (window, held)
            self._sensors.move_to_end(sensor)
            if len(self._sensors) > MOST_SENSORS:
                self._sensors.popitem(last=False)
        return found

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self._sensors.pop(sensor, None)

    def _recall(self, window: Window) -> Held:
        """What is held of each region, brought to the window's time; new ones differ in when they are fitted anew next."""
        fresh = self._fitter.nothing(window.region % self._fitter.settings.anew)
        last, held = self._sensors.get(window.stamp.sensor, (window, fresh))
        passed = window.stamp.index - last.stamp.index
        if last.stamp.epoch != window.stamp.epoch or not 0 < passed <= LONGEST:
            return fresh
        old, new = _same(last, window)
        held = held.later(passed, last.corners[old] - window.corners[new], old)
        for known, column in zip(held, fresh, strict=True):
            column[new] = known
        return fresh


def _same(last: Window, window: Window) -> tuple[Ints, Ints]:
    """Rows of two windows' regions that hold the same group: those of one number, and those that a moved one came from."""
    _, old, new = np.intersect1d(last.region, window.region, return_indices=True)
    left, come = np.setdiff1d(np.arange(len(last.region)), old), np.setdiff1d(np.arange(len(window.region)), new)
    away = np.abs(last.corners[left][:, None] - window.corners[come]).max(axis=-1)
    pairs = []
    while away.size and away.min() <= MOVED:
        i, j = np.unravel_index(away.argmin(), away.shape)
        pairs.append((left[i], come[j]))
        away[i], away[:, j] = np.inf, np.inf
    moved = np.array(pairs, np.int64).reshape(-1, 2)
    return np.concatenate([old, moved[:, 0]]), np.concatenate([new, moved[:, 1]])
