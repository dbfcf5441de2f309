"""Continuous, sub-pixel detections with covariances: the imaging model fitted to the images of a window.

Needs no network: the light's moments give the starts. What is known beforehand of amplitudes and speeds comes in as
priors from the settings.
"""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.optics import SIGMA
from irst_stream.resolve import compiled
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

    def __init__(self, settings: FitSettings, *, compile_here: bool = False) -> None:
        _check(settings)
        self.settings = settings
        one = 1.0
        self._priors = (
            settings.amplitude_dn,
            one / settings.amplitude_sd_dn**2,
            one / settings.speed_px**2,
            one / settings.own_speed_px**2,
        )
        if not compile_here:
            _compile_elsewhere()
        self._search(np.zeros((1, 5, 5)), np.zeros(1), 1.0, (0.0, -NOTHING), _NO_HINT)

    def __call__(
        self,
        patches: Images,
        times: Floats,
        hint: Found = NOTHING_FOUND,
        noise_dn: float = math.nan,
        ceiling: float = math.inf,
    ) -> Found:
        """The targets at time 0 in one region's images (T, H, W) DN, taken at these times, in frames.

        hint: what something else found there, one more start for the fit; noise_dn: a pixel's standard deviation, NaN where
        it is to be measured on the dark pixels; ceiling: DN from which pixels are saturated.
        """
        known = np.isfinite(patches)
        images = np.ascontiguousarray(np.where(known, patches, 10 * UNKNOWN), np.float64)
        noise = self._noise(images, known, noise_dn)
        clipped = known.any() and images[known].min() == 0
        if not (images > 3 * noise).any():
            return NOTHING_FOUND
        start = np.column_stack([hint.xy, np.zeros_like(hint.xy), hint.amplitude])
        limits = (0.0 if clipped else NOTHING, min(ceiling, -NOTHING))
        p, matrix, agreed, logs = self._search(images, times, noise, limits, start)
        at = PARAMETERS * np.arange(len(p))
        for axis, side in enumerate(patches.shape[:0:-1]):
            matrix[at + axis, at + axis] += 12 / side**2  # no target is less certain to be anywhere than in its patch
        cov = np.linalg.inv(matrix)
        position = np.stack([cov[i : i + 2, i : i + 2] for i in at])
        position = (position + position.swapaxes(1, 2)) / 2
        share = np.exp(logs - logs.max())
        exists = float(share[len(p) :].sum() / share.sum())
        found = Found(p[:, :2], position, p[:, 4], np.sqrt(np.diag(cov)[at + 4]), exists * agreed)
        inside = ((p[:, :2] > -0.5) & (p[:, :2] < np.array(patches.shape[:0:-1]) - 0.5)).all(axis=1)
        return Found(*(column[inside & (p[:, 4] > 0)] for column in found))

    def _search(
        self, images: Floats, times: Floats, noise: float, limits: tuple[float, float], hint: Floats
    ) -> tuple[Floats, ...]:
        s, times = self.settings, times.copy()  # a view that is read-only is another type, compiled by itself
        priors, most, starts = self._priors, s.most_targets, s.starts
        found: tuple[Floats, ...] = search(images, times, s.sigma_px, noise, limits, priors, most, starts, hint)
        return found

    def _noise(self, images: Floats, known: NDArray[np.bool_], measured: float) -> float:
        """The settings' noise, or what was measured before, or that of the pixels far from the light.

        Of a sky clipped at 0, half of the noise is unseen.
        """
        given = measured if self.settings.noise_dn is None else self.settings.noise_dn
        if not math.isnan(given):
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


def _compile_elsewhere() -> None:
    """Has the search compiled by a process of its own where nothing is kept of it yet.

    What is compiled rounds the last bits otherwise in the process that compiles it than where it is loaded, as every later
    process does. So that all give the same bytes, all load it.
    """
    kept, source = search.stats.cache_path, Path(compiled.__file__)
    if kept is None or any(f.stat().st_mtime > source.stat().st_mtime for f in Path(kept).glob("compiled.search-*.nbi")):
        return
    code = "from irst_stream.resolve.fit import *; Fitter(FitSettings(), compile_here=True)"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)


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
