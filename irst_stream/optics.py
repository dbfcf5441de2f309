"""The imaging model, in closed form.

A target is a point; the optics spread it as a 2-D Gaussian of standard deviation sigma px; a pixel integrates it over
its own square. So a pixel's response is separable: a difference of two error functions along columns times the same
along rows. x is the column, y the row, pixel centres are integers.

    response(u) = 1/2 [erf((u + 1/2) / (sqrt 2 sigma)) - erf((u - 1/2) / (sqrt 2 sigma))],   u = pixel - target

Everything is vectorised over leading axes: targets, frames, batches; sigma is one number, or one for each target.
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

Sigma = float | Floats  # px: one, or an array that broadcasts against the targets

SIGMA = 0.5  # px, of both published data sets
RAYLEIGH_PER_SIGMA = 1.9  # one Rayleigh unit is 1.9 sigma
PATCH = (11, 11)  # rows, columns of both published data sets


class Psf(NamedTuple):
    """A point's image of unit amplitude (..., H, W), and its derivatives by x, y and sigma, each (..., H, W)."""

    value: Floats
    by_x: Floats
    by_y: Floats
    by_sigma: Floats


def line_response(centre: Floats, size: int, sigma: Sigma) -> Floats:
    """(...) positions px to (..., size): the share of a unit 1-D Gaussian that each of `size` pixels integrates."""
    edges = (np.arange(size + 1) - 0.5 - np.asarray(centre, np.float64)[..., None]) / (np.sqrt(2) * _column(sigma))
    from scipy.special import erf  # loads slowly, and many who need the constants do not need it

    return np.asarray(np.diff(erf(edges), axis=-1) / 2)


def psf(xy: Floats, shape: tuple[int, int] = PATCH, sigma: Sigma = SIGMA) -> Floats:
    """(..., 2) positions px to (..., H, W): the image of a target of unit amplitude at each."""
    xy = np.asarray(xy, np.float64)
    rows, columns = shape
    return line_response(xy[..., 1], rows, sigma)[..., :, None] * line_response(xy[..., 0], columns, sigma)[..., None, :]


def psf_with_derivatives(xy: Floats, shape: tuple[int, int] = PATCH, sigma: Sigma = SIGMA) -> Psf:
    """(..., 2) positions px to the unit image and its derivatives by x, y and sigma, each (..., H, W)."""
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
    """(..., N, 2) positions px and (..., N) amplitudes DN to (..., H, W) DN: the sum of N targets' images.

    Targets of amplitude 0 add nothing, wherever they are; N may be 0. sigma_y: px, where the optics are not round.
    """
    xy = np.asarray(xy, np.float64)
    rows, columns = shape
    row = line_response(xy[..., 1], rows, sigma if sigma_y is None else sigma_y)
    column = line_response(xy[..., 0], columns, sigma) * np.asarray(amplitude, np.float64)[..., None]
    image: Floats = np.swapaxes(row, -1, -2) @ column
    return image


def peak_response(sigma: float = SIGMA) -> float:
    """The share of its amplitude that a target centred on a pixel gives to that pixel: 0.466 at sigma 0.5."""
    return float(line_response(np.zeros(()), 1, sigma)[0] ** 2)


@dataclass(frozen=True)
class FineGrid:
    """The fine grid of an H x W patch: `division` cells along each pixel; cell r is centred at (r - (c - 1) / 2) / c px.

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
        """(H c, W c, 2): x, y of every cell's centre, px."""
        rows, columns = self.shape
        return np.stack(np.meshgrid(self._to_px(np.arange(columns)), self._to_px(np.arange(rows))), axis=-1)

    def cells(self, xy: Floats) -> Ints:
        """(..., 2) positions px to (..., 2) int64 column, row of the cell each lies in; ties to even, as the labels."""
        return np.rint(np.asarray(xy) * self.division + (self.division - 1) / 2).astype(np.int64)

    def label(self, xy: Floats, amplitude: Floats) -> Floats:
        """(..., N, 2) px and (..., N) DN to the label image (..., H c, W c): each target's amplitude in its cell.

        Two targets in one cell add up. Targets off the grid, at NaN, and of amplitude 0, leave no mark.
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
        """(H W, H c W c): the imaging model on the grid; patch.ravel() = phi @ label.ravel() for centred targets."""
        cells = psf(self.centres.reshape(-1, 2), self.patch, sigma)
        return cells.reshape(len(cells), -1).T

    def _to_px(self, cell: Ints) -> Floats:
        return np.asarray((cell - (self.division - 1) / 2) / self.division, np.float64)


def _line_derivatives(centre: Floats, size: int, sigma: Sigma) -> tuple[Floats, Floats, Floats]:
    """(...) to the line response and its derivatives by centre and by sigma, each (..., size)."""
    offset, sigma = np.arange(size + 1) - 0.5 - centre[..., None], _column(sigma)
    density = np.exp(-0.5 * (offset / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    from scipy.special import erf

    response = np.diff(erf(offset / (np.sqrt(2) * sigma)), axis=-1) / 2
    return np.asarray(response), -np.diff(density, axis=-1), -np.diff(density * offset, axis=-1) / sigma


def _column(sigma: Sigma) -> Floats:
    return np.asarray(sigma, np.float64)[..., None]


def _outer(row: Floats, column: Floats) -> Floats:
    return row[..., :, None] * column[..., None, :]
