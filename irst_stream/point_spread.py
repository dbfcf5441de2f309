"""Point-spread functions: round and elliptical Gaussians, and tables measured on a sensor's own point sources.

All are integrated over a pixel. A fit takes a PSF as a sum of few products of a column's and a row's profile: one for a
Gaussian along the axes, several, by singular values, for any other shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from irst_stream.optics import PATCH, SIGMA, line_response
from irst_stream.types import Floats

__all__ = ["PointSpread", "SeparableTerms", "gaussian", "gaussian_of", "tabulated"]

OVERSAMPLING = 8  # nodes a pixel in tables of rotated Gaussians
REACH_SIGMAS, REACH_PX = 6.0, 1.0  # half side of such a table
GAUSS_NODES = 8  # of the quadrature that integrates a rotated Gaussian over a pixel along y
TERM_TOLERANCE = 1e-3  # of the peak: terms that add less everywhere are left out
TERM_GROUP, MAX_TERMS = 4, 8  # compiled code adds terms by fours
SPARE_TERMS, POWER_STEPS = 4, 2  # of the subspace iteration that finds the terms
PIXEL_VARIANCE = 1 / 12  # px^2: by which integration over a pixel widens a PSF
CORE_START_PX, LEAST_CORE_PX, CORE_STEPS = 1.0, 0.1, 40  # of the search for a table's width
SAME_WIDTH = 1e-3  # relative: widths in settings have some three digits


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
    it; (0, 0) for a Gaussian along the frame's axes. measured: whether the table was given, and not drawn of a Gaussian.
    """

    sigma_x: float
    sigma_y: float
    angle: float
    table: Floats
    oversampling: int
    measured: bool = False

    @property
    def moments(self) -> Floats:
        """(3,): xx, xy, yy of its second moments, px^2, without the pixel's."""
        c, s, along, across = math.cos(self.angle), math.sin(self.angle), self.sigma_x**2, self.sigma_y**2
        return np.array([c * c * along + s * s * across, c * s * (along - across), s * s * along + c * c * across])

    @property
    def sigma(self) -> float:
        """The width: the geometric mean of the standard deviations, px."""
        return math.sqrt(self.sigma_x * self.sigma_y)

    @property
    def whole_sigmas(self) -> tuple[float, float]:
        """Standard deviations of all the light, px, the larger first; a table's wings count, unlike in its axes."""
        if not self.table.size:
            return max(self.sigma_x, self.sigma_y), min(self.sigma_x, self.sigma_y)
        places = (np.arange(len(self.table)) - len(self.table) // 2) / self.oversampling
        weight = np.maximum(self.table, 0) * (np.hypot(places[:, None], places) <= places[-1])
        weight = weight / weight.sum()
        xx, yy = (weight.sum(axis) @ places**2 - PIXEL_VARIANCE for axis in (0, 1))
        xy = places @ weight @ places
        short, long = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
        return math.sqrt(max(long, LEAST_CORE_PX**2)), math.sqrt(max(short, LEAST_CORE_PX**2))

    @cached_property
    def terms(self) -> SeparableTerms:
        """The table as a sum of products; no terms for a Gaussian along the axes."""
        if not self.table.size:
            return SeparableTerms(np.zeros((0, 1, 4)), np.zeros((0, 1, 4)), 0.0, 1)
        left, strength, right = _leading_terms(self.table)
        size = strength * np.abs(left).max(0) * np.abs(right).max(1)
        needed = int((size > TERM_TOLERANCE * self.table.max()).sum())
        kept = min(max(-(-needed // TERM_GROUP), 1) * TERM_GROUP, MAX_TERMS)
        rows, columns = left[:, :kept].T * np.sqrt(strength[:kept, None]), right[:kept] * np.sqrt(strength[:kept, None])
        return SeparableTerms(_pieces(columns), _pieces(rows), len(self.table) // 2 / self.oversampling, self.oversampling)

    def scaled(self, factor: float) -> PointSpread:
        """Return the same PSF with its widths times this factor."""
        if not self.table.size:
            return replace(self, sigma_x=factor * self.sigma_x, sigma_y=factor * self.sigma_y)
        if not self.measured:
            return gaussian(factor * self.sigma, self.sigma_x / self.sigma_y, math.degrees(self.angle))
        half = len(self.table) // 2
        nodes = np.arange(-half, half + 1) / factor + half
        table = map_coordinates(self.table, np.meshgrid(nodes, nodes, indexing="ij"), order=3, cval=0.0)
        return tabulated(table, self.oversampling)

    def with_width(self, sigma_px: float) -> PointSpread:
        """Return the same PSF of this width, px; itself where that is its own but for rounding."""
        ratio = sigma_px / self.sigma
        if abs(ratio - 1) < SAME_WIDTH:
            return self
        if self.measured:  # stretching a table stretches the pixel in it too
            ratio = math.sqrt((sigma_px**2 + PIXEL_VARIANCE) / (self.sigma**2 + PIXEL_VARIANCE))
        return self.scaled(ratio)

    def drawn(self) -> PointSpread:
        """Return the same PSF with a table, from which a fit takes it as a sum of products; itself if it has one."""
        if self.table.size:
            return self
        return replace(self, table=_gaussian_table(self.sigma_x, self.sigma_y, self.angle), oversampling=OVERSAMPLING)

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
    return PointSpread(long, short, angle, _gaussian_table(long, short, angle), OVERSAMPLING)


def gaussian_of(moments: Floats) -> PointSpread:
    """Return the Gaussian PSF of these second moments (3,): xx, xy, yy, px^2."""
    xx, xy, yy = moments
    (short, long), vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    short, angle = max(short, 1e-4), math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
    return gaussian((short * long) ** 0.25, math.sqrt(max(long, short) / short), angle)


def tabulated(table: Floats, oversampling: int) -> PointSpread:
    """Return the PSF of a table, see PointSpread, scaled so that its pixels add up to 1.

    Its axes are those of the Gaussian that is most like its core: faint wings, or the noise of a measured table far from
    its middle, would double plain second moments.
    """
    total = table.sum() / oversampling**2
    table = np.asarray(table / total, np.float64)
    places = (np.arange(len(table)) - len(table) // 2) / oversampling
    xx, xy, yy = _core_moments(table, places)
    (short, long), vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    angle = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
    sigma_x, sigma_y = (float(np.interp(variance, *_pixel_widening())) for variance in (long, short))
    return PointSpread(sigma_x, sigma_y, angle, table, oversampling, measured=True)


def _core_moments(table: Floats, places: Floats) -> tuple[float, float, float]:
    """Return the variances xx, xy, yy, px^2, of the Gaussian most like a table (N, N), whose nodes are at places (N,) px.

    Adaptive moments: a Gaussian of that shape weights the table, and is made twice as wide as what it sees, which is its
    own shape again where the table is a Gaussian.
    """
    x, y = places, places[:, None]
    xx, xy, yy = CORE_START_PX**2, 0.0, CORE_START_PX**2
    for _ in range(CORE_STEPS):
        determinant = xx * yy - xy * xy
        light = table * np.exp(-0.5 * (yy * x * x - 2 * xy * x * y + xx * y * y) / determinant)
        total = light.sum() / 2
        found = (light * x * x).sum() / total, (light * x * y).sum() / total, (light * y * y).sum() / total
        if not found[0] * found[2] - found[1] ** 2 > LEAST_CORE_PX**4 or min(found[0], found[2]) <= 0:
            break
        xx, xy, yy = found
    return xx, xy, yy


@cache
def _pixel_widening() -> tuple[Floats, Floats]:
    """Return core variances (N,), px^2, and the standard deviations (N,), px, of Gaussians that have them over a pixel."""
    from scipy.special import ndtr  # slow to import

    sigmas = np.geomspace(0.01, 8.0, 150)[:, None]
    x = np.linspace(0.0, 6.0, 601) * (sigmas + 0.5)
    light, variances = ndtr((0.5 - x) / sigmas) - ndtr((-0.5 - x) / sigmas), sigmas**2 + PIXEL_VARIANCE
    light[:, 0] /= 2  # the middle is in both halves
    for _ in range(CORE_STEPS):
        weight = light * np.exp(-0.5 * x * x / variances)
        variances = 2 * (weight * x * x).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    return variances[:, 0], sigmas[:, 0]


def _gaussian_table(first: float, second: float, angle: float) -> Floats:
    """Integrate a Gaussian of these standard deviations, px, its first axis at that angle, over a pixel at each node.

    Along x in closed form, as the Gaussian that remains at each y; along y by quadrature.
    """
    from scipy.special import ndtr  # slow to import

    half = math.ceil((REACH_SIGMAS * max(first, second) + REACH_PX) * OVERSAMPLING)
    c, s = math.cos(angle), math.sin(angle)
    xx, xy, yy = (c * first) ** 2 + (s * second) ** 2, c * s * (first**2 - second**2), (s * first) ** 2 + (c * second) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS_NODES)
    y = np.arange(-half, half + 1)[:, None] / OVERSAMPLING + nodes / 2
    edges = (np.arange(-half, half + 1 + OVERSAMPLING) - OVERSAMPLING / 2) / OVERSAMPLING
    below = ndtr((edges - (xy / yy * y)[..., None]) / math.sqrt(xx - xy**2 / yy))
    within = below[..., OVERSAMPLING:] - below[..., :-OVERSAMPLING]
    density = np.exp(-0.5 * y**2 / yy) / math.sqrt(2 * math.pi * yy) * weights / 2
    return np.asarray(np.einsum("ya,yax->yx", density, within))


def _leading_terms(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the largest singular values of a table (N, N) with their vectors: (N, K), (K,), (K, N), falling.

    By subspace iteration, whose matrices are so small that no BLAS spreads them over threads: on a busy machine these wait
    for each other, and a PSF that changes over the field needs many tables.
    """
    count = min(MAX_TERMS + SPARE_TERMS, len(table))
    space = np.random.default_rng(0).standard_normal((len(table), count))
    for _ in range(POWER_STEPS):
        space = np.linalg.qr(np.einsum("ij,jk->ik", table, space))[0]
        space = np.linalg.qr(np.einsum("ji,jk->ik", table, space))[0]
    space = np.linalg.qr(np.einsum("ij,jk->ik", table, space))[0]
    left, strength, right = np.linalg.svd(np.einsum("ik,ij->kj", space, table), full_matrices=False)
    return np.asarray(np.einsum("ik,kl->il", space, left)), strength, right


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
