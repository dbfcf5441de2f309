"""Matplotlib plots: frames with truth, detections and tracks; precision-recall; errors over time; latency; training."""

from irst_stream.errors import MissingPackageError

try:
    import matplotlib  # noqa: F401 - fails early, in one line
except ImportError as error:
    raise MissingPackageError("matplotlib", "plot", "a picture") from error

from irst_stream.draw.curves import detection_curves, latency_curves, training_curves
from irst_stream.draw.frames import comparison, preview
from irst_stream.draw.paths import tracking

__all__ = ["comparison", "detection_curves", "latency_curves", "preview", "tracking", "training_curves"]
