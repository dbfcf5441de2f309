"""The readouts of a window: the fit alone, the network alone, the fit started from the network, the published one."""

from __future__ import annotations

from typing import Protocol

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.region_fits import RegionFits
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets, gather
from irst_stream.fit.work_budget import FitBudget
from irst_stream.optics import FineGrid
from irst_stream.resolve.cells import read_cells, read_peaks
from irst_stream.resolve.choose import choose
from irst_stream.resolve.claims import read_claims
from irst_stream.resolve.nearest import keep_nearest, reassign_to_nearest
from irst_stream.resolve.psf_watch import PsfWatch
from irst_stream.resolve.residuals import weigh_by_strength, without_residuals
from irst_stream.resolve.settings import ClaimSettings, Readout
from irst_stream.types import Detections, Floats, RegionOutput, Window

__all__ = ["FitResolver", "NetworkResolver", "Resolver"]


class Resolver(Protocol):
    """Turns the windows of one sensor, and the network's output for each of their regions, into detections."""

    @property
    def alarm(self) -> str:
        """A failure of the fit and its fallback, in one line; "" while there is none."""

    @property
    def watch(self) -> PsfWatch | None:
        """What the sensor's targets say of its PSF; None without a fit."""

    @property
    def budget(self) -> FitBudget | None:
        """What the fits of a window may take; None without a fit."""

    def __call__(self, window: Window, outputs: list[RegionOutput]) -> Detections:
        """Return the detections of the window's centre frame, in px of the sensor's frame, region after region."""

    def catch_up(self) -> None:
        """Do what the last window's detections have not waited for: fits from scratch of the groups whose turn it was, from
        which the next window starts, and the measurement of a light's width.
        """


class FitResolver:
    """Fits the imaging model, without a network."""

    def __init__(self, fitter: Fitter) -> None:
        self._fits, self._settings = RegionFits(fitter), fitter.settings
        self.watch = PsfWatch(fitter.field, fitter.settings)

    @property
    def alarm(self) -> str:
        """A failure of the fit and its fallback, in one line; "" while there is none."""
        return self._fits.alarm

    @property
    def budget(self) -> FitBudget:
        """What the fits of a window may take."""
        return self._fits.budget

    def __call__(self, window: Window, outputs: list[RegionOutput]) -> Detections:  # noqa: ARG002, no network, no outputs
        """Return the detections of the window's centre frame, in px of the sensor's frame, region after region."""
        found = self._fits(window, [NO_TARGETS] * len(window.patches))
        found = [weigh_by_strength(*pair) for pair in zip(found, window.strength, strict=True)]
        detections = gather(window, found, self._settings.score_radius_px)
        detections = without_residuals(detections, self._settings.model_error)
        self.watch.add(window, detections)
        return detections

    def catch_up(self) -> None:
        """Fit the groups of the last window whose turn it was from scratch, and measure a light's width."""
        self._fits.fit_owed()
        self.watch.measure()


class NetworkResolver:
    """Reads a network's output for each region; with readout "best", the fit starts from it and may improve on it."""

    def __init__(
        self,
        readout: Readout,
        grid: FineGrid,
        claims: ClaimSettings,
        amplitude: float,
        fitter: Fitter | None,
    ) -> None:
        """amplitude: the known amplitude of one target, DN, for readout "peaks"; fitter: for readout "best"."""
        self._readout, self._grid, self._claims = readout, grid, claims
        self._amplitude, self._fits = amplitude, RegionFits(fitter) if fitter else None
        self.watch = PsfWatch(fitter.field, fitter.settings) if fitter else None

    @property
    def alarm(self) -> str:
        """A failure of the fit and its fallback, in one line; "" while there is none."""
        return "" if self._fits is None else self._fits.alarm

    @property
    def budget(self) -> FitBudget | None:
        """What the fits of a window may take; None without a fit."""
        return None if self._fits is None else self._fits.budget

    def __call__(self, window: Window, outputs: list[RegionOutput]) -> Detections:
        """Return the detections of the window's centre frame, in px of the sensor's frame, region after region."""
        read = [_in_centre_frame(self._read(o), s) for o, s in zip(outputs, window.platform_shifts, strict=True)]
        found = keep_nearest(window, read)
        if self._fits is not None:
            fitted = reassign_to_nearest(window, self._fits(window, found))
            found = [choose(*pair) for pair in zip(found, fitted, strict=True)]
        detections = gather(window, found)
        if self.watch is not None:
            self.watch.add(window, detections)
        return detections

    def catch_up(self) -> None:
        """If there is a fit: fit groups of the last window whose turn it was from scratch, and measure a light's width."""
        if self._fits is not None:
            self._fits.fit_owed()
        if self.watch is not None:
            self.watch.measure()

    def _read(self, output: RegionOutput) -> RegionTargets:
        """Return the targets of one region's output, in px of the region's patch."""
        unmixed, corner = output
        if self._readout == "cells":
            found = read_cells(unmixed.map[0], self._grid)
        elif self._readout == "peaks" or not unmixed.claims.shape[1]:  # a plain head's map may start the fit too
            found = read_peaks(unmixed.map[0], self._grid, self._amplitude)
        else:
            found = read_claims(unmixed.claims[0], self._grid, self._claims)
        return found._replace(xy=found.xy + corner)


def _in_centre_frame(found: RegionTargets, shifts: Floats) -> RegionTargets:
    """Move targets to where the centre frame has them: a network reports their mean place over the frames.

    shifts (T, 2) px: the region's platform shifts.
    """
    return found._replace(xy=found.xy - shifts.mean(axis=0))
