"""Continuous, sub-pixel detections with covariances: the imaging model fitted to the images of a window.

Needs no network: the light's moments give the starts. What is known beforehand of amplitudes and speeds comes in as
priors from the settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.compiling import compile_elsewhere
from irst_stream.optics import SIGMA
from irst_stream.resolve.compiled import NOTHING, PARAMETERS, UNKNOWN, Priors, factors, search_each
from irst_stream.resolve.formation import FormationSettings, formation_faults, ways_to_sit
from irst_stream.resolve.found import NOTHING_FOUND, Found
from irst_stream.resolve.held import Held
from irst_stream.resolve.search import Answers, CpuSearch, Fallback, Known, Regions, Search, nothing_found
from irst_stream.settings import refuse
from irst_stream.types import Floats, Ints, at_rest

__all__ = ["FitSettings", "Fitter", "check_fit"]

DARK = 3.2  # px from the middle of the light: farther pixels are taken for dark
FEWEST_DARK = 20
STRANGE = 2.5  # strain of a fit: beyond that its light is rather something else's than its targets'
CHANCE = 1.7  # the strain that noise alone may leave
WORST = 1e6  # the strain beyond which nothing is known of places anyhow
FROM_SCRATCH = 3  # times the work of a fit that goes on
Images = np.ndarray[tuple[int, ...], np.dtype[Any]]
WHOLE = 1 / math.sqrt(12)  # DN: what rounding to whole numbers adds to the noise


@dataclass(frozen=True)
class FitSettings:
    """What is known beforehand, and how hard to look."""

    sigma_px: float = SIGMA
    # Standard deviation, as a share of sigma_px, of the width of optics that are not as said; 0: they always are. Larger
    # values find such widths farther off, and cost time where the light is none of targets.
    sigma_doubt: float = 0.1
    amplitude_dn: float = 235.0  # mean and standard deviation of a target's amplitude
    amplitude_sd_dn: float = 8.7
    # px a frame: standard deviation of the group's common velocity, along each axis; without poses, with the platform's
    speed_px: float = 0.05
    own_speed_px: float = 0.001  # px a frame: of each target's velocity about that
    # px: smallest and largest standard deviation of a group's targets about its middle, along each axis. Smaller limits
    # resolve tight groups into more targets; larger ones report fewer, brighter targets.
    spread_px: tuple[float, float] = (0.5, 3.0)
    company_odds: float = 1.0  # prior odds of one more target in a region; below 1 where most targets fly alone
    least_apart_px: float = 0.0  # smallest distance between two targets; 0: unknown
    most_targets: int = 5
    formation: FormationSettings = field(default_factory=FormationSettings)  # a known arrangement; none by default
    starts: int = 2  # arrangements from which the fit of each number of targets begins
    anew: int = 1  # every how many windows a region is fitted from these; in between the fit goes on from its last window
    # Scores fall where a pixel's noise, or what of it stays in all frames, is said to be less than it is, as they do of a
    # cloud's light: what is left unexplained looks the same.
    noise_dn: float | None = None  # standard deviation of a pixel; None: measured on the dark pixels of each window
    least_noise_dn: float = 0.3  # what the model itself is not better than
    fixed_dn: float = 0.0  # standard deviation of what a pixel errs by in all frames alike, the noise that stays
    shot_dn: float = 0.0  # DN^2 a DN of a target's light: by how much a pixel's variance grows with it, as shot noise does

    @property
    def known(self) -> Known:
        """What a search is made for."""
        deviations = self.amplitude_sd_dn, self.speed_px, self.own_speed_px
        amplitude, common, own = (1.0 / deviation**2 for deviation in deviations)
        least, greatest = self.spread_px
        odds = math.log(self.company_odds)
        priors = Priors(
            float(self.amplitude_dn),
            amplitude,
            common,
            own,
            float(least),
            float(greatest),
            float(self.least_apart_px),
            odds,
        )
        formation = ways_to_sit(self.formation, self.most_targets)
        return Known(
            self.sigma_px, float(self.shot_dn), priors, formation, self.starts, self.most_targets, float(self.sigma_doubt)
        )


class Fitter:
    """Fits the regions of windows; compiles, or loads what was compiled before, when it is made."""

    def __init__(self, settings: FitSettings, threads: int = 1, device: Search | None = None) -> None:
        """threads: of the CPU, 0 for all; device: what searches in their place, until it fails."""
        check_fit(settings)
        self.settings = settings
        compile_elsewhere("the fit", search_each, warm_up)
        cpu = CpuSearch(settings.known, threads)
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
        hint: Found = NOTHING_FOUND,
        noise_dn: float = math.nan,
        ceiling: float = math.inf,
    ) -> Found:
        """The targets at time 0 in one region's images (T, H, W) DN, taken at these times, in frames, by a sensor at rest.

        hint: what something else found there, one more start for the fit; noise_dn: a pixel's standard deviation, NaN where
        it is to be measured on the dark pixels; ceiling: DN from which pixels are saturated.
        """
        held, course = self.nothing(np.zeros(1, np.int64)), at_rest(1, len(times))
        course[0, :, 0] = times
        return self.follow(patches[None], course, [hint], np.array([noise_dn]), np.array([ceiling]), held)[0][0]

    def levels(self, patches: Images, measured: Floats) -> Floats:
        """(N,) DN: a pixel's noise in N regions (N, T, H, W), as the fit takes it; measured (N,): DN, NaN where unknown."""
        known = np.isfinite(patches)
        return self._levels(np.where(known, patches, 10 * UNKNOWN).astype(np.float64), known, measured)

    def nothing(self, age: Ints) -> Held:
        """Nothing held, of N regions of that age (N,)."""
        most = self.settings.most_targets
        return Held(
            np.zeros((len(age), most + 1, most, PARAMETERS)),
            np.zeros(len(age), np.int64),
            age,
            np.zeros((len(age), most + 1)),
        )

    def follow(
        self, patches: Images, course: Floats, hints: Sequence[Found], noise: Floats, ceiling: Floats, held: Held
    ) -> tuple[list[Found], Held]:
        """The same of N regions (N, T, H, W), going on from what is held of their last window; what to hold of this one.

        course (N, T, 3): see types.Window.

        Every so many windows, as the settings say, a region is fitted from scratch, with what is held as one more start.
        """
        known = np.isfinite(patches)
        images = np.where(known, patches, 10 * UNKNOWN).astype(np.float64)  # squares of odd pixels overflow in float32
        levels = self._levels(images, known, noise)
        lit = np.flatnonzero((images > 3 * levels[:, None, None, None]).any(axis=(1, 2, 3)))
        dark = np.where(known, patches, np.inf).min(axis=(1, 2, 3), initial=np.inf) == 0
        limits = np.stack([np.where(dark, 0.0, NOTHING), np.minimum(ceiling, -NOTHING)], axis=1)
        starts, hinted, age = self._starts(hints, held), np.array([len(hint.xy) for hint in hints], np.int64), held.age + 1
        # The mean of the frames is no better than one of them for what stays.
        stays = (images.shape[1] - 1) * self.settings.fixed_dn**2
        levels = np.sqrt(levels**2 + stays)
        anew = age >= self.settings.anew
        again = anew & (hinted == 0)
        hinted[again] = held.best[again]
        begin = np.where(anew, 0, held.best)
        solutions = np.where(anew[:, None, None, None], 0, held.solutions)
        answers = nothing_found(len(images), self.settings.most_targets)
        effort = np.where(begin == 0, FROM_SCRATCH * np.maximum(hinted, 1), hinted + begin)
        hardest_first = lit[np.argsort(-effort[lit], kind="stable")]
        regions = Regions(images, np.array(course), levels, limits, starts, hinted, solutions, begin, held.odds)
        self._search(hardest_first, regions, answers)
        then = Held(answers.solutions, answers.number, np.where(anew, 0, age), answers.odds)
        return _found(answers, patches.shape[:1:-1]), then

    def _starts(self, hints: Sequence[Found], held: Held) -> Floats:
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


