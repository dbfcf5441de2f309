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
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import ndtri

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH, SIGMA, psf
from irst_stream.types import Floats, Ints, Pixels

__all__ = ["Prepared", "Proposals", "ProposeSettings", "Proposer", "check_search", "corners_of", "read_at"]

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

CELL = 4  # px a side: of these cells' means, the median of 5 x 5 is the background
NOISE_CELL = 16  # px a side: of these cells' mean deviations, the median of 5 x 5 is the noise
SPREAD = np.float32(1.2533)  # a Gaussian's standard deviation over its mean absolute deviation
WHOLE = 0.2887  # DN: what rounding to whole numbers adds to the noise
ROUNDING, TINY = 1e-6, 1e-12  # of the largest value, and DN: what arithmetic in float32 adds
TOGETHER = 5.0  # px along each axis: peaks this close are one region's
LIGHT = 3  # px about a peak: that far its light is looked at for its middle
RING_MARGIN = 1.2  # a ring of 72 pixels of pure noise seldom exceeds the noise by more
RING_LIMIT = 4.0  # a pixel of the ring counts as no more than this much noise, so that a neighbour hides no group
MAXIMA = 0.95  # peaks of a filter's response to noise above a high threshold, over pixels above it if all were independent
MOST_PEAKS = 300  # of each filter: more are looked at in no frame
STANDS_OUT = 5.0  # of the noise: from there a pixel may be bad
PRUDENCE = 1.15  # a frame's few strongest dips are rarer, and stronger, than their mean tells
BRIGHT = 1.5  # times the depth of a dip: what makes it a rim


@dataclass(frozen=True)
class ProposeSettings:
    """How groups are looked for in full frames."""

    sigma_px: float = SIGMA
    false_alarms: float = 0.5  # regions a frame that noise alone may raise
    most_regions: int = 32  # a frame; of more, the strongest
    average: int = 3  # frames about the one that is searched, in which targets should move by less than two pixels


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


