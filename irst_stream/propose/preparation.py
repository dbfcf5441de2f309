"""Prepares the frames of one sensor for the search: without background, bad pixels and static clutter, noise measured."""

from __future__ import annotations

import numpy as np

from irst_stream.point_spread import PointSpread
from irst_stream.propose.bad_pixels import BadPixels
from irst_stream.propose.clutter import Clutter
from irst_stream.propose.coarse import NO_PIXELS, CellAverager, Float32Image, kernel_input, sample_map, to_xy
from irst_stream.propose.compiled import OUTLIER_SIGMAS, subtract_background
from irst_stream.propose.contrast import contrast_map
from irst_stream.propose.noise import NoiseMapper, pixels_beyond
from irst_stream.propose.prepared_frame import PreparedFrame
from irst_stream.types import Ints, Pixels, Pose

__all__ = ["Preparation"]

CELL_PX = 4  # side of a cell of the background map
QUANTISATION_SD = 0.2887  # of a step: what rounding adds to the noise
FLOAT32_ERROR, MIN_NOISE = 1e-6, 1e-12  # relative to the largest background, and DN: float32 arithmetic's own noise


class Preparation:
    """Prepares one sensor's frames, in order; keeps its bad pixels and `clutter`, None where that is not learnt."""

    def __init__(
        self,
        shape: tuple[int, int],
        psf: PointSpread,
        clutter: Clutter | None,
        noise: NoiseMapper,
        excluded_at: Ints = NO_PIXELS,
        least_contrast_dn: float | None = None,
    ) -> None:
        """shape: rows, columns of the frames; psf: of the sensor; excluded_at: flat indices, ascending, of the pixels that
        are not searched; least_contrast_dn: see contrast_map, where the contrast is measured too; None where it is not.
        """
        self.clutter, self.bad_pixels = clutter, BadPixels(psf, shape)
        self._shape, self._noise, self._least_contrast_dn = shape, noise, least_contrast_dn
        self._cells = CellAverager(shape, CELL_PX)
        self._excluded_at = excluded_at
        self._missing = self.bad_pixels.known, excluded_at, self._cells.good_share(excluded_at)  # see _missing_pixels
        self._place = 0, 0
        self._outlying = np.empty(shape[0] * shape[1], np.int64)  # a buffer: allocating it takes longer than filling it

    def prepare(
        self, pixels: Pixels, place: tuple[int, int] | None, step_dn: float | None, pose: Pose | None
    ) -> PreparedFrame:
        """Prepare the next frame; see Proposer.prepare."""
        learns, self._place = place is not None, place or self._place
        known = self.bad_pixels.known
        bad, share = self._missing_pixels(known)
        means, not_finite = self._cells.average(pixels, bad)
        if not_finite:
            bad = np.union1d(bad, np.flatnonzero(~np.isfinite(pixels)))
            share = self._cells.good_share(bad)
        background = self._cells.median(means, share)
        light = np.empty(self._shape, np.float32)
        subtract_background(kernel_input(pixels), self._cells.expand(background), self._cells.rows, bad, light)
        if self.clutter is not None:
            self.clutter.follow(self._place, pose if learns else None)
            self.clutter.subtract(light)
        step_dn = float(pixels.dtype != np.float32) if step_dn is None else step_dn
        min_noise = QUANTISATION_SD * step_dn or max(FLOAT32_ERROR * float(background.max()), MIN_NOISE)
        many = not_finite or len(self._excluded_at)
        noise = self._noise.measure(light, min_noise, self._noise.good_share(bad) if many else None)
        expanded = self._noise.expand(noise)
        if self.clutter is not None:
            if learns:
                self.clutter.learn(light, *expanded)
            return PreparedFrame(light, background, noise, min_noise, self._place)
        known_light = self._known_light(pixels, background, known)
        outliers = pixels_beyond(float(OUTLIER_SIGMAS), light, expanded, self._outlying)
        light.ravel()[self.bad_pixels.learn(light, *expanded, outliers, known_light)] = np.nan
        contrast = self._contrast(pixels, light, background, min_noise)
        return PreparedFrame(light, background, noise, min_noise, self._place, contrast)

    def _contrast(
        self, pixels: Pixels, light: Float32Image, background: Float32Image, min_noise: float
    ) -> Float32Image | None:
        """Return the contrast (H, W), None where it is not measured; bad pixels are as bright as the background."""
        if self._least_contrast_dn is None:
            return None
        image = pixels.astype(np.float32)
        bad = np.isnan(light)
        if bad.any():
            image[bad] = self._cells.fill(background)[bad]
        return contrast_map(image, max(self._least_contrast_dn, min_noise))

    def _known_light(self, pixels: Pixels, background: Float32Image, known: Ints) -> Float32Image:
        """Return the light of the known bad pixels, flat indices (M,); 0 DN where a pixel holds no measurement."""
        light = pixels.ravel()[known].astype(np.float32)
        if len(known):
            light = np.nan_to_num(light, posinf=0, neginf=0)
            light -= sample_map(background, to_xy(known, self._shape[1]), self._shape).astype(np.float32)
        return light

    def _missing_pixels(self, known: Ints) -> tuple[Ints, Float32Image | None]:
        """Return the flat indices of excluded and of known bad pixels, and the share of each cell's pixels without them.

        The share is None where no pixel is missing.
        """
        if self._missing[0] is not known:
            bad = np.union1d(known, self._excluded_at)
            self._missing = known, bad, self._cells.good_share(bad)
        return self._missing[1:]
