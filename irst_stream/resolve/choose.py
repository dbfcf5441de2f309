"""A network's answer to a region and the fit's: the light decides."""

from __future__ import annotations

from irst_stream.fit.region_targets import RegionTargets

__all__ = ["choose"]

EXPLAINED = 0.5  # of a fit: below that its targets do not explain the light, and it has no say over the network


def choose(network: RegionTargets, fit: RegionTargets) -> RegionTargets:
    """The fit's answer, which was also tried from the network's and has ranked that by the light like any other; but where
    no targets of the imaging model explain the light, the answer that is surer of more targets.
    """
    if not len(fit.xy) or fit.explained.min() >= EXPLAINED:
        return fit
    return network if network.score.sum() > fit.score.sum() else fit