class Proposer:
    """One sensor's. Learns its dead and hot pixels from the frames it is shown, and remembers nothing else of them."""

    def __init__(self, settings: ProposeSettings, shape: tuple[int, int]) -> None:
        """shape: rows, columns of the frames."""
        check_search(settings)
        self.settings = settings
        self._shape = shape
        self._bad_pixels = _BadPixels(settings.sigma_px, shape)
        self._wide, self._tight = _blind(settings.sigma_px, 7, 0), _blind(settings.sigma_px, 5, 2)
        self._threshold = float(-ndtri(min(settings.false_alarms / (MAXIMA * shape[0] * shape[1]), 0.1)))
        self._rooms = [np.empty(shape, np.float32) for _ in range(4)]  # to work in: fresh memory takes longer than the sums
        self._mask = np.empty(shape, np.bool_)

    @property
    def bad(self) -> Ints:
        """(M, 2) x, y of the pixels that are known to be bad."""
        return _to_xy(self._bad_pixels.known, self._shape[1]).astype(np.int64)

    def prepare(self, pixels: Pixels) -> Prepared:
        """The sensor's next frame (H, W) uint8, uint16 or float32, DN, NaN or infinite where a pixel holds nothing."""
        light = pixels.astype(np.float32)
        known, bad, share = self._bad_pixels.known, self._bad_pixels.known, self._bad_pixels.share
        raw = np.nan_to_num(light.ravel()[known], posinf=0, neginf=0)
        holes = pixels.dtype == np.float32 and not np.isfinite(light, out=self._mask).all()
        if holes:
            bad = np.union1d(known, np.flatnonzero(~self._mask))
            share = _share(bad, self._shape, CELL)
        light.ravel()[bad] = 0
        background = _median(_cell_means(light, _cells(self._shape, CELL), share))
        light -= _spread(background, self._rooms[0])
        light.ravel()[bad] = 0
        size = np.abs(light, out=self._rooms[0])
        light.ravel()[bad] = np.nan
        noise = _noise(size, _share(bad, self._shape, NOISE_CELL) if holes else None)
        least = WHOLE if pixels.dtype != np.float32 else max(ROUNDING * float(background.max()), TINY)
        noise = np.maximum(noise, np.float32(least))
        size /= _spread(noise, self._rooms[1])
        raw -= read_at(background, _to_xy(known, self._shape[1]), self._shape).astype(np.float32)
        stands_out = np.greater(size, STANDS_OUT, out=self._mask)
        spikes = self._bad_pixels.learn(light, self._rooms[1], stands_out, raw)
        light.ravel()[spikes] = np.nan
        return Prepared(light, background, noise, least)

    def propose(self, prepared: Prepared, around: Sequence[Prepared] = ()) -> Proposals:
        """The regions of a frame.

        around: frames before and after it; all together are averaged, which shows fainter targets as long as these move by
        less than their own width, a pixel or so, from the first frame to the last.
        """
        light, share = self._average([prepared, *around])
        least = np.float32(prepared.least_noise / np.sqrt(1 + len(around)))
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

    def _search(self, light: Image, kernel: Image, least: np.float32, share: Image | None) -> _Seen:
        """What one filter sees; share: of good pixels in the noise's cells."""
        _, response, size, room = self._rooms
        cv2.filter2D(light, -1, kernel, dst=response, borderType=cv2.BORDER_REFLECT_101)
        np.abs(response, out=size)
        size /= _spread(np.maximum(_noise(size, share), least), room)
        peaks = np.flatnonzero(np.greater(size, self._threshold, out=self._mask))
        peaks = _largest(size, peaks[size.ravel()[peaks] >= cv2.dilate(size, _PEAK, dst=room).ravel()[peaks]])
        strength, rises = _strength(size, peaks), response.ravel()[peaks] > 0
        dips = strength[~rises & ~_rims(response, peaks)]
        xy = _to_xy(peaks[rises], self._shape[1]).astype(np.float64)
        return _Seen(xy, strength[rises], dips[dips > self._threshold])

    def _average(self, frames: Sequence[Prepared]) -> tuple[Image, Image | None]:
        """The mean light, 0 where a pixel is bad in any; the share of good pixels in the noise's cells, None: most are."""
        light = np.multiply(frames[0].light, np.float32(1 / len(frames)), out=self._rooms[0])
        for frame in frames[1:]:
            cv2.scaleAdd(frame.light, 1 / len(frames), light, dst=light)
        bad = np.flatnonzero(np.isnan(light, out=self._mask))
        light.ravel()[bad] = 0
        return light, _share(bad, self._shape, NOISE_CELL) if len(bad) > 0.01 * light.size else None


def corners_of(middles: Floats, shape: tuple[int, int]) -> Ints:
    """Middles (N, 2) x, y px to the corners (N, 2) x, y of regions of PATCH about them, whole pixels, inside the frame."""
    half, room = (np.array(PATCH[::-1]) - 1) / 2, np.array(shape[::-1]) - PATCH[::-1]
    return np.clip(np.rint(middles - half), 0, room).astype(np.int64)


