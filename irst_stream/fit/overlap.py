"""Alternating fit of groups that share light: the others' light is subtracted from a group's patch before its fit.

The others' light follows from their last window's targets, or from their fit in this one; a group is fitted again where
the others' light has changed since. So no light is fitted twice, and each group keeps its own velocity however close they
are. Of two groups without a warm start, the first to be fitted leaves out the pixels nearer to the other's region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.groups import WarmGroups
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.fit.warm_start import WarmStart
from irst_stream.psf_field import PsfField
from irst_stream.types import Floats, Ints

__all__ = ["MAX_PASSES", "FitGroups", "Patches", "fit_alternately"]

Flags = NDArray[np.bool_]
REFIT_CHANGE = 1.0  # of a pixel's error, by noise and PSF: a larger change of the others' light has a group fitted again
MAX_PASSES = 3  # fits of a group in one window

# Fits the groups of these rows, each by itself.
FitGroups: TypeAlias = Callable[[Ints, Patches, WarmStart], tuple[list[RegionTargets], WarmStart]]


def fit_alternately(
    fit: FitGroups,
    patches: Patches,
    groups: WarmGroups,
    overlaps: Flags,
    field: PsfField,
    model_error: float,
    passes: int = MAX_PASSES,
) -> tuple[list[RegionTargets], WarmStart, Flags]:
    """Fit N groups of which some overlap; return their targets, their warm start, and which are to be fitted again (N,).

    fit: fits groups that do not overlap; overlaps (N, N): which groups' patches share pixels; field: the sensor's PSF;
    model_error: what it leaves unexplained, a share of the peak; passes: fits of a group at most, 1 to MAX_PASSES;
    with 1, all are fitted at once, under the light of the others' last window.
    """
    alternating = _AlternatingFit(patches, groups, overlaps, field, model_error)
    in_turn = _batches(overlaps, np.argsort(groups.warm_start.best > 0, kind="stable"))
    batches = list(in_turn) if passes > 1 else [np.arange(len(overlaps))]
    stale: Flags = np.ones(len(overlaps), np.bool_)
    for _ in range(passes):
        for rows in batches:
            alternating.fit_stale(fit, rows)
        stale = alternating.stale()
        if not stale.any():
            break
    return alternating.found, alternating.warm_start, stale


def _batches(overlaps: Flags, order: Ints) -> Iterator[Ints]:
    """Colour the groups greedily in this order: each batch holds groups that do not overlap and are fitted at once."""
    batch = np.full(len(overlaps), -1)
    for k in order:
        taken = set(batch[overlaps[k]].tolist())
        batch[k] = next(t for t in range(len(overlaps)) if t not in taken)
    return (np.flatnonzero(batch == t) for t in range(batch.max(initial=-1) + 1))


class _AlternatingFit:
    """The state of an alternating fit: targets, warm starts, and the light subtracted in each group's last fit."""

    def __init__(self, patches: Patches, groups: WarmGroups, overlaps: Flags, field: PsfField, model_error: float) -> None:
        self.found, self.warm_start = [NO_TARGETS] * len(overlaps), groups.warm_start.of(np.arange(len(overlaps)))
        self._patches, self._corners = patches, groups.corner
        self._overlaps, self._field, self._shape = overlaps, field, (patches.images.shape[2], patches.images.shape[3])
        self._light = np.zeros(patches.images.shape)  # the others' in each group's patch, as last rendered
        self._subtracted = np.full(patches.images.shape, np.inf)  # the others' light in each group's last fit
        self._moved: Flags = np.ones(len(overlaps), np.bool_)  # whether any of the others was fitted since it was rendered
        self._model_error = model_error
        self._odds = groups.warm_start.odds  # every fit starts from these, so that a window counts once
        self._without_start: Flags = np.asarray(groups.warm_start.best == 0)

    def stale(self) -> Flags:
        """Return which groups (N,) are new, or have neighbours whose light has changed."""
        return self._is_stale(np.arange(len(self._overlaps)))

    def _is_stale(self, rows: Ints) -> Flags:
        """Tell which groups of these rows are to be fitted."""
        for k in rows[self._moved[rows]].tolist():
            self._light[k] = self._others_light(k)
        self._moved[rows] = False
        light = self._light[rows]
        changed = np.abs(light - self._subtracted[rows]).max(axis=(1, 2, 3))
        noise = np.nan_to_num(self._patches.noise[rows], nan=0.0)
        error = np.hypot(noise, self._model_error * light.max(axis=(1, 2, 3)))
        return np.asarray(changed > REFIT_CHANGE * error)

    def fit_stale(self, fit: FitGroups, rows: Ints) -> None:
        """Fit the groups among rows that are new or whose neighbours' light has changed."""
        rows = rows[self._is_stale(rows)]
        if not len(rows):
            return
        light = self._light[rows]
        patches = self._patches.of(rows).without(light)
        ceded = np.stack([self._pixels_of_others(k) for k in rows])
        patches.images[np.broadcast_to(ceded[:, None], patches.images.shape)] = np.nan
        self._subtracted[rows] = light
        self._subtracted[rows[ceded.any(axis=(1, 2))]] = np.inf
        warm_start = self.warm_start.of(rows)
        found, warm_start = fit(rows, patches, warm_start._replace(odds=self._odds[rows]))
        for k, targets in zip(rows.tolist(), found, strict=True):
            self.found[k] = targets
        for column, new in zip(self.warm_start, warm_start, strict=True):
            column[rows] = new
        self._moved |= self._overlaps[rows].any(axis=0)
        self._without_start[rows] = False

    def _others_light(self, k: int) -> Floats:
        """(T, H, W) DN: light of the overlapping groups in the patch of group k."""
        others = np.flatnonzero(self._overlaps[k])
        offsets = self._corners[others] - self._corners[k]
        if not self.warm_start.best[others].any():
            return np.zeros(self._patches.images.shape[1:])
        p = np.concatenate([self.warm_start.targets(j) for j in others.tolist()])
        xy = p[:, :2] + np.repeat(offsets, self.warm_start.best[others], axis=0)
        moved = self._patches.times[:, None, None] * p[:, 2:4] + self._patches.shifts[k, :, None]
        psf = self._field.at(self._corners[k] + (np.array(self._shape[::-1]) - 1) / 2)
        return psf.render(xy + moved, p[:, 4], self._shape)

    def _pixels_of_others(self, k: int) -> Flags:
        """(H, W): pixels of group k's patch nearer to the centre of another; only groups without a warm start count."""
        ceded = np.zeros(self._shape, np.bool_)
        if not self._without_start[k]:
            return ceded
        rows, columns = np.indices(self._shape)
        pixels, half = np.stack([columns, rows], axis=-1), (np.array(self._shape[::-1]) - 1) / 2
        for j in np.flatnonzero(self._overlaps[k] & self._without_start):
            centre = self._corners[j] - self._corners[k] + half
            ceded |= np.linalg.norm(pixels - centre, axis=-1) < np.linalg.norm(pixels - half, axis=-1)
        return ceded
