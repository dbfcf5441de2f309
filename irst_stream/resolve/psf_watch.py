"""Watches whether bright targets look wider or narrower than the PSF that a sensor is configured with.

Each sample is of one isolated light, single target or group. Where the PSF is wider than configured, single targets are
found as groups; so groups count too, as long as all lights are of one width and one PSF of that width explains them as well
as the targets found in them. Real groups differ in width, and one PSF leaves part of their light.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.settings import FitSettings
from irst_stream.psf_field import PsfField
from irst_stream.resolve.psf_width import CORE_PX, ScaledPsf, WidthSample, measure_width
from irst_stream.types import Detections, Floats, Ints, Window

__all__ = ["PsfWatch"]

EVERY = 20  # windows between two samples, each of one light
JUDGED_EVERY = 5  # samples
KEPT = 400  # samples, the latest
MIN_SAMPLES = 30
MIN_SNR = 25.0  # of a light whose width is measured
ALONE_PX = 9.0  # from a light's middle to any other detection
GROUP_PX = 1.5  # from a light's middle to each of its detections
SAME_LIGHT_PX, SAME_LIGHT_WINDOWS = 6.0, 300  # nearer than that to a light's last sample, in place and time: the same one
TOLERANCE = 0.05  # of the width: less is not reported
SIGNIFICANCE = 4.0  # standard errors
NOISE_PARTS = 4.0  # samples in a row are mostly of the same targets: so many count as one
SAME_WIDTH = 0.02  # of its logarithm: so far single targets differ by their places in their pixels and in the field
MAX_SCATTER = 2.0  # times what noise and SAME_WIDTH explain, root mean square over the lights of one PSF
EXCESS_VARIANCE = 3.0  # of the excess misfit of one target's light, for each parameter; noise that is known: 2
MAX_EXCESS = 3.0  # standard deviations of the misfit left by one PSF beyond that of the targets found
LONE_STRETCH = 0.5  # of the change of width: a pair is wider along one axis only, and this is 1
# of the light's square: most real groups as wide as a PSF 10 % too wide leave more misfit. A lone light must leave less,
# since no other bears it out; lights that agree with each other may leave some more. Four targets on a square leave none
LONE_MISFIT, MISFIT = 1.5e-4, 1.5e-3
MANY_LIGHTS = 3
SINGLE_SHARE = 0.8  # of its samples: a light found as one target less often is a group

PLAIN = FitSettings()

log = logging.getLogger(__name__)


class _Sample(NamedTuple):
    """A light's width and which light it is."""

    light: int
    width: WidthSample


class _Place(NamedTuple):
    """Where a light was sampled last: its number, place (2,) px, the count of windows then, and how often in all."""

    light: int
    xy: Floats
    window: int
    samples: int


