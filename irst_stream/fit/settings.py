"""What the fit is told beforehand: the sensor, the targets, a formation that they fly, and how hard to look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from irst_stream.optics import SIGMA
from irst_stream.settings import about, refuse

__all__ = ["CLOSE_PX", "FLAT_ERROR", "FitSettings", "FormationSettings", "check_fit"]

MOST_SEATS = 8
FLAT_ERROR = 0.7  # of model_error: the part that all pixels of a region share alike
CLOSE_PX = 0.15  # a detection's score estimates the probability that a target is this close


@dataclass(frozen=True)
class FormationSettings:
    """A known formation: targets take all or some of its seats, and it keeps its orientation in the frame."""

    seats_px: Annotated[
        tuple[tuple[float, float], ...], about("x, y of each seat from any common point, px. Empty: no formation is known.")
    ] = ()
    sd_px: Annotated[
        float,
        about(
            "Standard deviation of a target about its seat along each axis, px."
            " Larger values accept looser formations, smaller ones place targets more sharply."
        ),
    ] = 0.01
    members: Annotated[
        tuple[int, int], about("Fewest and most seats taken. Each number, and each choice of seats, is equally likely.")
    ] = (1, MOST_SEATS)
    probability: Annotated[
        float,
        about("Prior probability that a group flies the formation. Closer to 1, the evidence against it must be stronger."),
    ] = 0.95


@dataclass(frozen=True)
class FitSettings:
    """What is known of the sensor and its targets, and how hard the fit looks."""

    sigma_px: Annotated[
        float,
        about(
            "Standard deviation of the point-spread function, a Gaussian integrated over each pixel, px; of an elliptical"
            " one, the geometric mean of both axes."
        ),
    ] = SIGMA
    axis_ratio: Annotated[float, about("Longer over shorter axis of an elliptical PSF; 1: round.")] = 1.0
    axis_angle_deg: Annotated[float, about("Direction of the PSF's longer axis, from x towards y (down), degrees.")] = 0.0
    psf_table: Annotated[
        str,
        about(
            "A PSF measured by irst-stream calibrate, a .npz file, at one place or several of the field, in place of"
            " sigma_px and the axes; relative to the configuration's folder."
        ),
    ] = ""
    model_error: Annotated[
        float,
        about(
            "Error of the PSF as a share of a target's peak. Where bright targets' light is not exactly the PSF's, too"
            " small a value splits them and lowers their scores; too large a value merges close ones."
        ),
    ] = 0.0
    sigma_doubt: Annotated[
        float,
        about(
            "Relative standard deviation of the PSF's width where it differs from sigma_px; 0 trusts sigma_px. A window"
            " is fitted with another width where the light asks for it. Larger values find widths farther off."
        ),
    ] = 0.04
    amplitude_dn: Annotated[float, about("Mean of the targets' amplitudes, that is, of their total light, DN.")] = 235.0
    amplitude_sd_dn: Annotated[
        float,
        about(
            "Standard deviation of the targets' amplitudes, DN. Small values resolve tight groups better but split or merge"
            " targets whose brightness differs; a sensor of unknown brightness needs a large one."
        ),
    ] = 8.7
    speed_px: Annotated[
        float,
        about(
            "Standard deviation of a group's common velocity along each axis, px a frame; without platform poses it"
            " includes the platform's motion."
        ),
    ] = 0.05
    own_speed_px: Annotated[
        float, about("Standard deviation of each target's velocity about its group's along each axis, px a frame.")
    ] = 0.001
    spread_px: Annotated[
        tuple[float, float],
        about(
            "Smallest and largest standard deviation of a group's targets about its middle along each axis, px. Smaller"
            " limits resolve tight groups into more targets; larger ones report fewer, brighter targets."
        ),
    ] = (0.5, 3.0)
    extra_target_odds: Annotated[
        float, about("Prior odds of one more target in a region. Below 1 where most targets fly alone.")
    ] = 1.0
    extended_odds: Annotated[
        float,
        about(
            "Prior odds that a region's light is one extended target, larger than the PSF, and not several point targets; 0"
            " where all targets are points. Larger values split extended targets less, and tight groups too."
        ),
    ] = 0.0
    score_radius_px: Annotated[
        float,
        about("A detection's score is the probability that a target lies this near, px. The benchmark's score asks 0.15."),
    ] = CLOSE_PX
    min_snr: Annotated[
        float, about("Least amplitude of a reported target over the noise, were it alone. Larger: fewer false, faint ones.")
    ] = 0.0
    min_spacing_px: Annotated[float, about("Smallest distance between two targets of a group, px; 0 where unknown.")] = 0.0
    most_targets: Annotated[int, about("Most targets of one group, 1 to 8. The time of a fit grows with it.")] = 5
    formation: FormationSettings = field(default_factory=FormationSettings)
    starts: Annotated[
        int,
        about("Arrangements from which the fit of each number of targets begins. More find better fits, in more time."),
    ] = 2
    refit_every: Annotated[
        int,
        about(
            "Windows between fits from scratch; in between, a fit is warm-started from its last window. Larger values save"
            " time, and take longer to notice that a group has changed."
        ),
    ] = 1
    noise_dn: Annotated[
        float | None,
        about(
            "Standard deviation of a pixel's temporal noise, DN; left out, it is measured in each window. Too small a"
            " value lowers scores, as light that no target explains does."
        ),
    ] = None
    least_noise_dn: Annotated[float, about("Noise is never taken for less, DN: that of rounding, or more.")] = 0.3
    fixed_dn: Annotated[
        float, about("Standard deviation of a pixel's fixed-pattern noise, which all frames of a window share, DN.")
    ] = 0.0
    shot_dn: Annotated[
        float,
        about("Shot noise: growth of a pixel's variance with a target's light, DN^2 a DN, that is, 1 / (electrons a DN)."),
    ] = 0.0


def check_fit(settings: FitSettings) -> None:
    """Raise one UsageError that names all settings that make no fit."""
    refuse(_faults(settings))


def _faults(settings: FitSettings) -> Iterator[str]:
    positive = ("sigma_px", "amplitude_dn", "amplitude_sd_dn", "speed_px", "own_speed_px", "least_noise_dn")
    for name in (*positive, "extra_target_odds", "score_radius_px"):
        value = getattr(settings, name)
        if not 0 < value < 1e9:
            yield f"fit.{name}: expected a number above 0, got {value}"
    if not 1 <= settings.axis_ratio <= 10:
        yield f"fit.axis_ratio: expected 1 to 10, got {settings.axis_ratio}"
    if not math.isfinite(settings.axis_angle_deg):
        yield f"fit.axis_angle_deg: expected a finite angle, got {settings.axis_angle_deg}"
    if not 0 <= settings.model_error <= 1:
        yield f"fit.model_error: expected 0 to 1, got {settings.model_error}"
    if not 0 <= settings.sigma_doubt <= 0.5:
        yield f"fit.sigma_doubt: expected 0 to 0.5, got {settings.sigma_doubt}"
    if not 1 <= settings.most_targets <= 8:
        yield f"fit.most_targets: expected 1 to 8, got {settings.most_targets}"
    if not 0 < settings.spread_px[0] <= settings.spread_px[1] < 1e3:
        yield f"fit.spread_px: expected the least, above 0, then the greatest, got {list(settings.spread_px)}"
    yield from _formation_faults(settings.formation, settings.most_targets)
    if not 1 <= settings.starts <= 50:
        yield f"fit.starts: expected 1 to 50, got {settings.starts}"
    if not 1 <= settings.refit_every <= 1_000_000:
        yield f"fit.refit_every: expected 1 to 1,000,000 windows, got {settings.refit_every}"
    if settings.noise_dn is not None and not 0 <= settings.noise_dn < 1e9:
        yield f"fit.noise_dn: expected 0 or more, got {settings.noise_dn}"
    for name in ("fixed_dn", "shot_dn", "min_spacing_px", "extended_odds", "min_snr"):
        if not 0 <= getattr(settings, name) < 1e6:
            yield f"fit.{name}: expected 0 or more, got {getattr(settings, name)}"


def _formation_faults(settings: FormationSettings, most: int) -> Iterator[str]:
    if len(settings.seats_px) > MOST_SEATS:
        yield f"fit.formation.seats_px: expected at most {MOST_SEATS}, got {len(settings.seats_px)}"
    if not all(map(math.isfinite, (number for seat in settings.seats_px for number in seat))):
        yield "fit.formation.seats_px: expected finite numbers"
    if not 0 < settings.sd_px < 1e3:
        yield f"fit.formation.sd_px: expected a number above 0, got {settings.sd_px}"
    if not 1 <= settings.members[0] <= settings.members[1]:
        yield f"fit.formation.members: expected the fewest, 1 or more, then the most, got {list(settings.members)}"
    if settings.seats_px and settings.members[0] > min(len(settings.seats_px), most):
        yield f"fit.formation.members: expected at most {min(len(settings.seats_px), most)}, got {settings.members[0]}"
    if not 0 < settings.probability < 1:
        yield f"fit.formation.probability: expected a number between 0 and 1, got {settings.probability}"
