"""What a search is told, and what it fits: priors, images, the PSF, a formation. Records that compiled code takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = [
    "NO_PRIORS",
    "UNIFORM",
    "FitPriors",
    "Formation",
    "ImagingModel",
    "Priors",
    "PsfBank",
    "PsfShape",
    "RegionImages",
]


class Priors(NamedTuple):
    """Priors of a group of targets.

    amplitude_dn: mean amplitude; amplitude, common, own: precisions, 1/sd^2, of the amplitudes, of the group's common
    velocity and of each target's own velocity; min_spread, max_spread: px, limits of the targets' standard deviation about
    the group's centre, 0 where unknown; min_spacing: px, smallest distance between two targets, 0 where unknown;
    extra_target: log odds of one more target.
    """

    amplitude_dn: float
    amplitude: float
    common: float
    own: float
    min_spread: float
    max_spread: float
    min_spacing: float
    extra_target: float


NO_PRIORS = Priors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class RegionImages(NamedTuple):
    """One region's images in a window.

    images (T, H, W) DN; times (T,) of the frames; shifts (T, 2): x and y displacement of still objects in each frame, px;
    noise: a pixel's standard deviation, DN; limits: floor and ceiling, DN, at and beyond which a pixel is censored; shot:
    growth of a pixel's variance with its modelled light, DN^2 per DN.
    """

    images: Floats
    times: Floats
    shifts: Floats
    noise: float
    limits: tuple[float, float]
    shot: float


class PsfShape(NamedTuple):
    """The shape of a PSF, in units of its width.

    Without terms it is a Gaussian whose standard deviations along x and y are stretch_x and stretch_y times the width. With
    R terms it is a sum of products of a column's and a row's profile, each integrated over a pixel: cubic pieces columns
    and rows (R, N, 4), constant term first, of which piece k begins at first + k / per_width. width_px: the width in which
    the terms were measured.
    """

    stretch_x: float
    stretch_y: float
    columns: Floats
    rows: Floats
    first: float
    per_width: float
    width_px: float


class ImagingModel(NamedTuple):
    """The imaging model: sigma, the width of the PSF, px; the PSF's shape; the targets' priors."""

    sigma: float
    shape: PsfShape
    priors: Priors


class Formation(NamedTuple):
    """The F choices of seats that targets of a known formation may take; F is 0 where no formation is known.

    seats (F, most, 2): x and y from any common point, px, of which each choice takes the first sizes (F,); precision:
    1/sd^2 of a target about its seat; weights (F,): log prior probability of each choice; free: log prior probability
    of each number of targets in any other arrangement.
    """

    seats: Floats
    sizes: Ints
    precision: float
    weights: Floats
    free: float


class FitPriors(NamedTuple):
    """Priors and imaging model of a search.

    sigma: width of the PSF, px; shape: its shape; priors and formation: of the targets; start_count: arrangements from
    which the fit of each number of targets starts; max_targets: of a region; sigma_doubt: prior standard deviation of the
    logarithm of the PSF's width about sigma's, 0 to trust sigma; extended: log odds that light is of one extended target,
    -INFINITE for never.
    """

    sigma: float
    shape: PsfShape
    priors: Priors
    formation: Formation
    start_count: int
    max_targets: int
    sigma_doubt: float
    extended: float


class PsfBank(NamedTuple):
    """The PSFs of a sensor at P places of its field, P = 0 where one PSF serves the whole field.

    sigma (P,), px, and stretches (P, 2); columns and rows (P, R, N, 4), first (P,) and per_width (P,): see PsfShape.
    """

    sigma: Floats
    stretches: Floats
    columns: Floats
    rows: Floats
    first: Floats
    per_width: Floats


UNIFORM = PsfBank(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 0, 1, 4)), np.zeros((0, 0, 1, 4)), np.zeros(0), np.zeros(0))
