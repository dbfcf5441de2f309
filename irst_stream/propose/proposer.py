"""Finds where in a full frame a group of targets may be.

Each frame is prepared once, by itself: dead and hot pixels are masked, and the background, a median over the means of
neighbouring 4 x 4 px cells, is subtracted. Two filters then look for light of the shape of the PSF:

    the wide filter   matched to a target anywhere within its pixel, blind to a constant: most sensitive on calm sky
    the tight filter  blind to any surface of up to second order over its 5 x 5 px: for the edges of clouds

A peak's strength is the filter's response over its local noise: the larger of the noise map's value, a median over some
80 px, and the level of a ring about the peak. The threshold gives the false-alarm rate of the settings on pure noise.
Clouds would exceed it more often, but they cause dips as often as peaks, and targets never cause dips. So where a frame
has more dips than noise explains, it has clouds: the tight filter is used as well, and each filter's threshold rises until
the expected number of remaining dips is the number of false alarms that the settings allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from irst_stream.point_spread import PointSpread, gaussian
from irst_stream.propose.clutter import Clutter, ClutterMap, named_clutter_map
from irst_stream.propose.coarse import NO_PIXELS, Float32Image, sample_map, to_xy
from irst_stream.propose.compiled import (
    cut_patches,
    is_dark_rim,
    light_centroids,
    local_maxima,
    mean_light,
    peak_strengths,
    select_regions,
)
from irst_stream.propose.contrast import COMPILED as CONTRAST
from irst_stream.propose.filters import background_free_matched_filter
from irst_stream.propose.large_lights import LargeLights, find_large_lights, most_of_points
from irst_stream.propose.mask import Excluded, either, excluded_pixels
from irst_stream.propose.noise import NoiseMapper, pixels_beyond
from irst_stream.propose.peaks import FilterPeaks, is_near, max_by_chance, raised_threshold
from irst_stream.propose.preparation import Preparation
from irst_stream.propose.prepared_frame import PreparedFrame, cut_regions, region_corners, seen_from
from irst_stream.propose.settings import ProposeSettings, check_search
from irst_stream.propose.transients import COMPANION_SHARE, TransientClutter
from irst_stream.system.numba_cache import CompiledPart, compile_in_children
from irst_stream.types import Floats, Frame, Ints, Pixels, Pose, Stamp

__all__ = ["COMPILED", "Proposals", "Proposer", "warm_up"]

NEAR_CENTRE_PX = 2.5  # along each axis: a peak this near to a region's centre gets no region of its own
PEAKS_PER_EXCEEDANCE = 0.95  # noise peaks above a high threshold, over the count if all pixels were independent
MAX_BAD_SHARE = 0.01  # of all pixels; with more, the noise is corrected for the bad ones
PEAKS_PER_REGION, MIN_PEAKS = 4, 300  # of each filter and frame, where the settings leave their number open
MOST_AVERAGED = 5  # frames
CONTRAST_PEAK_PX = 7  # side of the square in which a peak of contrast is the highest


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """N regions that may hold a group: those of confirmed tracks first, then the strongest.

    centres (N, 2): x, y px of the region's light; strength (N,): over the threshold, in the filter that responds most, NaN
    where the settings have no min_snr; noise (N,) and background (N,): DN, of a pixel there; large: lights that are too
    large for a region and have none; left_out: the number of regions beyond `most_regions` of the settings; left_peaks:
    that of peaks beyond `most_peaks`.
    """

    centres: Floats
    strength: Floats
    noise: Floats
    background: Floats
    large: LargeLights
    left_out: int
    left_peaks: int


class Proposer:
    """Searches the frames of one sensor; keeps its bad pixels from frame to frame, and its static `clutter` or None.

    The first instance compiles the kernels, or loads them from the cache. One thread may prepare a frame while another
    searches one, where no clutter is learnt.
    """

    def __init__(
        self,
        settings: ProposeSettings,
        shape: tuple[int, int],
        learnt: ClutterMap | None = None,
        excluded: Excluded | None = None,
        psf: PointSpread | None = None,
    ) -> None:
        """shape: rows, columns of the frames; learnt: their static clutter, where it is known already; excluded (H, W):
        pixels that are not searched, beside those that the settings exclude; psf: of the sensor, None for a round Gaussian
        of the settings' width.
        """
        check_search(settings)
        compile_in_children(COMPILED, *([CONTRAST] if settings.min_contrast else []))
        self.settings = settings
        self._shape = shape
        psf = psf or gaussian(settings.sigma_px)
        self._most_of_points = most_of_points(psf.sigma)
        self._excluded = either(excluded, excluded_pixels(settings, shape))
        self._excluded_at = NO_PIXELS if self._excluded is None else np.flatnonzero(self._excluded)
        self._filters = tuple(background_free_matched_filter(psf, *form) for form in ((7, 0), (5, 2)))
        self._noise = NoiseMapper(shape)
        learnt = (learnt or named_clutter_map(settings.clutter_map, shape)) if settings.clutter_frames else None
        clutter = Clutter(settings.clutter_frames, shape, learnt) if settings.clutter_frames else None
        least_contrast_dn = settings.min_noise_dn if settings.min_contrast else None
        self._preparation = Preparation(shape, psf, clutter, self._noise, self._excluded_at, least_contrast_dn)
        rate = min(settings.false_alarms / (PEAKS_PER_EXCEEDANCE * shape[0] * shape[1]), 0.1)
        self._threshold = max(float(-ndtri(rate)), settings.min_snr)
        transients = learnt.transients if learnt else None
        self._given_transients = transients is not None
        self._transients = TransientClutter(shape, self._threshold, settings.false_alarms, transients) if clutter else None
        self._tracked = np.zeros((0, 2))
        # reused buffers: allocating them for each frame takes longer than filling them
        self._light, self._response = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._squares = np.empty(shape if clutter else (0, 0), np.float32)
        self._peaking = np.empty(shape[0] * shape[1], np.int64)  # indices of pixels

    @property
    def bad_pixels(self) -> Ints:
        """(M, 2) x, y of the pixels known to be bad."""
        return to_xy(self._preparation.bad_pixels.known, self._shape[1])

    @property
    def clutter(self) -> Clutter | None:
        """The static clutter learnt so far, None where none is learnt."""
        return self._preparation.clutter

    def learnt_clutter(self) -> ClutterMap | None:
        """Return what is known now of the clutter, static and transient, None where none is learnt; it goes on changing."""
        if self.clutter is None or self._transients is None:
            return None
        return replace(self.clutter.learnt(), transients=self._transients.learnt())

    @property
    def excluded(self) -> Excluded | None:
        """Which pixels (H, W) are not searched; None where all are."""
        return self._excluded

    def recall(self, bad_pixels: Ints) -> None:
        """Begin with pixels (N, 2) x, y that an earlier run knew to be bad; those outside the frame are ignored."""
        inside = ((bad_pixels >= 0) & (bad_pixels < self._shape[::-1])).all(axis=1)
        self._preparation.bad_pixels.recall(np.unique(bad_pixels[inside] @ np.array([1, self._shape[1]])))

    def prepare(
        self,
        pixels: Pixels,
        place: tuple[int, int] | None = (0, 0),
        step_dn: float | None = None,
        pose: Pose | None = None,
    ) -> PreparedFrame:
        """Subtract the background of the sensor's next frame, mask its bad pixels and measure its noise.

        pixels (H, W): uint8, uint16 or float32, DN; NaN or infinite where a pixel holds no measurement. place: x, y px of
        any still object, from where the sensor saw it first; None where the platform has moved by nobody knows how much:
        then no clutter is learnt. step_dn: see Frame. pose: the frame's, None where it is unknown;
        static clutter follows it by parts of a pixel.
        """
        ready = self._preparation.prepare(pixels, place, step_dn, pose)
        if self._given_transients and self.clutter is not None and self.clutter.is_of_another_scene:
            self._transients = TransientClutter(self._shape, self._threshold, self.settings.false_alarms)
            self._given_transients = False
        return ready

    def propose(self, prepared: PreparedFrame, neighbours: Sequence[PreparedFrame] = ()) -> Proposals:
        """Find the regions of a frame.

        neighbours: frames before and after it. All frames are averaged, where the frame itself sees the scene, which shows
        fainter targets as long as these move by less than their own width, about a pixel, from the first frame to the last.
        """
        light, share = self._average(prepared, neighbours)
        if prepared.contrast is not None:
            searches, thresholds = [self._search_contrast(prepared.contrast)], [1.0]
        else:
            min_noise = max(prepared.min_noise / float(np.sqrt(1 + len(neighbours))), self.settings.min_noise_dn)
            searches, thresholds = self._search_filtered(light, min_noise, share)
        held = self.settings.tracked_share
        kept = [
            p.above(self._local_thresholds(p.xy, limit), held * limit, self._tracked)
            for p, limit in zip(searches, thresholds, strict=True)
        ]
        if self._transients is not None:
            self._transients.learn(searches[0].xy, searches[0].strength, prepared.place, self._tracked)
        xy, strength = (np.concatenate(part) for part in zip(*kept, strict=True))
        pixel_noise = np.asarray(sample_map(prepared.noise, xy, self._shape)) / np.sqrt(1 + len(neighbours))
        large, alone = find_large_lights(light, xy, strength, pixel_noise, self._most_of_points)
        centres, strength = _to_regions(light, xy[alone], strength[alone])
        searched, large = self._is_searched(centres), large.of(self._is_searched(large.xy))  # not beyond a mask's edge
        centres, strength = centres[searched], strength[searched]
        first = np.argsort(~is_near(centres, self._tracked), kind="stable")
        centres, strength, most = centres[first], strength[first], self.settings.most_regions
        left_out = max(len(centres) - most, 0)
        centres, strength = centres[:most], strength[:most]
        noise, background = (sample_map(coarse, centres, self._shape) for coarse in (prepared.noise, prepared.background))
        if not (self.settings.min_snr or self.settings.min_contrast):
            strength, large = np.full(len(centres), np.nan), large._replace(strength=np.full(len(large.xy), np.nan))
        left_peaks = sum(found.left_out for found in searches)
        return Proposals(centres, strength, noise, background, large, left_out, left_peaks)

    def _is_searched(self, xy: Floats) -> NDArray[np.bool_]:
        """Tell which places (N, 2) px are not excluded."""
        if self._excluded is None:
            return np.ones(len(xy), np.bool_)
        column, row = np.clip(np.rint(xy.T).astype(np.int64), 0, np.array(self._shape[::-1])[:, None] - 1)
        return np.asarray(~self._excluded[row, column])

    def _local_thresholds(self, xy: Floats, limit: float) -> Floats:
        """Return the threshold (K,) at the places (K, 2) px of peaks: limit, or more where lights come and go, and where
        the static clutter is not known yet.
        """
        if self.clutter is None or self._transients is None:
            return np.full(len(xy), limit)
        limits = np.maximum(limit, self._transients.thresholds(xy))
        if self.settings.unknown_snr <= self._threshold:
            return limits
        unknown = 1 - self.clutter.known_shares(xy)
        return np.maximum(limits, self._threshold + unknown * (self.settings.unknown_snr - self._threshold))

    def _search_filtered(
        self, light: Float32Image, min_noise: float, share: Float32Image | None
    ) -> tuple[list[FilterPeaks], list[float]]:
        """Search light (H, W) DN by the wide filter, and where there are clouds by the tight one too; with thresholds."""
        wide = self._search(light, 0, min_noise, share)
        has_clouds = not self._knows_clutter and len(wide.dips) > max_by_chance(self.settings.false_alarms)
        searches = [wide, self._search(light, 1, min_noise, share)] if has_clouds else [wide]
        allowed = self.settings.false_alarms / len(searches)
        return searches, [self._raised_threshold(found.dips, allowed) for found in searches]

    def _raised_threshold(self, dips: Floats, allowed: float) -> float:
        """Return the threshold for peaks; with static clutter learnt, the local noise says all that dips would."""
        return self._threshold if self._knows_clutter else raised_threshold(self._threshold, dips, allowed)

    @property
    def _knows_clutter(self) -> bool:
        return self.clutter is not None and self.clutter.is_learnt

    def filter(self, light: Float32Image, number: int, response: Float32Image) -> None:
        """Fill response (H, W) with light (H, W) DN, filtered by the wide filter, number 0, or the tight one, 1."""
        self._filters[number].fill(light, response)

    def hold(self, xy: Floats) -> None:
        """Search more closely, and learn clutter slowly, about these places (N, 2) px of tracks, until the next call."""
        self._tracked = np.asarray(xy, np.float64)
        if self.clutter is not None:
            self.clutter.hold(xy)

    def forget_clutter(self) -> None:
        """Begin to learn the static clutter from nothing."""
        if self.clutter is not None:
            self._preparation.clutter = Clutter(self.settings.clutter_frames, self._shape)

    def _search(self, light: Float32Image, number: int, min_noise: float, share: Float32Image | None) -> FilterPeaks:
        """Return the peaks and dips of the response of filter `number`; share: of good pixels in each noise cell."""
        response = self._response
        self.filter(light, number, response)
        response.ravel()[self._excluded_at] = 0
        if self.clutter is None:
            noise = self._noise.expand(self._noise.measure(response, min_noise, share))
        else:
            around = None if self._knows_clutter else self._noise.fill(self._noise.measure(response, min_noise, share))
            squares = self.clutter.squares(response, number, min_noise, around, self._squares)
            noise = self._noise.expand(self._noise.measure_near(squares, min_noise, share))
            self.clutter.whiten(response, number, min_noise, *noise, bursts=self.settings.min_noise_dn > 0)
        weakest = 1.0 if self._transients is None else COMPANION_SHARE
        lowest = self._threshold * min(weakest, self.settings.tracked_share if len(self._tracked) else 1.0)
        at, snrs = local_maxima(response, *noise, pixels_beyond(lowest, response, noise, self._peaking))
        used = self._most_important(at, snrs)
        left_out, at, snrs = len(at) - len(used), at[used], snrs[used]
        strength, rises = peak_strengths(response, *noise, at, snrs), response.ravel()[at] > 0
        dips = strength[~rises & ~is_dark_rim(response, at)]
        xy = to_xy(at[rises], self._shape[1]).astype(np.float64)
        return FilterPeaks(xy, strength[rises], dips[dips > self._threshold], left_out)

    def _most_important(self, at: Ints, snrs: Float32Image) -> Ints:
        """Return the rows of at most most_peaks peaks, in their order: those near tracks first, then the largest.

        at (K,): flat indices; snrs (K,).
        """
        most = self.settings.most_peaks or max(PEAKS_PER_REGION * self.settings.most_regions, MIN_PEAKS)
        if len(snrs) <= most:
            return np.arange(len(snrs))
        important = np.where(is_near(to_xy(at, self._shape[1]), self._tracked), np.inf, snrs)
        return np.sort(np.argpartition(-important, most)[:most])

    def _search_contrast(self, contrast: Float32Image) -> FilterPeaks:
        """Return the peaks of a frame's local contrast (H, W), their strength in units of the threshold."""
        contrast = contrast.copy()
        contrast.ravel()[self._excluded_at] = 0
        highest = cv2.dilate(contrast, np.ones((CONTRAST_PEAK_PX, CONTRAST_PEAK_PX), np.uint8))
        at = np.flatnonzero((contrast == highest) & (contrast > self.settings.tracked_share * self.settings.min_contrast))
        used = self._most_important(at, contrast.ravel()[at])
        strength = contrast.ravel()[at[used]].astype(np.float64) / self.settings.min_contrast
        xy = to_xy(at[used], self._shape[1]).astype(np.float64)
        return FilterPeaks(xy, strength, np.zeros(0), len(at) - len(used))

    def _average(
        self, prepared: PreparedFrame, neighbours: Sequence[PreparedFrame]
    ) -> tuple[Float32Image, Float32Image | None]:
        """Return the mean light, 0 where a pixel is bad in any frame, and the share of good pixels in each noise cell.

        The share is None where too few pixels are bad to matter.
        """
        lights = (prepared.light, *(seen_from(prepared, other) for other in neighbours))
        filled = lights + (MOST_AVERAGED - len(lights)) * (prepared.light,)  # kernels are compiled for each length
        if mean_light(filled, len(lights), self._light) <= MAX_BAD_SHARE * self._light.size and self._excluded is None:
            return self._light, None
        bad = np.flatnonzero(np.logical_or.reduce([np.isnan(light) for light in lights]))
        return self._light, self._noise.good_share(bad)


@cache
def warm_up() -> None:
    """Call every kernel of the search with each pixel type, once per process, so that no frame waits for the compiler."""
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = np.zeros((65, 65), dtype)
        pixels[30:34, 30:34] = 100
        for clutter_frames in (8, 0):
            proposer = Proposer(ProposeSettings(clutter_frames=clutter_frames), pixels.shape)
            prepared = proposer.prepare(pixels)
            found = proposer.propose(prepared)
        background_free_matched_filter(gaussian(0.5, 2.0, 45.0), 7, 0).fill(pixels.astype(np.float32), proposer._response)
        corners = region_corners(found.centres, pixels.shape)
        cut_regions([Frame(Stamp("", 0, 0, 0), pixels)], [prepared.light], corners, found.background)


COMPILED = CompiledPart("the search", cut_patches, warm_up)


def _to_regions(light: Float32Image, xy: Floats, strength: Floats) -> tuple[Floats, Floats]:
    """Merge peaks to regions that cover them all: centres of light (N, 2) and strengths (N,), the strongest first."""
    centres = light_centroids(light, light_centroids(light, xy))
    kept = select_regions(light, xy, centres, np.argsort(-strength, kind="stable"), NEAR_CENTRE_PX)
    return centres[kept], strength[kept]
