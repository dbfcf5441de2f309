"""Prepares the frames of one sensor for the search: without background, bad pixels and static clutter, noise measured.

This is done in two steps. The light of the newest frame is all that a window waits for; its noise, and what it tells of bad
pixels and of clutter, is needed when the next frame comes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.point_spread import PointSpread
from irst_stream.propose.bad_pixels import BadPixels
from irst_stream.propose.clutter import Clutter
from irst_stream.propose.coarse import NO_PIXELS, CellAverager, Float32Image, kernel_input, sample_map, to_xy
from irst_stream.propose.compiled import OUTLIER_SIGMAS, subtract_background
from irst_stream.propose.contrast import contrast_map
from irst_stream.propose.noise import NoiseMapper, pixels_beyond
from irst_stream.propose.prepared_frame import FrameLight, PreparedFrame
from irst_stream.types import Ints, Pixels, Pose

__all__ = ["Preparation"]

CELL_PX = 4  # side of a cell of the background map
QUANTISATION_SD = 0.2887  # of a step: what rounding adds to the noise
ROUGH_ROW_STEP = 8  # of the noise by which bad pixels are told, which stand out by far
SMALL = 2**16  # px: of a frame with no more, so few rows would tell too little
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
        has_contrast: bool = False,
    ) -> None:
        """shape: rows, columns of the frames; psf: of the sensor; excluded_at: flat indices, ascending, of the pixels that
        are not searched; has_contrast: whether the contrast is measured too.
        """
        self.clutter, self.bad_pixels = clutter, BadPixels(psf, shape)
        self._shape, self._noise, self._has_contrast = shape, noise, has_contrast
        self._rough_noise = NoiseMapper(shape, ROUGH_ROW_STEP) if shape[0] * shape[1] > SMALL else noise
        self._cells = CellAverager(shape, CELL_PX)
        self._excluded_at = excluded_at
        self._missing = self.bad_pixels.known, excluded_at, self._cells.good_share(excluded_at)  # see _missing_pixels
        self._place = 0, 0
        self._outlying = np.empty(shape[0] * shape[1], np.int64)  # a buffer: allocating it takes longer than filling it

    def subtract(
        self, pixels: Pixels, place: tuple[int, int] | None, step_dn: float | None, pose: Pose | None
    ) -> FrameLight:
        """Subtract the background of the next frame; mask known bad pixels. See Proposer.prepare."""
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
        missing = bad if not_finite or len(self._excluded_at) else NO_PIXELS
        share = self._rough_noise.good_share(missing)
        rough = self._rough_noise.expand(self._rough_noise.measure(light, min_noise, share))
        return FrameLight(pixels, light, background, rough, min_noise, self._place, known, missing, learns)

    def measure(self, frame: FrameLight) -> PreparedFrame:
        """Measure the noise of the frame whose background was subtracted last, and learn from it.

        Pixels that are found to be bad are masked: the same ones that bad_in_regions() tells of.
        """
        light, min_noise = frame.light, frame.min_noise
        noise = self._noise.measure(light, min_noise, self._noise.good_share(frame.missing))
        contrast = None
        if self.clutter is not None:
            if frame.learns:
                self.clutter.learn(light, *self._noise.expand(noise))
        else:
            outliers = pixels_beyond(float(OUTLIER_SIGMAS), light, frame.rough_noise, self._outlying)
            masked = self.bad_pixels.learn(light, *frame.rough_noise, outliers, self._known_light(frame))
            light.ravel()[masked] = np.nan
            contrast = contrast_map(frame.pixels, light) if self._has_contrast else None
        return PreparedFrame(light, frame.background, noise, min_noise, frame.place, contrast)

    def bad_in_regions(self, frame: FrameLight, at: Ints) -> NDArray[np.bool_]:
        """Tell which pixels, flat indices (K,), measure() will mask in a frame."""
        if self.clutter is not None:
            return np.zeros(len(at), np.bool_)
        return self.bad_pixels.stand_out(frame.light, *frame.rough_noise, at)

    def _known_light(self, frame: FrameLight) -> Float32Image:
        """Return the light of the known bad pixels, flat indices (M,); 0 DN where a pixel holds no measurement."""
        light = frame.pixels.ravel()[frame.known].astype(np.float32)
        if len(frame.known):
            light = np.nan_to_num(light, posinf=0, neginf=0)
            light -= sample_map(frame.background, to_xy(frame.known, self._shape[1]), self._shape).astype(np.float32)
        return light

    def _missing_pixels(self, known: Ints) -> tuple[Ints, Float32Image | None]:
        """Return the flat indices of excluded and of known bad pixels, and the share of each cell's pixels without them.

        The share is None where no pixel is missing.
        """
        if self._missing[0] is not known:
            bad = np.union1d(known, self._excluded_at)
            self._missing = known, bad, self._cells.good_share(bad)
        return self._missing[1:]
