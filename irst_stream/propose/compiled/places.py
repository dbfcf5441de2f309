"""Single places: whether a pixel is a target or bad, the middle of its light, and which places stand for all. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cells import ONE, ZERO
from irst_stream.propose.compiled.filters import inside
from irst_stream.propose.compiled.frames import two_rows
from irst_stream.system.numba_cache import compiled

__all__ = ["DOUBT", "STANDS_OUT", "cover", "light_middles", "surpluses"]

LIGHT = 3  # px about a peak: that far its light is looked at for its middle
STANDS_OUT = np.float32(5)  # of the noise: from there a pixel may be bad, and as a neighbour speaks for neither side
DOUBT = np.float32(0.25)  # half of what a target and a bad pixel that just stands out differ by, roughly
SQRT2, USUAL = (
    np.float32(np.sqrt(2)),
    np.float32(1 / np.sqrt(np.pi)),
)  # of the lesser of two: what noise makes it on average


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
        upper, lower, part = two_rows(noise, rows, r)
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
                there = light[inside(r + y, height), inside(c + x, width)]
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
                brightest = max(brightest, light[inside(r, height), inside(c, width)])
        total = along = down = 0.0
        for r in range(y - LIGHT, y + LIGHT + 1):
            for c in range(x - LIGHT, x + LIGHT + 1):
                i, j = inside(r, height), inside(c, width)
                weight = max(light[i, j] - 0.2 * brightest, 0.0) + 1e-12
                total += weight
                along += weight * j
                down += weight * i
        middles[k, 0], middles[k, 1] = along / total, down / total
    return middles
