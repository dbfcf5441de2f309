"""Windows of patches through a network: each frame is unfolded once, its map shared by the windows it appears in.

A network whose own patch is smaller than the patches that come sees only the part around the light. That part stays where
it is while the light stays near its middle, so maps stay valid; when it must move, by whole pixels, the maps that are
held are computed anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.protocols import Unmixer
from irst_stream.types import Answer, Floats, Ints, Unmixed, Window
from irst_stream.unmix.engine import WINDOW, EngineManifest

__all__ = ["MapStream", "WindowUnmixer", "corner_of", "light_centre", "run_sequence"]

MOST_SENSORS = 256  # whose maps are held; a sensor that comes back after more others costs five maps again
SLACK = 1.0  # px: how far the light may be from the middle of its part, along each axis, before the part moves


class WindowUnmixer:
    """A network over the windows of any number of sensors, each with any number of regions."""

    def __init__(self, unmixer: Unmixer, manifest: EngineManifest) -> None:
        self.manifest = manifest
        self._unmixer = unmixer
        self._streams: OrderedDict[str, tuple[int, list[MapStream]]] = OrderedDict()

    def __call__(self, window: Window) -> list[Answer]:
        """What is seen in each region of a window of five frames; a single frame is taken for a scene that stands still."""
        stamp, frames = window.stamp, window.patches.shape[1]
        if frames not in (1, WINDOW):
            raise UsageError(f"window: this engine needs {WINDOW} frames, or 1, got {frames}")
        epoch, streams = self._streams.get(stamp.sensor, (stamp.epoch, []))
        if epoch != stamp.epoch or len(streams) != len(window.patches):
            streams = [MapStream(self._unmixer, self.manifest) for _ in window.patches]
        self._streams[stamp.sensor] = (stamp.epoch, streams)
        self._streams.move_to_end(stamp.sensor)
        if len(self._streams) > MOST_SENSORS:
            self._streams.popitem(last=False)
        numbers = np.broadcast_to(stamp.index + window.times.astype(np.int64), WINDOW).tolist()
        shape = (WINDOW, *window.patches.shape[2:])
        return [
            stream.see(np.broadcast_to(patches, shape), numbers)
            for stream, patches in zip(streams, window.patches, strict=True)
        ]

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self._streams.pop(sensor, None)


class MapStream:
    """The maps of one region's last frames."""

    def __init__(self, unmixer: Unmixer, manifest: EngineManifest) -> None:
        self._unmixer, self._size = unmixer, manifest.patch
        self._by_clip, self._clip_length = manifest.time_code == "clip", manifest.code_length
        self._maps: dict[int, NDArray[np.float32]] = {}
        self._corner = np.zeros(2, np.int64)

    def see(self, patches: NDArray[Any], numbers: Sequence[int]) -> Answer:
        """A window of patches (5, h, w) DN, and its frames' numbers; a number seen before is the same frame again.

        Pixels that are not finite count as dark.
        """
        if self._by_clip and max(numbers) >= self._clip_length:
            raise UsageError(
                f"frame {max(numbers)}: this engine's time code knows clips of {self._clip_length} frames only"
            )
        patches = np.nan_to_num(patches.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
        self._place(patches)
        x, y = self._corner
        part = np.ascontiguousarray(patches[:, y : y + self._size[0], x : x + self._size[1]])
        new = {number: k for k, number in enumerate(numbers) if number not in self._maps}
        if new:
            self._maps.update(zip(new, self._unmixer.unfold(part[list(new.values())]), strict=True))
        self._maps = {number: self._maps[number] for number in numbers}
        places = np.array(numbers if self._by_clip else range(WINDOW))
        maps = np.stack([self._maps[number] for number in numbers])
        return Answer(self._unmixer.fuse(maps[None], part[None], places[None]), self._corner)

    def _place(self, patches: NDArray[np.float32]) -> None:
        """Moves the part if it must; maps of another part are worth nothing then."""
        middle = light_centre(patches.mean(axis=0)[None])[0]
        corner = corner_of(middle, patches.shape[1:], self._size)
        near = np.abs(middle - self._corner - (np.array(self._size[::-1]) - 1) / 2) <= SLACK
        if not self._maps or not (near | (corner == self._corner)).all():
            self._corner = corner
            self._maps.clear()


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
    for k in range(shape[0]):
        unmixed, (x, y) = stream.see(patches[k : k + WINDOW], range(k, k + WINDOW))
        part = slice(y * c, y * c + unmixed.map.shape[1]), slice(x * c, x * c + unmixed.map.shape[2])
        maps[k][part] = unmixed.map[0]
        claims[k][:, part[0], part[1]] = unmixed.claims[0]
    return Unmixed(maps, claims)
