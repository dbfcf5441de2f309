"""The ways to read a window: the fit alone, the network alone, the fit with the network's hypotheses, the field's own."""

from __future__ import annotations

from typing import Protocol

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.region_fits import RegionFits
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets, gather
from irst_stream.optics import FineGrid
from irst_stream.resolve.cells import read_cells, read_peaks
from irst_stream.resolve.choose import choose
from irst_stream.resolve.claims import read_claims
from irst_stream.resolve.nearest import moved_to_nearest, of_nearest
from irst_stream.resolve.settings import ClaimSettings, Readout
from irst_stream.types import Detections, Floats, RegionOutput, Window

__all__ = ["Fitted", "Resolver", "Unmixing"]


class Resolver(Protocol):
    """Reads the windows of one sensor, with what a network has seen in each of their regions."""

    @property
    def alarm(self) -> str:
        """What has failed of the fit, and what works in its place; "" while nothing has."""

    def __call__(self, window: Window, answers: list[RegionOutput]) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""


class Fitted:
    """The fit of the imaging model, without a network."""

    def __init__(self, fitter: Fitter) -> None:
        self._fits = RegionFits(fitter)

    @property
    def alarm(self) -> str:
        """What has failed of the fit, and what works in its place; "" while nothing has."""
        return self._fits.alarm

    def __call__(self, window: Window, answers: list[RegionOutput]) -> Detections:  # noqa: ARG002, for there is no network to answer
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        return gather(window, self._fits(window, [NO_TARGETS] * len(window.patches)))


class Unmixing:
    """A network's answer to each region, read in one of these ways; "best" has the fit look for something better."""

    def __init__(
        self,
        readout: Readout,
        grid: FineGrid,
        claims: ClaimSettings,
        amplitude: float,
        fitter: Fitter | None,
    ) -> None:
        """amplitude: what one target is known to have, DN, for readout "peaks"; fitter: for readout "best"."""
        self._readout, self._grid, self._claims = readout, grid, claims
        self._amplitude, self._fits = amplitude, RegionFits(fitter) if fitter else None

    @property
    def alarm(self) -> str:
        """What has failed of the fit, and what works in its place; "" while nothing has."""
        return "" if self._fits is None else self._fits.alarm

    def __call__(self, window: Window, answers: list[RegionOutput]) -> Detections:
        """The detections of the window's centre frame, in px of the sensor's frame, region after region."""
        found = of_nearest(
            window, [_centred(self._read(one), s) for one, s in zip(answers, window.platform_shifts, strict=True)]
        )
        if self._fits is not None:
            fitted = moved_to_nearest(window, self._fits(window, found))
            found = [choose(*pair) for pair in zip(found, fitted, strict=True)]
        return gather(window, found)

    def _read(self, answer: RegionOutput) -> RegionTargets:
        unmixed, corner = answer
        if self._readout == "cells":
            found = read_cells(unmixed.map[0], self._grid)
        elif self._readout == "peaks":
            found = read_peaks(unmixed.map[0], self._grid, self._amplitude)
        else:
            found = read_claims(unmixed.claims[0], self._grid, self._claims)
        return found._replace(xy=found.xy + corner)


def _centred(found: RegionTargets, shifts: Floats) -> RegionTargets:
    """What a network has found, where the centre frame has it: it sees targets where they are on the frames' average."""
    return found._replace(xy=found.xy - shifts.mean(axis=0))
