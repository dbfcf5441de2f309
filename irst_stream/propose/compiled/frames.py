"""Passes over whole frames: background subtraction, averages, outliers; and patches cut out of frames. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cell_grid import NAN, ONE, ZERO
from irst_stream.system.numba_cache import compiled

__all__ = ["abs_snr_at", "bracketing_rows", "cut_patches", "find_outliers", "mean_light", "subtract_background"]


@compiled
def subtract_background(pixels, background, rows, bad, light):  # type: ignore[no-untyped-def]
    """Fill light (H, W) with the pixels minus the background, NaN at bad pixels.

    background (m, W): an expanded map; rows: the Interpolation of the frame's rows in it; bad: flat indices.
    """
    width = light.shape[1]
    for r in range(len(light)):
        upper, lower, fraction = bracketing_rows(background, rows, r)
        source, row = pixels[r], light[r]
        for c in range(width):
            row[c] = np.float32(source[c]) - ((ONE - fraction) * upper[c] + fraction * lower[c])
    for at in bad:
        light[at // width, at % width] = NAN


@compiled
def mean_light(lights, count, mean):  # type: ignore[no-untyped-def]
    """Fill mean (H, W) with the mean of several frames, 0 where a pixel is bad in any; return how many these are.

    lights: a tuple of images (H, W), NaN at bad pixels. Only the first `count` are used: every call passes a tuple of the
    same length, since the function is compiled for each length.
    """
    bad, weight = 0, np.float32(1 / count)
    for r in range(len(mean)):
        row, first = mean[r], lights[0][r]
        for c in range(len(row)):
            row[c] = first[c]
        for k in range(1, count):
            other = lights[k][r]
            for c in range(len(row)):
                row[c] += other[c]
        for c in range(len(row)):
            good = row[c] == row[c]
            bad += not good
            row[c] = weight * row[c] if good else ZERO
    return bad


@compiled
def find_outliers(image, noise, rows, limit, indices):  # type: ignore[no-untyped-def]
    """List the pixels that exceed limit times the noise, up or down, in ascending order; return how many there are.

    indices (H * W,): filled from the front with their flat indices; noise (m, W): an expanded map.
    """
    count, width = 0, image.shape[1]
    flags = np.zeros(-(-width // 8) * 8, np.uint8)
    words = flags.view(np.uint64)  # eight pixels in one comparison: outliers are rare
    for r in range(len(image)):
        upper, lower, fraction = bracketing_rows(noise, rows, r)
        row = image[r]
        for c in range(width):
            flags[c] = abs(row[c]) > limit * ((ONE - fraction) * upper[c] + fraction * lower[c])
        seen = words[0]
        for k in range(len(words)):
            seen |= words[k]
        if seen == 0:
            continue
        for k in range(len(words)):
            if words[k] != 0:
                for c in range(8 * k, 8 * k + 8):
                    if flags[c]:
                        indices[count] = r * width + c
                        count += 1
    return count


@compiled
def bracketing_rows(expanded, rows, r):  # type: ignore[no-untyped-def]
    """Return the two rows of an expanded map that enclose row r of the frame, and the fraction of the way to the second."""
    lower = rows.lower[r]
    return expanded[lower], expanded[min(lower + 1, len(expanded) - 1)], rows.fraction[r]


@compiled
def abs_snr_at(image, noise, rows, r, c):  # type: ignore[no-untyped-def]
    """Return a pixel's absolute value in units of the noise, an expanded map (m, W)."""
    upper, lower, fraction = bracketing_rows(noise, rows, r)
    return abs(image[r, c]) / ((ONE - fraction) * upper[c] + fraction * lower[c])


@compiled
def cut_patches(pixels, light, corners, full_scale, ceiling, patches, t):  # type: ignore[no-untyped-def]
    """Fill patches[:, t] of (N, T, h, w) with the light (H, W) of the regions whose first pixels are corners (N, 2) x, y.

    A pixel at full scale in the frame's pixels (H, W) gets the region's ceiling (N,); a bad pixel stays NaN.
    """
    for k in range(len(corners)):
        x, y = corners[k]
        for r in range(patches.shape[2]):
            for c in range(patches.shape[3]):
                value = light[y + r, x + c]
                saturated = np.float32(pixels[y + r, x + c]) >= full_scale and value == value
                patches[k, t, r, c] = ceiling[k] if saturated else value
