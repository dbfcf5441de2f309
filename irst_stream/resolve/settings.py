"""Settings of the readout of a network's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from irst_stream.settings import about

__all__ = ["ClaimSettings", "Readout"]

Readout = Literal["best", "network", "peaks", "cells", "fit"]


@dataclass(frozen=True)
class ClaimSettings:
    """How the continuous head is read, in which each fine cell claims a target or part of one."""

    presence: Annotated[
        float, about("Probability from which a target is reported. Larger values report fewer, surer targets.")
    ] = 0.5
    merge_px: Annotated[float, about("Claims closer than this may belong to the same target, px.")] = 0.2
    most_targets: Annotated[int, about("Largest number of targets reported in one region, the likeliest first.")] = 5