def read_at(coarse: Image, xy: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """A coarse map of frames of that shape, read at (N, 2) x, y px: (N,), linear between the middles of its cells."""
    cells = np.array(coarse.shape[::-1])
    place = np.clip((xy + 0.5) * cells / np.array(shape[::-1]) - 0.5, 0, cells - 1)
    low = np.minimum(place.astype(np.int64), np.maximum(cells - 2, 0))
    high = np.minimum(low + 1, cells - 1)
    (u, v), (x0, y0), (x1, y1) = (place - low).T, low.T, high.T
    top = coarse[y0, x0] * (1 - u) + coarse[y0, x1] * u
    return np.asarray(top * (1 - v) + (coarse[y1, x0] * (1 - u) + coarse[y1, x1] * u) * v, np.float64)


class _BadPixels:
    """Learns which pixels tell of themselves instead of the light.

    The optics rule out that a pixel stands out and two opposite neighbours do not: those of a target share at least twice
    `share` of its brightest pixel's light, wherever it lies. Evidence is summed up as in a CUSUM test, frame by frame: what
    falls short of half of that, in units of its own noise. A target that stands still makes it fall and never rise.
    """

    STILL_OUT = 4.0  # of the noise: from there its evidence may grow
    SLACK = 0.25  # half of what a target and a bad pixel that just stands out differ by, roughly
    STEP = 4.0  # the most that one frame may add, so that none alone convicts
    LEARNT, MOST = 12.0, 100.0  # evidence that convicts, and the most that is held: so many good frames acquit
    RISE, DIP = 3.5, 1.5  # of evidence in one frame: such a pixel is masked in this frame; nothing real dips

    def __init__(self, sigma_px: float, shape: tuple[int, int]) -> None:
        self.known = np.zeros(0, np.int64)  # flat, rising
        self.share: Image | None = None  # of each cell's pixels that are good, None: all
        self._shape = shape
        self._share = float(np.divide(*psf(np.array([1.0, 1.0]), (3, 3), sigma_px)[1, :2]))
        self._evidence = np.zeros(shape[0] * shape[1], np.float32)
        self._tracked = self.known

    def learn(self, light: Image, noise: Image, stands_out: Mask, raw: Image) -> Ints:
        """Takes a frame; the flat places that stand out wrongly in it.

        light (H, W), NaN at bad pixels; noise (H, W); which pixels to look at; raw: the light of the known ones.
        """
        stands_out.ravel()[self._tracked] = True
        at = np.flatnonzero(stands_out)
        value, level = light.ravel()[at], noise.ravel()[at]
        value[np.searchsorted(at, self.known)] = raw
        surplus = self._surplus(light, at, value, level)
        grows = (np.abs(value) > self.STILL_OUT * level) & (surplus > self.SLACK)
        change = np.where(grows, np.minimum(surplus - self.SLACK, self.STEP), -1)
        self._evidence[at] = np.clip(self._evidence[at] + change, 0, self.MOST)
        self._tracked = at[self._evidence[at] > 0]
        self._convict(self._tracked)
        return np.asarray(at[surplus > np.where(value > 0, self.RISE, self.DIP)], np.int64)

    def _convict(self, suspects: Ints) -> None:
        """Who was known stays so until there is no evidence left."""
        known = suspects[(self._evidence[suspects] >= self.LEARNT) | np.isin(suspects, self.known)]
        if not np.array_equal(known, self.known):
            self.known, self.share = known, _share(known, self._shape, CELL)

    def _surplus(self, light: Image, at: Ints, value: Image, level: Image) -> Image:
        """(K,): by how much the neighbours fall short of what the optics ask for, in units of its noise.

        The lesser of two: over the background, which is not always right, and over the surroundings, not always dark.
        """
        found = self._shortfall(light, at, value, level, np.zeros_like(value))
        near = np.flatnonzero(found > self.SLACK)
        around = np.nan_to_num(_sampled(light, at[near], _FRAME)).mean(axis=1)
        again = self._shortfall(light, at[near], value[near], level[near], around)
        found[near] = np.minimum(found[near], np.where((value[near] - around) * value[near] > 0, again, -1))
        return found

    def _shortfall(self, light: Image, at: Ints, value: Image, level: Image, base: Image) -> Image:
        sign, excess = np.sign(value), np.abs(value - base)
        beside = sign * (_sampled(light, at, _CROSS).T - base)
        heard = (
            beside > -STANDS_OUT * level
        )  # neither known to be bad nor plainly so: a bad neighbour speaks for neither side
        pair = np.where(heard, beside, np.inf).reshape(2, 2, -1).sum(axis=1).min(axis=0)
        pair[np.isinf(pair)] = 0
        surplus = (self._share * excess - pair) / (np.float32(np.sqrt(2)) * level) - np.float32(1 / np.sqrt(np.pi))
        return np.asarray(surplus, np.float32)


class _Grid(NamedTuple):
    """Places about a place: `along`, px from it on either axis, and which of these each one's row and column are."""

    along: Ints
    row: Ints
    column: Ints


def _grid(reach: int, step: int, inner: int = 0) -> _Grid:
    """Those at most `reach` px away along either axis, and no nearer than `inner`."""
    along = np.arange(-reach, reach + 1, step)
    row, column = np.indices(2 * along.shape).reshape(2, -1)
    outer = np.maximum(np.abs(along[row]), np.abs(along[column])) >= inner
    return _Grid(along, row[outer], column[outer])


_CROSS = _Grid(np.array([-1, 0, 1]), np.array([0, 2, 1, 1]), np.array([1, 1, 0, 2]))
_FRAME, _NEAR, _RING = _grid(2, 1, inner=2), _grid(6, 2), _grid(8, 2, inner=4)
_PEAK = np.ones((5, 5), np.uint8)


def _blind(sigma_px: float, size: int, order: int) -> Image:
    """A filter of unit noise (size, size): a point anywhere in the middle pixel, freed of its polynomial of that order."""
    places = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 11)]), axis=-1) + size // 2
    image = psf(places, (size, size), sigma_px).mean(axis=(0, 1)).ravel()
    y, x = np.indices((size, size)).reshape(2, -1) - size // 2
    powers = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    base = np.linalg.qr(np.stack(powers, axis=1).astype(np.float64))[0]
    left = image - base @ (base.T @ image)
    return np.asarray((left / np.linalg.norm(left)).reshape(size, size), np.float32)


