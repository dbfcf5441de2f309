"""The sums over whole frames that the search is made of, and what is looked at about single places. Compiled.

Frames are read row by row, in float32 throughout, so that the processor does many pixels at once; wherever few places
matter they are listed in one pass and looked at one by one. Places are flat: row * width + column. A map of cells that has
been widened, (m, W), has been interpolated along its rows already; down its columns that is done where it is read.

All of it stands in one file: see compiling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.compiling import compiled
from irst_stream.types import Ints

__all__ = [
    "DOUBT",
    "REACH",
    "SPREAD",
    "STANDS_OUT",
    "Between",
    "Cells",
    "cell_means",
    "cover",
    "cut",
    "light_middles",
    "mean_light",
    "peaks",
    "read_map",
    "respond",
    "rims",
    "standing_out",
    "strengths",
    "surpluses",
    "take_off",
]

ZERO, ONE, NAN = np.float32(0), np.float32(1), np.float32(np.nan)
LARGEST = np.finfo(np.float32).max
REACH = 3  # px to either side: as far as a filter reaches
SPREAD = np.float32(1.2533)  # a Gaussian's standard deviation over its mean absolute deviation
RING_MARGIN = np.float32(1.2)  # a ring of 72 pixels of pure noise seldom exceeds the noise by more
RING_LIMIT = np.float32(4)  # a pixel of the ring counts as no more than this much noise, so that a neighbour hides no group
LIGHT = 3  # px about a peak: that far its light is looked at for its middle
BRIGHT = np.float32(1.5)  # times the depth of a dip: what makes it a rim
STANDS_OUT = np.float32(5)  # of the noise: from there a pixel may be bad, and as a neighbour speaks for neither side
DOUBT = np.float32(0.25)  # half of what a target and a bad pixel that just stands out differ by, roughly
SQRT2, USUAL = (
    np.float32(np.sqrt(2)),
    np.float32(1 / np.sqrt(np.pi)),
)  # of the lesser of two: what noise makes it on average


class Cells(NamedTuple):
    """m cells along an axis: the mean over cell k is share[k] (m, n) times the n pixels from first[k] (m,) on."""

    first: Ints
    share: NDArray[np.float32]


class Between(NamedTuple):
    """n pixels along an axis, each between the middles of cells low (n,) and low + 1, part (n,) of the way."""

    low: Ints
    part: NDArray[np.float32]


@compiled
def cell_means(image, bad, down, along, every, rectify, means):  # type: ignore[no-untyped-def]
    """Fills means (m, n): of each cell's pixels; those that are not finite, or bad, count as 0. How many are not finite.

    image (H, W) of any type; bad: flat places, rising; down and along: the Cells; every: only every so many rows are read,
    and are what `down` is about; rectify: of the pixels' sizes.
    """
    width, holes = image.shape[1], 0
    row, total = np.empty(width, np.float32), np.empty(width, np.float32)
    for j in range(len(down.first)):
        total[:] = ZERO
        for k in range(down.share.shape[1]):
            r = every * (down.first[j] + k)
            holes += _finite(image[r], rectify, row)
            _blank(row, bad, r * width)
            share = down.share[j, k]
            for c in range(width):
                total[c] += share * row[c]
        _across(total, along, means[j])
    return holes


@compiled
def _finite(given, rectify, row):  # type: ignore[no-untyped-def]
    """Fills a row with the numbers given, or their sizes, 0 for what is not finite; how many these are."""
    holes = 0
    for c in range(len(row)):
        value = np.float32(given[c])
        size = abs(value)
        finite = size <= LARGEST
        holes += not finite
        row[c] = (size if rectify else value) if finite else ZERO
    return holes


@compiled
def _blank(row, bad, start):  # type: ignore[no-untyped-def]
    """Sets a row's bad pixels to 0; start: the flat place of its first pixel."""
    if len(bad) == 0:
        return
    k = np.searchsorted(bad, start)
    while k < len(bad) and bad[k] < start + len(row):
        row[bad[k] - start] = ZERO
        k += 1


@compiled
def _across(row, along, means):  # type: ignore[no-untyped-def]
    """Fills means (n,) of a row's cells."""
    for i in range(len(means)):
        total = ZERO
        for k in range(along.share.shape[1]):
            total += along.share[i, k] * row[along.first[i] + k]
        means[i] = total


