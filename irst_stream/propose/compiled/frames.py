"""Whole frames: what is taken off them, their mean, which pixels stand out, patches of them. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cells import NAN, ONE, ZERO
from irst_stream.system.numba_cache import compiled

__all__ = ["cut", "mean_light", "size_at", "standing_out", "take_off", "two_rows"]


@compiled
def take_off(pixels, background, rows, bad, light):  # type: ignore[no-untyped-def]
    """Fills light (H, W): the pixels without the background (m, W), which has been widened; NaN where they are bad."""
    width = light.shape[1]
    for r in range(len(light)):
        upper, lower, part = two_rows(background, rows, r)
        given, row = pixels[r], light[r]
        for c in range(width):
            row[c] = np.float32(given[c]) - ((ONE - part) * upper[c] + part * lower[c])
    for at in bad:
        light[at // width, at % width] = NAN


@compiled
def mean_light(lights, light):  # type: ignore[no-untyped-def]
    """Fills light (H, W) with the mean of several, 0 where a pixel is bad in any; how many are.

    lights: a tuple of (H, W), NaN where a pixel is bad.
    """
    bad, weight = 0, np.float32(1 / len(lights))
    for r in range(len(light)):
        row, first = light[r], lights[0][r]
        for c in range(len(row)):
            row[c] = first[c]
        for k in range(1, len(lights)):
            more = lights[k][r]
            for c in range(len(row)):
                row[c] += more[c]
        for c in range(len(row)):
            good = row[c] == row[c]
            bad += not good
            row[c] = weight * row[c] if good else ZERO
    return bad


@compiled
def standing_out(image, noise, rows, limit, places):  # type: ignore[no-untyped-def]
    """Fills places (H * W,): those that exceed, up or down, so many times the noise (m, W), widened; how many they are."""
    count, width = 0, image.shape[1]
    flags = np.zeros(-(-width // 8) * 8, np.uint8)
    words = flags.view(np.uint64)
    for r in range(len(image)):
        upper, lower, part = two_rows(noise, rows, r)
        row = image[r]
        for c in range(width):
            flags[c] = abs(row[c]) > limit * ((ONE - part) * upper[c] + part * lower[c])
        seen = words[0]
        for k in range(len(words)):
            seen |= words[k]
        if seen == 0:
            continue
        for k in range(len(words)):
            if words[k] != 0:
                for c in range(8 * k, 8 * k + 8):
                    if flags[c]:
                        places[count] = r * width + c
                        count += 1
    return count


@compiled
def two_rows(wide, rows, r):  # type: ignore[no-untyped-def]
    """The two rows of a widened map that row r of the frame lies between, and the part of the way to the second."""
    low = rows.low[r]
    return wide[low], wide[min(low + 1, len(wide) - 1)], rows.part[r]


@compiled
def size_at(image, noise, rows, r, c):  # type: ignore[no-untyped-def]
    """A pixel's size in units of the noise (m, W), widened."""
    upper, lower, part = two_rows(noise, rows, r)
    return abs(image[r, c]) / ((ONE - part) * upper[c] + part * lower[c])


@compiled
def cut(pixels, light, corners, full_scale, ceiling, patches, t):  # type: ignore[no-untyped-def]
    """Fills patches[:, t] of (N, T, h, w) with the light (H, W) from corners (N, 2) x, y on.

    A pixel that is at full scale in the frame's pixels (H, W) is at the region's ceiling (N,); one that is bad stays NaN.
    """
    for k in range(len(corners)):
        x, y = corners[k]
        for r in range(patches.shape[2]):
            for c in range(patches.shape[3]):
                there = light[y + r, x + c]
                saturated = np.float32(pixels[y + r, x + c]) >= full_scale and there == there
                patches[k, t, r, c] = ceiling[k] if saturated else there
