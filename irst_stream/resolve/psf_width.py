"""How wide one isolated light is, were it a single target, and whether that explains it as well as the targets found do.

A PSF wider than configured splits a single target into several, which imitate its width. The residuals tell such a light
from a real group: few groups are as round as the PSF, so that one wider PSF leaves more of them than the targets do, by
more than their larger number of parameters explains.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.point_spread import PointSpread
from irst_stream.psf_field import PsfField
from irst_stream.types import Floats

__all__ = ["CORE_PX", "ScaledPsf", "WidthSample", "measure_width"]

WIDTH_STEP = 0.08  # of the logarithm of the width, between the PSFs that are compared
MAX_WIDTH = 0.3  # of its logarithm: an extended target or two says nothing of the PSF
CORE_PX = 3.0  # from the light's centre: pixels within count
STEPS = 3
SHIFT_PX = 0.01  # of a target, for its derivatives
RIDGE = 1e-6  # of the diagonal: targets almost at one place are not told apart
SIDES = np.array([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, -1.0)])  # to which a light is stretched, and their opposites
STRETCH_PX = 0.25  # between images of whose differences a stretched one is made
SINGLE_PARAMETERS = 5  # of one target and the PSF's width
MIN_SPARE_PIXELS = 8


class WidthSample(NamedTuple):
    """One light's width.

    change: logarithm of its width over the PSF's; level, slant: logarithm of how much longer than wide it is than the PSF,
    along x and along the diagonal; change_sd and stretch_sd: their standard deviations; snr: of the light; excess: misfit
    that one PSF of that width leaves beyond what the found targets leave, in units of the noise's variance, 0 for a single
    one; spare: its expectation if the light is one target's: how many parameters more the found targets have.
    """

    change: float
    level: float
    slant: float
    change_sd: float
    stretch_sd: float
    snr: float
    excess: float
    spare: int


class ScaledPsf(NamedTuple):
    """A sensor's PSF, and the same wider and narrower by WIDTH_STEP."""

    psf: PsfField
    wider: PsfField
    narrower: PsfField

    @classmethod
    def of(cls, psf: PsfField) -> ScaledPsf:
        """Scale a PSF."""
        return cls(psf, psf.scaled(math.exp(WIDTH_STEP)), psf.scaled(math.exp(-WIDTH_STEP)))


class _Light(NamedTuple):
    """Weighted pixels of one light: data and weight (M,) of those used (H, W); the patch's first pixel, corner (2,) px."""

    data: Floats
    weight: Floats
    used: NDArray[np.bool_]
    corner: Floats

    def images(self, psf: PointSpread, xy: Floats) -> Floats:
        """The weighted images (..., M) of unit targets at xy (..., 2) px of the frame."""
        return np.asarray(self.weight * psf.images(xy - self.corner, self.used.shape)[..., self.used])


def measure_width(
    psf: ScaledPsf, image: Floats, variance: Floats, corner: Floats, xy: Floats, amplitude: Floats
) -> WidthSample | None:
    """Measure the width of a light in which K targets were found; None if it cannot be measured or is far off.

    image (H, W) DN: a patch of the frame, whose first pixel is corner (2,) px; variance (H, W) DN^2: of its noise, up to a
    factor, which the residuals tell; xy (K, 2) px of the frame and amplitude (K,) DN of the targets.
    """
    total = float(amplitude.sum())
    middle = amplitude @ xy / total
    rows, columns = np.indices(image.shape)
    used = (np.hypot(columns + corner[0] - middle[0], rows + corner[1] - middle[1]) <= CORE_PX) & np.isfinite(image)
    parameters = 3 * len(xy) + 1
    if used.sum() < max(parameters, SINGLE_PARAMETERS) + MIN_SPARE_PIXELS:
        return None
    weight = 1 / np.sqrt(variance[used])
    light = _Light(weight * image[used], weight, used, corner)
    single = _fit_single(psf, light, middle, total)
    if single is None:
        return None
    values, precisions, left = single
    best = left if len(xy) == 1 else _misfit_of_targets(psf.psf.at(middle), light, xy, amplitude)
    square = float(np.square(total * light.images(psf.psf.at(middle), middle)).sum())
    noise = best / (used.sum() - parameters - 2)  # variance over the given one; 2 less: so the mean of excess is `spare`
    noise = max(noise, 1e-12 * square)  # of noiseless images
    excess, spare = max(left - best, 0.0) / noise, max(parameters - SINGLE_PARAMETERS, 0)
    width_sd, stretch_sd = np.sqrt(noise / precisions).tolist()
    return WidthSample(*values, width_sd, stretch_sd, math.sqrt(square / noise), excess, spare)


