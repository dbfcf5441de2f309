"""Where in a full frame a group of targets may be.

A frame is made ready once, by itself: its dead and hot pixels are taken out and the background is taken off, which is the
median of the neighbourhood's 4 x 4 px means. Then filters look for light of the shape that the optics give a point:

    the wide one    matched to a target anywhere within its pixel, blind to a constant: the most sensitive where it is calm
    the tight one   blind to anything that bends no more than a parabola within 5 px: for the edges of clouds

A filter's response is measured in its noise about the place: the larger of what the neighbourhood of some 80 px usually
shows and what a ring about the place shows. Noise alone passes the threshold as often as the settings say. Clouds would
pass it more often, but they dip below as often as they rise above, and targets never dip. So where a frame has more dips
than noise makes, it has clouds: the tight filter is asked too, and each one's threshold goes up until as many dips would
be left as the settings allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from irst_stream.optics import PATCH, psf
from irst_stream.propose.bad_pixels import BadPixels
from irst_stream.propose.coarse import CellMeans, Image, given, read_at
from irst_stream.propose.compiled import (
    REACH,
    SPREAD,
    STANDS_OUT,
    Between,
    cover,
    cut,
    light_middles,
    mean_light,
    peaks,
    respond,
    rims,
    standing_out,
    strengths,
    take_off,
)
from irst_stream.propose.settings import ProposeSettings, check_search
from irst_stream.system.numba_cache import compile_elsewhere
from irst_stream.types import Floats, Frame, Ints, Pixels, Stamp

__all__ = ["Prepared", "Proposals", "Proposer", "corners_of", "cut_out", "warm_up"]

CELL = 4  # px a side: of these cells' means, the median of 5 x 5 is the background
NOISE_CELL = 16  # px a side: of these cells' mean deviations, the median of 5 x 5 is the noise
WHOLE = 0.2887  # DN: what rounding to whole numbers adds to the noise
ROUNDING, TINY = 1e-6, 1e-12  # of the largest value, and DN: what arithmetic in float32 adds
TOGETHER = 2.5  # px along each axis: peaks this close to a region's middle have no other one
MAXIMA = 0.95  # peaks of a filter's response to noise above a high threshold, over pixels above it if all were independent
MOST_BAD = 0.01  # of all pixels: above that the noise is measured without them
MOST_PEAKS = 300  # of each filter: more are looked at in no frame
PRUDENCE = 1.15  # a frame's few strongest dips are rarer, and stronger, than their mean tells


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One frame, made ready: a function of it and of the pixels that were known to be bad when it came, of nothing else.

    light (H, W) DN: background removed, NaN where a pixel is bad. background and noise: coarse maps, DN, for read_at():
    noise is a pixel's standard deviation about the background. least_noise: DN, what the numbers' own rounding makes.
    """

    light: Image
    background: Image
    noise: Image
    least_noise: float


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Regions that may hold a group, the strongest first.

    middles (N, 2) x, y px of the region's light; strength (N,) in units of the noise of the filter that saw it best; noise
    (N,) and background (N,) DN, of a pixel there; left_out: how many more there were than the settings allow.
    """

    middles: Floats
    strength: Floats
    noise: Floats
    background: Floats
    left_out: int


class _Seen(NamedTuple):
    """What rises, (K, 2) x, y px and its strength (K,), and the strengths (M,) of what dips below the threshold."""

    xy: Floats
    strength: Floats
    dips: Floats

    def above(self, threshold: float) -> tuple[Floats, Floats]:
        keep = self.strength > threshold
        return self.xy[keep], self.strength[keep]


class _Filter(NamedTuple):
    """A filter as a sum of products: weights (K,), K even, and each one's taps (K, REACH + 1) from the middle outwards."""

    weights: Image
    taps: Image


class _Noise(NamedTuple):
    """A pixel's noise, DN: a map (m, W), widened, and where the frame's rows lie in it."""

    wide: Image
    rows: Between


