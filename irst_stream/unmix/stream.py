"""A stream of patches through a network: each frame is unfolded once, and its map shared by the windows it appears in.

A network whose own patch is smaller than the patches that come sees only the part around the light. That part stays where
it is while the light stays near its middle, so maps stay valid; when it must move, by whole pixels, the maps that are
held are computed anew.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.protocols import Unmixer
from irst_stream.types import Floats, Ints, Unmixed
from irst_stream.unmix.engine import WINDOW, EngineManifest

__all__ = ["MapStream", "Seen", "corner_of", "light_centre", "run_sequence"]

SLACK = 1.0  # px: how far the light may be from the middle of its part, along each axis, before the part moves


class Seen(NamedTuple):
    """What a network sees in one window, and the corner (2,), x and y, px, of the part of the patch that it was shown."""

    unmixed: Unmixed
    corner: Ints


class MapStream:
    """The maps of one region's last frames."""

    def __init__(self, unmixer: Unmixer, manifest: EngineManifest) -> None:
        self._unmixer, self._size, self._clip = unmixer, manifest.patch, manifest.time_code == "clip"
        self._frames: deque[NDArray[np.float32]] = deque(maxlen=WINDOW)
        self._maps: deque[NDArray[np.float32]] = deque(maxlen=WINDOW)
        self._corner = np.zeros(2, np.int64)
        self._count = 0

    def push(self, patch: NDArray[Any]) -> None:
        """Takes the region's next frame (h, w) DN; pixels that are not finite count as dark."""
        patch = np.nan_to_num(patch.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
        self._frames.append(patch)
        self._count += 1
        if self._fits(patch):
            self._maps.append(self._unmixer.unfold(self._part(patch)[None])[0])
        else:
            self._maps.clear()
            self._maps.extend(self._unmixer.unfold(np.stack([self._part(f) for f in self._frames])))

    def see(self) -> Seen:
        """The window of the last five frames; there must have been so many."""
        patches = np.stack([self._part(frame) for frame in self._frames])
        first = self._count - WINDOW if self._clip else 0
        places = np.arange(first, first + WINDOW)
        return Seen(self._unmixer.fuse(np.stack(self._maps)[None], patches[None], places[None]), self._corner)

    def _fits(self, patch: NDArray[np.float32]) -> bool:
        """Whether the part may stay where it is; moves it otherwise."""
        middle = light_centre(patch[None])[0]
        corner = corner_of(middle, patch.shape, self._size)
        near = np.abs(middle - self._corner - (np.array(self._size[::-1]) - 1) / 2) <= SLACK
        if self._maps and (near | (corner == self._corner)).all():
            return True
        self._corner = corner
        return not self._maps

    def _part(self, patch: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = self._corner
        return patch[y : y + self._size[0], x : x + self._size[1]]


def light_centre(images: NDArray[Any]) -> Floats:
    """(B, h, w) to (B, 2): x, y px of the middle of what is brighter than usual, by its square."""
    above = images - np.median(images, axis=(1, 2), keepdims=True)
    weight = np.maximum(above, 0).astype(np.float64) ** 2 + 1e-12
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    rows, columns = images.shape[1:]
    return np.stack([weight.sum(1) @ np.arange(columns), weight.sum(2) @ np.arange(rows)], axis=-1)


def corner_of(middle: Floats, shape: tuple[int, ...], size: tuple[int, int]) -> Ints:
    """(..., 2) x, y of the middle to the corner of a part of that size (rows, columns) within a patch of that shape."""
    room = np.array(shape[::-1]) - size[::-1]
    if (room < 0).any():
        raise UsageError(f"patches of {shape[0]} x {shape[1]} px; this engine needs at least {size[0]} x {size[1]}")
    return np.clip(np.rint(middle - (np.array(size[::-1]) - 1) / 2), 0, room).astype(np.int64)


def run_sequence(unmixer: Unmixer, manifest: EngineManifest, patches: NDArray[Any]) -> Unmixed:
    """A sequence of patches (frames, h, w) DN to what its frames - 4 whole windows show, on the whole patch's fine grid."""
    manifest.check_length(len(patches))
    stream, c = MapStream(unmixer, manifest), manifest.division
    shape = (len(patches) - WINDOW + 1, patches.shape[1] * c, patches.shape[2] * c)
    maps, claims = np.zeros(shape, np.float32), np.zeros((shape[0], manifest.claims, *shape[1:]), np.float32)
    for k, patch in enumerate(patches):
        stream.push(patch)
        if k >= WINDOW - 1:
            unmixed, (x, y) = stream.see()
            part = slice(y * c, y * c + unmixed.map.shape[1]), slice(x * c, x * c + unmixed.map.shape[2])
            maps[k - WINDOW + 1][part] = unmixed.map[0]
            claims[k - WINDOW + 1][:, part[0], part[1]] = unmixed.claims[0]
    return Unmixed(maps, claims)
