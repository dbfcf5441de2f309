"""Watches whether single bright targets look wider or narrower than the PSF that a sensor is configured with."""

from __future__ import annotations

import logging
import math
from collections import deque

import numpy as np

from irst_stream.psf_field import PsfField
from irst_stream.types import Detections, Floats, Window

__all__ = ["PsfWatch"]

EVERY = 5  # windows between two samples, each of one target
KEPT = 200  # samples, the latest
MIN_SAMPLES = 30
MIN_SNR = 25.0  # of a target whose width is measured
ALONE_PX = 9.0  # from any other detection
WIDTH_STEP = 0.08  # of the logarithm of the width, between the PSFs that are compared
MAX_WIDTH = 0.3  # of its logarithm: an extended target or two says nothing of the PSF
CORE_PX = 3.0  # from the target: light within counts
STEPS = 4
TOLERANCE = 0.05  # of the width: less is not reported
SIGNIFICANCE = 4.0  # standard errors
NOISE_PARTS = 4.0  # samples in a row are mostly of the same targets: so many count as one

log = logging.getLogger(__name__)


class PsfWatch:
    """Measures the width of one sensor's targets, one bright, single one every few windows."""

    def __init__(self, psf: PsfField) -> None:
        self._wider, self._psf, self._narrower = psf.scaled(math.exp(WIDTH_STEP)), psf, psf.scaled(math.exp(-WIDTH_STEP))
        self._sharpness = float(np.sqrt((psf.middle.images(np.array([5.0, 5.0])) ** 2).sum()))
        self._logs: deque[float] = deque(maxlen=KEPT)
        self._windows = 0
        self._told = False

    @property
    def ratio(self) -> float:
        """Measured width over the configured one; NaN until enough targets have been measured."""
        logs = tuple(self._logs)  # a copy: other threads read this
        return math.exp(float(np.median(logs))) if len(logs) >= MIN_SAMPLES else math.nan

    @property
    def advice(self) -> str:
        """What the width says and what to do, in one line; "" while the PSF is as configured, or too little is known."""
        logs = np.array(tuple(self._logs))
        if len(logs) < MIN_SAMPLES:
            return ""
        middle = float(np.median(logs))
        error = 1.2533 * 1.4826 * float(np.median(np.abs(logs - middle))) * math.sqrt(NOISE_PARTS / len(logs))
        if abs(middle) < max(math.log1p(TOLERANCE), SIGNIFICANCE * error):
            return ""
        change, sense = abs(math.expm1(middle)), "wider" if middle > 0 else "narrower"
        return f"the PSF looks {change:.0%} {sense} than configured: measure it with irst-stream calibrate"

    def add(self, window: Window, detections: Detections) -> None:
        """Measure one target of a window's centre frame, if it is time and there is a bright, single one."""
        self._windows += 1
        if self._windows % EVERY or not len(detections):
            return
        k = self._brightest_alone(window, detections)
        if k >= 0:
            row = int(np.flatnonzero(window.region == detections.region[k])[0])
            image = np.asarray(window.patches[row, window.centre], np.float64)
            change = self._width_of(image, detections.xy[k], window.corners[row], float(detections.amplitude[k]))
            if abs(change) < MAX_WIDTH:
                self._logs.append(change)
        if not self._told and (advice := self.advice):
            self._told = True
            log.warning("%s: %s", window.stamp.sensor or "the sensor", advice)

    def _brightest_alone(self, window: Window, detections: Detections) -> int:
        """The row of the brightest detection without another nearby, neither faint nor saturated; -1 if there is none."""
        apart = np.hypot(*(detections.xy[:, None] - detections.xy[None]).T) + np.diag(np.full(len(detections), np.inf))
        known = {int(number): k for k, number in enumerate(window.region)}
        rows = np.array([known.get(int(number), -1) for number in detections.region])
        noise, ceiling = window.noise[rows], window.ceiling[rows]
        light = np.nanmax(window.patches[rows].reshape(len(rows), -1), axis=1, initial=-np.inf)
        bright = detections.amplitude * self._sharpness > MIN_SNR * np.where(np.isfinite(noise), noise, np.inf)
        usable = (apart.min(axis=1) > ALONE_PX) & bright & (rows >= 0) & (light < 0.9 * ceiling)
        return int(np.argmax(np.where(usable, detections.amplitude, -1.0))) if usable.any() else -1

    def _width_of(self, image: Floats, place: Floats, corner: Floats, amplitude: float) -> float:
        """Logarithm of the width of a target over that of the PSF there; NaN if it fails.

        image (H, W) DN: a patch of the frame, whose first pixel is corner (2,) px; place (2,): of the target, px.
        """
        psf, wider, narrower = (kind.at(place) for kind in (self._psf, self._wider, self._narrower))
        xy = place - corner
        rows, columns = np.indices(image.shape)
        used = (np.hypot(columns - xy[0], rows - xy[1]) <= CORE_PX) & np.isfinite(image)
        if used.sum() < 12:
            return math.nan
        change, h = 0.0, 0.01
        to_right, down = np.array([h, 0.0]), np.array([0.0, h])
        for _ in range(STEPS):
            places = np.array([xy, xy + to_right, xy + down])
            here, by_x, by_y = psf.images(places, image.shape)
            by_width = (wider.images(xy, image.shape) - narrower.images(xy, image.shape)) / (2 * WIDTH_STEP)
            shape = here + change * by_width
            slopes = np.stack([(by_x - here) / h, (by_y - here) / h, by_width, shape / amplitude, np.ones_like(here)], -1)
            matrix, left = amplitude * slopes[used], (image - amplitude * shape)[used]
            step = np.linalg.lstsq(matrix / amplitude, left / amplitude, rcond=None)[0]
            xy, change, amplitude = xy + np.clip(step[:2], -0.5, 0.5), change + step[2], amplitude + step[3]
            if not (amplitude > 0 and np.isfinite(change) and abs(change) < 2 * MAX_WIDTH):
                return math.nan
        return float(change)
