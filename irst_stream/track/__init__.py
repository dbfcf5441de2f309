"""Detections to tracks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from irst_stream.track.settings import TrackSettings

if TYPE_CHECKING:
    from irst_stream.track.tracker import Tracker

__all__ = [
    "TrackSettings",
    "Tracker",
]

_HOMES = {
    "Tracker": "tracker",
}


def __getattr__(name: str) -> Any:
    """Load what is compiled when somebody asks for it: settings alone are known at once."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
