"""Tests of single pixels: target or bad pixel, where its light is centred, which peaks get a region. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cell_grid import ONE, ZERO
from irst_stream.propose.compiled.filters import clamp_index
from irst_stream.propose.compiled.frames import bracketing_rows
from irst_stream.system.numba_cache import compiled

__all__ = [
    "DEFICIT_ALLOWANCE",
    "OUTLIER_SIGMAS",
    "bright_pixels",
    "light_centroids",
    "neighbour_deficits",
    "select_regions",
]

CENTROID_RADIUS = 3  # px about a peak
# Two points of equal light whose sum does not fall below this share between them are within three widths of the PSF.
SADDLE_SHARE, MAX_APART_PX = np.float32(0.7), 10
MAX_REACH_PX = 24  # of a light from its peak, along each axis: what reaches farther is no target
HALF = np.float32(0.5)
OUTLIER_SIGMAS = np.float32(5)  # beyond this a pixel may be bad; a neighbour that dips by as much is not used
DEFICIT_ALLOWANCE = np.float32(0.25)  # about half the difference between a target and a bad pixel that just stands out
SQRT2 = np.float32(np.sqrt(2))
MIN_OF_TWO_BIAS = np.float32(1 / np.sqrt(np.pi))  # sigmas by which noise lowers the lesser of two equal pairs, on average


@compiled
def neighbour_deficits(light, indices, values, noise, rows, share):  # type: ignore[no-untyped-def]
    """Return by how much each pixel's neighbours are darker than the optics allow, and the noise there: (K,) each.

    light (H, W) DN, NaN at bad pixels; indices (K,): flat; values (K,): the pixels' own light, also of bad ones; noise: an
    expanded map; share: the least share of a pixel's light that two opposite neighbours receive together. A deficit is in
    units of its own standard deviation. It is the lesser of two, since the background may be wrong and the surroundings
    may not be dark: measured from the background, and from the mean of the surroundings.
    """
    width = light.shape[1]
    deficits, levels = np.empty(len(indices), np.float32), np.empty(len(indices), np.float32)
    for k in range(len(indices)):
        r, c = indices[k] // width, indices[k] % width
        upper, lower, fraction = bracketing_rows(noise, rows, r)
        level = (ONE - fraction) * upper[c] + fraction * lower[c]
        deficit = _deficit(light, r, c, values[k], level, ZERO, share)
        if deficit > DEFICIT_ALLOWANCE:
            around = _mean_around(light, r, c)
            rises = (values[k] - around) * values[k] > ZERO
            deficit = min(deficit, _deficit(light, r, c, values[k], level, around, share) if rises else -ONE)
        deficits[k], levels[k] = deficit, level
    return deficits, levels


@compiled
def _deficit(light, r, c, value, level, base, share):  # type: ignore[no-untyped-def]
    """Return one pixel's neighbour deficit measured from a base level, DN; pairs with a bad neighbour are left out."""
    height, width = light.shape
    sign = np.sign(value)
    over, under = light[max(r - 1, 0), c], light[min(r + 1, height - 1), c]
    left, right = light[r, max(c - 1, 0)], light[r, min(c + 1, width - 1)]
    upright = _pair_light(sign * (over - base), sign * (under - base), level)
    across = _pair_light(sign * (left - base), sign * (right - base), level)
    pair = min(upright, across)
    if pair == np.inf:
        pair = ZERO
    return (share * abs(value - base) - pair) / (SQRT2 * level) - MIN_OF_TWO_BIAS


@compiled
def _pair_light(one, other, level):  # type: ignore[no-untyped-def]
    """Return the summed light of two opposite neighbours, infinite where either is bad or dips like a bad pixel."""
    usable = one > -OUTLIER_SIGMAS * level and other > -OUTLIER_SIGMAS * level
    return one + other if usable else np.float32(np.inf)


@compiled
def _mean_around(light, r, c):  # type: ignore[no-untyped-def]
    """Return the mean light of the 16 pixels 2 px away, bad ones counting as 0."""
    height, width = light.shape
    total = ZERO
    for y in range(-2, 3):
        for x in range(-2, 3):
            if max(abs(y), abs(x)) == 2:
                value = light[clamp_index(r + y, height), clamp_index(c + x, width)]
                total += value if value == value else ZERO
    return total / np.float32(16)


@compiled
def select_regions(light, xy, centres, order, distance):  # type: ignore[no-untyped-def]
    """Select the peaks, of xy (N, 2), that get a region, so that every peak is near a region's centre; return their rows.

    Peaks are visited in the given order; one that is near a selected centre needs no region. Nor does one that makes up
    one light (H, W) with the peak of a region: the region's centre becomes the mean of their centres. centres (N, 2): those
    of the regions that the peaks would get; where a selected centre is near already, the peak itself replaces it, in
    place. distance: px along each axis, up to which a point is near.
    """
    kept, count, peaks = np.empty(len(order), np.int64), 0, np.zeros(len(order))
    for k in order:
        whole = _same_light(light, xy, kept[:count], k)
        if whole >= 0:
            peaks[whole] += 1.0
            for axis in range(2):
                centres[whole, axis] += (centres[k, axis] - centres[whole, axis]) / peaks[whole]
        elif _is_far(xy[k], centres, kept[:count], distance):
            if not _is_far(centres[k], centres, kept[:count], distance):
                centres[k] = xy[k]
            kept[count] = k
            peaks[k] = 1.0
            count += 1
    return kept[:count]


