"""Fit of the imaging model to a window's images: sub-pixel detections with covariances.

Needs no network: the light's moments give the starts. The settings give the priors of amplitudes and velocities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from irst_stream.fit.compiled import (
    INFINITE,
    PARAMETERS,
    UNIFORM,
    UNKNOWN,
    FitPriors,
    Priors,
    PsfBank,
    PsfShape,
    found_targets,
    region_light,
)
from irst_stream.fit.formation import seat_choices
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.search import CpuSearch, Fallback, RegionBatch, Search, empty_results
from irst_stream.fit.settings import FLAT_ERROR, FitSettings, check_fit
from irst_stream.fit.warm_start import AT_ONCE, WarmStart
from irst_stream.fit.work_budget import SCRATCH_UNITS
from irst_stream.optics import PATCH
from irst_stream.point_spread import PointSpread
from irst_stream.psf_field import PsfField, sensor_psf
from irst_stream.system.numba_cache import CompiledPart, compile_in_children
from irst_stream.types import Floats, Ints

__all__ = ["COMPILED", "Fitter", "priors_of", "psf_bank", "psf_of", "psf_shape"]

Images = np.ndarray[tuple[int, ...], np.dtype[Any]]


def psf_of(settings: FitSettings) -> PsfField:
    """The PSF that the settings name or describe."""
    return sensor_psf(settings.sigma_px, settings.axis_ratio, settings.axis_angle_deg, settings.psf_table)


def psf_shape(psf: PointSpread) -> PsfShape:
    """The shape of a PSF as compiled code takes it."""
    terms, sigma = psf.terms, psf.sigma
    stretch = psf.sigma_x / sigma, psf.sigma_y / sigma
    return PsfShape(*stretch, terms.columns, terms.rows, -terms.reach / sigma, terms.oversampling * sigma, sigma)


def psf_bank(psfs: Sequence[PointSpread], least: tuple[int, ...] = (0, 1)) -> PsfBank:
    """The bank of these PSFs, at least one, as compiled code takes it: fewer terms and shorter ones end in zeros.

    All have terms, or none. least: the fewest terms, and pieces of each.
    """
    if least[0] or any(psf.table.size for psf in psfs):
        psfs = [psf.drawn() for psf in psfs]
    shapes = [psf_shape(psf) for psf in psfs]
    terms, pieces = (max(size) for size in zip(least, *(s.columns.shape[:2] for s in shapes), strict=True))
    columns, rows = np.zeros((len(psfs), terms, pieces, 4)), np.zeros((len(psfs), terms, pieces, 4))
    for k, s in enumerate(shapes):
        columns[k, : len(s.columns), : s.columns.shape[1]], rows[k, : len(s.rows), : s.rows.shape[1]] = s.columns, s.rows
    each = np.array([(s.stretch_x, s.stretch_y, s.first, s.per_width, s.width_px) for s in shapes]).T.copy()
    return PsfBank(each[4], each[:2].T.copy(), columns, rows, each[2], each[3])


def priors_of(settings: FitSettings) -> FitPriors:
    """The priors of a search, from the settings; its PSF is that of the field's middle."""
    deviations = settings.amplitude_sd_dn, settings.speed_px, settings.own_speed_px
    amplitude, common, own = (1.0 / deviation**2 for deviation in deviations)
    min_spread, max_spread = settings.spread_px
    extra_target = math.log(settings.extra_target_odds)
    priors = Priors(
        float(settings.amplitude_dn),
        amplitude,
        common,
        own,
        float(min_spread),
        float(max_spread),
        float(settings.min_spacing_px),
        extra_target,
    )
    formation = seat_choices(settings.formation, settings.most_targets)
    psf, doubt = psf_of(settings).middle, float(settings.sigma_doubt)
    extended = math.log(settings.extended_odds) if settings.extended_odds else -INFINITE
    return FitPriors(psf.sigma, psf_shape(psf), priors, formation, settings.starts, settings.most_targets, doubt, extended)


