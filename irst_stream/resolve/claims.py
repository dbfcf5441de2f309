"""Detections from the continuous head: each fine cell claims a target, or part of one; claims on one target are merged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.region_targets import RegionTargets
from irst_stream.optics import FineGrid
from irst_stream.resolve.merge import merge
from irst_stream.resolve.settings import ClaimSettings

__all__ = ["read_claims"]

FAINTEST = 0.01  # probability below which a cell claims nothing


def read_claims(claims: NDArray[np.float32], grid: FineGrid, settings: ClaimSettings | None = None) -> RegionTargets:
    """One window's claims (7, H c, W c), see types.Unmixed, to targets in px of the patch, the likeliest first.

    Claims that lie close together are on one target, as long as they do not add up to more than one: its place is their
    mean, by probability and precision, and how far they are apart counts towards its covariance.
    """
    settings = settings or ClaimSettings()
    row, column = np.nonzero(claims[0] > FAINTEST)
    order = np.argsort(-claims[0, row, column], kind="stable")
    row, column = row[order], column[order]
    p, x, y, x_sd, y_sd, amplitude, amplitude_sd = np.asarray(claims[:, row, column], np.float64)
    xy = grid.centres[row, column] + np.stack([x, y], axis=1)
    kept = ((xy > -0.5) & (xy < np.array(grid.patch[::-1]) - 0.5)).all(axis=1)  # of what is unlike all that was learnt
    p, xy, x_sd, y_sd, amplitude, amplitude_sd = (c[kept] for c in (p, xy, x_sd, y_sd, amplitude, amplitude_sd))
    owner = merge(xy, p, settings.merge_px)
    mine = owner == np.unique(owner)[:, None]  # (targets, claims)
    total = mine @ p
    reported = np.argsort(-total, kind="stable")[: settings.most_targets]
    reported = reported[total[reported] >= settings.presence]
    mine, total = mine[reported], total[reported]
    share = mine * p / (x_sd**2 + y_sd**2)
    share /= share.sum(1, keepdims=True)
    place, light = share @ xy, share @ amplitude
    away = xy - place[:, None]
    cov = np.einsum("tc,tci,tcj->tij", share, away, away)
    cov[:, 0, 0] += share @ x_sd**2
    cov[:, 1, 1] += share @ y_sd**2
    light_sd = np.sqrt(np.maximum(share @ (amplitude_sd**2 + amplitude**2) - light**2, 0))
    return RegionTargets.alone(place, cov, light, light_sd, np.minimum(total, 1))