@compiled
def _same_light(light, xy, kept, k):  # type: ignore[no-untyped-def]
    """Return the row of the first of the kept peaks that makes up one light (H, W) with peak k of xy (N, 2), else -1.

    Nowhere on the way from one to the other does such light fall far below the fainter peak, as it does between points.
    """
    for j in kept:
        x, y = xy[j, 0] - xy[k, 0], xy[j, 1] - xy[k, 1]
        steps = int(np.ceil(2 * max(abs(x), abs(y))))  # of half a pixel
        if 0 < steps <= 2 * MAX_APART_PX:
            one, other = _brightest_near(light, xy[j, 0], xy[j, 1]), _brightest_near(light, xy[k, 0], xy[k, 1])
            enough = SADDLE_SHARE * min(light[one], light[other])
            is_one = enough > ZERO
            for step in range(1, steps):
                r, c = int(np.rint(xy[k, 1] + step / steps * y)), int(np.rint(xy[k, 0] + step / steps * x))
                is_one &= light[r, c] >= enough
            if is_one:
                return j
    return -1


@compiled
def _brightest_near(light, x, y):  # type: ignore[no-untyped-def]
    """Return row and column of the brightest of the 3 x 3 px of a light (H, W) about x, y px of the frame."""
    height, width = light.shape
    row, column = int(np.rint(y)), int(np.rint(x))
    best = row, column
    for r in range(max(row - 1, 0), min(row + 2, height)):
        for c in range(max(column - 1, 0), min(column + 2, width)):
            if light[r, c] > light[best]:
                best = r, c
    return best


@compiled
def _is_far(point, centres, kept, distance):  # type: ignore[no-untyped-def]
    """Tell whether a point (2,) is more than the distance from every kept centre, along either axis."""
    far = True
    for k in kept:
        far &= max(abs(point[0] - centres[k, 0]), abs(point[1] - centres[k, 1])) > distance
    return far


@compiled
def light_centroids(light, xy):  # type: ignore[no-untyped-def]
    """Return the centroids (N, 2), x, y px, of the bright light (H, W) about xy (N, 2); border pixels are repeated."""
    height, width = light.shape
    centroids = np.empty_like(xy)
    for k in range(len(xy)):
        x, y, brightest = int(np.rint(xy[k, 0])), int(np.rint(xy[k, 1])), ZERO
        for r in range(y - CENTROID_RADIUS, y + CENTROID_RADIUS + 1):
            for c in range(x - CENTROID_RADIUS, x + CENTROID_RADIUS + 1):
                brightest = max(brightest, light[clamp_index(r, height), clamp_index(c, width)])
        total = along = down = 0.0
        for r in range(y - CENTROID_RADIUS, y + CENTROID_RADIUS + 1):
            for c in range(x - CENTROID_RADIUS, x + CENTROID_RADIUS + 1):
                i, j = clamp_index(r, height), clamp_index(c, width)
                weight = max(light[i, j] - 0.2 * brightest, 0.0) + 1e-12
                total += weight
                along += weight * j
                down += weight * i
        centroids[k, 0], centroids[k, 1] = along / total, down / total
    return centroids


@compiled
def bright_pixels(light, x, y):  # type: ignore[no-untyped-def]
    """Return the pixels (P, 2), x, y, that are connected with the brightest about a place and at least half as bright.

    light (H, W) DN. P is 0 where they reach farther than MAX_REACH_PX: then they are no target.
    """
    height, width = light.shape
    row, column = _brightest_near(light, x, y)
    least = HALF * light[row, column]
    reach, most = MAX_REACH_PX, 2 * MAX_REACH_PX + 1
    seen = np.zeros((most, most), np.bool_)
    pixels = np.empty((most * most, 2), np.int64)
    pixels[0, 0], pixels[0, 1] = column, row
    seen[reach, reach], count, done = True, 1, 0
    while done < count and least > ZERO:
        c, r = pixels[done, 0], pixels[done, 1]
        done += 1
        for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            i, j = r + down, c + right
            if not (0 <= i < height and 0 <= j < width) or light[i, j] < least:
                continue
            if max(abs(i - row), abs(j - column)) > reach:
                return pixels[:0].copy()
            if not seen[i - row + reach, j - column + reach]:
                seen[i - row + reach, j - column + reach] = True
                pixels[count, 0], pixels[count, 1] = j, i
                count += 1
    return pixels[:count].copy()