@compiled
def take_off(pixels, background, rows, bad, light):  # type: ignore[no-untyped-def]
    """Fills light (H, W): the pixels without the background (m, W), which has been widened; NaN where they are bad."""
    width = light.shape[1]
    for r in range(len(light)):
        upper, lower, part = _two_rows(background, rows, r)
        given, row = pixels[r], light[r]
        for c in range(width):
            row[c] = np.float32(given[c]) - ((ONE - part) * upper[c] + part * lower[c])
    for at in bad:
        light[at // width, at % width] = NAN


@compiled
def _two_rows(wide, rows, r):  # type: ignore[no-untyped-def]
    """The two rows of a widened map that row r of the frame lies between, and the part of the way to the second."""
    low = rows.low[r]
    return wide[low], wide[min(low + 1, len(wide) - 1)], rows.part[r]


@compiled
def standing_out(image, noise, rows, limit, places):  # type: ignore[no-untyped-def]
    """Fills places (H * W,): those that exceed, up or down, so many times the noise (m, W), widened; how many they are."""
    count, width = 0, image.shape[1]
    flags = np.zeros(-(-width // 8) * 8, np.uint8)
    words = flags.view(np.uint64)
    for r in range(len(image)):
        upper, lower, part = _two_rows(noise, rows, r)
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
def respond(light, weights, taps, response):  # type: ignore[no-untyped-def]
    """Fills response (H, W) of light (H, W), mirrored at its borders, to a filter that is a sum of products.

    weights (K,): of the products, an even number of them, since two share the reading; taps (K, REACH + 1): of each, along
    either axis, for the middle and so many px from it.
    """
    width = light.shape[1]
    one, other = np.empty(width + 2 * REACH, np.float32), np.empty(width + 2 * REACH, np.float32)
    for r in range(len(light)):
        response[r] = ZERO
        for k in range(0, len(weights), 2):
            _down(light, r, taps[k], taps[k + 1], one[REACH : REACH + width], other[REACH : REACH + width])
            _mirror(one)
            _mirror(other)
            _along(one, weights[k], taps[k], other, weights[k + 1], taps[k + 1], response[r])


@compiled
def _down(light, r, s, t, one, other):  # type: ignore[no-untyped-def]
    """Fills one (W,) and the other with the sums down the columns about row r, by the taps s and t."""
    height = len(light)
    s0, s1, s2, s3 = s[0], s[1], s[2], s[3]
    t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
    middle, above_1, above_2, above_3 = light[r], light[abs(r - 1)], light[abs(r - 2)], light[abs(r - 3)]
    below_1, below_2 = light[_mirrored(r + 1, height)], light[_mirrored(r + 2, height)]
    below_3 = light[_mirrored(r + 3, height)]
    for c in range(len(one)):
        p0, p1, p2, p3 = middle[c], above_1[c] + below_1[c], above_2[c] + below_2[c], above_3[c] + below_3[c]
        one[c] = s0 * p0 + s1 * p1 + s2 * p2 + s3 * p3
        other[c] = t0 * p0 + t1 * p1 + t2 * p2 + t3 * p3


@compiled
def _along(one, v, s, other, w, t, row):  # type: ignore[no-untyped-def]
    """Adds to row (W,) v times the sums along one (W + 2 REACH,) by the taps s, and w times those along the other by t."""
    s0, s1, s2, s3 = v * s[0], v * s[1], v * s[2], v * s[3]
    t0, t1, t2, t3 = w * t[0], w * t[1], w * t[2], w * t[3]
    for c in range(len(row)):
        first = (
            s0 * one[c + 3] + s1 * (one[c + 2] + one[c + 4]) + s2 * (one[c + 1] + one[c + 5]) + s3 * (one[c] + one[c + 6])
        )
        second = t0 * other[c + 3] + t1 * (other[c + 2] + other[c + 4])
        row[c] += first + second + t2 * (other[c + 1] + other[c + 5]) + t3 * (other[c] + other[c + 6])


@compiled
def _mirror(padded):  # type: ignore[no-untyped-def]
    """Fills the REACH values beyond either end of a row."""
    last = len(padded) - 1
    for i in range(REACH):
        padded[i] = padded[2 * REACH - i]
        padded[last - i] = padded[last - 2 * REACH + i]


@compiled
def _mirrored(r, height):  # type: ignore[no-untyped-def]
    """A row below the frame to the one that stands for it."""
    return r if r < height else 2 * (height - 1) - r


@compiled
def _size(image, noise, rows, r, c):  # type: ignore[no-untyped-def]
    """A pixel's size in units of the noise (m, W), widened."""
    upper, lower, part = _two_rows(noise, rows, r)
    return abs(image[r, c]) / ((ONE - part) * upper[c] + part * lower[c])


@compiled
def peaks(response, noise, rows, places):  # type: ignore[no-untyped-def]
    """Those places (K,) that no other within 2 px along either axis exceeds, and their sizes in units of the noise."""
    width = response.shape[1]
    kept, sizes, count = np.empty(len(places), np.int64), np.empty(len(places), np.float32), 0
    for place in places:
        r, c = place // width, place % width
        size = _size(response, noise, rows, r, c)
        if _is_highest(response, noise, rows, r, c, size):
            kept[count], sizes[count] = place, size
            count += 1
    return kept[:count], sizes[:count]


@compiled
def _is_highest(response, noise, rows, r, c, size):  # type: ignore[no-untyped-def]
    height, width = response.shape
    for y in range(max(r - 2, 0), min(r + 3, height)):
        for x in range(max(c - 2, 0), min(c + 3, width)):
            if _size(response, noise, rows, y, x) > size:
                return False
    return True


@compiled
def _inside(k, length):  # type: ignore[no-untyped-def]
    return min(max(k, 0), length - 1)


@compiled
def strengths(response, noise, rows, places, sizes):  # type: ignore[no-untyped-def]
    """(K,): how far a place stands out from the noise or, where that is more, from the ring of 72 pixels about it."""
    height, width = response.shape
    found = np.empty(len(places), np.float64)
    for k in range(len(places)):
        r, c, total = places[k] // width, places[k] % width, ZERO
        for y in range(-8, 9, 2):
            for x in range(-8, 9, 2):
                if max(abs(y), abs(x)) >= 4:
                    there = _size(response, noise, rows, _inside(r + y, height), _inside(c + x, width))
                    total += min(there, RING_LIMIT)
        found[k] = sizes[k] / max(ONE, SPREAD * total / np.float32(72) / RING_MARGIN)
    return found


@compiled
def rims(response, places):  # type: ignore[no-untyped-def]
    """(K,): which places may be but the dark rim that a filter draws about something bright."""
    height, width = response.shape
    found = np.empty(len(places), np.bool_)
    for k in range(len(places)):
        r, c, brightest = places[k] // width, places[k] % width, ZERO
        for y in range(-6, 7, 2):
            for x in range(-6, 7, 2):
                brightest = max(brightest, response[_inside(r + y, height), _inside(c + x, width)])
        found[k] = brightest > -BRIGHT * response[r, c]
    return found


@compiled
def surpluses(light, places, values, noise, rows, share):  # type: ignore[no-untyped-def]
    """By how much the neighbours of places fall short of what the optics ask for, and the noise there, (K,) each.

    light (H, W) DN, NaN where a pixel is bad; values (K,): the places' own light, of bad ones too; share: of a pixel's
    light, that two opposite neighbours have together at least. In units of the shortfall's own noise, the lesser of two:
    over the background, which is not always right, and over the surroundings, not always dark.
    """
    width = light.shape[1]
    found, levels = np.empty(len(places), np.float32), np.empty(len(places), np.float32)
    for k in range(len(places)):
        r, c = places[k] // width, places[k] % width
        upper, lower, part = _two_rows(noise, rows, r)
        level = (ONE - part) * upper[c] + part * lower[c]
        surplus = _surplus(light, r, c, values[k], level, ZERO, share)
        if surplus > DOUBT:
            around = _around(light, r, c)
            rises = (values[k] - around) * values[k] > ZERO
            surplus = min(surplus, _surplus(light, r, c, values[k], level, around, share) if rises else -ONE)
        found[k], levels[k] = surplus, level
    return found, levels


@compiled
def _surplus(light, r, c, value, level, base, share):  # type: ignore[no-untyped-def]
    """The same of one place, over this base; a neighbour that is bad, or plainly seems so, speaks for neither side."""
    height, width = light.shape
    sign = np.sign(value)
    over, under = light[max(r - 1, 0), c], light[min(r + 1, height - 1), c]
    left, right = light[r, max(c - 1, 0)], light[r, min(c + 1, width - 1)]
    upright = _pair(sign * (over - base), sign * (under - base), level)
    across = _pair(sign * (left - base), sign * (right - base), level)
    pair = min(upright, across)
    if pair == np.inf:
        pair = ZERO
    return (share * abs(value - base) - pair) / (SQRT2 * level) - USUAL


@compiled
def _pair(one, other, level):  # type: ignore[no-untyped-def]
    """The light of two opposite neighbours, infinite where either is not heard."""
    heard = one > -STANDS_OUT * level and other > -STANDS_OUT * level
    return one + other if heard else np.float32(np.inf)


@compiled
def _around(light, r, c):  # type: ignore[no-untyped-def]
    """The mean light of the 16 pixels that are 2 px away, bad ones counting as 0."""
    height, width = light.shape
    total = ZERO
    for y in range(-2, 3):
        for x in range(-2, 3):
            if max(abs(y), abs(x)) == 2:
                there = light[_inside(r + y, height), _inside(c + x, width)]
                total += there if there == there else ZERO
    return total / np.float32(16)


@compiled
def cover(xy, middles, order, distance):  # type: ignore[no-untyped-def]
    """Which peaks xy (N, 2), taken in this order, have regions of their own, so that each is near the middle of one.

    middles (N, 2): of the regions that they would have; where another one's is near already, its peak itself takes its
    place. distance: px along each axis, up to which something is near.
    """
    kept, count = np.empty(len(order), np.int64), 0
    for k in order:
        if _is_far(xy[k], middles, kept[:count], distance):
            if not _is_far(middles[k], middles, kept[:count], distance):
                middles[k] = xy[k]
            kept[count] = k
            count += 1
    return kept[:count]


@compiled
def _is_far(place, middles, kept, distance):  # type: ignore[no-untyped-def]
    """Whether a place (2,) is more than the distance from all middles that are kept, along either axis."""
    far = True
    for k in kept:
        far &= max(abs(place[0] - middles[k, 0]), abs(place[1] - middles[k, 1])) > distance
    return far


@compiled
def light_middles(light, xy):  # type: ignore[no-untyped-def]
    """(N, 2) x, y px to the middles of the light (H, W) that stands out about them; beyond the border, that at it."""
    height, width = light.shape
    middles = np.empty_like(xy)
    for k in range(len(xy)):
        x, y, brightest = int(np.rint(xy[k, 0])), int(np.rint(xy[k, 1])), ZERO
        for r in range(y - LIGHT, y + LIGHT + 1):
            for c in range(x - LIGHT, x + LIGHT + 1):
                brightest = max(brightest, light[_inside(r, height), _inside(c, width)])
        total = along = down = 0.0
        for r in range(y - LIGHT, y + LIGHT + 1):
            for c in range(x - LIGHT, x + LIGHT + 1):
                i, j = _inside(r, height), _inside(c, width)
                weight = max(light[i, j] - 0.2 * brightest, 0.0) + 1e-12
                total += weight
                along += weight * j
                down += weight * i
        middles[k, 0], middles[k, 1] = along / total, down / total
    return middles


@compiled
def read_map(coarse, xy, height, width):  # type: ignore[no-untyped-def]
    """(N,): a coarse map (m, n) of frames of that size, read at (N, 2) x, y px, linear between the middles of its cells."""
    found = np.empty(len(xy), np.float64)
    for k in range(len(xy)):
        x0, x1, u = _amid(xy[k, 0], width, coarse.shape[1])
        y0, y1, v = _amid(xy[k, 1], height, coarse.shape[0])
        top = coarse[y0, x0] * (1 - u) + coarse[y0, x1] * u
        found[k] = top * (1 - v) + (coarse[y1, x0] * (1 - u) + coarse[y1, x1] * u) * v
    return found


@compiled
def _amid(place, length, cells):  # type: ignore[no-untyped-def]
    """The two of so many cells along an axis that a place is between, and the part of the way to the second."""
    at = min(max((place + 0.5) * cells / length - 0.5, 0.0), cells - 1.0)
    low = min(int(at), max(cells - 2, 0))
    return low, min(low + 1, cells - 1), at - low


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
