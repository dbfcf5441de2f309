"""Continuous, sub-pixel detections with covariances: the imaging model fitted to the images of a window.

Needs no network: the light's moments give the starts. What is known beforehand of amplitudes and speeds comes in as
priors from the settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import SIGMA
from irst_stream.resolve.compiled import NOTHING, PARAMETERS, UNKNOWN, search
from irst_stream.types import Detections, Floats, Window

__all__ = ["FitSettings", "Fitter"]

CLOSE = 0.15  # px: a detection's score estimates the probability that a target is this close
DARK = 3.2  # px from the middle of the light: farther pixels are taken for dark
FEWEST_DARK = 20
WHOLE = 1 / math.sqrt(12)  # DN: what rounding to whole numbers adds to the noise


@dataclass(frozen=True)
class FitSettings:
    """What is known beforehand, and how hard to look."""

    sigma_px: float = SIGMA
    amplitude_dn: float = 235.0  # mean and standard deviation of a target's amplitude
    amplitude_sd_dn: float = 8.7
    speed_px: float = 0.05  # px a frame: standard deviation of the group's common velocity, along each axis
    own_speed_px: float = 0.001  # px a frame: of each target's velocity about that
    most_targets: int = 5
    starts: int = 2  # arrangements from which the fit of each number of targets begins
    noise_dn: float | None = None  # standard deviation of a pixel; None: measured on the dark pixels of each window
    least_noise_dn: float = 0.3  # what the model itself is not better than


class Fitter:
    """Fits windows one by one; compiles, or loads what was compiled before, when it is made."""

    def __init__(self, settings: FitSettings, full_scale: float | None = None) -> None:
        """full_scale: DN at which pixels saturate, None where they never do."""
        _check(settings)
        self.settings = settings
        self._ceiling = -NOTHING if full_scale is None else float(full_scale)
        one = 1.0
        self._priors = (
            settings.amplitude_dn,
            one / settings.amplitude_sd_dn**2,
            one / settings.speed_px**2,
            one / settings.own_speed_px**2,
        )
        self._search(np.zeros((1, 5, 5)), np.zeros(1), 1.0, (0.0, self._ceiling))

    def __call__(self, window: Window) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        found = [self._region(patches, window.times) for patches in window.patches]
        rows = [np.concatenate(column) for column in zip(*found, strict=True)] if found else _NO_ROWS
        xy, cov, amplitude, amplitude_sd, score = rows
        region = np.repeat(np.arange(len(found)), [len(columns[0]) for columns in found])
        return Detections(window.stamp, xy + window.corners[region], cov, amplitude, amplitude_sd, score, region)

    def _region(self, patches: Floats, times: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """xy, cov, amplitude, amplitude_sd, score of the targets in one region's images (T, H, W)."""
        known = np.isfinite(patches)
        images = np.ascontiguousarray(np.where(known, patches, 10 * UNKNOWN), np.float64)
        noise = self._noise(images, known)
        clipped = known.any() and images[known].min() == 0
        if not (images > 3 * noise).any():
            return _NO_ROWS
        p, matrix, agreed, logs = self._search(images, times, noise, (0.0 if clipped else NOTHING, self._ceiling))
        cov = np.linalg.inv(matrix)
        at = PARAMETERS * np.arange(len(p))
        position = np.stack([cov[i : i + 2, i : i + 2] for i in at])
        share = np.exp(logs - logs.max())
        exists = float(share[len(p) :].sum() / share.sum())
        spread = (position[:, 0, 0] + position[:, 1, 1]) / 2
        score = exists * agreed * -np.expm1(-(CLOSE**2) / (2 * spread))
        return p[:, :2], position, p[:, 4], np.sqrt(np.diag(cov)[at + 4]), score

    def _search(self, images: Floats, times: Floats, noise: float, limits: tuple[float, float]) -> tuple[Floats, ...]:
        s = self.settings
        found: tuple[Floats, ...] = search(images, times, s.sigma_px, noise, limits, self._priors, s.most_targets, s.starts)
        return found

    def _noise(self, images: Floats, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
        """The settings' noise, or that of the pixels far from the light; of a sky clipped at 0, half of it is unseen."""
        given = self.settings.noise_dn
        if given is not None:
            return max(given, self.settings.least_noise_dn)
        light = np.where(known, np.maximum(images, 0), 0).sum(axis=0)
        rows, columns = np.indices(light.shape)
        strength = np.maximum(light - np.median(light), 0) ** 2
        total = max(float(strength.sum()), 1e-12)
        middle = (float((strength * columns).sum()) / total, float((strength * rows).sum()) / total)
        far = np.hypot(columns - middle[0], rows - middle[1]) > DARK
        dark = images[:, far][known[:, far]]
        if len(dark) < FEWEST_DARK:
            return self.settings.least_noise_dn
        variance = 2 * np.mean(dark**2) if dark.min() >= 0 else np.var(dark)
        return max(math.sqrt(float(variance)), WHOLE, self.settings.least_noise_dn)


_NO_ROWS = (np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), np.zeros(0))


def _check(settings: FitSettings) -> None:
    """Raises one UsageError that names the first setting that makes no fit."""
    for name in ("sigma_px", "amplitude_dn", "amplitude_sd_dn", "speed_px", "own_speed_px", "least_noise_dn"):
        value = getattr(settings, name)
        if not 0 < value < 1e9:
            raise UsageError(f"fit.{name}: expected a number above 0, got {value}")
    if not 1 <= settings.most_targets <= 8:
        raise UsageError(f"fit.most_targets: expected 1 to 8, got {settings.most_targets}")
    if not 1 <= settings.starts <= 50:
        raise UsageError(f"fit.starts: expected 1 to 50, got {settings.starts}")
    if settings.noise_dn is not None and not 0 <= settings.noise_dn < 1e9:
        raise UsageError(f"fit.noise_dn: expected 0 or more, got {settings.noise_dn}")
