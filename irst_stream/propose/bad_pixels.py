"""Which pixels of a sensor are dead or hot, learnt from its frames."""

from __future__ import annotations

import numpy as np

from irst_stream.optics import psf
from irst_stream.propose.coarse import NOWHERE, Image
from irst_stream.propose.compiled import DOUBT, Between, surpluses
from irst_stream.types import Ints

__all__ = ["BadPixels"]

STILL_OUT = 4.0  # of the noise: from there its evidence may grow
STEP = 4.0  # the most that one frame may add, so that none alone convicts
LEARNT, MOST = 12.0, 100.0  # evidence that convicts, and the most that is held: so many good frames acquit
RISE, DIP = 3.5, 1.5  # of evidence in one frame: such a pixel is masked in this frame; nothing real dips


class BadPixels:
    """Learns which pixels tell of themselves instead of the light.

    The optics rule out that a pixel stands out and two opposite neighbours do not: those of a target share at least twice
    `share` of its brightest pixel's light, wherever it lies. Evidence is summed up as in a CUSUM test, frame by frame: what
    falls short of half of that, in units of its own noise. A target that stands still makes it fall and never rise.
    """

    def __init__(self, sigma_px: float, shape: tuple[int, int]) -> None:
        """sigma_px: of the optics; shape: rows, columns of the frames."""
        self.known = NOWHERE  # flat, rising
        self._share = np.float32(np.divide(*psf(np.array([1.0, 1.0]), (3, 3), sigma_px)[1, :2]))
        self._evidence = np.zeros(shape[0] * shape[1], np.float32)
        self._tracked = NOWHERE

    def learn(self, light: Image, noise: Image, rows: Between, stand_out: Ints, raw: Image) -> Ints:
        """Takes a frame; the flat places that stand out wrongly in it.

        light (H, W), NaN at bad pixels; noise (m, W), widened, and the Between of the frame's rows; stand_out: the flat
        places to look at; raw: the light of the known ones.
        """
        at = np.union1d(stand_out, self._tracked)
        value = light.ravel()[at]
        value[np.searchsorted(at, self.known)] = raw
        surplus, level = surpluses(light, at, value, noise, rows, self._share)
        grows = (np.abs(value) > STILL_OUT * level) & (surplus > DOUBT)
        change = np.where(grows, np.minimum(surplus - DOUBT, STEP), -1)
        self._evidence[at] = np.clip(self._evidence[at] + change, 0, MOST)
        self._tracked = at[self._evidence[at] > 0]
        self._convict(self._tracked)
        return np.asarray(at[surplus > np.where(value > 0, RISE, DIP)], np.int64)

    def _convict(self, suspects: Ints) -> None:
        """Who was known stays so until there is no evidence left."""
        known = suspects[(self._evidence[suspects] >= LEARNT) | np.isin(suspects, self.known)]
        if not np.array_equal(known, self.known):
            self.known = known
