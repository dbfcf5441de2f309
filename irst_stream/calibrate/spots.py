"""Isolated point-like spots of a sensor's frames: found, cut out, and fitted by elliptical Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from irst_stream.types import Floats, Ints

__all__ = ["RADIUS_PX", "Spots", "fit_spots", "isolated"]

RADIUS_PX = 6  # half side of a spot's patch
SIDE = 2 * RADIUS_PX + 1
ISOLATION_PX = 7.0  # along each axis: a spot with a neighbour this near is not used
MIN_SNR = 8.0  # of the peak over the patch's own rim
MIN_SIGMA_PX, MAX_SIGMA_PX = 0.25, 3.0
MAX_OFFSET_PX = 1.5  # of the fitted centre from where the spot was found
MAX_MISFIT = 0.25  # root mean square over the core, of the peak: more is not a point source
PIXEL_VARIANCE = 1 / 12  # px^2: by which integration over a pixel widens a Gaussian


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """K spots that look like point sources.

    patches (K, SIDE, SIDE) DN, their base level removed; xy (K, 2) px within the patch; place (K, 2) px in the frame; frame
    (K,): which frame; amplitude (K,) DN; axes (K, 3): xx, xy, yy of the PSF's second moments, px^2; rim (K,) DN: standard
    deviation of the patch's rim; misfit (K,): root mean square residual of a free Gaussian over its core, of the peak.
    rejected: how many candidates were refused, by reason.
    """

    patches: Floats
    xy: Floats
    place: Floats
    frame: Ints
    amplitude: Floats
    axes: Floats
    rim: Floats
    misfit: Floats
    rejected: dict[str, int]

    def __len__(self) -> int:
        return len(self.xy)

    def of(self, which: NDArray[np.generic]) -> Spots:
        """Select these spots."""
        names = (field.name for field in fields(self) if field.name != "rejected")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    @property
    def peak(self) -> Floats:
        """(K,) DN: the brightest pixel of each."""
        core = slice(RADIUS_PX - 1, RADIUS_PX + 2)
        return np.asarray(self.patches[:, core, core].max(axis=(1, 2)))


def isolated(xy: Floats) -> NDArray[np.bool_]:
    """Tell which places (N, 2) px have no other within ISOLATION_PX along both axes."""
    apart = np.abs(xy[:, None] - xy[None]).max(axis=2) + np.diag(np.full(len(xy), np.inf))
    return np.asarray(apart.min(axis=1, initial=np.inf) > ISOLATION_PX)


def fit_spots(
    candidates: Sequence[tuple[int, Floats, NDArray[np.float32]]], ceiling: float = np.inf, most: int = 600
) -> Spots:
    """Fit each candidate by a free elliptical Gaussian; keep those that look like a point source.

    candidates: frame number, place (2,) px and light (H, W) DN of each; ceiling: light from which a pixel may be saturated.
    """
    rejected = dict.fromkeys(("at the border", "faint", "saturated", "extended", "not alone"), 0)
    found: list[_Spot] = []
    for frame, place, light in candidates:
        if len(found) == most:
            break
        x, y = np.rint(place).astype(int)
        if not (RADIUS_PX <= y < light.shape[0] - RADIUS_PX and RADIUS_PX <= x < light.shape[1] - RADIUS_PX):
            rejected["at the border"] += 1
            continue
        corner = np.array([x, y]) - RADIUS_PX
        patch = light[corner[1] : corner[1] + SIDE, corner[0] : corner[0] + SIDE].astype(np.float64)
        fitted = _fit_spot(np.nan_to_num(patch), ceiling)
        if isinstance(fitted, str):
            rejected[fitted] += 1
        else:
            found.append(fitted._replace(frame=frame, place=fitted.xy + corner))
    if not found:
        none = np.zeros(0)
        return Spots(np.zeros((0, SIDE, SIDE)), np.zeros((0, 2)), np.zeros((0, 2)), none.astype(np.int64), none,
                     np.zeros((0, 3)), none, none, rejected)  # fmt: skip
    return Spots(**{name: np.array([getattr(spot, name) for spot in found]) for name in _Spot._fields}, rejected=rejected)


class _Spot(NamedTuple):
    """One spot; see Spots."""

    patches: Floats
    xy: Floats
    amplitude: float
    axes: Floats
    rim: float
    misfit: float
    place: Floats
    frame: int = -1


def _fit_spot(patch: Floats, ceiling: float) -> _Spot | str:
    """Fit a patch (SIDE, SIDE); return the spot, its place that in the patch, or why it is no point source."""
    distance = np.hypot(*(np.indices(patch.shape) - RADIUS_PX))
    rim = patch[distance > RADIUS_PX - 1]
    base, spread = float(np.median(rim)), float(np.median(np.abs(rim - np.median(rim))) * 1.4826) + 1e-9
    light = patch - base
    peak = float(light[distance <= 1.5].max())
    if peak < MIN_SNR * spread:
        return "faint"
    if patch.max() >= ceiling:
        return "saturated"
    if light[(distance > 3.5)].max() > max(0.35 * peak, 4 * spread):
        return "not alone"
    fitted = least_squares(
        _residuals, (RADIUS_PX, RADIUS_PX, 1.0, 0.0, 1.0, peak * 6, 0.0), args=(light, spread, peak), max_nfev=60
    ).x
    x, y, xx, xy, yy, amplitude, more = fitted
    offset = max(abs(x - RADIUS_PX), abs(y - RADIUS_PX))
    short, long = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
    residual = (light - _gaussian_image(fitted, patch.shape))[distance <= 3]
    misfit = float(np.sqrt(max(np.mean(residual**2) - spread**2, 0))) / peak
    wide = not MIN_SIGMA_PX**2 < short <= long < MAX_SIGMA_PX**2
    if offset > MAX_OFFSET_PX or wide or misfit > MAX_MISFIT or amplitude <= 0:
        return "extended"
    return _Spot(light - more, np.array([x, y]), float(amplitude), np.array([xx, xy, yy]), spread, misfit, np.array([x, y]))


def _residuals(p: Floats, light: Floats, spread: float, peak: float) -> Floats:
    return np.asarray((_gaussian_image(p, light.shape) - light).ravel() / np.hypot(spread, 0.02 * peak))


def _gaussian_image(p: Floats, shape: tuple[int, ...]) -> Floats:
    """An elliptical Gaussian widened by the pixel: p is x, y, xx, xy, yy of the PSF, amplitude, base level."""
    x, y, xx, xy, yy, amplitude, base = p
    xx, yy = max(xx, 0.01) + PIXEL_VARIANCE, max(yy, 0.01) + PIXEL_VARIANCE
    xy = np.clip(xy, -0.99 * np.sqrt(xx * yy), 0.99 * np.sqrt(xx * yy))
    determinant = xx * yy - xy * xy
    rows, columns = np.indices(shape)
    dx, dy = columns - x, rows - y
    square = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
    return np.asarray(base + amplitude / (2 * np.pi * np.sqrt(determinant)) * np.exp(-0.5 * square))
