"""What the page shows of one frame, and how it travels: a JSON head, then the pixels, losslessly or as a preview.

A body is the length of its head (4 bytes, unsigned, little-endian), the head, and the pixels. The pixels are zlib's
deflate of the rows, little-endian; a preview is a JPEG of the brightest of each 2 x 2 pixels between two levels that the
head states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import msgspec
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from irst_stream.io.tone import tone_levels, toned
from irst_stream.types import Detections, Floats, Frame, Pixels, Tracks, Truth
from irst_stream.web.background import LowPriority

__all__ = ["Feed", "Picture", "Sensor", "View", "encode_view"]

Picture = Literal["full", "preview"]
DEFLATE_LEVEL = 1
JPEG_QUALITY = 85
PREVIEW_BIN = 2  # px of a side
MAX_MARKS = 2000  # detections, tracks or targets of a frame that are sent; the head says how many there are
TYPES = {np.dtype(np.uint8): "u1", np.dtype(np.uint16): "u2", np.dtype(np.float32): "f4"}


class Sensor(NamedTuple):
    """A sensor or a sequence: its name and the first and last position that can be shown, of consecutive frames.

    rate_hz: frames/s, 0 if unknown; is_complete: whether `last` is the end, rather than as far as is known.
    """

    name: str
    first: int
    last: int
    rate_hz: float
    is_complete: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One frame with everything to be drawn on it.

    position: the frame's number among its sensor's, whatever its epoch; detections: by the name of what found them; tails:
    past places (K, 2) px of each track, oldest first; latency_ms: from the sensor's stamp, or the arrival if its clock is
    not comparable, to the result, NaN if unknown.
    """

    position: int
    frame: Frame
    detections: Mapping[str, Detections] = field(default_factory=dict)
    tracks: Tracks | None = None
    truth: Truth | None = None
    tails: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    latency_ms: float = float("nan")


class Feed(Protocol):
    """Where the page's frames come from; the methods are called from many threads at once."""

    kind: Literal["live", "playback"]
    title: str  # what the page calls it

    def sensors(self) -> list[Sensor]:
        """All sensors that can be shown, in a stable order."""

    def newest(self, sensor: str, after: int, timeout_s: float) -> View | None:
        """The newest frame of a sensor; None if none later than position `after` comes in time."""

    def at(self, sensor: str, position: int) -> View | None:
        """The frame at a position, or the nearest that can be shown; None if there is none."""

    def status(self, sensor: str, series_after: int, log_after: int) -> dict[str, Any]:
        """What the page shows besides frames, ready for JSON; the numbers say what the page already has."""


def encode_view(view: View, sensor: str, picture: Picture, worker: LowPriority) -> bytes:
    """Encode a view as a body; worker: compresses the pixels."""
    frame, stamp = view.frame, view.frame.stamp
    head: dict[str, Any] = {
        "sensor": sensor,
        "position": view.position,
        "epoch": str(stamp.epoch),
        "index": stamp.index,
        "time_ns": str(stamp.time_ns),  # beyond the whole numbers of JavaScript
        "clock": stamp.clock,
        "source": stamp.source,
        "width": frame.pixels.shape[1],
        "height": frame.pixels.shape[0],
        "full_scale": frame.full_scale if np.isfinite(frame.full_scale) else None,
        "latency_ms": view.latency_ms,
        "detections": [{"name": name, **_detections(found)} for name, found in view.detections.items()],
        "tracks": _tracks(view.tracks, view.tails),
        "truth": _truth(view.truth),
    }
    pixels, form = worker(_deflated if picture == "full" else _preview, frame.pixels)
    text = msgspec.json.encode(head | form)
    return b"".join([len(text).to_bytes(4, "little"), text, pixels])


def _deflated(pixels: Pixels) -> tuple[bytes, dict[str, Any]]:
    """All pixels, losslessly, and the head's description of them."""
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    data: bytes = isal_zlib.compress(rows.reshape(-1).view(np.uint8).data, DEFLATE_LEVEL)
    return data, {"picture": "deflate", "type": TYPES[pixels.dtype]}


def _preview(pixels: Pixels) -> tuple[bytes, dict[str, Any]]:
    """A quarter of the pixels as JPEG, and the head's description of them."""
    height, width = (max(side // PREVIEW_BIN, 1) for side in pixels.shape)
    blocks = pixels[: height * PREVIEW_BIN, : width * PREVIEW_BIN]
    bins = _brightest(blocks) if min(pixels.shape) >= PREVIEW_BIN else pixels
    low, high = tone_levels(bins)
    _, data = cv2.imencode(".jpg", toned(bins, low, high), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes(), {"picture": "jpeg", "low": low, "high": high}


def _brightest(blocks: Pixels) -> Pixels:
    """The brightest of each 2 x 2 pixels, so that a target of one pixel stays visible."""
    rows = np.maximum(blocks[::2], blocks[1::2])
    return np.asarray(np.maximum(rows[:, ::2], rows[:, 1::2]))


def _detections(found: Detections) -> dict[str, Any]:
    kept = slice(MAX_MARKS)
    return {
        "count": len(found),
        "xy": _rounded(found.xy[kept], 3),
        "cov": _covariances(found.cov[kept]),
        "amplitude": _rounded(found.amplitude[kept], 1),
        "score": _rounded(found.score[kept], 3),
    }


def _tracks(tracks: Tracks | None, tails: Mapping[int, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    if tracks is None:
        return None
    order = np.argsort(~tracks.confirmed, kind="stable")[:MAX_MARKS]  # the confirmed ones first
    ids = tracks.id[order].tolist()
    return {
        "count": len(tracks),
        "id": [str(number) for number in ids],
        "state": _rounded(tracks.state[order], 3),
        "cov": _covariances(tracks.cov[order]),
        "amplitude": _rounded(tracks.amplitude[order], 1),
        "score": _rounded(tracks.score[order], 3),
        "confirmed": tracks.confirmed[order].tolist(),
        "coasting": (tracks.detection[order] < 0).tolist(),
        "tail": [tails.get(number, ()) for number in ids],
    }


def _truth(truth: Truth | None) -> dict[str, Any] | None:
    if truth is None:
        return None
    kept = slice(MAX_MARKS)
    names = [str(number) for number in truth.id[kept].tolist()]
    return {"count": len(truth), "id": names, "xy": _rounded(truth.xy[kept], 3), "size": _rounded(truth.size[kept], 2)}


def _covariances(cov: Floats) -> list[Any]:
    """Variance of x, covariance and variance of y of each position, px^2."""
    return _rounded(np.stack([cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]], axis=1), 6)


def _rounded(values: NDArray[Any], digits: int) -> list[Any]:
    """Values as nested lists; NaN becomes null in JSON."""
    rounded: list[Any] = np.round(values, digits).tolist()
    return rounded
