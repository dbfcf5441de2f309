"""The ways to read a window: by the fit alone, by the network alone, by the better of the two, or as the field does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from irst_stream.machine import usable_cores
from irst_stream.optics import FineGrid
from irst_stream.resolve.cells import read_cells, read_peaks
from irst_stream.resolve.choose import choose
from irst_stream.resolve.claims import ClaimSettings, read_claims
from irst_stream.resolve.fit import Fitter
from irst_stream.resolve.found import NOTHING_FOUND, Found, gather
from irst_stream.types import Answer, Detections, Window

__all__ = ["Fitted", "Readout", "Resolver", "Unmixing"]

Readout = Literal["best", "network", "peaks", "cells", "fit"]
Resolver = Callable[[Window, list[Answer]], Detections]


class Workers:
    """Does the same for each region, several at once where there are threads for it; the answers are in order."""

    def __init__(self, threads: int = 1) -> None:
        """threads: of the CPU, 0 for all."""
        count = threads or usable_cores()
        self._pool = ThreadPoolExecutor(count, "regions") if count > 1 else None

    def __call__(self, work: Callable[[int], Found], regions: int) -> list[Found]:
        """What work gives for regions 0, 1, ..."""
        if self._pool is None or regions < 2:
            return [work(k) for k in range(regions)]
        return list(self._pool.map(work, range(regions)))


class Fitted:
    """The fit of the imaging model, without a network."""

    def __init__(self, fitter: Fitter, threads: int = 1) -> None:
        self._fitter, self._workers = fitter, Workers(threads)

    def __call__(self, window: Window, _: list[Answer]) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        return gather(window, self._workers(lambda k: fit_region(self._fitter, window, k), len(window.patches)))


class Unmixing:
    """A network's answer to each region, read in one of these ways; "best" has the fit look for something better."""

    def __init__(
        self,
        readout: Readout,
        grid: FineGrid,
        claims: ClaimSettings,
        amplitude: float,
        fitter: Fitter | None,
        threads: int = 1,
    ) -> None:
        """amplitude: what one target is known to have, DN, for readout "peaks"; fitter: for readout "best"."""
        self._readout, self._grid, self._claims = readout, grid, claims
        self._amplitude, self._fitter, self._workers = amplitude, fitter, Workers(threads)

    def __call__(self, window: Window, answers: list[Answer]) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        return gather(window, self._workers(lambda k: self._region(window, k, answers[k]), len(answers)))

    def _region(self, window: Window, region: int, answer: Answer) -> Found:
        unmixed, corner = answer
        if self._readout == "cells":
            found = read_cells(unmixed.map[0], self._grid)
        elif self._readout == "peaks":
            found = read_peaks(unmixed.map[0], self._grid, self._amplitude)
        else:
            found = read_claims(unmixed.claims[0], self._grid, self._claims)
        found = found._replace(xy=found.xy + corner)
        if self._fitter is None:
            return found
        return choose(found, fit_region(self._fitter, window, region, found))


def fit_region(fitter: Fitter, window: Window, region: int, hint: Found = NOTHING_FOUND) -> Found:
    """What the fit finds in one region of a window."""
    noise, ceiling = float(window.noise[region]), float(window.ceiling[region])
    return fitter(window.patches[region], window.times, hint, noise, ceiling)