class Proposer:
    """One sensor's. Learns its dead and hot pixels from the frames it is shown, and remembers nothing else of them.

    Compiles, or loads what was compiled before, when the first one is made.
    """

    def __init__(self, settings: ProposeSettings, shape: tuple[int, int]) -> None:
        """shape: rows, columns of the frames."""
        check_search(settings)
        compile_elsewhere("the search", cut, warm_up)
        self.settings = settings
        self._shape = shape
        self._bad_pixels = BadPixels(settings.sigma_px, shape)
        self._known_share: tuple[Ints, Image | None] = self._bad_pixels.known, None
        self._cells, self._noise_cells = CellMeans(shape, CELL), CellMeans(shape, NOISE_CELL, every=2)
        self._wide, self._tight = _blind(settings.sigma_px, 7, 0), _blind(settings.sigma_px, 5, 2)
        self._threshold = float(-ndtri(min(settings.false_alarms / (MAXIMA * shape[0] * shape[1]), 0.1)))
        # to work in: fresh memory takes longer than the sums
        self._light, self._response = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._places = np.empty(shape[0] * shape[1], np.int64)

    @property
    def bad(self) -> Ints:
        """(M, 2) x, y of the pixels that are known to be bad."""
        return _to_xy(self._bad_pixels.known, self._shape[1])

    def prepare(self, pixels: Pixels) -> Prepared:
        """The sensor's next frame (H, W) uint8, uint16 or float32, DN, NaN or infinite where a pixel holds nothing."""
        known = bad = self._bad_pixels.known
        means, holes = self._cells.of(pixels, known)
        if holes:
            bad = np.union1d(known, np.flatnonzero(~np.isfinite(pixels)))
        background = self._cells.median(means, self._cells.share(bad) if holes else self._share())
        light = np.empty(self._shape, np.float32)
        take_off(given(pixels), self._cells.widened(background), self._cells.rows, bad, light)
        least = WHOLE if pixels.dtype != np.float32 else max(ROUNDING * float(background.max()), TINY)
        noise = self._noise(light, least, self._noise_cells.share(bad) if holes else None)
        wide = self._widened(noise)
        raw = np.nan_to_num(pixels.ravel()[known].astype(np.float32), posinf=0, neginf=0)
        raw -= read_at(background, _to_xy(known, self._shape[1]), self._shape).astype(np.float32)
        spikes = self._bad_pixels.learn(light, *wide, self._standing_out(light, wide, float(STANDS_OUT)), raw)
        light.ravel()[spikes] = np.nan
        return Prepared(light, background, noise, least)

    def propose(self, prepared: Prepared, around: Sequence[Prepared] = ()) -> Proposals:
        """The regions of a frame.

        around: frames before and after it; all together are averaged, which shows fainter targets as long as these move by
        less than their own width, a pixel or so, from the first frame to the last.
        """
        light, share = self._average([prepared, *around])
        least = prepared.least_noise / float(np.sqrt(1 + len(around)))
        wide = self._search(light, self._wide, least, share)
        clouds = len(wide.dips) > _most(self.settings.false_alarms)
        found = [wide, self._search(light, self._tight, least, share)] if clouds else [wide]
        allowed = self.settings.false_alarms / len(found)
        kept = [seen.above(_threshold(self._threshold, seen.dips, allowed)) for seen in found]
        xy, strength = (np.concatenate(part) for part in zip(*kept, strict=True))
        middles, strength = _regions(light, xy, strength)
        most = self.settings.most_regions
        left_out = max(len(middles) - most, 0)
        middles, strength = middles[:most], strength[:most]
        there = [read_at(coarse, middles, self._shape) for coarse in (prepared.noise, prepared.background)]
        return Proposals(middles, strength, there[0], there[1], left_out)

    def _share(self) -> Image | None:
        """Of each cell's pixels that are not known to be bad, None: all."""
        known = self._bad_pixels.known
        if self._known_share[0] is not known:
            self._known_share = known, self._cells.share(known)
        return self._known_share[1]

    def _noise(self, image: Image, least: float, share: Image | None) -> Image:
        """A coarse map of an image's noise, at least so much; a group in it is too small to matter.

        share: of good pixels in its cells.
        """
        means, _ = self._noise_cells.of(image, rectify=True)
        noise = self._noise_cells.median(means, share) * SPREAD
        return np.asarray(np.maximum(noise, least), np.float32)

    def _widened(self, noise: Image) -> _Noise:
        return _Noise(self._noise_cells.widened(noise), self._noise_cells.rows)

    def _standing_out(self, image: Image, noise: _Noise, limit: float) -> Ints:
        """The flat places, rising, that exceed the noise so many times."""
        return self._places[: standing_out(image, *noise, np.float32(limit), self._places)].copy()

    def _search(self, light: Image, kernel: _Filter, least: float, share: Image | None) -> _Seen:
        """What one filter sees; share: of good pixels in the noise's cells."""
        response = self._response
        respond(light, *kernel, response)
        noise = self._widened(self._noise(response, least, share))
        at, sizes = peaks(response, *noise, self._standing_out(response, noise, self._threshold))
        largest = _largest(sizes)
        at, sizes = at[largest], sizes[largest]
        strength, rises = strengths(response, *noise, at, sizes), response.ravel()[at] > 0
        dips = strength[~rises & ~rims(response, at)]
        xy = _to_xy(at[rises], self._shape[1]).astype(np.float64)
        return _Seen(xy, strength[rises], dips[dips > self._threshold])

    def _average(self, frames: Sequence[Prepared]) -> tuple[Image, Image | None]:
        """The mean light, 0 where a pixel is bad in any; the share of good pixels in the noise's cells, None: most are."""
        lights = tuple(frame.light for frame in frames)
        if mean_light(lights, self._light) <= MOST_BAD * self._light.size:
            return self._light, None
        bad = np.flatnonzero(np.logical_or.reduce([np.isnan(light) for light in lights]))
        return self._light, self._noise_cells.share(bad)


