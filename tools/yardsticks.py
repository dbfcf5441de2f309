"""Yardsticks beside which accuracy is read: fits that know more than any method may.

`truth_started` knows the number of targets and begins at them; it is a yardstick, not a strict bound. `ArmsModel` knows
SeqCSIST's arrangement, and is written without any of the product's fit, to check that by.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import least_squares

from irst_stream.fit.compiled import ImagingModel, RegionImages
from irst_stream.fit.compiled.evidence import fill_covariances
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.fitter import priors_of
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render
from irst_stream.sim.datasets import DIRECTIONS
from irst_stream.types import Floats, Window

__all__ = ["ArmsModel", "truth_started"]

FREE = np.empty((0, 3))  # seats
STEPS = 100


def truth_started(window: Window, xy: Floats, amplitude: Floats, settings: FitSettings, noise: float) -> RegionTargets:
    """The fit of a window's only region from its true targets, xy (N, 2) px and amplitude (N,) DN; noise: DN."""
    if not len(xy):
        return NO_TARGETS
    images, known, n = window.patches[0].astype(np.float64), priors_of(settings), len(xy)
    start = np.column_stack([xy - window.corners[0], np.zeros((n, 2)), amplitude])
    limits = (0.0 if images.min() == 0 else -1e30, min(float(window.ceiling[0]), 1e30))
    seen = RegionImages(
        images, np.array(window.frame_times), np.array(window.platform_shifts[0]), noise, limits, settings.shot_dn
    )
    p, _, matrix, _ = fit(start, seen, ImagingModel(known.sigma, known.shape, known.priors), FREE, STEPS)
    cov, deviation = np.zeros((n, n, 2, 2)), np.zeros(n)
    fill_covariances(matrix, images.shape[:0:-1], cov, deviation)
    return RegionTargets.alone(p[:, :2] + window.corners[0], cov[range(n), range(n)], p[:, 4], deviation, np.ones(n))


class ArmsModel:
    """SeqCSIST's arrangement: a middle anywhere in straight motion, 2 to 4 of four arms of ARM +- ARM_SD px, each target's
    amplitude AMPLITUDE +- AMPLITUDE_SD. Every subset of arms is fitted, and Laplace's evidence chooses.
    """

    ARM, ARM_SD = 0.307, 0.006  # px
    AMPLITUDE, AMPLITUDE_SD = 235.0, 8.7  # DN
    SPEED_SD = 0.05  # px a frame
    ways = tuple(way for n in (2, 3, 4) for way in combinations(range(4), n))

    def __call__(self, images: Floats, noise: float, floor: float, ceiling: float) -> tuple[Floats, float]:
        """Images (T, H, W) DN to the targets (N, 2) px in the middle frame, and how likely that subset of arms is."""
        fits = [self._fit(way, images, noise, floor, ceiling) for way in self.ways]
        logs = np.array([log for log, _ in fits])
        best = int(logs.argmax())
        return fits[best][1], float(1 / np.exp(logs - logs[best]).sum())

    def _fit(
        self, way: tuple[int, ...], images: Floats, noise: float, floor: float, ceiling: float
    ) -> tuple[float, Floats]:
        n, times = len(way), np.arange(len(images)) - len(images) // 2
        light = np.maximum(images - 3 * noise, 0).sum(0)
        rows, columns = np.indices(light.shape)
        centre = np.array([(light * columns).sum(), (light * rows).sum()]) / max(light.sum(), 1e-9)
        start = np.concatenate([centre - self.ARM * DIRECTIONS[list(way)].mean(0), np.zeros(2 + 2 * n)])

        def places(q: Floats) -> Floats:
            return q[:2] + DIRECTIONS[list(way)] * (self.ARM + self.ARM_SD * q[4 : 4 + n, None])

        def left(q: Floats) -> Floats:
            moved = places(q) + self.SPEED_SD * q[2:4] * times[:, None, None]
            given = render(moved, np.tile(self.AMPLITUDE + self.AMPLITUDE_SD * q[4 + n :], (len(images), 1)), light.shape)
            away = (given - images) / noise
            away = np.where((images <= floor) & (away < 0) | (images >= ceiling) & (away > 0), 0, away)
            return np.concatenate([away.ravel(), q[2:]])

        found = least_squares(left, start, method="lm")
        # The subset's prior: each number of targets as likely as another, each choice of arms too.
        ways = {2: 6, 3: 4, 4: 1}[n]
        return -found.cost - 0.5 * np.linalg.slogdet(found.jac.T @ found.jac)[1] - np.log(ways), places(found.x)
