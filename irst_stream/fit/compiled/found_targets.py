"""The targets of all regions as they are reported: those inside their patch, with errors that own the misfit. Compiled."""

from __future__ import annotations

import math

import numpy as np

from irst_stream.fit.compiled.evidence import covariance_factors
from irst_stream.system.numba_cache import compiled

__all__ = ["found_targets"]

FOREIGN_CHI_SQUARE = 2.5  # reduced chi-square of a fit beyond which its light is more likely not of point targets
NOISE_CHI_SQUARE = 1.7  # largest reduced chi-square that noise alone explains
MAX_CHI_SQUARE = 1e6  # bounds the inflation of covariances, far beyond any useful one


@compiled
def found_targets(results, width, height, least, knows_extended):  # type: ignore[no-untyped-def]
    """Gather the targets of N regions that lie within their patch and have the least amplitude (N,) DN.

    Returns the columns of region_targets.RegionTargets, region after region, and the row (N,) at which each region ends.

    results: see search.FitResults; width, height: of the patch, px. A chi-square that noise does not explain inflates
    their covariances. Where all targets are points, it lowers their probability too, because the light may be of something
    else, as of a cloud's edge.
    """
    regions, most = results.targets.shape[:2]
    factors = covariance_factors(results.number, results.cov)
    inside, count = np.zeros((regions, most), np.bool_), 0
    for k in range(regions):
        for i in range(results.number[k]):
            x, y, amplitude = results.targets[k, i, 0], results.targets[k, i, 1], results.targets[k, i, 4]
            inside[k, i] = -0.5 < x < width - 0.5 and -0.5 < y < height - 0.5 and amplitude > 0.0 and least[k] <= amplitude
            count += inside[k, i]
    xy, cov, factor = np.empty((count, 2)), np.empty((count, 2, 2)), np.empty((count, 2, 2 * most))
    amplitudes, deviations = np.empty(count), np.empty(count)
    probability, explained, ends = np.empty(count), np.empty(count), np.empty(regions, np.int64)
    size = np.empty((count, 2))
    row = 0
    for k in range(regions):
        each, stacked = results.reduced_chi_square[k]
        chi_square = max(each, stacked)
        inflation = min(chi_square, MAX_CHI_SQUARE) if chi_square > NOISE_CHI_SQUARE else 1.0
        unexplained = (stacked - NOISE_CHI_SQUARE) / (FOREIGN_CHI_SQUARE - NOISE_CHI_SQUARE)
        if unexplained < 0.0:  # and not where it is NaN
            unexplained = 0.0
        share = 1.0 / (1.0 + min(unexplained, MAX_CHI_SQUARE) ** 4)
        for i in range(most):
            if not inside[k, i]:
                continue
            xy[row] = results.targets[k, i, :2]
            cov[row] = results.cov[k, i, i] * inflation
            factor[row] = factors[k, i] * math.sqrt(inflation)
            amplitudes[row] = results.targets[k, i, 4]
            deviations[row] = results.amplitude_sd[k, i] * math.sqrt(inflation)
            probable = results.probability[k, i] * (1.0 if knows_extended else share)
            probability[row] = 0.0 if math.isnan(probable) else probable
            explained[row] = share
            size[row] = results.extent[k]
            row += 1
        ends[k] = row
    return (xy, cov, amplitudes, deviations, probability, explained, size, factor), ends
