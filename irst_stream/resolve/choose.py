"""Chooses between the network's targets and the fit's, by how well the fit explains the light."""

from __future__ import annotations

from irst_stream.fit.region_targets import RegionTargets

__all__ = ["choose"]

MIN_EXPLAINED = 0.5  # below it the fit's targets do not explain the light, and the fit does not overrule the network


def choose(network: RegionTargets, fit: RegionTargets) -> RegionTargets:
    """Return the fit's targets, or the network's where the fit explains the light badly and the network is surer.

    The fit also starts from the network's targets and ranks them by the light like any other hypothesis, so it is
    preferred. Where no targets of the imaging model explain the light, the larger sum of scores decides.
    """
    if not len(fit.xy) or fit.explained.min() >= MIN_EXPLAINED:
        return fit
    return network if network.score.sum() > fit.score.sum() else fit
