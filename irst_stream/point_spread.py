"""Point-spread functions: round and elliptical Gaussians, and tables measured on a sensor's own point sources.

All are integrated over a pixel. A fit takes a PSF as a sum of few products of a column's and a row's profile: one for a
Gaussian along the axes, several, by singular values, for any other shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from irst_stream.errors import FormatError
from irst_stream.optics import PATCH, SIGMA, line_response
from irst_stream.types import Floats

__all__ = ["PointSpread", "SeparableTerms", "gaussian", "read_psf", "tabulated", "write_psf"]

OVERSAMPLING = 8  # nodes a pixel in tables of rotated Gaussians
REACH_SIGMAS, REACH_PX = 6.0, 1.0  # half side of such a table
GAUSS_NODES = 8  # a side: of the quadrature that integrates a rotated Gaussian over a pixel
TERM_TOLERANCE = 1e-3  # of the peak: terms that add less everywhere are left out
MAX_TERMS = 6


class SeparableTerms(NamedTuple):
    """A PSF as a sum of R products: cubic pieces columns and rows (R, N, 4), constant term first, from -reach px on.

    Each piece is 1 / oversampling px long.
    """

    columns: Floats
    rows: Floats
    reach: float
    oversampling: int


@dataclass(frozen=True, eq=False)
class PointSpread:
    """A PSF integrated over a pixel.

    sigma_x, sigma_y: standard deviations along its axes, px; angle: of its first axis, from x towards y, rad. table
    (2 M + 1, 2 M + 1): the light of a unit target in a pixel whose centre lies (row - M, column - M) / oversampling px from
    it; (0, 0) for a Gaussian along the frame's axes.
    """

    sigma_x: float
    sigma_y: float
    angle: float
    table: Floats
    oversampling: int

    @property
    def sigma(self) -> float:
        """The width: the geometric mean of the standard deviations, px."""
        return math.sqrt(self.sigma_x * self.sigma_y)

    @cached_property
    def terms(self) -> SeparableTerms:
        """The table as a sum of products; no terms for a Gaussian along the axes."""
        if not self.table.size:
            return SeparableTerms(np.zeros((0, 1, 4)), np.zeros((0, 1, 4)), 0.0, 1)
        left, strength, right = np.linalg.svd(self.table)
        size = strength * np.abs(left).max(0) * np.abs(right).max(1)
        kept = min(int((size > TERM_TOLERANCE * self.table.max()).sum()), MAX_TERMS)
        rows, columns = left[:, :kept].T * np.sqrt(strength[:kept, None]), right[:kept] * np.sqrt(strength[:kept, None])
        return SeparableTerms(_pieces(columns), _pieces(rows), len(self.table) // 2 / self.oversampling, self.oversampling)

    def scaled(self, factor: float) -> PointSpread:
        """Return the same PSF with its widths times this factor."""
        if not self.table.size:
            return replace(self, sigma_x=factor * self.sigma_x, sigma_y=factor * self.sigma_y)
        half = len(self.table) // 2
        nodes = np.arange(-half, half + 1) / factor + half
        table = map_coordinates(self.table, np.meshgrid(nodes, nodes, indexing="ij"), order=3, cval=0.0)
        return tabulated(table, self.oversampling)

    def images(self, xy: Floats, shape: tuple[int, int] = PATCH) -> Floats:
        """Compute the images (..., H, W) of unit-amplitude targets at positions (..., 2) px."""
        xy = np.asarray(xy, np.float64)
        if not self.table.size:
            row, column = (
                line_response(xy[..., 1], shape[0], self.sigma_y),
                line_response(xy[..., 0], shape[1], self.sigma_x),
            )
            return np.asarray(row[..., :, None] * column[..., None, :])
        terms = self.terms
        rows = _profiles(xy[..., 1], shape[0], terms.rows, terms)
        columns = _profiles(xy[..., 0], shape[1], terms.columns, terms)
        return np.asarray(np.einsum("r...h,r...w->...hw", rows, columns))

    def render(self, xy: Floats, amplitude: Floats, shape: tuple[int, int] = PATCH) -> Floats:
        """Render the image (..., H, W) DN of N targets at positions (..., N, 2) px with amplitudes (..., N) DN."""
        return np.asarray(np.einsum("...nhw,...n->...hw", self.images(xy, shape), np.asarray(amplitude, np.float64)))


def gaussian(sigma_px: float = SIGMA, axis_ratio: float = 1.0, angle_deg: float = 0.0) -> PointSpread:
    """Return a Gaussian PSF.

    sigma_px: geometric mean of its standard deviations; axis_ratio: of the longer to the shorter one; angle_deg: of the
    longer axis, from x towards y.
    """
    stretch, angle = math.sqrt(axis_ratio), math.radians(angle_deg) % math.pi
    long, short = sigma_px * stretch, sigma_px / stretch
    upright = abs(angle - math.pi / 2) < 1e-6
    if axis_ratio == 1.0 or angle < 1e-6 or math.pi - angle < 1e-6 or upright:
        along, across = (short, long) if upright and axis_ratio != 1.0 else (long, short)
        return PointSpread(along, across, 0.0, np.zeros((0, 0)), 1)
    half = math.ceil((REACH_SIGMAS * long + REACH_PX) * OVERSAMPLING)
    return PointSpread(long, short, angle, _rotated_gaussian(long, short, angle, half), OVERSAMPLING)


def tabulated(table: Floats, oversampling: int) -> PointSpread:
    """Return the PSF of a table, see PointSpread, scaled so that its pixels add up to 1; its axes: from its moments."""
    total = table.sum() / oversampling**2
    table = np.asarray(table / total, np.float64)
    places = (np.arange(len(table)) - len(table) // 2) / oversampling
    weight = np.maximum(table, 0) * (np.hypot(places[:, None], places) <= places[-1])
    weight = weight / weight.sum()
    xx, yy = (weight.sum(axis) @ places**2 - 1 / 12 for axis in (0, 1))
    xy = places @ weight @ places
    (short, long), vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    angle = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
    return PointSpread(math.sqrt(max(long, 1e-4)), math.sqrt(max(short, 1e-4)), angle, table, oversampling)


def read_psf(path: Path) -> PointSpread:
    """Read a PSF that write_psf wrote; raise a FormatError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            table, oversampling, axes = np.asarray(file["table"], np.float64), int(file["oversampling"]), file["axes"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise FormatError(f"{path}: not a PSF that irst-stream calibrate wrote ({error})") from error
    square = table.ndim == 2 and table.shape[0] == table.shape[1] and table.shape[0] % 2 == 1 and len(table) > 2
    if not square or oversampling < 1 or not np.isfinite(table).all() or not table.max() > 0 or axes.shape != (3,):
        raise FormatError(f"{path}: expected a square table with an odd side, got {table.shape}")
    return PointSpread(float(axes[0]), float(axes[1]), float(axes[2]), table, oversampling)


def write_psf(path: Path, psf: PointSpread) -> None:
    """Write a PSF with a table as a .npz file."""
    with path.open("wb") as file:
        axes = np.array([psf.sigma_x, psf.sigma_y, psf.angle])
        np.savez_compressed(file, table=psf.table.astype(np.float32), oversampling=np.int64(psf.oversampling), axes=axes)


def _rotated_gaussian(long: float, short: float, angle: float, half: int) -> Floats:
    """Integrate a Gaussian, its first axis at that angle, over a pixel at each node of a table of side 2 half + 1."""
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS_NODES)
    offsets = (np.arange(-half, half + 1)[:, None] / OVERSAMPLING + nodes / 2).ravel()
    c, s = math.cos(angle), math.sin(angle)
    along = (c * offsets + s * offsets[:, None]) / long
    across = (c * offsets[:, None] - s * offsets) / short
    density = np.exp(-0.5 * (along**2 + across**2)) / (2 * math.pi * long * short)
    side = 2 * half + 1
    parts = density.reshape(side, GAUSS_NODES, side, GAUSS_NODES)
    return np.asarray(np.einsum("iajb,a,b->ij", parts, weights / 2, weights / 2))


def _pieces(profiles: Floats) -> Floats:
    """Cubic spline pieces (R, N - 1, 4), constant term first, through profiles (R, N) at unit steps."""
    from scipy.interpolate import CubicSpline  # slow to import

    spline = CubicSpline(np.arange(profiles.shape[1]), profiles, axis=1)
    return np.ascontiguousarray(np.moveaxis(spline.c[::-1], (0, 1, 2), (2, 1, 0)))


def _profiles(centre: Floats, size: int, pieces: Floats, terms: SeparableTerms) -> Floats:
    """Evaluate the profiles (R, ..., size) of targets centred at (...) px over pixels 0 to size - 1."""
    at = (np.arange(size) - centre[..., None] + terms.reach) * terms.oversampling
    k = np.clip(np.floor(at).astype(np.int64), 0, pieces.shape[1] - 1)
    u, c = at - k, pieces[:, k]
    inside = (at >= 0) & (at < pieces.shape[1])
    return np.asarray(np.where(inside, c[..., 0] + u * (c[..., 1] + u * (c[..., 2] + u * c[..., 3])), 0.0))
