"""Windows of patches through a network: each frame is unfolded once, its map shared by the windows it appears in.

A network whose own patch is smaller than the patches that come sees only the part around the light. That part stays where
it is while the light stays near its middle, so maps stay valid; when it must move, by whole pixels, the maps that are
held are computed anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.protocols import Unmixer
from irst_stream.types import Answer, Floats, Ints, Unmixed, Window
from irst_stream.unmix.engine import WINDOW, EngineManifest

__all__ = ["MapStream", "Part", "WindowUnmixer", "corner_of", "light_centre", "run_sequence"]

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
        self._unmixer, self._manifest = unmixer, manifest
        self._part = Part(manifest.patch)
        self._maps: dict[int, NDArray[np.float32]] = {}

    def see(self, patches: NDArray[Any], numbers: Sequence[int]) -> Answer:
        """A window of patches (5, h, w) DN, and its frames' numbers; a number seen before is the same frame again.

        Pixels that are not finite count as dark.
        """
        patches = _finite(patches)
        if self._part.follow(patches):
            self._maps.clear()
        part = self._part.of(patches)
        new = {number: k for k, number in enumerate(numbers) if number not in self._maps}
        if new:
            self._maps.update(zip(new, self._unmixer.unfold(part[list(new.values())]), strict=True))
        self._maps = {number: self._maps[number] for number in numbers}
        maps = np.stack([self._maps[number] for number in numbers])
        return Answer(self._unmixer.fuse(maps[None], part[None], _places(self._manifest, numbers)), self._part.corner)


class Part:
    """The part of a region's patches that a network sees: where it is, and when it must move."""

    def __init__(self, size: tuple[int, int]) -> None:
        """size: rows, columns."""
        self.corner = np.zeros(2, np.int64)  # x, y
        self._size, self._placed = size, False

    def follow(self, patches: NDArray[np.float32]) -> bool:
        """Takes a window's patches (5, h, w); whether the part had to move."""
        middle = light_centre(patches.mean(axis=0)[None])[0]
        corner = corner_of(middle, patches.shape[1:], self._size)
        near = np.abs(middle - self.corner - (np.array(self._size[::-1]) - 1) / 2) <= SLACK
        if self._placed and (near | (corner == self.corner)).all():
            return False
        self.corner, self._placed = corner, True
        return True

    def of(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches (T, h, w) to what the network sees of them."""
        x, y = self.corner
        return np.ascontiguousarray(patches[:, y : y + self._size[0], x : x + self._size[1]])


def _finite(patches: NDArray[Any]) -> NDArray[np.float32]:
    return np.nan_to_num(patches.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)


def _places(manifest: EngineManifest, numbers: Sequence[int]) -> Ints:
    """(1, 5): the frames' places in time by the engine's time code."""
    if manifest.time_code == "window":
        return np.arange(WINDOW)[None]
    if max(numbers) >= manifest.code_length:
        raise UsageError(f"frame {max(numbers)}: this engine's time code knows clips of {manifest.code_length} frames only")
    return np.array(numbers)[None]


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


def run_sequence(unmixers: Sequence[Unmixer], manifest: EngineManifest, patches: NDArray[Any]) -> Unmixed:
    """A sequence of patches (frames, h, w) DN to what its frames - 4 whole windows show, on the whole patch's fine grid.

    Each frame is unfolded once for each part that it is seen in; as many threads work as there are unmixers.
    """
    manifest.check_length(len(patches))
    patches, part, c = _finite(patches), Part(manifest.patch), manifest.division
    seen = []  # of each window its part of the patches, and their corner
    for k in range(len(patches) - WINDOW + 1):
        part.follow(patches[k : k + WINDOW])
        seen.append((part.of(patches[k : k + WINDOW]), tuple(part.corner)))
    wanted = {(k + t, corner): window[t] for k, (window, corner) in enumerate(seen) for t in range(WINDOW)}
    spare = SimpleQueue[Unmixer]()
    for unmixer in unmixers:
        spare.put(unmixer)

    def unfold(patch: NDArray[np.float32]) -> NDArray[np.float32]:
        with _borrowed(spare) as unmixer:
            return np.asarray(unmixer.unfold(patch[None])[0])

    def fuse(k: int) -> Unmixed:
        window, corner = seen[k]
        stack = np.stack([maps[k + t, corner] for t in range(WINDOW)])
        with _borrowed(spare) as unmixer:
            return unmixer.fuse(stack[None], window[None], _places(manifest, range(k, k + WINDOW)))

    with ThreadPoolExecutor(len(unmixers)) as pool:
        maps = dict(zip(wanted, pool.map(unfold, wanted.values()), strict=True))
        found = list(pool.map(fuse, range(len(seen))))
    shape = (len(seen), patches.shape[1] * c, patches.shape[2] * c)
    whole, claims = np.zeros(shape, np.float32), np.zeros((shape[0], manifest.claims, *shape[1:]), np.float32)
    height, width = manifest.cells
    for k, (unmixed, (_, (x, y))) in enumerate(zip(found, seen, strict=True)):
        whole[k, y * c : y * c + height, x * c : x * c + width] = unmixed.map[0]
        claims[k, :, y * c : y * c + height, x * c : x * c + width] = unmixed.claims[0]
    return Unmixed(whole, claims)


@contextmanager
def _borrowed(spare: SimpleQueue[Unmixer]) -> Iterator[Unmixer]:
    unmixer = spare.get()
    try:
        yield unmixer
    finally:
        spare.put(unmixer)