def _found(answers: Answers, sides: tuple[int, ...]) -> list[Found]:
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
    return [Found(*(column[a:b] for column in columns)) for a, b in zip([0, *ends], ends, strict=False)]


def warm_up() -> None:
    """Calls all that is compiled."""
    Fitter(FitSettings())


def check_fit(settings: FitSettings) -> None:
    """Raises one UsageError that names all settings that make no fit."""
    refuse(_faults(settings))


def _faults(settings: FitSettings) -> Iterator[str]:
    for name in (
        "sigma_px",
        "amplitude_dn",
        "amplitude_sd_dn",
        "speed_px",
        "own_speed_px",
        "least_noise_dn",
        "company_odds",
    ):
        value = getattr(settings, name)
        if not 0 < value < 1e9:
            yield f"fit.{name}: expected a number above 0, got {value}"
    if not 0 <= settings.sigma_doubt <= 0.5:
        yield f"fit.sigma_doubt: expected 0 to 0.5, got {settings.sigma_doubt}"
    if not 1 <= settings.most_targets <= 8:
        yield f"fit.most_targets: expected 1 to 8, got {settings.most_targets}"
    if not 0 < settings.spread_px[0] <= settings.spread_px[1] < 1e3:
        yield f"fit.spread_px: expected the least, above 0, then the greatest, got {list(settings.spread_px)}"
    yield from formation_faults(settings.formation, settings.most_targets)
    if not 1 <= settings.starts <= 50:
        yield f"fit.starts: expected 1 to 50, got {settings.starts}"
    if not 1 <= settings.anew <= 1_000_000:
        yield f"fit.anew: expected 1 to 1,000,000 windows, got {settings.anew}"
    if settings.noise_dn is not None and not 0 <= settings.noise_dn < 1e9:
        yield f"fit.noise_dn: expected 0 or more, got {settings.noise_dn}"
    for name in ("fixed_dn", "shot_dn", "least_apart_px"):
        if not 0 <= getattr(settings, name) < 1e6:
            yield f"fit.{name}: expected 0 or more, got {getattr(settings, name)}"
