"""The filters' responses to a frame, their peaks, and what stands about a peak. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cells import ONE, ZERO
from irst_stream.propose.compiled.frames import size_at
from irst_stream.system.numba_cache import compiled

__all__ = ["REACH", "SPREAD", "inside", "peaks", "respond", "rims", "strengths"]

REACH = 3  # px to either side: as far as a filter reaches
SPREAD = np.float32(1.2533)  # a Gaussian's standard deviation over its mean absolute deviation
RING_MARGIN = np.float32(1.2)  # a ring of 72 pixels of pure noise seldom exceeds the noise by more
RING_LIMIT = np.float32(4)  # a pixel of the ring counts as no more than this much noise, so that a neighbour hides no group
BRIGHT = np.float32(1.5)  # times the depth of a dip: what makes it a rim


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
def peaks(response, noise, rows, places):  # type: ignore[no-untyped-def]
    """Those places (K,) that no other within 2 px along either axis exceeds, and their sizes in units of the noise."""
    width = response.shape[1]
    kept, sizes, count = np.empty(len(places), np.int64), np.empty(len(places), np.float32), 0
    for place in places:
        r, c = place // width, place % width
        size = size_at(response, noise, rows, r, c)
        if _is_highest(response, noise, rows, r, c, size):
            kept[count], sizes[count] = place, size
            count += 1
    return kept[:count], sizes[:count]


@compiled
def _is_highest(response, noise, rows, r, c, size):  # type: ignore[no-untyped-def]
    height, width = response.shape
    for y in range(max(r - 2, 0), min(r + 3, height)):
        for x in range(max(c - 2, 0), min(c + 3, width)):
            if size_at(response, noise, rows, y, x) > size:
                return False
    return True


@compiled
def inside(k, length):  # type: ignore[no-untyped-def]
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
                    there = size_at(response, noise, rows, inside(r + y, height), inside(c + x, width))
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
                brightest = max(brightest, response[inside(r + y, height), inside(c + x, width)])
        found[k] = brightest > -BRIGHT * response[r, c]
    return found