def _fit_single(
    psfs: ScaledPsf, light: _Light, xy: Floats, amplitude: float
) -> tuple[tuple[float, float, float], Floats, float] | None:
    """Fit one target, the PSF's width and a constant; None if it fails.

    xy (2,) px of the frame and amplitude, DN: where the fit starts. Returns the first three fields of WidthSample, the
    precisions (2,) of the width and of the stretches, and the misfit without a stretch.
    """
    psf, wider, narrower = (kind.at(xy) for kind in psfs)
    change = 0.0
    for k in range(STEPS):
        here, by_x, by_y = light.images(psf, xy + SHIFT_PX * np.eye(3, 2, -1))
        if k < STEPS - 1:  # the last step moves the target by too little to change how its image widens
            wide, narrow = light.images(wider, xy), light.images(narrower, xy)
            slope, bend = (wide - narrow) / (2 * WIDTH_STEP), (wide + narrow - 2 * here) / WIDTH_STEP**2
        shape = here + change * slope + change**2 / 2 * bend
        moves = amplitude / SHIFT_PX * (by_x - here), amplitude / SHIFT_PX * (by_y - here)
        matrix = np.stack([*moves, amplitude * (slope + change * bend), shape, light.weight], -1)
        data = light.data - amplitude * shape
        step, left, variances = _solve(matrix, data)
        last, xy = xy, xy + np.clip(step[:2], -0.5, 0.5)
        change, amplitude = change + float(step[2]), amplitude + float(step[3])
        if not (amplitude > 0 and abs(change) < 2 * MAX_WIDTH):
            return None
    if abs(change) >= MAX_WIDTH:
        return None
    stretches = amplitude * psf.sigma**2 * _stretches(psf, light, last)
    stretched, _, spread = _solve(np.concatenate([matrix, stretches.T], axis=1), data)
    level, slant = stretched[-2:].tolist()
    return (change, level, slant), 1 / np.array([variances[2], spread[-2:].mean()]), left


def _stretches(psf: PointSpread, light: _Light, xy: Floats) -> Floats:
    """How a target at xy (2,) px changes (2, M) as it is stretched along x and squeezed along y, and so by the diagonals.

    In units of the PSF's variance times the logarithm of the stretch.
    """
    sides = light.images(psf, xy + STRETCH_PX * np.concatenate([SIDES, -SIDES]))
    right, down, diagonal, other = sides[:4] + sides[4:]
    return np.stack([right - down, (diagonal - other) / 2]) / STRETCH_PX**2


def _misfit_of_targets(psf: PointSpread, light: _Light, xy: Floats, amplitude: Floats) -> float:
    """Misfit that the targets at xy (K, 2) px of the frame leave once places, amplitudes and a constant suit the image."""
    here, by_x, by_y = light.images(psf, xy + SHIFT_PX * np.eye(3, 2, -1)[:, None])
    slopes = amplitude[:, None] / SHIFT_PX * (by_x - here), amplitude[:, None] / SHIFT_PX * (by_y - here)
    return _solve(np.concatenate([*slopes, here, light.weight[None]]).T, light.data - amplitude @ here)[1]


def _solve(matrix: Floats, data: Floats) -> tuple[Floats, float, Floats]:
    """Least squares of data (M,) by a matrix (M, P): the step (P,), the misfit, the variances (P,) at unit noise."""
    normal = matrix.T @ matrix
    normal[np.diag_indices(len(normal))] *= 1 + RIDGE
    inverse = np.linalg.inv(normal)
    step = inverse @ (matrix.T @ data)
    return step, float(np.square(data - matrix @ step).sum()), np.diag(inverse)
