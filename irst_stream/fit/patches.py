"""The patches that groups of targets are fitted in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats, Ints

__all__ = ["Patches"]

FAINT = 0.3  # of the noise: less light of others makes no saturated pixel doubtful


class Patches(NamedTuple):
    """The patches (N, T, H, W) DN of N groups; times (T,), shifts (N, T, 2), noise and ceiling (N,): see types.Window."""

    images: NDArray[np.float32]
    times: Floats
    shifts: Floats
    noise: Floats
    ceiling: Floats

    def of(self, which: Ints) -> Patches:
        """Some of them."""
        return Patches(self.images[which], self.times, self.shifts[which], self.noise[which], self.ceiling[which])

    def without(self, light: Floats) -> Patches:
        """The same without other groups' light (N, T, H, W), NaN where what a saturated pixel has left is unknown."""
        noise = np.nan_to_num(self.noise, nan=0.0)[:, None, None, None]
        saturated, lit = self.images >= self.ceiling[:, None, None, None], light > FAINT * noise
        images = np.where(saturated, self.images, self.images - light)
        return self._replace(images=np.where(saturated & lit, np.nan, images).astype(np.float32))
