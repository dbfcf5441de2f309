"""Settings of the region search in full frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from irst_stream.optics import SIGMA
from irst_stream.settings import about, refuse

__all__ = ["ProposeSettings", "check_search"]


@dataclass(frozen=True)
class ProposeSettings:
    """How full frames are searched for groups."""

    sigma_px: Annotated[float, about("Width of the matched filter: standard deviation of the PSF, px.")] = SIGMA
    false_alarms: Annotated[
        float, about("False regions per frame that noise alone may raise. Smaller values miss fainter targets.")
    ] = 0.5
    most_regions: Annotated[
        int, about("Largest number of regions per frame, the strongest first. Those left out are counted.")
    ] = 32
    average: Annotated[
        int,
        about(
            "Frames averaged around the one searched: 1, 3 or 5. More frames find fainter targets, which must move by less"
            " than 2 px within them."
        ),
    ] = 3


def check_search(settings: ProposeSettings) -> None:
    """Raise one UsageError that names every setting out of range."""
    refuse(_faults(settings))


def _faults(settings: ProposeSettings) -> Iterator[str]:
    if not 0.2 <= settings.sigma_px <= 2:
        yield f"propose.sigma_px: expected 0.2 to 2 px, got {settings.sigma_px}"
    if not 1e-6 <= settings.false_alarms <= 100:
        yield f"propose.false_alarms: expected 0.000001 to 100 per frame, got {settings.false_alarms}"
    if not 1 <= settings.most_regions <= 10_000:
        yield f"propose.most_regions: expected 1 to 10,000, got {settings.most_regions}"
    if settings.average not in (1, 3, 5):
        yield f"propose.average: expected 1, 3 or 5 frames, got {settings.average}"
