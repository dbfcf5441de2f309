"""Settings of what is done to whole frames before they are searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from irst_stream.settings import about, refuse

__all__ = ["RegisterSettings", "check_conditioning"]


@dataclass(frozen=True)
class RegisterSettings:
    """How the platform's pose is measured on the frames of sensors that send none."""

    when: Annotated[
        Literal["off", "auto"],
        about(
            '"auto": the frames of a sensor that sends no poses are registered with each other, and the estimate serves as'
            " pose where it is sure; for platforms that drift, shake, pan or roll over land or cloud. A calm sky tells"
            " nothing. Needs frames of more than 64 px a side."
        ),
    ] = "off"
    max_sd_px: Annotated[
        float,
        about("Largest standard deviation of an estimate that serves as pose, px. Larger values use weaker patterns."),
    ] = 0.1


def check_conditioning(register: RegisterSettings) -> None:
    """Raise one UsageError that names every setting out of range."""
    refuse(_faults(register))


def _faults(register: RegisterSettings) -> Iterator[str]:
    if not 0.001 <= register.max_sd_px <= 10:
        yield f"register.max_sd_px: expected 0.001 to 10 px, got {register.max_sd_px}"
