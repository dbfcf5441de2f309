"""The fit of the imaging model to a window's images, and the search for how many targets there are. Compiled.

K targets move in straight lines over T frames; each has x, y (px, at time 0), vx, vy (px a unit of time) and an
amplitude a (DN). times (T,) and shifts (T, 2) give each frame's time, and the shift, x and y px, of all that is in it: at
time t a target stands at x + vx t + its frame's shift. What is minimised is the misfit: chi^2 plus the priors' share, in
units of the noise.

A pixel's variance is noise^2, and where there is shot noise it grows with the light that the model gives the pixel, whose
share of the misfit is then away^2 / variance + log(variance / noise^2), as by its likelihood.

A pixel at a limit, 0 or full scale, is censored: it says only that the light was at most, or at least, that. Its share of
the misfit is -2 log of the probability of that, as in a Tobit regression, so a dark sky clipped at 0 biases nothing. A
pixel below UNKNOWN says nothing.

The model is separable, so the normal equations need dot products along rows and columns only; pixels at a limit are put
right one by one. How many targets there are is decided by evidence, by Laplace: the best fit's misfit, what its sharpness
leaves of the priors' room, and the K! ways to number the targets.
"""

from irst_stream.fit.compiled.evidence import factors
from irst_stream.fit.compiled.likelihood import NO_PRIORS, NOTHING, PARAMETERS, UNKNOWN, Formation, Model, Priors, Seen
from irst_stream.fit.compiled.model_selection import search_each
from irst_stream.fit.compiled.normal_equations import normal_equations

__all__ = [
    "NOTHING",
    "NO_PRIORS",
    "PARAMETERS",
    "UNKNOWN",
    "Formation",
    "Model",
    "Priors",
    "Seen",
    "factors",
    "normal_equations",
    "search_each",
]
