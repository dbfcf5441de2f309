"""The filters of the search: matched to a point target's image under the sensor's PSF, and blind to smooth background."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irst_stream.point_spread import PointSpread
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import FILTER_RADIUS, apply_filter, apply_kernel
from irst_stream.types import Floats

__all__ = ["MatchedFilter", "background_free_matched_filter"]

NEGLIGIBLE = 1e-9  # of the largest weight, or of the kernel's largest value


class MatchedFilter(NamedTuple):
    """A filter of a frame: a sum of separable kernels, or one kernel.

    weights (K,), K even; row_taps and column_taps (K, FILTER_RADIUS + 1): down the columns and along the rows, from the
    centre outwards; kernel (S, S), S = 2 FILTER_RADIUS + 1, where the filter is not the same mirrored, else (0, 0), and
    then K = 0.
    """

    weights: Float32Image
    row_taps: Float32Image
    column_taps: Float32Image
    kernel: Float32Image

    def fill(self, light: Float32Image, response: Float32Image) -> None:
        """Fill response (H, W) with light (H, W) DN, mirrored at its borders, filtered."""
        if self.kernel.size:
            apply_kernel(light, self.kernel, response)
        else:
            apply_filter(light, self.weights, self.row_taps, self.column_taps, response)


def background_free_matched_filter(psf: PointSpread, size: int, order: int) -> MatchedFilter:
    """Return the matched filter of a target anywhere in the centre pixel, blind to polynomials up to an order.

    size: px a side. The filter has unit norm, so that white noise keeps its standard deviation.
    """
    places = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 11)]), axis=-1) + size // 2
    image = psf.images(places, (size, size)).mean(axis=(0, 1)).ravel()
    y, x = np.indices((size, size)).reshape(2, -1) - size // 2
    powers = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    base = np.linalg.qr(np.stack(powers, axis=1).astype(np.float64))[0]
    residual = image - base @ (base.T @ image)
    kernel = (residual / np.linalg.norm(residual)).reshape(size, size)
    mirrored = max(np.abs(kernel - kernel[::-1]).max(), np.abs(kernel - kernel[:, ::-1]).max())
    if mirrored > 1e-6 * np.abs(kernel).max():
        return _one_kernel(kernel)
    return _separate(kernel)


def _one_kernel(kernel: Floats) -> MatchedFilter:
    """The filter of a kernel that cannot be separated into mirrored taps."""
    none = np.zeros((0, FILTER_RADIUS + 1), np.float32)
    padded = np.pad(kernel, FILTER_RADIUS - len(kernel) // 2).astype(np.float32)
    return MatchedFilter(np.zeros(0, np.float32), none, none, padded)


def _separate(kernel: Floats) -> MatchedFilter:
    """Write a kernel that equals its mirror images as a sum of separable ones: by eigenvectors where it is the same
    transposed, so that rows and columns share their taps, else by singular vectors.
    """
    if np.abs(kernel - kernel.T).max() < NEGLIGIBLE * np.abs(kernel).max():
        weights, vectors = np.linalg.eigh(kernel)
        down = along = vectors.T
    else:
        left, weights, along = np.linalg.svd(kernel)
        down = left.T
    kept = np.abs(weights) > NEGLIGIBLE * np.abs(weights).max()
    odd, middle = kept.sum() % 2, len(kernel) // 2
    pads = (0, odd), (0, FILTER_RADIUS - middle)
    row_taps, column_taps = (np.pad(taps[kept, middle:], pads).astype(np.float32) for taps in (down, along))
    return MatchedFilter(
        np.pad(weights[kept], (0, odd)).astype(np.float32), row_taps, column_taps, np.zeros((0, 0), np.float32)
    )
