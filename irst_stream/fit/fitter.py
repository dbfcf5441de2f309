"""Continuous, sub-pixel detections with covariances: the imaging model fitted to the images of a window.

Needs no network: the light's moments give the starts. What is known beforehand of amplitudes and speeds comes in as
priors from the settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.compiled import NOTHING, PARAMETERS, UNKNOWN, Priors, factors, search_each
from irst_stream.fit.formation import ways_to_sit
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.search import CpuSearch, Fallback, FitPriors, FitResults, RegionBatch, Search, nothing_found
from irst_stream.fit.settings import FitSettings, check_fit
from irst_stream.fit.warm_start import WarmStart
from irst_stream.system.numba_cache import compile_elsewhere
from irst_stream.types import Floats, Ints

__all__ = ["Fitter", "priors_of"]

DARK = 3.2  # px from the middle of the light: farther pixels are taken for dark
FEWEST_DARK = 20
STRANGE = 2.5  # strain of a fit: beyond that its light is rather something else's than its targets'
CHANCE = 1.7  # the strain that noise alone may leave
WORST = 1e6  # the strain beyond which nothing is known of places anyhow
FROM_SCRATCH = 3  # times the work of a fit that goes on
Images = np.ndarray[tuple[int, ...], np.dtype[Any]]
WHOLE = 1 / math.sqrt(12)  # DN: what rounding to whole numbers adds to the noise


def priors_of(settings: FitSettings) -> FitPriors:
    """What a search is told by the settings."""
    deviations = settings.amplitude_sd_dn, settings.speed_px, settings.own_speed_px
    amplitude, common, own = (1.0 / deviation**2 for deviation in deviations)
    least, greatest = settings.spread_px
    odds = math.log(settings.extra_target_odds)
    priors = Priors(
        float(settings.amplitude_dn),
        amplitude,
        common,
        own,
        float(least),
        float(greatest),
        float(settings.min_spacing_px),
        odds,
    )
    formation = ways_to_sit(settings.formation, settings.most_targets)
    shot, doubt = float(settings.shot_dn), float(settings.sigma_doubt)
    return FitPriors(settings.sigma_px, shot, priors, formation, settings.starts, settings.most_targets, doubt)


class Fitter:
    """Fits the regions of windows; compiles, or loads what was compiled before, when it is made."""

    def __init__(self, settings: FitSettings, threads: int = 1, device: Search | None = None) -> None:
        """threads: of the CPU, 0 for all; device: what searches in their place, until it fails."""
        check_fit(settings)
        self.settings = settings
        compile_elsewhere("the fit", search_each, warm_up)
        cpu = CpuSearch(priors_of(settings), threads)
        self._search: Search = cpu
        self(np.ones((1, 5, 5)), np.zeros(1), noise_dn=0.1)
        if device is not None:
            self._search = Fallback(device, cpu)

    @property
    def alarm(self) -> str:
        """Why the device searches no longer, in one line; "" where it does, or where there is none."""
        return self._search.alarm if isinstance(self._search, Fallback) else ""

    def __call__(
        self,
        patches: Images,
        times: Floats,
        hint: RegionTargets = NO_TARGETS,
        noise_dn: float = math.nan,
        ceiling: float = math.inf,
    ) -> RegionTargets:
        """The targets at time 0 in one region's images (T, H, W) DN, taken at these times, in frames, by a sensor at rest.

        hint: what something else found there, one more start for the fit; noise_dn: a pixel's standard deviation, NaN where
        it is to be measured on the dark pixels; ceiling: DN from which pixels are saturated.
        """
        still = np.zeros((1, len(times), 2))
        patch = Patches(patches[None], times, still, np.array([noise_dn]), np.array([ceiling]))
        return self.follow(patch, [hint], self.nothing(np.zeros(1, np.int64)))[0][0]

    def levels(self, patches: Images, measured: Floats) -> Floats:
        """(N,) DN: a pixel's noise in N regions (N, T, H, W), as the fit takes it; measured (N,): DN, NaN where unknown."""
        known = np.isfinite(patches)
        return self._levels(np.where(known, patches, 10 * UNKNOWN).astype(np.float64), known, measured)

    def nothing(self, age: Ints) -> WarmStart:
        """Nothing held, of N regions of that age (N,)."""
        most = self.settings.most_targets
        return WarmStart(
            np.zeros((len(age), most + 1, most, PARAMETERS)),
            np.zeros(len(age), np.int64),
            age,
            np.zeros((len(age), most + 1)),
        )

    def follow(
        self, patches: Patches, hints: Sequence[RegionTargets], held: WarmStart
    ) -> tuple[list[RegionTargets], WarmStart]:
        """The targets of N regions, going on from what is held of their last window; what to hold of this one.

        Every so many windows, as the settings say, a region is fitted from scratch, with what is held as one more start.
        """
        known = np.isfinite(patches.images)
        images = np.where(known, patches.images, 10 * UNKNOWN).astype(np.float64)  # float32 overflows
        levels = self._levels(images, known, patches.noise)
        lit = np.flatnonzero((images > 3 * levels[:, None, None, None]).any(axis=(1, 2, 3)))
        dark = np.where(known, patches.images, np.inf).min(axis=(1, 2, 3), initial=np.inf) == 0
        limits = np.stack([np.where(dark, 0.0, NOTHING), np.minimum(patches.ceiling, -NOTHING)], axis=1)
        starts, hinted, age = self._starts(hints, held), np.array([len(hint.xy) for hint in hints], np.int64), held.age + 1
        # The mean of the frames is no better than one of them for what stays.
        stays = (images.shape[1] - 1) * self.settings.fixed_dn**2
        levels = np.sqrt(levels**2 + stays)
        anew = age >= self.settings.refit_every
        again = anew & (hinted == 0)
        hinted[again] = held.best[again]
        begin = np.where(anew, 0, held.best)
        solutions = np.where(anew[:, None, None, None], 0, held.solutions)
        answers = nothing_found(len(images), self.settings.most_targets)
        effort = np.where(begin == 0, FROM_SCRATCH * np.maximum(hinted, 1), hinted + begin)
        hardest_first = lit[np.argsort(-effort[lit], kind="stable")]
        times, shifts = np.array(patches.times, np.float64), np.array(patches.shifts, np.float64)
        regions = RegionBatch(images, times, shifts, levels, limits, starts, hinted, solutions, begin, held.odds)
        self._search(hardest_first, regions, answers)
        then = WarmStart(answers.solutions, answers.number, np.where(anew, 0, age), answers.odds)
        return _found(answers, images.shape[:1:-1]), then

    def _starts(self, hints: Sequence[RegionTargets], held: WarmStart) -> Floats:
        """(N, M, 5): the hints; where there is none, the solution that is held."""
        most = self.settings.most_targets
        starts = np.zeros((len(hints), max([most, *(len(hint.xy) for hint in hints)]), PARAMETERS))
        starts[:, :most] = held.solutions[np.arange(len(hints)), held.best]
        for start, hint in zip(starts, hints, strict=True):
            if count := len(hint.xy):
                start[:] = 0
                start[:count, :2], start[:count, 4] = hint.xy, hint.amplitude
        return starts

    def _levels(self, images: Floats, known: NDArray[np.bool_], measured: Floats) -> Floats:
        """(N,) DN: the settings' noise, or what was measured before, or what each region's own images tell."""
        given = measured.copy() if self.settings.noise_dn is None else np.full(len(images), self.settings.noise_dn)
        for k in np.flatnonzero(np.isnan(given)):
            given[k] = self._noise(images[k], known[k])
        return np.maximum(given, self.settings.least_noise_dn)

    def _noise(self, images: Floats, known: NDArray[np.bool_]) -> float:
        """That of the pixels far from the light. Of a sky clipped at 0, half of the noise is unseen."""
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
        return max(math.sqrt(float(variance)), WHOLE)


