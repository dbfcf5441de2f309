"""Lights that no group of point targets could make: each is one extended target, which is measured and not fitted.

A pixel receives a large part of the light of a point in it. So points that give as much light as such a target have a
brighter pixel among them. A light's pixels are those connected with a peak that are at least half as bright. Their light
gives its place and size. What is larger than any target is structure of the scene, and is left to the search for points.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.optics import peak_response
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.compiled import bright_pixels
from irst_stream.types import Floats

__all__ = ["LargeLights", "find_large_lights", "most_of_points"]

MOST_POINTS = 5  # of a group
TYPICAL_RESPONSE = 0.7  # of a pixel's largest response to a point: that of the best placed of several is rarely less
RIM_PX = 3  # beyond the bright pixels: a peak there is of the same light
SHAPE_ERROR = 0.1  # of size and light: how far the centre may be off, and by how much the light changes with its pixels


class LargeLights(NamedTuple):
    """M extended targets of one frame.

    xy (M, 2) px; cov (M, 2, 2) px^2; amplitude (M,) DN: light of the pixels above half the peak; amplitude_sd (M,) DN; size
    (M, 2) px: standard deviations of that light along x and y; strength (M,): of the peak, in units of the threshold.
    """

    xy: Floats
    cov: Floats
    amplitude: Floats
    amplitude_sd: Floats
    size: Floats
    strength: Floats

    @classmethod
    def none(cls) -> LargeLights:
        """No light."""
        return cls(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 2)), np.zeros(0))

    def of(self, which: NDArray[np.bool_]) -> LargeLights:
        """Select these lights."""
        return LargeLights(*(column[which] for column in self))


def most_of_points(sigma_px: float) -> float:
    """Return the most light of a group of points, in units of its brightest pixel, for a PSF of this width, px."""
    return MOST_POINTS / (TYPICAL_RESPONSE * peak_response(sigma_px))


def find_large_lights(
    light: Float32Image, xy: Floats, strength: Floats, noise: Floats, most: float
) -> tuple[LargeLights, NDArray[np.bool_]]:
    """Find the large lights among peaks; return them, and which peaks (N,) are of none.

    light (H, W) DN; xy (N, 2) px and strength (N,) of peaks; noise (N,) DN, of a pixel there; most: see most_of_points.
    """
    free, found = np.ones(len(xy), np.bool_), []
    for k in np.argsort(-strength, kind="stable").tolist():
        if not free[k]:
            continue
        pixels = bright_pixels(light, *np.rint(xy[k]).astype(np.int64).tolist())
        column, row = pixels.T
        each = light[row, column]
        if not len(pixels) or each.sum() < most * each.max():
            continue
        found.append((*_measured(pixels, each.astype(np.float64), float(noise[k])), strength[k]))
        for j in np.flatnonzero(free).tolist():
            away = np.maximum(np.abs(column - xy[j, 0]), np.abs(row - xy[j, 1]))
            free[j] = away.min() > RIM_PX
    if not found:
        return LargeLights.none(), free
    return LargeLights(*(np.array(column) for column in zip(*found, strict=True))), free


def _measured(pixels: NDArray[np.int64], each: Floats, noise: float) -> tuple[Floats, Floats, float, float, Floats]:
    """The first columns of LargeLights, of pixels (P, 2) x, y with the light (P,) DN; noise: of a pixel, DN."""
    total, weight = float(each.sum()), each - each.min() + noise  # so that a pixel that comes and goes moves nothing
    middle = weight @ pixels / weight.sum()
    square = np.square(pixels - middle)
    size = np.sqrt(weight @ square / weight.sum())
    variance = (SHAPE_ERROR * size) ** 2 + (noise / weight.sum()) ** 2 * square.sum(axis=0)
    return middle, np.diag(variance), total, math.hypot(noise * math.sqrt(len(pixels)), SHAPE_ERROR * total), size
