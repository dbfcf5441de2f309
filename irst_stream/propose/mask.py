"""Where frames are searched: a mask, and polygons that include and exclude; everything else counts as missing pixels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, UsageError
from irst_stream.propose.settings import Polygon, ProposeSettings

__all__ = ["Excluded", "either", "excluded_pixels", "read_mask", "write_mask"]

Excluded: TypeAlias = NDArray[np.bool_]  # (H, W): which pixels are not searched
log = logging.getLogger(__name__)
PNG_END = b"IEND\xaeB`\x82"  # the last bytes of every whole PNG file


def excluded_pixels(settings: ProposeSettings, shape: tuple[int, int]) -> Excluded | None:
    """Return which pixels (H, W) of frames of that shape the settings exclude; None where they exclude none.

    Raise a FormatError for a mask that cannot be read, a UsageError where it has another size or nothing is left.
    """
    excluded = np.zeros(shape, bool)
    if settings.mask:
        searched = read_mask(Path(settings.mask))
        if searched.shape != shape:
            is_for, have = (f"{size[1]} x {size[0]} px" for size in (searched.shape, shape))
            raise UsageError(f"{settings.mask}: is a mask for frames of {is_for}, these have {have}")
        excluded |= ~searched
    if settings.include:
        excluded |= ~_within(settings.include, shape)
    excluded |= _within(settings.exclude, shape)
    for name, polygons in (("include", settings.include), ("exclude", settings.exclude)):
        for k, polygon in enumerate(polygons):
            _warn_outside(f"propose.{name}[{k}]", tuple((x, y) for x, y in polygon), shape)
    if excluded.all():
        raise UsageError(
            f"propose.mask, include, exclude: leave nothing to search in frames of {shape[1]} x {shape[0]} px;"
            " expected some pixels that are searched"
        )
    return excluded if excluded.any() else None


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a PNG mask (H, W): True where it is not black, that is, where frames are searched.

    Raise a FormatError if it cannot be read, is damaged, in colour, or black everywhere.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: mask cannot be read: {error.strerror or error}") from error
    if not data.startswith(b"\x89PNG") or not data.endswith(PNG_END):  # else the decoder fills what is missing with black
        what = "damaged or cut off" if data.startswith(b"\x89PNG") else "not a PNG file"
        raise FormatError(f"{path}: {what}; expected a mask: a gray PNG, black where frames are not searched")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise FormatError(f"{path}: damaged or cut off; expected a mask: a gray PNG, black where frames are not searched")
    if image.ndim != 2:
        raise FormatError(
            f"{path}: has {image.shape[2]} channels; expected a gray mask, black where frames are not searched"
        )
    searched = np.asarray(image) > 0
    if not searched.any():
        raise FormatError(f"{path}: mask is black everywhere; expected some pixels that are searched")
    return searched


def write_mask(path: Path, excluded: Excluded) -> None:
    """Write a mask (H, W) as a PNG: black where excluded, white elsewhere."""
    encoded = cv2.imencode(".png", np.where(excluded, np.uint8(0), np.uint8(255)))[1]
    path.write_bytes(encoded.tobytes())


def _within(polygons: Sequence[Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixel centres (H, W) lie in any of the polygons, x, y px, by the even-odd rule; on an edge counts."""
    rows, columns = np.indices(shape, np.float64)
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        odd, edge = np.zeros(shape, bool), np.zeros(shape, bool)
        for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            side = (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0)
            odd ^= ((rows < y0) != (rows < y1)) & ((side > 0) == (y1 > y0)) & (side != 0)
            between = (columns - x0) * (columns - x1) + (rows - y0) * (rows - y1) <= 0
            edge |= (side == 0) & between
        inside |= odd | edge
    return inside


@lru_cache(64)
def _warn_outside(name: str, polygon: Polygon, shape: tuple[int, int]) -> None:
    """Warn, once, of a polygon that holds no pixel of frames (H, W)."""
    if not _within((polygon,), shape).any():
        log.warning("%s: holds no pixel of frames of %d x %d px, so it has no effect", name, shape[1], shape[0])


def either(one: Excluded | None, other: Excluded | None) -> Excluded | None:
    """Return the pixels (H, W) that either excludes; None where neither excludes any."""
    known = [excluded for excluded in (one, other) if excluded is not None]
    return np.logical_or.reduce(known) if known else None