@cache
def warm_up() -> None:
    """Calls all that is compiled as it is called for frames of each type, once in a process: no frame waits for it then."""
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = np.zeros((65, 65), dtype)
        pixels[30:34, 30:34] = 100
        proposer = Proposer(ProposeSettings(), pixels.shape)
        prepared = proposer.prepare(pixels)
        for others in (0, 2, 4):
            found = proposer.propose(prepared, others * [prepared])
        cut_out([Frame(Stamp("", 0, 0, 0), pixels)], [prepared], corners_of(found.middles, pixels.shape), found.background)


def cut_out(frames: Sequence[Frame], prepared: Sequence[Prepared], corners: Ints, ceiling: Floats) -> Image:
    """(N, T, 11, 11) DN: the same regions of T frames, background removed, NaN where a pixel is bad.

    corners (N, 2) x, y: of the regions; ceiling (N,): DN, at which saturated pixels stand.
    """
    patches = np.empty((len(corners), len(frames), *PATCH), np.float32)
    for t, (frame, ready) in enumerate(zip(frames, prepared, strict=True)):
        full_scale = np.float32(frame.full_scale)
        cut(given(frame.pixels), ready.light, corners, full_scale, ceiling.astype(np.float32), patches, t)
    return patches


def corners_of(middles: Floats, shape: tuple[int, int]) -> Ints:
    """Middles (N, 2) x, y px to the corners (N, 2) x, y of regions of PATCH about them, whole pixels, inside the frame."""
    half, room = (np.array(PATCH[::-1]) - 1) / 2, np.array(shape[::-1]) - PATCH[::-1]
    return np.clip(np.rint(middles - half), 0, room).astype(np.int64)


def _blind(sigma_px: float, size: int, order: int) -> _Filter:
    """A filter of unit noise, size px a side: a point anywhere in its middle, freed of its polynomial of that order."""
    places = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 11)]), axis=-1) + size // 2
    image = psf(places, (size, size), sigma_px).mean(axis=(0, 1)).ravel()
    y, x = np.indices((size, size)).reshape(2, -1) - size // 2
    powers = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    base = np.linalg.qr(np.stack(powers, axis=1).astype(np.float64))[0]
    left = image - base @ (base.T @ image)
    return _products((left / np.linalg.norm(left)).reshape(size, size))


def _products(kernel: Floats) -> _Filter:
    """A filter that is the same mirrored and turned, as a sum of products: its eigenvectors'."""
    weights, vectors = np.linalg.eigh(kernel)
    kept = np.abs(weights) > 1e-9 * np.abs(weights).max()
    half = vectors[len(kernel) // 2 :, kept].T
    odd = kept.sum() % 2
    taps = np.pad(half, ((0, odd), (0, REACH + 1 - half.shape[1])))
    return _Filter(np.pad(weights[kept], (0, odd)).astype(np.float32), taps.astype(np.float32))


def _largest(sizes: Image) -> Ints:
    """Which ones; of more than MOST_PEAKS, the largest."""
    if len(sizes) <= MOST_PEAKS:
        return np.arange(len(sizes))
    return np.sort(np.argpartition(-sizes, MOST_PEAKS)[:MOST_PEAKS])


def _threshold(least: float, dips: Floats, allowed: float) -> float:
    """What rises must exceed, given the strengths of the dips: the least, unless there are more dips than noise makes.

    Then as many are left as may be, if their strengths fall off exponentially.
    """
    if len(dips) <= _most(allowed):
        return least
    return float(least + PRUDENCE * (dips - least).mean() * np.log(len(dips) / allowed))


def _most(expected: float) -> float:
    """How many there may be by chance, of that many expected."""
    return float(1 + expected + 2 * np.sqrt(expected))


def _regions(light: Image, xy: Floats, strength: Floats) -> tuple[Floats, Floats]:
    """Peaks to the middles of regions that hold them all, those of the light, and strengths, the strongest first."""
    middles = light_middles(light, light_middles(light, xy))
    kept = cover(xy, middles, np.argsort(-strength, kind="stable"), TOGETHER)
    return middles[kept], strength[kept]


def _to_xy(flat: Ints, width: int) -> Ints:
    return np.stack([flat % width, flat // width], axis=-1)
