"""The search for targets in regions: its protocol and data, the search on the CPU, and the fallback to it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from irst_stream.errors import DeviceError, MissingPackageError
from irst_stream.fit.compiled import PARAMETERS, FitPriors, PsfBank, search_regions
from irst_stream.system.machine import usable_cores
from irst_stream.types import Floats, Ints

__all__ = ["CpuSearch", "Fallback", "FitResults", "RegionBatch", "Search", "empty_results"]

log = logging.getLogger(__name__)


class RegionBatch(NamedTuple):
    """The images of N regions (N, T, H, W) DN, and the inputs of each region's search.

    times (T,) and shifts (N, T, 2): see types.Window; noise (N,) DN; limits (N, 2) DN, floor and ceiling; hints (N, L, 5),
    of which the first hint_count (N,) count; warm_solutions (N, most + 1, most, 5); first_number (N,) of targets to try, 0
    to take it from the light; odds (N, most + 1): see compiled.model_selection; width_ratio (N,): PSF width to fit with
    over the expected one, 0 to search it; extent (N, 2): of the extended target to fit, px, 0 for point targets; shot (N,):
    see compiled.records; psf (N,): each region's PSF in the bank psfs. All float64 and int64.
    """

    images: Floats
    times: Floats
    shifts: Floats
    noise: Floats
    limits: Floats
    hints: Floats
    hint_count: Ints
    warm_solutions: Floats
    first_number: Ints
    odds: Floats
    width_ratio: Floats
    extent: Floats
    shot: Floats
    psf: Ints
    psfs: PsfBank


class FitResults(NamedTuple):
    """Targets found in N regions.

    number (N,) of targets; targets (N, most, 5); cov (N, most, most, 2, 2) px^2 of each two positions; amplitude_sd
    (N, most) DN; probability (N, most); all 0 beyond the number. reduced_chi_square (N, 2): see compiled.evidence.
    solutions (N, most + 1, most, 5), odds (N, most + 1), width_ratio (N,), PSF width over the expected one, and extent
    (N, 2), px, of an extended target, 0 for point targets: warm start of the next window.
    """

    number: Ints
    targets: Floats
    cov: Floats
    amplitude_sd: Floats
    probability: Floats
    reduced_chi_square: Floats
    solutions: Floats
    odds: Floats
    width_ratio: Floats
    extent: Floats


def empty_results(regions: int, most: int) -> FitResults:
    """Results of regions without a target: all 0."""
    n, each = regions, (regions, most)
    targets, cov, deviation, probability = (np.zeros((*each, *more)) for more in ((PARAMETERS,), (most, 2, 2), (), ()))
    last = np.zeros((n, most + 1, most, PARAMETERS)), np.zeros((n, most + 1)), np.zeros(n), np.zeros((n, 2))
    return FitResults(np.zeros(n, np.int64), targets, cov, deviation, probability, np.zeros((n, 2)), *last)


class Search(Protocol):
    """A search of regions on some device."""

    def __call__(self, which: Ints, regions: RegionBatch, results: FitResults) -> None:
        """Fill the rows `which` (n,), hardest first, of the results; where it raises DeviceError it fills none."""


class CpuSearch:
    """The search on CPU threads, compiled by numba."""

    def __init__(self, fit_priors: FitPriors, threads: int = 1) -> None:
        """threads: 0 for all cores."""
        self._fit_priors = fit_priors
        self._threads = threads or usable_cores()
        self._helpers = ThreadPoolExecutor(self._threads - 1, "fit") if self._threads > 1 else None

    def __call__(self, which: Ints, regions: RegionBatch, results: FitResults) -> None:
        """Fill the rows `which` (n,) of the results; each thread takes the next row when it is free."""
        rows, taken = np.ascontiguousarray(which), np.zeros(1, np.int64)
        search = partial(search_regions, rows, taken, regions, self._fit_priors, results)
        helpers = min(self._threads, len(which)) - 1 if self._helpers else 0
        others = [self._helpers.submit(search) for _ in range(helpers) if self._helpers]
        search()
        for other in others:
            if not other.cancel():  # it has started and may still be busy with a row
                other.result()


class Fallback:
    """A search on a device that falls back to the CPU for good when the device fails, for the failed regions too.

    alarm: why the device is no longer used, in one line; "" while it is in use.
    """

    def __init__(self, device: Search, cpu: Search) -> None:
        self.alarm = ""
        self._device, self._cpu = device, cpu

    def __call__(self, which: Ints, regions: RegionBatch, results: FitResults) -> None:
        """Fill the rows `which` (n,) of the results."""
        if not self.alarm:
            try:
                self._device(which, regions, results)
            except (DeviceError, MissingPackageError) as error:
                self.alarm = f"the fit failed on its GPU ({error}); from now on it runs on the CPU"
                log.error("%s", self.alarm)
            else:
                return
        self._cpu(which, regions, results)
