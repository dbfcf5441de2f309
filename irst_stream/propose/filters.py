"""The filters of the search: matched to a point target, blind to smooth background, and separable."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irst_stream.optics import psf
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import FILTER_RADIUS
from irst_stream.types import Floats

__all__ = ["SeparableFilter", "background_free_matched_filter"]


class SeparableFilter(NamedTuple):
    """A sum of separable kernels: weights (K,), K even, and taps (K, FILTER_RADIUS + 1) from the centre outwards."""

    weights: Float32Image
    taps: Float32Image


def background_free_matched_filter(sigma_px: float, size: int, order: int) -> SeparableFilter:
    """Return the matched filter of a target anywhere in the centre pixel, blind to polynomials up to an order.

    size: px a side. The filter has unit norm, so that white noise keeps its standard deviation.
    """
    places = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 11)]), axis=-1) + size // 2
    image = psf(places, (size, size), sigma_px).mean(axis=(0, 1)).ravel()
    y, x = np.indices((size, size)).reshape(2, -1) - size // 2
    powers = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    base = np.linalg.qr(np.stack(powers, axis=1).astype(np.float64))[0]
    residual = image - base @ (base.T @ image)
    return _separate((residual / np.linalg.norm(residual)).reshape(size, size))


def _separate(kernel: Floats) -> SeparableFilter:
    """Write a kernel that equals its mirror image and its transpose as a sum of separable ones, by its eigenvectors."""
    weights, vectors = np.linalg.eigh(kernel)
    kept = np.abs(weights) > 1e-9 * np.abs(weights).max()
    half = vectors[len(kernel) // 2 :, kept].T
    odd = kept.sum() % 2
    taps = np.pad(half, ((0, odd), (0, FILTER_RADIUS + 1 - half.shape[1])))
    return SeparableFilter(np.pad(weights[kept], (0, odd)).astype(np.float32), taps.astype(np.float32))
