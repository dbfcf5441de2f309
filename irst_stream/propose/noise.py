"""Coarse maps of the noise of a frame, or of a filter's response to it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from irst_stream.propose.coarse import MIN_GOOD_SHARE, CellAverager, Float32Image
from irst_stream.propose.compiled import SD_PER_MEAN_ABS, Interpolation, find_outliers
from irst_stream.types import Ints

__all__ = ["NoiseMap", "NoiseMapper", "pixels_beyond"]

NOISE_CELL_PX = 16


class NoiseMap(NamedTuple):
    """The standard deviation of a pixel, DN: an expanded map (m, W), and the frame's rows in it."""

    expanded: Float32Image
    rows: Interpolation


class NoiseMapper:
    """Measures the noise of images of one size; its coarse maps (m, n) have one value for each cell of a grid."""

    def __init__(self, shape: tuple[int, int]) -> None:
        """shape: rows, columns of the images."""
        self._cells = CellAverager(shape, NOISE_CELL_PX, row_step=2)

    def measure(self, image: Float32Image, min_noise: float, share: Float32Image | None) -> Float32Image:
        """Return a coarse map of an image's noise, at least min_noise; a group is too small to affect it.

        share: see good_share.
        """
        means, _ = self._cells.average(image, rectify=True)
        noise = self._cells.median(means, share) * SD_PER_MEAN_ABS
        return np.asarray(np.maximum(noise, min_noise), np.float32)

    def measure_near(self, squares: Float32Image, min_noise: float, share: Float32Image | None) -> Float32Image:
        """Return a coarse map of the noise, at least min_noise, from squared responses (H, W): of some 40 px about.

        share: see good_share.
        """
        means = cv2.blur(self._cells.average(squares)[0], (3, 3), borderType=cv2.BORDER_REFLECT)
        if share is not None:
            means = means / np.maximum(cv2.blur(share, (3, 3), borderType=cv2.BORDER_REFLECT), MIN_GOOD_SHARE)
        # The blur's running sums leave rounding of either sign where dark areas follow bright ones, hence the limit first.
        return np.asarray(np.sqrt(np.maximum(means, np.float32(min_noise) ** 2)), np.float32)

    def good_share(self, bad: Ints) -> Float32Image | None:
        """Return the share of good pixels in each cell, None where all are good; bad: flat indices."""
        return self._cells.good_share(bad)

    def expand(self, noise: Float32Image) -> NoiseMap:
        """Return a coarse map as kernels take it."""
        return NoiseMap(self._cells.expand(noise), self._cells.rows)

    def fill(self, noise: Float32Image) -> Float32Image:
        """Interpolate a coarse map to the whole image: (H, W)."""
        return self._cells.fill(noise)


def pixels_beyond(limit: float, image: Float32Image, noise: NoiseMap, indices: Ints) -> Ints:
    """Return the flat indices, ascending, of the pixels that exceed limit times the noise, up or down.

    indices (H W,): a buffer.
    """
    return indices[: find_outliers(image, *noise, np.float32(limit), indices)].copy()
