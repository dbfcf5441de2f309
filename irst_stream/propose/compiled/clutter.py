"""Passes that subtract the static clutter from a frame, learn it, and whiten a filter's response by it. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cell_grid import ONE
from irst_stream.propose.compiled.filters import SD_PER_MEAN_ABS
from irst_stream.propose.compiled.frames import bracketing_rows
from irst_stream.system.numba_cache import compiled

__all__ = ["clipped_squares", "compare_clutter", "learn_clutter", "learn_levels", "subtract_clutter", "whiten_response"]

TINY = np.float32(1e-12)
ZERO = np.float32(0)
START_LEVEL = np.float32(0.25)  # of the noise about a pixel: from here its level grows by itself; more would learn targets


@compiled
def compare_clutter(light, mean, step):  # type: ignore[no-untyped-def]
    """Return three sums over every step-th row of a frame's light and the clutter's mean (H, W), DN: of the mean's squares,
    of the mean times what the light has beyond it, and of the absolute values of that. Bad pixels have a light of 0.
    """
    squares, products, differences = 0.0, 0.0, 0.0
    for r in range(0, len(light), step):
        row, known = light[r], mean[r]
        square, product, difference = ZERO, ZERO, ZERO
        for c in range(len(row)):
            value = row[c] if row[c] == row[c] else ZERO
            beyond = value - known[c]
            square += known[c] * known[c]
            product += known[c] * beyond
            difference += abs(beyond)
        squares, products, differences = squares + float(square), products + float(product), differences + float(difference)
    return squares, products, differences


@compiled
def subtract_clutter(light, mean, gain):  # type: ignore[no-untyped-def]
    """Subtract `gain` times the clutter's mean (H, W) from light (H, W), in place; bad pixels stay NaN."""
    for r in range(len(light)):
        row, known = light[r], mean[r]
        for c in range(len(row)):
            row[c] -= gain * known[c]


@compiled
def learn_clutter(light, noise, rows, limit, frames, least, most, rates, mean, deviation):  # type: ignore[no-untyped-def]
    """Move the clutter's mean and mean absolute deviation (H, W) towards a frame's residual light (H, W), in place.

    noise: an expanded map, and the Interpolation of the frame's rows in it; limit: a residual counts for at most so many
    of the larger of the noise and the deviation, so that a passing target leaves little behind. frames (H, W): seen of
    each pixel, from now on with this one. rates (H, W): filled with this frame's weight, 1 over frames + least, or most.
    """
    for r in range(len(light)):
        upper, lower, fraction = bracketing_rows(noise, rows, r)
        row, seen, rate, known, spread = light[r], frames[r], rates[r], mean[r], deviation[r]
        for c in range(len(row)):
            seen[c] += ONE
            rate[c] = ONE / min(seen[c] + least, most)
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
def clipped_squares(response, level, limit, floor, squares, step, loud):  # type: ignore[no-untyped-def]
    """Fill squares (H, W) with a response's squares, clipped at limit times the larger of level (H, W) and floor, DN.

    loud: filled with 1 where every step-th pixel along each axis is clipped, else with 0.
    """
    for r in range(len(response)):
        row, levels, out = response[r], level[r], squares[r]
        for c in range(len(row)):
            bound = limit * max(floor, levels[c])
            value = min(abs(row[c]), bound)
            out[c] = value * value
    for r in range(len(loud)):
        row, levels, out = response[r * step], level[r * step], loud[r]
        for c in range(len(out)):
            out[c] = ONE if abs(row[c * step]) > limit * max(floor, levels[c * step]) else ZERO


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
