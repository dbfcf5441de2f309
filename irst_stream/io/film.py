"""A film of a recording: frames through a tone map, with detections, tracks, tails and ids drawn on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import OutputError
from irst_stream.io.tone import tone_levels, toned
from irst_stream.types import Detections, Frame, Tracks

__all__ = ["FilmFrame", "write_film"]

FilmFrame = tuple[Frame, Detections | None, Tracks | None]
Picture = NDArray[Any]
LEAST_WIDTH = 640  # px: smaller frames are enlarged by a whole number
TAIL_FRAMES = 60
CYAN, AMBER, GREY = (255, 214, 53), (46, 176, 255), (160, 160, 160)  # blue, green, red
SHIFT = 4  # fractional bits of OpenCV's coordinates
MAX_RATE_HZ = 240.0


def write_film(path: Path, frames: Iterable[FilmFrame], rate_hz: float) -> int:
    """Write an MP4 of frames of one size, in order; return their number. Raise an OutputError if it cannot be written."""
    film: cv2.VideoWriter | None = None
    tails: dict[int, deque[tuple[float, float]]] = {}
    count = 0
    try:
        for frame, detections, tracks in frames:
            height, width = frame.pixels.shape
            scale = max(-(-LEAST_WIDTH // width), 1)
            size = width * scale, height * scale
            if film is None:
                film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), min(rate_hz, MAX_RATE_HZ), size)
                if not film.isOpened():
                    raise OutputError(f"{path}: OpenCV cannot write an MP4 of {size[0]} x {size[1]} px")
            film.write(_drawn(frame, detections, tracks, tails, scale))
            count += 1
    finally:
        if film is not None:
            film.release()
    return count


def _drawn(
    frame: Frame,
    detections: Detections | None,
    tracks: Tracks | None,
    tails: dict[int, deque[tuple[float, float]]],
    scale: int,
) -> Picture:
    """One picture of the film."""
    small = toned(frame.pixels, *tone_levels(frame.pixels))
    grey = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)

    def at(x: float, y: float) -> tuple[int, int]:
        """A place in the picture, in fractions of its px: pixel centres are integers in the frame."""
        return round(((x + 0.5) * scale - 0.5) * (1 << SHIFT)), round(((y + 0.5) * scale - 0.5) * (1 << SHIFT))

    for x, y in detections.xy.tolist() if detections is not None else ():
        cv2.circle(picture, at(x, y), 2 << SHIFT, CYAN, 1, cv2.LINE_AA, SHIFT)
    if tracks is not None:
        _draw_tracks(picture, tracks, tails, at)
    cv2.putText(picture, f"{frame.stamp.sensor}  {frame.stamp.index}", (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, GREY, 1)
    return picture


def _draw_tracks(picture: Picture, tracks: Tracks, tails: dict[int, deque[tuple[float, float]]], at: Any) -> None:
    """Draw confirmed tracks with their ids, and where they have been."""
    shown = set(tracks.id[tracks.confirmed].tolist())
    for number in set(tails) - shown:
        del tails[number]
    for number, (x, y), confirmed in zip(tracks.id.tolist(), tracks.state[:, :2].tolist(), tracks.confirmed, strict=True):
        if not confirmed:
            continue
        tail = tails.setdefault(number, deque(maxlen=TAIL_FRAMES))
        tail.append((x, y))
        line = np.array([at(*place) for place in tail], np.int32)
        cv2.polylines(picture, [line], isClosed=False, color=AMBER, thickness=1, lineType=cv2.LINE_AA, shift=SHIFT)
        cv2.circle(picture, at(x, y), 7 << SHIFT, AMBER, 1, cv2.LINE_AA, SHIFT)
    taken: list[tuple[int, int]] = []
    for number, (x, y) in zip(
        tracks.id[tracks.confirmed].tolist(), tracks.state[tracks.confirmed, :2].tolist(), strict=True
    ):
        column, row = (value >> SHIFT for value in at(x, y))
        while any(abs(column - c) < 40 and abs(row - r) < 12 for c, r in taken):
            row += 12  # ids of a group stand below each other
        taken.append((column, row))
        cv2.putText(picture, str(number), (column + 10, row - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, AMBER, 1, cv2.LINE_AA)
