"""Detections to tracks."""

from irst_stream.track.settings import TrackSettings
from irst_stream.track.tracker import Tracker

__all__ = ["TrackSettings", "Tracker"]
