"""Dead and hot pixels of a sensor, learnt from its frames."""

from __future__ import annotations

import numpy as np

from irst_stream.point_spread import PointSpread
from irst_stream.propose.coarse import NO_PIXELS, Float32Image
from irst_stream.propose.compiled import DEFICIT_ALLOWANCE, Interpolation, neighbour_deficits
from irst_stream.types import Ints

__all__ = ["BadPixels"]

GROWTH_SIGMAS = 4.0  # evidence grows only for a pixel that exceeds the noise by this factor
MAX_GROWTH = 4.0  # evidence one frame may add, so that no single frame makes a pixel known
KNOWN_EVIDENCE = 12.0  # from here on a pixel is known to be bad
MAX_EVIDENCE = 100.0  # each good frame takes 1 away: this many clear a known pixel
BRIGHT_DEFICIT = 3.5  # a bright pixel with a larger deficit is masked in this frame
DARK_DEFICIT = 1.5  # the same of a dark pixel; no real source is dark


class BadPixels:
    """Learns which pixels do not measure the light.

    The optics rule out that one pixel is bright and two opposite neighbours are not: wherever a target lies, such a pair
    receives at least twice `share` of its brightest pixel's light. The deficit below half of that, in units of its own
    noise, is summed over frames as in a CUSUM test. A target at rest lowers this evidence and never raises it.
    """

    def __init__(self, psf: PointSpread, shape: tuple[int, int]) -> None:
        """psf: of the sensor; shape: rows, columns of the frames."""
        self.known = NO_PIXELS  # flat indices, ascending
        image = psf.images(np.ones(2), (3, 3))  # the least of the four neighbours' shares: the PSF is narrowest there
        self._share = np.float32(min(image[1, 0], image[1, 2], image[0, 1], image[2, 1]) / image[1, 1])
        self._evidence = np.zeros(shape[0] * shape[1], np.float32)
        self._suspects = NO_PIXELS

    def recall(self, known: Ints) -> None:
        """Begin with known bad pixels, flat indices, ascending; good frames clear them as they clear any other."""
        self._evidence[known] = KNOWN_EVIDENCE
        self.known = self._suspects = known

    def learn(
        self, light: Float32Image, noise: Float32Image, rows: Interpolation, outliers: Ints, known_light: Float32Image
    ) -> Ints:
        """Update the evidence with one frame; return the flat indices of the pixels to mask in this frame.

        light (H, W) DN, NaN at bad pixels; noise (m, W): an expanded map, and the Interpolation of the frame's rows in it;
        outliers: the flat indices to test; known_light: the unmasked light of the known bad pixels.
        """
        at = np.union1d(outliers, self._suspects) if len(self._suspects) else outliers
        value = light.ravel()[at]
        value[np.searchsorted(at, self.known)] = known_light
        deficit, level = neighbour_deficits(light, at, value, noise, rows, self._share)
        grows = (np.abs(value) > GROWTH_SIGMAS * level) & (deficit > DEFICIT_ALLOWANCE)
        change = np.where(grows, np.minimum(deficit - DEFICIT_ALLOWANCE, MAX_GROWTH), -1)
        self._evidence[at] = np.clip(self._evidence[at] + change, 0, MAX_EVIDENCE)
        self._suspects = at[self._evidence[at] > 0]
        self._update_known(self._suspects)
        return np.asarray(at[deficit > np.where(value > 0, BRIGHT_DEFICIT, DARK_DEFICIT)], np.int64)

    def _update_known(self, suspects: Ints) -> None:
        """Add suspects with enough evidence; a known pixel stays known until no evidence is left."""
        is_known = self._evidence[suspects] >= KNOWN_EVIDENCE
        if len(self.known):
            is_known |= np.isin(suspects, self.known)
        known = suspects[is_known]
        if not np.array_equal(known, self.known):
            self.known = known
