"""The search for targets in regions, apart from what it runs on."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from irst_stream.errors import DeviceError, MissingPackageError
from irst_stream.fit.compiled import PARAMETERS, Formation, Priors, search_each
from irst_stream.system.machine import usable_cores
from irst_stream.types import Floats, Ints

__all__ = ["CpuSearch", "Fallback", "FitPriors", "FitResults", "RegionBatch", "Search", "nothing_found"]

log = logging.getLogger(__name__)


class FitPriors(NamedTuple):
    """What is known of all regions beforehand.

    sigma: of the optics, px; shot: DN^2 by which a pixel's variance grows with a DN of light; priors and formation: see
    compiled.light; turns: arrangements from which the fit of each number of targets begins; most: targets;
    doubt: standard deviation of the logarithm of sigma where that is not as said, 0 where it always is.
    """

    sigma: float
    shot: float
    priors: Priors
    formation: Formation
    turns: int
    most: int
    doubt: float


class RegionBatch(NamedTuple):
    """N regions' images (N, T, H, W) DN, and what is known of each region.

    times (T,) and shifts (N, T, 2): see types.Window; noise (N,) DN; limits (N, 2) DN, floor and ceiling; hints (N, M, 5),
    the first hinted (N,) of each count; held (N, most + 1, most, 5), begin (N,) and odds (N, most + 1): see
    compiled.search. All of float64 and int64.
    """

    images: Floats
    times: Floats
    shifts: Floats
    noise: Floats
    limits: Floats
    hints: Floats
    hinted: Ints
    held: Floats
    begin: Ints
    odds: Floats


class FitResults(NamedTuple):
    """What is found in N regions.

    number (N,) of targets, their points (N, most, 5), cov (N, most, most, 2, 2) px^2 of each two places, amplitude_sd
    (N, most) DN and probability (N, most), 0 beyond their number; strain (N, 2): see compiled.evidence; solutions
    (N, most + 1, most, 5) and odds (N, most + 1), to be held for the next window.
    """

    number: Ints
    points: Floats
    cov: Floats
    amplitude_sd: Floats
    probability: Floats
    strain: Floats
    solutions: Floats
    odds: Floats


def nothing_found(regions: int, most: int) -> FitResults:
    """The answers of regions without a target."""
    n, each = regions, (regions, most)
    points, cov, deviation, probability = (np.zeros((*each, *more)) for more in ((PARAMETERS,), (most, 2, 2), (), ()))
    held = np.zeros((n, most + 1, most, PARAMETERS)), np.zeros((n, most + 1))
    return FitResults(np.zeros(n, np.int64), points, cov, deviation, probability, np.zeros((n, 2)), *held)


class Search(Protocol):
    """Searches regions on some device."""

    def __call__(self, which: Ints, regions: RegionBatch, answers: FitResults) -> None:
        """Fills the rows `which` (n,) of the answers, those that seem hardest first; none where it raises DeviceError."""


class CpuSearch:
    """The search on threads of the CPU, compiled by numba."""

    def __init__(self, known: FitPriors, threads: int = 1) -> None:
        """threads: 0 for all cores."""
        self._known = known
        self._threads = threads or usable_cores()
        self._helpers = ThreadPoolExecutor(self._threads - 1, "fit") if self._threads > 1 else None

    def __call__(self, which: Ints, regions: RegionBatch, answers: FitResults) -> None:
        """Fills the rows `which` (n,) of the answers, each thread taking the next one when it is done with its last."""
        rows, taken = np.ascontiguousarray(which), np.zeros(1, np.int64)
        search = partial(search_each, rows, taken, regions, self._known, answers)
        helpers = min(self._threads, len(which)) - 1 if self._helpers else 0
        others = [self._helpers.submit(search) for _ in range(helpers) if self._helpers]
        search()
        for other in others:
            if not other.cancel():  # it has begun, and may still be at its last row
                other.result()


class Fallback:
    """A search on a device until that fails, from then on the CPU's, for the regions it has failed on too.

    alarm: why the device is no longer used, in one line; "" as long as it is.
    """

    def __init__(self, device: Search, cpu: Search) -> None:
        self.alarm = ""
        self._device, self._cpu = device, cpu

    def __call__(self, which: Ints, regions: RegionBatch, answers: FitResults) -> None:
        """Fills the rows `which` (n,) of the answers."""
        if not self.alarm:
            try:
                self._device(which, regions, answers)
            except (DeviceError, MissingPackageError) as error:
                self.alarm = f"the fit failed on its GPU ({error}); from now on it runs on the CPU"
                log.error("%s", self.alarm)
            else:
                return
        self._cpu(which, regions, answers)