class Fitter:
    """Fits the regions of windows. Its construction compiles the fit or loads it from the cache."""

    def __init__(self, settings: FitSettings, threads: int = 1, device: Search | None = None) -> None:
        """threads: of the CPU, 0 for all cores; device: a search used in place of the CPU's until it fails."""
        check_fit(settings)
        self.settings = settings
        self.field = psf_of(settings)
        # of the same size everywhere, for which a GPU's kernel is compiled
        self._bank_size = psf_bank([psf for row in self.field.psfs for psf in row]).columns.shape[1:3]
        middle = np.array(PATCH[::-1]) // 2
        self._sharpness = float(np.sqrt((self.field.middle.images(middle) ** 2).sum()))  # of a unit target's image
        compile_in_children(COMPILED)
        cpu = CpuSearch(priors_of(settings), threads)
        self._search: Search = cpu
        self(np.ones((1, 5, 5)), np.zeros(1), noise_dn=0.1)
        if device is not None:
            self._search = Fallback(device, cpu)

    @property
    def alarm(self) -> str:
        """Why the device is no longer used, in one line; "" while it is, and where there is none."""
        return self._search.alarm if isinstance(self._search, Fallback) else ""

    def __call__(
        self,
        patches: Images,
        times: Floats,
        hint: RegionTargets = NO_TARGETS,
        noise_dn: float = math.nan,
        ceiling: float = math.inf,
    ) -> RegionTargets:
        """Fit one region's images (T, H, W) DN of a sensor at rest: the targets at time 0.

        times (T,), in frames; hint: targets found by another method, an additional start of the fit; noise_dn: a pixel's
        standard deviation, NaN to measure it on the dark pixels; ceiling: DN from which pixels are saturated.
        """
        still = np.zeros((1, len(times), 2))
        patch = Patches(patches[None], times, still, np.array([noise_dn]), np.array([ceiling]), np.zeros((1, 2)))
        return self.fit_regions(patch, [hint], self.cold_start(1))[0][0]

    def noise_levels(self, patches: Images, measured: Floats) -> Floats:
        """(N,) DN: the noise the fit assumes in N regions (N, T, H, W); measured (N,): of each, DN, NaN where unknown."""
        noise = self._given_noise(measured)
        region_light(_with_unknown(patches), noise, np.full(len(noise), INFINITE), self.settings.least_noise_dn)
        return noise

    def cold_start(self, regions: int) -> WarmStart:
        """An empty warm start of some regions."""
        most = self.settings.most_targets
        return WarmStart(
            np.zeros((regions, most + 1, most, PARAMETERS)),
            np.zeros(regions, np.int64),
            np.full(regions, AT_ONCE),
            np.zeros((regions, most + 1)),
            np.zeros(regions),
            np.zeros((regions, 2)),
        )

    def fit_regions(
        self, patches: Patches, hints: Sequence[RegionTargets], warm_start: WarmStart
    ) -> tuple[list[RegionTargets], WarmStart]:
        """Fit N regions, warm-started from their last window; return the targets and the next window's warm start.

        hints: one a region, NO_TARGETS for none. Where the fit is to be from scratch, the last solution is one more start.
        """
        images = _with_unknown(patches.images)
        noise, ceiling = self._given_noise(patches.noise), np.minimum(patches.ceiling, INFINITE)
        limits, peak, is_lit = region_light(images, noise, ceiling, self.settings.least_noise_dn)
        lit = np.flatnonzero(is_lit)
        starts = self._starts(hints, warm_start)
        hint_count = np.array([len(hint.xy) for hint in hints], np.int64)
        noise, shot = self._over_window(noise, peak, images.shape[1])
        from_scratch = warm_start.owed >= AT_ONCE
        hint_from_last = from_scratch & (hint_count == 0)
        hint_count[hint_from_last] = warm_start.best[hint_from_last]
        first_number = np.where(from_scratch, 0, warm_start.best)
        solutions = np.where(from_scratch[:, None, None, None], 0, warm_start.solutions)
        width_ratio = np.where(from_scratch, 0.0, warm_start.width_ratio)
        extent = np.where(from_scratch[:, None] | (warm_start.best != 1)[:, None], 0.0, warm_start.extent)
        results = empty_results(len(images), self.settings.most_targets)
        effort = np.where(first_number == 0, SCRATCH_UNITS * np.maximum(hint_count, 1), hint_count + first_number)
        hardest_first = lit[np.argsort(-effort[lit], kind="stable")]
        times, shifts = np.array(patches.times, np.float64), np.array(patches.shifts, np.float64)
        regions = RegionBatch(
            images,
            times,
            shifts,
            noise,
            limits,
            starts,
            hint_count,
            solutions,
            first_number,
            warm_start.odds,
            width_ratio,
            extent,
            shot,
            *self._psfs(patches.middles),
        )
        self._search(hardest_first, regions, results)
        owed = np.where(from_scratch, 0, warm_start.owed)
        next_start = WarmStart(results.solutions, results.number, owed, results.odds, results.width_ratio, results.extent)
        least = self.settings.min_snr * noise / (self._sharpness * math.sqrt(images.shape[1]))
        columns, ends = found_targets(results, images.shape[3], images.shape[2], least, self.settings.extended_odds > 0)
        between = zip([0, *ends.tolist()], ends.tolist(), strict=False)
        return [RegionTargets(*(column[a:b] for column in columns)) for a, b in between], next_start

    def _over_window(self, noise: Floats, peak: Floats, frames: int) -> tuple[Floats, Floats]:
        """(N,) DN: noise of a pixel, and growth of its variance with light, of each frame of a window.

        noise, peak (N,) DN: noise over time, with the pattern where it was measured, and the largest light of a region.
        Averaging frames reduces neither fixed-pattern noise nor the PSF's error: each frame gets so much of both that their
        mean holds them in full. The PSF's error has a part that is the same in all pixels, and one that grows with light.
        """
        s = self.settings
        patterns = frames - 1 if s.noise_dn is None else frames  # measured noise holds the pattern once
        flat = (FLAT_ERROR * s.model_error * peak) ** 2
        shot = s.shot_dn + frames * s.model_error**2 * peak
        return np.sqrt(noise**2 + patterns * s.fixed_dn**2 + frames * flat), np.asarray(shot, np.float64)

    def _psfs(self, middles: Floats) -> tuple[Ints, PsfBank]:
        """The PSF of each region, its middle at (N, 2) px, as rows (N,) of a bank."""
        psf = np.zeros(len(middles), np.int64)
        if self.field.is_uniform or not len(middles):
            return psf, UNIFORM
        groups = list(self.field.groups(middles))
        for k, (_, rows) in enumerate(groups):
            psf[rows] = k
        return psf, psf_bank([own for own, _ in groups], self._bank_size)

    def _starts(self, hints: Sequence[RegionTargets], warm_start: WarmStart) -> Floats:
        """(N, L, 5): each region's hint, or its last solution where it has none."""
        most = self.settings.most_targets
        starts = np.zeros((len(hints), max([most, *(len(hint.xy) for hint in hints)]), PARAMETERS))
        starts[:, :most] = warm_start.solutions[np.arange(len(hints)), warm_start.best]
        for start, hint in zip(starts, hints, strict=True):
            if count := len(hint.xy):
                start[:] = 0
                start[:count, :2], start[:count, 4] = hint.xy, hint.amplitude
        return starts

    def _given_noise(self, measured: Floats) -> Floats:
        """(N,) DN: the noise from the settings, or as measured, NaN where neither knows it."""
        if self.settings.noise_dn is None:
            return np.array(measured, np.float64)
        return np.full(len(measured), float(self.settings.noise_dn))


def _with_unknown(patches: Images) -> Floats:
    """Images as compiled code takes them: pixels that hold no measurement lie below UNKNOWN. float32 overflows there."""
    return np.where(np.isfinite(patches), patches, 10 * UNKNOWN).astype(np.float64)


def warm_up() -> None:
    """Call every compiled function of the fit once."""
    Fitter(FitSettings())


COMPILED = CompiledPart("the fit", found_targets, warm_up)
