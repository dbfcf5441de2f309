"""A recording for the Rerun viewer: images, detections and tracks over time; needs rerun-sdk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from irst_stream.errors import MissingPackageError
from irst_stream.types import Detections, Frame, Tracks

__all__ = ["check_rerun", "write_rerun"]

CORNER_PX = 0.5  # Rerun counts from the corner of the first pixel, we from its centre
CYAN, AMBER = (53, 214, 255), (255, 176, 46)
DETECTION_RADIUS_PX, TRACK_RADIUS_PX = 0.15, 0.3


def check_rerun() -> None:
    """Raise a MissingPackageError if a recording for Rerun cannot be written."""
    try:
        import rerun  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("rerun-sdk", "rerun", "a recording for Rerun") from error


def write_rerun(path: Path, frames: Iterable[tuple[Frame, Detections | None, Tracks | None]]) -> int:
    """Write frames with their results, by the number and the time of each frame; return the number of frames."""
    check_rerun()
    import rerun

    recording = rerun.RecordingStream("irst-stream")
    recording.save(path)
    count = 0
    for frame, detections, tracks in frames:
        stamp = frame.stamp
        recording.set_time("frame", sequence=stamp.index)
        time = np.timedelta64(stamp.time_ns, "ns")
        if stamp.clock == "unix":
            recording.set_time("time", timestamp=np.datetime64(stamp.time_ns, "ns"))
        else:
            recording.set_time("sensor_time", duration=time)
        recording.log(f"{stamp.sensor}/image", rerun.Image(frame.pixels, color_model="L"))
        if detections is not None:
            points = rerun.Points2D(detections.xy + CORNER_PX, radii=DETECTION_RADIUS_PX, colors=CYAN)
            recording.log(f"{stamp.sensor}/image/detections", points)
        if tracks is not None:
            confirmed = tracks.confirmed
            names = [str(number) for number in tracks.id[confirmed].tolist()]
            xy = tracks.state[confirmed, :2] + CORNER_PX
            recording.log(
                f"{stamp.sensor}/image/tracks", rerun.Points2D(xy, radii=TRACK_RADIUS_PX, colors=AMBER, labels=names)
            )
        count += 1
    recording.flush()
    recording.disconnect()
    return count
