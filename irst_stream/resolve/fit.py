"""Continuous, sub-pixel detections with covariances: the imaging model fitted to the images of a window.

Needs no network: the light's moments give the starts. What is known beforehand of amplitudes and speeds comes in as
priors from the settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.optics import SIGMA
from irst_stream.resolve.compiled import NOTHING, PARAMETERS, UNKNOWN, search
from irst_stream.resolve.found import NOTHING_FOUND, Found
from irst_stream.types import Floats

__all__ = ["FitSettings", "Fitter"]

DARK = 3.2  # px from the middle of the light: farther pixels are taken for dark
FEWEST_DARK = 20
Images = np.ndarray[tuple[int, ...], np.dtype[Any]]
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
        self._search(np.zeros((1, 5, 5)), np.zeros(1), 1.0, (0.0, self._ceiling), _NO_HINT)

    def __call__(self, patches: Images, times: Floats, hint: Found = NOTHING_FOUND) -> Found:
        """The targets at time 0 in one region's images (T, H, W) DN, taken at these times, in frames.

        hint: what something else found there, one more start for the fit.
        """
        known = np.isfinite(patches)
        images = np.ascontiguousarray(np.where(known, patches, 10 * UNKNOWN), np.float64)
        noise = self._noise(images, known)
        clipped = known.any() and images[known].min() == 0
        if not (images > 3 * noise).any():
            return NOTHING_FOUND
        start = np.column_stack([hint.xy, np.zeros_like(hint.xy), hint.amplitude])
        p, matrix, agreed, logs = self._search(images, times, noise, (0.0 if clipped else NOTHING, self._ceiling), start)
        cov = np.linalg.inv(matrix)
        at = PARAMETERS * np.arange(len(p))
        position = np.stack([cov[i : i + 2, i : i + 2] for i in at])
        share = np.exp(logs - logs.max())
        exists = float(share[len(p) :].sum() / share.sum())
        return Found(p[:, :2], position, p[:, 4], np.sqrt(np.diag(cov)[at + 4]), exists * agreed)

    def _search(
        self, images: Floats, times: Floats, noise: float, limits: tuple[float, float], hint: Floats
    ) -> tuple[Floats, ...]:
        s = self.settings
        priors, most, starts = self._priors, s.most_targets, s.starts
        found: tuple[Floats, ...] = search(images, times, s.sigma_px, noise, limits, priors, most, starts, hint)
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


_NO_HINT = np.zeros((0, PARAMETERS))


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
