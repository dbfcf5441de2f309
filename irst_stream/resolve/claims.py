"""Targets from a network's continuous head: each fine cell claims a target or part of one; claims on one are merged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.region_targets import RegionTargets
from irst_stream.optics import FineGrid
from irst_stream.resolve.merge import merge
from irst_stream.resolve.settings import ClaimSettings

__all__ = ["read_claims"]

MIN_PROBABILITY = 0.01  # a cell with less claims nothing


def read_claims(claims: NDArray[np.float32], grid: FineGrid, settings: ClaimSettings | None = None) -> RegionTargets:
    """Merge one window's claims (7, H c, W c), see types.Unmixed, to targets in px of the patch, the likeliest first.

    Claims that lie close together belong to one target as long as they do not add up to more than one. Its place is their
    mean, weighted by probability and precision; its covariance includes their scatter. Without claims there are no targets.
    """
    settings = settings or ClaimSettings()
    cells = claims.reshape(len(claims), -1)
    at = np.flatnonzero(cells[0] > MIN_PROBABILITY)
    at = at[np.argsort(-cells[0, at], kind="stable")]
    columns = cells[:, at].astype(np.float64)
    xy = grid.centres.reshape(-1, 2)[at] + columns[1:3].T
    # input unlike the training data can make a network claim places outside its patch
    inside = ((xy > -0.5) & (xy < np.array(grid.patch[::-1]) - 0.5)).all(axis=1)
    if not inside.all():
        xy, columns = xy[inside], columns[:, inside]
    p, _, _, x_sd, y_sd, amplitude, amplitude_sd = columns
    owner = merge(xy, p, settings.merge_px)
    heads = np.flatnonzero(owner == np.arange(len(owner)))
    members = owner == heads[:, None]  # (targets, claims)
    total = members @ p
    reported = np.argsort(-total, kind="stable")[: settings.most_targets]
    reported = reported[total[reported] >= settings.presence]
    members, total = members[reported], total[reported]
    weight = members * p / (x_sd**2 + y_sd**2)
    weight /= weight.sum(1, keepdims=True)
    place, light = weight @ xy, weight @ amplitude
    offset = xy - place[:, None]
    cov = (weight[..., None] * offset).swapaxes(1, 2) @ offset
    cov[:, 0, 0] += weight @ x_sd**2
    cov[:, 1, 1] += weight @ y_sd**2
    light_sd = np.sqrt(np.maximum(weight @ (amplitude_sd**2 + amplitude**2) - light**2, 0))
    return RegionTargets.alone(place, cov, light, light_sd, np.minimum(total, 1))
