"""Passes that subtract the static clutter from a frame, learn it, and whiten a filter's response by it. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cell_grid import ONE
from irst_stream.propose.compiled.filters import SD_PER_MEAN_ABS
from irst_stream.propose.compiled.frames import bracketing_rows
from irst_stream.system.numba_cache import compiled

__all__ = ["clipped_squares", "learn_clutter", "learn_levels", "subtract_clutter", "whiten_response"]

TINY = np.float32(1e-12)
START_LEVEL = np.float32(0.25)  # of the noise about a pixel: from here its level grows by itself; more would learn targets


@compiled
def subtract_clutter(light, mean):  # type: ignore[no-untyped-def]
    """Subtract the clutter's mean (H, W) from light (H, W), in place; bad pixels stay NaN."""
    for r in range(len(light)):
        row, known = light[r], mean[r]
        for c in range(len(row)):
            row[c] -= known[c]


@compiled
def learn_clutter(light, noise, rows, limit, rates, mean, deviation):  # type: ignore[no-untyped-def]
    """Move the clutter's mean and mean absolute deviation (H, W) towards a frame's residual light (H, W), in place.

    noise: an expanded map, and the Interpolation of the frame's rows in it; limit: a residual counts for at most so many
    of the larger of the noise and the deviation, so that a passing target leaves little behind; rates (H, W): weight of
    this frame.
    """
    for r in range(len(light)):
        upper, lower, fraction = bracketing_rows(noise, rows, r)
        row, rate, known, spread = light[r], rates[r], mean[r], deviation[r]
        for c in range(len(row)):
            value = row[c]
            if value == value:
                bound = limit * max((ONE - fraction) * upper[c] + fraction * lower[c], spread[c])
                clipped = min(max(value, -bound), bound)
                known[c] += rate[c] * clipped
                spread[c] += rate[c] * (min(abs(value), bound) - spread[c])


@compiled
def learn_levels(response, limit, floor, noise, rows, rates, level):  # type: ignore[no-untyped-def]
    """Move each pixel's level (H, W) DN, its mean absolute response, towards that of a frame, in place.

    response (H, W) DN; limit: a frame counts for at most this many of the largest of level, floor, DN, and a share of the
    noise about the pixel, an expanded map with the Interpolation of the frame's rows in it: so a level is learnt as soon
    where it is high. rates (H, W): weight of this frame.
    """
    for r in range(len(response)):
        upper, lower, fraction = bracketing_rows(noise, rows, r)
        row, rate, levels = response[r], rates[r], level[r]
        for c in range(len(row)):
            around = START_LEVEL * ((ONE - fraction) * upper[c] + fraction * lower[c])
            levels[c] += rate[c] * (min(abs(row[c]), limit * max(floor, levels[c], around)) - levels[c])


@compiled
def clipped_squares(response, level, limit, floor, squares):  # type: ignore[no-untyped-def]
    """Fill squares (H, W) with a response's squares, clipped at limit times the larger of level (H, W) and floor, DN."""
    for r in range(len(response)):
        row, levels, out = response[r], level[r], squares[r]
        for c in range(len(row)):
            bound = limit * max(floor, levels[c])
            value = min(abs(row[c]), bound)
            out[c] = value * value


@compiled
def whiten_response(response, level, noise, rows, margin, calm):  # type: ignore[no-untyped-def]
    """Divide a response (H, W), in place, by how much louder each pixel is than its surroundings.

    level (H, W): a pixel's mean absolute response; noise: an expanded map, with the Interpolation of the frame's rows in
    it. A pixel's deviation counts margin times, of it only what exceeds `calm` times the noise about it; pixels that are
    quieter than their surroundings stay as they are.
    """
    for r in range(len(response)):
        upper, lower, fraction = bracketing_rows(noise, rows, r)
        row, levels = response[r], level[r]
        for c in range(len(row)):
            local = (ONE - fraction) * upper[c] + fraction * lower[c]
            own = margin * SD_PER_MEAN_ABS * levels[c] - (margin - ONE) * calm * local
            row[c] *= min(local / max(own, TINY), ONE)