def _cell_means(image: Image, cells: tuple[int, int], share: Image | None) -> Image:
    """The means over so many cells along x and y, of the good pixels; a cell with next to none has its nearest one's.

    share: of each cell's pixels that are good, None where all are; the others are 0 in the image.
    """
    means = np.asarray(cv2.resize(image, cells, interpolation=cv2.INTER_AREA), np.float32)
    if share is None:
        return means
    empty = share < 0.05
    means /= np.where(empty, np.float32(1), share)
    if empty.any() and not empty.all():
        means = means[tuple(distance_transform_edt(empty, return_distances=False, return_indices=True))]
    return means


def _cells(shape: tuple[int, ...], cell: int) -> tuple[int, int]:
    """How many cells of about that many px a side a frame of that shape has, along x and y."""
    return max(round(shape[1] / cell), 1), max(round(shape[0] / cell), 1)


def _share(bad: Ints, shape: tuple[int, int], cell: int) -> Image | None:
    """The share of each cell's pixels that are not among the bad ones, flat places; None where none is."""
    if not len(bad):
        return None
    good = np.ones(shape, np.float32)
    good.ravel()[bad] = 0
    return _cell_means(good, _cells(shape, cell), None)


def _noise(size: Image, share: Image | None) -> Image:
    """Absolute deviations to the standard deviation, a coarse map; a group in it is too small to matter."""
    every_other_row = size[::2]  # tells as much, twice as fast
    return _median(_cell_means(every_other_row, _cells(size.shape, NOISE_CELL), share)) * SPREAD


def _median(coarse: Image) -> Image:
    return np.asarray(cv2.medianBlur(coarse, 5), np.float32)


