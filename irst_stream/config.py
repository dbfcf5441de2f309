"""What a deployment is: one TOML file, one frozen Config. Every shipped one stands in configs/."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irst_stream.resolve.fit import FitSettings
from irst_stream.settings import read_settings

__all__ = ["Config", "read_config"]


@dataclass(frozen=True)
class Config:
    """window: frames of a window, odd; fit: what is known of the targets, and how hard to look."""

    window: int = 5
    fit: FitSettings = field(default_factory=FitSettings)


def read_config(path: Path) -> Config:
    """A configuration file; a FormatError lists all that is wrong with it, each by its dotted path."""
    return read_settings(path, Config)
