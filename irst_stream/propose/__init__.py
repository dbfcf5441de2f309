"""Where in a full frame a group of targets may be."""

from irst_stream.propose.coarse import read_at
from irst_stream.propose.proposer import Prepared, Proposals, Proposer, corners_of, cut_out, warm_up
from irst_stream.propose.settings import ProposeSettings, check_search

__all__ = [
    "Prepared",
    "Proposals",
    "ProposeSettings",
    "Proposer",
    "check_search",
    "corners_of",
    "cut_out",
    "read_at",
    "warm_up",
]