def _spread(coarse: Image, out: Image) -> Image:
    """A coarse map, at every pixel: fills and returns `out`."""
    cv2.resize(coarse, out.shape[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    return out


def _largest(size: Image, at: Ints) -> Ints:
    """The flat places; of more than MOST_PEAKS, those with the largest values."""
    if len(at) <= MOST_PEAKS:
        return at
    return np.sort(at[np.argpartition(-size.ravel()[at], MOST_PEAKS)[:MOST_PEAKS]])


def _rims(response: Image, at: Ints) -> Mask:
    """(K,): which places may be but the dark rim that a filter draws about something bright."""
    brightest = _sampled(response, at, _NEAR).max(axis=1, initial=0)
    return np.asarray(brightest > -BRIGHT * response.ravel()[at])


def _strength(size: Image, at: Ints) -> Floats:
    """(K,): how far a place stands out from the noise or, where that is more, from the ring about it."""
    ring = SPREAD * np.minimum(_sampled(size, at, _RING), RING_LIMIT).mean(axis=1)
    return np.asarray(size.ravel()[at] / np.maximum(1, ring / RING_MARGIN), np.float64)


def _sampled(image: Image, at: Ints, grid: _Grid) -> Image:
    """(K,) flat places to the values about them (K, N); beyond the border, those at it."""
    height, width = image.shape
    rows, columns = np.divmod(at[:, None], width)
    rows = np.minimum(np.maximum(rows + grid.along, 0), height - 1) * width
    columns = np.minimum(np.maximum(columns + grid.along, 0), width - 1)
    return np.asarray(image.ravel()[rows[:, grid.row] + columns[:, grid.column]], np.float32)


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
    """Peaks to the middles of the light about them and their strengths, the strongest first, none together with another."""
    kept = _apart(xy, strength)
    middles, strength = xy[kept], strength[kept]
    for _ in range(2):
        middles = _light_middle(light, middles)
    kept = _apart(middles, strength)
    return middles[kept], strength[kept]


def _apart(xy: Floats, strength: Floats) -> Ints:
    """The rows of the strongest places, in falling order, without those that are together with a stronger one."""
    order = np.argsort(-strength, kind="stable")
    together: Mask = np.abs(xy[order, None] - xy[order]).max(axis=-1) <= TOGETHER
    free, kept = np.ones(len(order), np.bool_), []
    for k in range(len(order)):
        if free[k]:
            kept.append(k)
            free &= ~together[k]
    return order[kept]


def _light_middle(light: Image, xy: Floats) -> Floats:
    """(N, 2) x, y px to the middles of the light that stands out about them."""
    step = np.arange(-LIGHT, LIGHT + 1)
    shape = light.shape
    x, y = (np.clip(np.rint(xy[:, k, None]).astype(np.int64) + step, 0, shape[1 - k] - 1) for k in (0, 1))
    part = light[y[:, :, None], x[:, None, :]].astype(np.float64)
    weight = np.maximum(part - 0.2 * part.max(axis=(1, 2), keepdims=True, initial=0), 0) + 1e-12
    total = weight.sum(axis=(1, 2))
    middle = [(weight.sum(axis=1) * x).sum(axis=1), (weight.sum(axis=2) * y).sum(axis=1)]
    return np.asarray(np.stack(middle, axis=-1) / total[:, None], np.float64)


def _to_xy(flat: Ints, width: int) -> Ints:
    return np.stack([flat % width, flat // width], axis=-1)


def check_search(settings: ProposeSettings) -> None:
    """Raises one UsageError that names the first setting that makes no search."""
    if not 0.2 <= settings.sigma_px <= 2:
        raise UsageError(f"propose.sigma_px: expected 0.2 to 2 px, got {settings.sigma_px}")
    if not 1e-6 <= settings.false_alarms <= 100:
        raise UsageError(f"propose.false_alarms: expected 0.000001 to 100 a frame, got {settings.false_alarms}")
    if not 1 <= settings.most_regions <= 10_000:
        raise UsageError(f"propose.most_regions: expected 1 to 10,000, got {settings.most_regions}")
    if settings.average not in (1, 3, 5):
        raise UsageError(f"propose.average: expected 1, 3 or 5 frames, got {settings.average}")
