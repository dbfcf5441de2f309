"""The image patches in which groups of targets are fitted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats, Ints

__all__ = ["Patches"]

NEGLIGIBLE_LIGHT = 0.3  # of the noise: less light of other groups leaves a saturated pixel valid


class Patches(NamedTuple):
    """Image patches (N, T, H, W) DN of N groups.

    times (T,), shifts (N, T, 2), noise and ceiling (N,), corners (N, 2): see types.Window.
    """

    images: NDArray[np.float32]
    times: Floats
    shifts: Floats
    noise: Floats
    ceiling: Floats
    corners: Floats

    def of(self, which: Ints) -> Patches:
        """Select these rows."""
        shifts, noise, ceiling = self.shifts[which], self.noise[which], self.ceiling[which]
        return Patches(self.images[which], self.times, shifts, noise, ceiling, self.corners[which])

    @property
    def middles(self) -> Floats:
        """(N, 2) px of the frame: x, y of each patch's middle."""
        return np.asarray(self.corners + (np.array(self.images.shape[:1:-1]) - 1) / 2)

    def without(self, light: Floats) -> Patches:
        """Subtract other groups' light (N, T, H, W) DN; a saturated pixel that they light becomes NaN, unknown."""
        noise = np.nan_to_num(self.noise, nan=0.0)[:, None, None, None]
        saturated, lit = self.images >= self.ceiling[:, None, None, None], light > NEGLIGIBLE_LIGHT * noise
        images = np.where(saturated, self.images, self.images - light)
        return self._replace(images=np.where(saturated & lit, np.nan, images).astype(np.float32))
