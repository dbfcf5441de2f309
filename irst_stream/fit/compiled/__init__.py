"""Fit the imaging model to a window of images and select the number of targets. Compiled by numba.

K targets move in straight lines over T frames. Each has parameters x, y (px, at time 0), vx, vy (px per unit of time) and
amplitude a (DN). times (T,) holds each frame's time and shifts (T, 2) each frame's displacement in x and y, px: at time t a
target is at x + vx t + the frame's shift. The fit minimises the misfit: chi^2 plus the priors' contribution, in units of
the noise.

A pixel's variance is noise^2. With shot noise it grows with the modelled light, and the pixel contributes
difference^2 / variance + log(variance / noise^2) to the misfit, -2 log of its likelihood.

A pixel at a limit, 0 or full scale, is censored: it says only that the light was at most, or at least, that much. It
contributes -2 log of the probability of that, as in Tobit regression, so a dark sky clipped at 0 causes no bias. A pixel
below UNKNOWN contributes nothing.

A Gaussian along the frame's axes is separable, so its normal equations need only dot products along rows and columns, and
censored and unknown pixels are corrected one by one; those of any other PSF take each target's image and its derivatives.
The evidence, in Laplace's approximation, selects the number of targets: it weighs the best fit's
misfit, the prior volume that the posterior leaves over, and the K! ways to number the targets.
"""

from irst_stream.fit.compiled.found_targets import found_targets
from irst_stream.fit.compiled.likelihood import INFINITE, PARAMETERS, UNKNOWN
from irst_stream.fit.compiled.model_selection import search_regions
from irst_stream.fit.compiled.normal_equations import normal_equations
from irst_stream.fit.compiled.records import (
    NO_PRIORS,
    UNIFORM,
    FitPriors,
    Formation,
    ImagingModel,
    Priors,
    PsfBank,
    PsfShape,
    RegionImages,
)
from irst_stream.fit.compiled.region_light import region_light

__all__ = [
    "INFINITE",
    "NO_PRIORS",
    "PARAMETERS",
    "UNIFORM",
    "UNKNOWN",
    "FitPriors",
    "Formation",
    "ImagingModel",
    "Priors",
    "PsfBank",
    "PsfShape",
    "RegionImages",
    "found_targets",
    "normal_equations",
    "region_light",
    "search_regions",
]
