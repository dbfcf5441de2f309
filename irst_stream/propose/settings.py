"""What is asked of the search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from irst_stream.optics import SIGMA
from irst_stream.settings import refuse

__all__ = ["ProposeSettings", "check_search"]


@dataclass(frozen=True)
class ProposeSettings:
    """How groups are looked for in full frames."""

    sigma_px: float = SIGMA
    false_alarms: float = 0.5  # regions a frame that noise alone may raise
    most_regions: int = 32  # a frame; of more, the strongest
    average: int = 3  # frames about the one that is searched, in which targets should move by less than two pixels


def check_search(settings: ProposeSettings) -> None:
    """Raises one UsageError that names all settings that make no search."""
    refuse(_faults(settings))


def _faults(settings: ProposeSettings) -> Iterator[str]:
    if not 0.2 <= settings.sigma_px <= 2:
        yield f"propose.sigma_px: expected 0.2 to 2 px, got {settings.sigma_px}"
    if not 1e-6 <= settings.false_alarms <= 100:
        yield f"propose.false_alarms: expected 0.000001 to 100 a frame, got {settings.false_alarms}"
    if not 1 <= settings.most_regions <= 10_000:
        yield f"propose.most_regions: expected 1 to 10,000, got {settings.most_regions}"
    if settings.average not in (1, 3, 5):
        yield f"propose.average: expected 1, 3 or 5 frames, got {settings.average}"