def _found(answers: FitResults, sides: tuple[int, ...]) -> list[RegionTargets]:
    """The targets of each region that lie within its patch. Of light that they do not explain they are less certain, for
    it may be none of theirs: a cloud's edge is no group of targets, whatever its parts are taken for.
    """
    p, most = answers.points, answers.points.shape[1]
    inside = ((p[..., :2] > -0.5) & (p[..., :2] < np.array(sides) - 0.5)).all(axis=2) & (p[..., 4] > 0)
    inside &= np.arange(most) < answers.number[:, None]
    strain = answers.strain.max(axis=1)
    worse = np.where(strain > CHANCE, np.minimum(strain, WORST), 1.0)
    strange = np.clip((answers.strain[:, 1:] - CHANCE) / (STRANGE - CHANCE), 0, WORST)
    cov = answers.cov * worse[:, None, None, None, None]
    alone, factor = cov.diagonal(axis1=1, axis2=2).transpose(0, 3, 1, 2), factors(answers.number, cov)
    deviation = answers.amplitude_sd * np.sqrt(worse)[:, None]
    explained = np.broadcast_to(1 / (1 + strange**4), inside.shape)
    each = p[..., :2], alone, p[..., 4], deviation, np.nan_to_num(answers.probability * explained), explained, factor
    columns = [column[inside] for column in each]
    ends = inside.sum(axis=1).cumsum().tolist()
    return [RegionTargets(*(column[a:b] for column in columns)) for a, b in zip([0, *ends], ends, strict=False)]


def warm_up() -> None:
    """Calls all that is compiled."""
    Fitter(FitSettings())
