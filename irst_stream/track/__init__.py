"""Multi-target tracking: detections in, tracks out."""

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

_MODULES = {
    "Tracker": "tracker",
}


def __getattr__(name: str) -> Any:
    """Import the tracker on first use: its compiled functions load slowly, and the settings do not need them."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