class PsfWatch:
    """Measures the width of one sensor's lights, one bright, isolated one every few windows."""

    def __init__(self, psf: PsfField, settings: FitSettings = PLAIN) -> None:
        """psf, settings: those of the fit."""
        self._psf, self._shot = ScaledPsf.of(psf), settings.shot_dn
        self._alike = bool(settings.formation.seats_px)  # groups agree in width because they fly alike
        self._sharpness = float(np.sqrt((psf.middle.images(np.array([5.0, 5.0])) ** 2).sum()))
        self._samples: deque[_Sample] = deque(maxlen=KEPT)
        self._places: list[_Place] = []
        self._lights = self._windows = 0
        self._kept: tuple[Window, Detections] | None = None  # until it is measured
        self._told = False

    @property
    def ratio(self) -> float:
        """Measured width over the configured one; NaN until enough targets have been measured, and while they disagree."""
        return math.exp(self._estimate()[0])

    @property
    def advice(self) -> str:
        """What the width says and what to do, in one line; "" while the PSF is as configured, or too little is known."""
        middle, error = self._estimate()
        if not abs(middle) >= max(math.log1p(TOLERANCE), SIGNIFICANCE * error):
            return ""
        change, sense = abs(math.expm1(middle)), "wider" if middle > 0 else "narrower"
        return f"the PSF looks {change:.0%} {sense} than configured: measure it with irst-stream calibrate"

    def add(self, window: Window, detections: Detections) -> None:
        """Count a window; if it is time, keep it for measure(), which the next window waits for otherwise."""
        self.measure()
        self._windows += 1
        if self._windows % EVERY == 0 and len(detections):
            self._kept = window, detections

    def measure(self) -> None:
        """Measure one light of the centre frame of a window that is kept, if there is a bright, isolated one."""
        if self._kept is None:
            return
        (window, detections), self._kept = self._kept, None
        found = self._next_light(window, detections)
        if found is None:
            return
        place, row, of_light = found
        image = np.asarray(window.patches[row, window.centre], np.float64)
        xy, amplitude, corner = detections.xy[of_light], detections.amplitude[of_light], window.corners[row]
        noise = _noise_of(image, place.xy - corner) if math.isnan(window.noise[row]) else float(window.noise[row])
        variance = noise**2 + self._shot * np.maximum(image, 0)
        width = measure_width(self._psf, image, variance, corner, xy, amplitude)
        if width is not None and width.snr > MIN_SNR:
            self._samples.append(_Sample(place.light, width))
        judged = not self._told and len(self._samples) >= MIN_SAMPLES and self._windows % (JUDGED_EVERY * EVERY) == 0
        if judged and (advice := self.advice):
            self._told = True
            log.warning("%s: %s", window.stamp.sensor or "the sensor", advice)

    def _next_light(self, window: Window, detections: Detections) -> tuple[_Place, int, Ints] | None:
        """Choose the usable light with the fewest samples: its place, its row in the window, its detections; or none.

        A light is what was found in one region. It is usable if it is compact, bright and not saturated, and all other
        detections are far.
        """
        numbers, of = np.unique(detections.region, return_inverse=True)
        light = np.bincount(of, detections.amplitude)
        middle = np.stack([np.bincount(of, detections.amplitude * axis) for axis in detections.xy.T], 1) / light[:, None]
        known = {int(number): k for k, number in enumerate(window.region)}
        rows = np.array([known.get(int(number), -1) for number in numbers])
        apart = np.hypot(*(middle[:, None] - detections.xy[None]).T).T
        own = of == np.arange(len(numbers))[:, None]
        compact = np.where(own, apart, 0).max(axis=1) < GROUP_PX
        alone = np.where(own, np.inf, apart).min(axis=1) > ALONE_PX
        bright = ~(light * self._sharpness < MIN_SNR * window.noise[rows]) & (light > 0)
        brightest = np.nanmax(window.patches[rows].reshape(len(rows), -1), axis=1, initial=-np.inf)
        usable = np.flatnonzero(compact & alone & bright & (rows >= 0) & (brightest < 0.9 * window.ceiling[rows]))
        if not len(usable):
            return None
        self._places = [p for p in self._places if self._windows - p.window <= SAME_LIGHT_WINDOWS]
        seen = [self._place_of(middle[k]) for k in usable.tolist()]
        best = min(range(len(seen)), key=lambda k: (seen[k].samples, -light[usable[k]]))
        place = seen[best]
        self._lights = max(self._lights, place.light + 1)
        self._places = [p for p in self._places if p.light != place.light] + [place._replace(samples=place.samples + 1)]
        return place, int(rows[usable[best]]), np.flatnonzero(of == usable[best])

    def _place_of(self, xy: Floats) -> _Place:
        """The known light at a place (2,) px, moved there, or a new one."""
        near = [(math.hypot(*(xy - place.xy)), place) for place in self._places]
        distance, place = min(near, key=lambda pair: pair[0], default=(math.inf, None))
        if place is None or distance > SAME_LIGHT_PX:
            return _Place(self._lights, xy, self._windows, 0)
        return place._replace(xy=xy, window=self._windows)

    def _estimate(self) -> tuple[float, float]:
        """Logarithm of the width over the configured one, and its standard error; NaN while unknown."""
        samples = tuple(self._samples)  # a copy: other threads read this
        if len(samples) < MIN_SAMPLES:
            return math.nan, math.nan
        light = np.unique([sample.light for sample in samples], return_inverse=True)[1]
        widths = np.array([sample.width for sample in samples], np.float64)
        point_like, single = _point_like(light, widths), _mostly_single(light, widths)
        for part in (single,) if self._alike else (point_like, point_like & single):
            found = _common_width(light[part], widths[part])
            if math.isfinite(found[0]):
                return found
        return math.nan, math.nan


