"""Two answers to one region, the network's and the fit's: which of them is the better."""

from __future__ import annotations

import numpy as np

from irst_stream.resolve.found import Found
from irst_stream.types import Floats

__all__ = ["choose"]

ELSEWHERE = 0.15  # px: how far off a target is taken to be that may not be where it is said to be
MARGIN = 2.0  # how many times surer than the network the fit must be of itself, which knows less of rival arrangements


def choose(network: Found, fit: Found) -> Found:
    """The surer of the two; both know how sure they are.

    The network has learnt how groups are arranged, and wins where noise hides that; the fit knows no grid and no training,
    and wins where the light speaks clearly. Numbers of targets that differ are decided by how likely each answer is to have
    the right one.
    """
    if len(network.xy) != len(fit.xy):
        return network if _certainty(network) > _certainty(fit) else fit
    if not len(fit.xy):
        return fit
    return fit if MARGIN * _spread(fit) < _spread(network) else network


def _certainty(found: Found) -> float:
    """How likely it is that all targets are there, and no other."""
    return float(np.prod(found.probability)) if len(found.xy) else 0.0


def _spread(found: Found) -> float:
    """The standard deviation of a place, px, mean over the targets; one that may be elsewhere counts as that."""
    variance: Floats = (found.cov[:, 0, 0] + found.cov[:, 1, 1]) / 2
    return float(np.sqrt(np.mean(variance + (1 - found.probability) * ELSEWHERE**2)))
