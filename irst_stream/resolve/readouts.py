"""The ways to read a window: by the fit alone, by the network alone, by the better of the two, or as the field does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from irst_stream.optics import FineGrid
from irst_stream.resolve.cells import read_cells, read_peaks
from irst_stream.resolve.choose import choose
from irst_stream.resolve.claims import ClaimSettings, read_claims
from irst_stream.resolve.fit import Fitter
from irst_stream.resolve.found import Found, gather
from irst_stream.types import Answer, Detections, Window

__all__ = ["Fitted", "Readout", "Resolver", "Unmixing"]

Readout = Literal["best", "network", "peaks", "cells", "fit"]
Resolver = Callable[[Window, list[Answer]], Detections]


class Fitted:
    """The fit of the imaging model, without a network."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter = fitter

    def __call__(self, window: Window, _: list[Answer]) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        return gather(window, [self._fitter(patches, window.times) for patches in window.patches])


class Unmixing:
    """A network's answer to each region, read in one of these ways; "best" has the fit look for something better."""

    def __init__(
        self, readout: Readout, grid: FineGrid, claims: ClaimSettings, amplitude: float, fitter: Fitter | None
    ) -> None:
        """amplitude: what one target is known to have, DN, for readout "peaks"; fitter: for readout "best"."""
        self._readout, self._grid, self._claims = readout, grid, claims
        self._amplitude, self._fitter = amplitude, fitter

    def __call__(self, window: Window, answers: list[Answer]) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        found = [self._region(window, k, answer) for k, answer in enumerate(answers)]
        return gather(window, found)

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
        return choose(found, self._fitter(window.patches[region], window.times, found))