def _point_like(light: Ints, widths: Floats) -> NDArray[np.bool_]:
    """Tell which samples (N,) are of lights that one PSF explains as well as the targets found do; see _common_width."""
    excess, spare = widths[:, -2:].T
    doubt = MAX_EXCESS * np.sqrt(EXCESS_VARIANCE * np.bincount(light, spare))
    return np.asarray((np.bincount(light, excess - spare) <= doubt)[light])


def _mostly_single(light: Ints, widths: Floats) -> NDArray[np.bool_]:
    """Tell which samples (N,) are of single targets, in lights that are found as such nearly always; see _common_width."""
    single = widths[:, -1] == 0
    return np.asarray(single & (np.bincount(light, single) >= SINGLE_SHARE * np.bincount(light))[light])


def _noise_of(image: Floats, middle: Floats) -> float:
    """Noise of a patch (H, W), DN, far from the light at middle (2,) px of it; 1 where nothing is far."""
    rows, columns = np.indices(image.shape)
    far = image[(np.hypot(columns - middle[0], rows - middle[1]) > CORE_PX + 1) & np.isfinite(image)]
    return max(1.4826 * float(np.median(np.abs(far - np.median(far)))), 1e-3) if len(far) else 1.0


def _common_width(light: Ints, widths: Floats) -> tuple[float, float]:
    """Logarithm of the width that most lights share, and its standard error; NaN if there is none, or too few samples.

    light (N,): which light each sample is of, 0 to L - 1, some of which may be missing; widths (N, 8): see WidthSample.
    """
    shape, sd = widths[:, :3], widths[:, [3, 4, 4]]
    count = np.bincount(light)
    lights = np.flatnonzero(count)
    if not len(lights):
        return math.nan, math.nan
    weight = np.stack([np.bincount(light, column) for column in (1 / sd**2).T], axis=1)[lights]
    means = np.stack([np.bincount(light, column) for column in (shape / sd**2).T], axis=1)[lights] / weight
    error = np.sqrt(NOISE_PARTS / weight + SAME_WIDTH**2)
    kept = np.argsort(means[:, 0])
    least = max(MIN_SAMPLES, len(light) / 2)
    while count[lights[kept]].sum() >= least:
        used = np.isin(light, lights[kept])
        middle = np.median(shape[used], axis=0)
        strays = np.square((means[kept] - middle) / error[kept]).mean(axis=1)
        if strays @ count[lights[kept]] > MAX_SCATTER**2 * count[lights[kept]].sum():
            kept = kept[:-1]  # without the widest: a group may be wider than the PSF, but nothing is narrower
        elif _is_one_target(middle, widths[used], many=len(kept) >= MANY_LIGHTS):
            scale = 1.2533 * 1.4826 * float(np.median(np.abs(shape[used, 0] - middle[0])))
            return float(middle[0]), scale * math.sqrt(NOISE_PARTS / used.sum())
        else:
            break
    return math.nan, math.nan


def _is_one_target(middle: Floats, widths: Floats, *, many: bool) -> bool:
    """Tell whether lights of the same shape are single targets, and not groups, as far as they tell.

    middle (3,): their common change of width and stretches; widths (N, 8): see WidthSample; many: whether they are of
    several lights, whose agreement speaks against groups.
    """
    if not many and math.hypot(*middle[1:]) > max(LONE_STRETCH * middle[0], SAME_WIDTH):
        return False
    *_, snr, excess, spare = widths[widths[:, -1] > 0].T
    more, doubt = float((excess - spare).sum()), MAX_EXCESS * math.sqrt(EXCESS_VARIANCE * spare.sum())
    return not len(spare) or (more <= doubt and more + doubt <= (MISFIT if many else LONE_MISFIT) * float(snr @ snr))
