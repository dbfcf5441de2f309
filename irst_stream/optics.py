"""The imaging model: an integrated Gaussian point-spread function (PSF) in closed form.

A target is a point; the optics blur it to a 2-D Gaussian of standard deviation sigma px; a pixel integrates over its
square. So a pixel's response is separable: a difference of two error functions along columns times the same along rows.
x is the column, y the row, pixel centres are integers.

    response(u) = 1/2 [erf((u + 1/2) / (sqrt 2 sigma)) - erf((u - 1/2) / (sqrt 2 sigma))],   u = pixel - target

All functions are vectorised over leading axes (targets, frames, batches); sigma is one number, or one per target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = [
    "PATCH",
    "RAYLEIGH_PER_SIGMA",
    "SIGMA",
    "FineGrid",
    "Psf",
    "line_response",
    "peak_response",
    "psf",
    "psf_with_derivatives",
    "render",
]

Sigma = float | Floats  # px: one number, or an array that broadcasts against the targets

SIGMA = 0.5  # px, in both published data sets
RAYLEIGH_PER_SIGMA = 1.9  # one Rayleigh unit is 1.9 sigma
PATCH = (11, 11)  # rows, columns in both published data sets


class Psf(NamedTuple):
    """The PSF of a unit-amplitude target, and its derivatives by x, y and sigma in 1/px; each (..., H, W)."""

    value: Floats
    by_x: Floats
    by_y: Floats
    by_sigma: Floats


def line_response(centre: Floats, size: int, sigma: Sigma) -> Floats:
    """Integrate a unit 1-D Gaussian at centre (...) px over each of `size` pixels: fractions (..., size)."""
    edges = (np.arange(size + 1) - 0.5 - np.asarray(centre, np.float64)[..., None]) / (np.sqrt(2) * _last_axis(sigma))
    from scipy.special import erf  # slow to import, and many importers of this module need only its constants

    return np.asarray(np.diff(erf(edges), axis=-1) / 2)


def psf(xy: Floats, shape: tuple[int, int] = PATCH, sigma: Sigma = SIGMA) -> Floats:
    """Compute the images (..., H, W) of unit-amplitude targets at positions (..., 2) px."""
    xy = np.asarray(xy, np.float64)
    rows, columns = shape
    return line_response(xy[..., 1], rows, sigma)[..., :, None] * line_response(xy[..., 0], columns, sigma)[..., None, :]


def psf_with_derivatives(xy: Floats, shape: tuple[int, int] = PATCH, sigma: Sigma = SIGMA) -> Psf:
    """Compute the PSF at positions (..., 2) px and its derivatives by x, y and sigma, each (..., H, W)."""
    xy = np.asarray(xy, np.float64)
    rows, columns = shape
    row, row_by_y, row_by_sigma = _line_derivatives(xy[..., 1], rows, sigma)
    column, column_by_x, column_by_sigma = _line_derivatives(xy[..., 0], columns, sigma)
    return Psf(
        _outer(row, column),
        _outer(row, column_by_x),
        _outer(row_by_y, column),
        _outer(row_by_sigma, column) + _outer(row, column_by_sigma),
    )


def render(
    xy: Floats,
    amplitude: Floats,
    shape: tuple[int, int] = PATCH,
    sigma: Sigma = SIGMA,
    sigma_y: Sigma | None = None,
) -> Floats:
    """Render the image (..., H, W) DN of N targets at positions (..., N, 2) px with amplitudes (..., N) DN.

    Targets of amplitude 0 add nothing, wherever they are; for N = 0 the image is 0. sigma_y: px, for an elliptical PSF.
    """
    xy = np.asarray(xy, np.float64)
    rows, columns = shape
    row = line_response(xy[..., 1], rows, sigma if sigma_y is None else sigma_y)
    column = line_response(xy[..., 0], columns, sigma) * np.asarray(amplitude, np.float64)[..., None]
    image: Floats = np.swapaxes(row, -1, -2) @ column
    return image


def peak_response(sigma: float = SIGMA) -> float:
    """The fraction of a target's amplitude in the pixel it is centred on: 0.466 at sigma 0.5."""
    return float(line_response(np.zeros(()), 1, sigma)[0] ** 2)


@dataclass(frozen=True)
class FineGrid:
    """The fine grid of an H x W patch: c = division cells per pixel side, cell r centred at (r - (c - 1) / 2) / c px.

    Images and label maps are (..., H c, W c); Phi's column index is row * (W c) + column.
    """

    division: int = 3
    patch: tuple[int, int] = PATCH

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of fine cells."""
        return self.patch[0] * self.division, self.patch[1] * self.division

    @cached_property
    def centres(self) -> Floats:
        """Centre of every cell, (H c, W c, 2): x, y px."""
        rows, columns = self.shape
        return np.stack(np.meshgrid(self._to_px(np.arange(columns)), self._to_px(np.arange(rows))), axis=-1)

    def cells(self, xy: Floats) -> Ints:
        """Map positions (..., 2) px to cells (..., 2) int64: column, row; ties round to even, as in published labels."""
        return np.rint(np.asarray(xy) * self.division + (self.division - 1) / 2).astype(np.int64)

    def label(self, xy: Floats, amplitude: Floats) -> Floats:
        """Draw the label image (..., H c, W c) DN of targets (..., N, 2) px, (..., N) DN: each amplitude in its cell.

        Targets in the same cell add up. Targets off the grid, at NaN or of amplitude 0 are left out.
        """
        amplitude = np.asarray(amplitude, np.float64)
        rows, columns = self.shape
        column, row = np.moveaxis(self.cells(np.nan_to_num(xy, nan=-1e6)), -1, 0)
        on_grid = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        image = np.zeros((*amplitude.shape[:-1], rows, columns))
        batch = np.nonzero(on_grid)[:-1]
        np.add.at(image, (*batch, row[on_grid], column[on_grid]), amplitude[on_grid])
        return image

    def phi(self, sigma: float = SIGMA) -> Floats:
        """The imaging matrix (H W, H c W c): patch.ravel() = phi @ label.ravel() for targets at cell centres."""
        cells = psf(self.centres.reshape(-1, 2), self.patch, sigma)
        return cells.reshape(len(cells), -1).T

    def _to_px(self, cell: Ints) -> Floats:
        return np.asarray((cell - (self.division - 1) / 2) / self.division, np.float64)


def _line_derivatives(centre: Floats, size: int, sigma: Sigma) -> tuple[Floats, Floats, Floats]:
    """Line response at centre (...) px, and its derivatives by centre and by sigma; each (..., size)."""
    offset, sigma = np.arange(size + 1) - 0.5 - centre[..., None], _last_axis(sigma)
    density = np.exp(-0.5 * (offset / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    from scipy.special import erf

    response = np.diff(erf(offset / (np.sqrt(2) * sigma)), axis=-1) / 2
    return np.asarray(response), -np.diff(density, axis=-1), -np.diff(density * offset, axis=-1) / sigma


def _last_axis(sigma: Sigma) -> Floats:
    return np.asarray(sigma, np.float64)[..., None]


def _outer(row: Floats, column: Floats) -> Floats:
    return row[..., :, None] * column[..., None, :]
