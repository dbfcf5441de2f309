"""PSNR and similarity of fine maps to their labels, as DISTA-Net's table reports them."""

from __future__ import annotations

import numpy as np

from irst_stream.types import Floats

__all__ = ["psnr", "similarity"]

PEAK = 255.0  # DN, of the PSNR


def psnr(maps: Floats, labels: Floats) -> Floats:
    """Compute the peak signal-to-noise ratio of maps to labels, both (N, H, W) DN: (N,) dB.

    It is 10 log10(255^2 / mean squared error), infinite where map and label are equal.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(PEAK**2 / _squared_error(maps, labels)))


def similarity(maps: Floats, labels: Floats) -> Floats:
    """Compute what the toolkit behind DISTA-Net's table calls SSIM of maps to labels, both (N, H, W) DN: (N,).

    It is 1 - mse / (mean(map^2) mean(label^2)), not the structural similarity of Wang et al.; the subtracted
    term has the dimension of DN^-2, so the value is near 1 for almost any map. Minus infinity where only one of the two
    is all zero, 1 where both are.
    """
    error = _squared_error(maps, labels)
    power = np.mean(np.square(maps), axis=(-2, -1)) * np.mean(np.square(labels), axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 1.0, 1 - error / power)


def _squared_error(maps: Floats, labels: Floats) -> Floats:
    maps, labels = np.asarray(maps, np.float64), np.asarray(labels, np.float64)
    if maps.shape != labels.shape or maps.ndim != 3:
        raise ValueError(f"expected maps and labels (N, H, W) of one shape, got {maps.shape} and {labels.shape}")
    return np.asarray(np.mean((maps - labels) ** 2, axis=(1, 2)))
