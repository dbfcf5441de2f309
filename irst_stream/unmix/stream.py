"""Windows of patches through a network: each frame is unfolded once, its map shared by the windows it appears in.

A network whose own patch is smaller than the patches that come sees only the part around the light. That part stays where
it is while the light stays near its middle, so maps stay valid; when it must move, by whole pixels, the maps that are
held are computed anew.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import DeviceError, IrstError, UsageError
from irst_stream.protocols import Map, Unmixer
from irst_stream.types import Floats, Ints, RegionOutput, Unmixed, Window
from irst_stream.unmix.engine import WINDOW, EngineManifest
from irst_stream.unmix.told import UNTOLD, Told, with_told

__all__ = ["MapStream", "NetworkInput", "SensorMaps", "WindowUnmixer", "corner_of", "light_centre", "run_sequence", "see"]

SLACK = 1.0  # px: how far the light may be from the middle of its part, along each axis, before the part moves

log = logging.getLogger(__name__)


class WindowUnmixer:
    """A network over the windows of any number of sensors, each with any number of regions."""

    def __init__(self, unmixer: Unmixer, manifest: EngineManifest, spares: Spares = (), told: Told = UNTOLD) -> None:
        """spares: what makes another unmixer, and what that is in words, for each time that one fails on its GPU. told:
        what the network is told of the sensor; an unknown noise is replaced by each window's measured one.

        `alarm` says what has failed, and what works in its place; "" while nothing has.
        """
        self.manifest, self.alarm, self._told = manifest, "", told
        self._unmixer, self._spares = unmixer, iter(spares)
        self._held: WeakSet[SensorMaps] = WeakSet()

    def new_maps(self) -> SensorMaps:
        """Room for the maps of one more sensor."""
        maps = SensorMaps()
        self._held.add(maps)
        return maps

    def __call__(self, windows: Sequence[tuple[Window, SensorMaps]]) -> list[list[RegionOutput]]:
        """What is seen in each region of each window, in one call of the network for all of them.

        Each window comes with its sensor's maps. A window has five frames; a single frame is taken for a scene that stands
        still. Where the unmixer fails on its GPU, the next one answers the same windows.
        """
        looks = [look for window, maps in windows for look in self._looks(window, maps)]
        while True:
            try:
                answers = iter(see(self._unmixer, looks))
                return [list(islice(answers, len(window.patches))) for window, _ in windows]
            except DeviceError as error:
                self._replace(error.with_traceback(None))  # whose frames would keep the unmixer

    def _replace(self, error: IrstError) -> None:
        """Has the next unmixer answer from now on; the last one's maps are lost. Raises the error where there is none."""
        for maps in self._held:
            for stream in maps.streams.values():
                stream.clear()
        del self._unmixer
        gc.collect()  # what it holds on its GPU must be free before another takes as much
        for words, make in self._spares:
            self.alarm = f"the network failed ({error}); {words}"
            log.error("%s", self.alarm)
            try:
                self._unmixer = make()
            except IrstError as again:
                error = again
                continue
            return
        raise error

    def _looks(self, window: Window, maps: SensorMaps) -> list[NetworkInput]:
        stamp, frames = window.stamp, window.patches.shape[1]
        if frames not in (1, WINDOW):
            raise UsageError(f"window: this engine needs {WINDOW} frames, or 1, got {frames}")
        known = maps.streams if maps.epoch == stamp.epoch else {}
        streams = {region: known.get(region) or MapStream(self.manifest) for region in window.region.tolist()}
        maps.epoch, maps.streams = stamp.epoch, streams
        numbers = np.broadcast_to(stamp.index + np.arange(frames) - frames // 2, WINDOW).tolist()
        shape = (WINDOW, *window.patches.shape[2:])
        noise = window.noise if np.isnan(self._told[0]) else np.full(len(window.noise), self._told[0])
        return [
            NetworkInput(stream, np.broadcast_to(patches, shape), numbers, (level, *self._told[1:]))
            for stream, patches, level in zip(streams.values(), window.patches, noise.tolist(), strict=True)
        ]


class SensorMaps:
    """The maps of one sensor's regions."""

    def __init__(self) -> None:
        self.epoch = 0
        self.streams: dict[int, MapStream] = {}  # by the region's number


class MapStream:
    """The maps of one region's last frames, and the part of it that the network sees."""

    def __init__(self, manifest: EngineManifest) -> None:
        self.manifest = manifest
        self._part = _Part(manifest.patch)
        self._maps: dict[int, Map] = {}

    @property
    def corner(self) -> Ints:
        """(2,) x, y px of the part within the region."""
        return self._part.corner

    def follow(self, patches: NDArray[Any], numbers: Sequence[int]) -> tuple[NDArray[np.float32], list[int]]:
        """Takes a window; its part (5, h, w) DN, where pixels that are not finite are dark, and which frames are new."""
        patches = _finite(patches)
        if self._part.follow(patches):
            self._maps.clear()
        new = {number: k for k, number in enumerate(numbers) if number not in self._maps}
        return self._part.of(patches), list(new.values())

    def clear(self) -> None:
        """Drops all maps."""
        self._maps.clear()

    def hold(self, numbers: Sequence[int], new: Sequence[int], maps: Sequence[Map]) -> list[Map]:
        """Takes the maps of the new frames; the window's five. Older ones are dropped."""
        self._maps.update(zip((numbers[k] for k in new), maps, strict=True))
        self._maps = {number: self._maps[number] for number in numbers}
        return [self._maps[number] for number in numbers]

    def places(self, numbers: Sequence[int]) -> Ints:
        """(5,): the frames' places in time, as the engine counts them."""
        places: Ints = _places(self.manifest, numbers)[0]
        return places


def see(unmixer: Unmixer, looks: Sequence[NetworkInput]) -> list[RegionOutput]:
    """Windows of any regions, through the network together."""
    if not looks:
        return []
    parts, new = zip(*(look.stream.follow(look.patches, look.numbers) for look in looks), strict=True)
    fresh = np.concatenate([part[k] for part, k in zip(parts, new, strict=True)])
    unfolded = iter(unmixer.unfold(fresh) if len(fresh) else ())
    maps = [look.stream.hold(look.numbers, k, list(islice(unfolded, len(k)))) for look, k in zip(looks, new, strict=True)]
    places = np.stack([look.stream.places(look.numbers) for look in looks])
    given = with_told(np.stack(parts), np.array([look.told for look in looks]), looks[0].stream.manifest)
    seen = unmixer.fuse(maps, given, places)
    return [
        RegionOutput(Unmixed(seen.map[k : k + 1], seen.claims[k : k + 1]), look.stream.corner.copy())
        for k, look in enumerate(looks)
    ]


class NetworkInput(NamedTuple):
    """A region's stream, its patches (5, h, w) DN, its frames' numbers (a number seen before is the same frame again), and
    what is told of its sensor.
    """

    stream: MapStream
    patches: NDArray[Any]
    numbers: Sequence[int]
    told: Told = UNTOLD


Spares = Iterable[tuple[str, Callable[[], Unmixer]]]


class _Part:
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

    The network is told nothing of the sensor.

    Each frame is unfolded once for each part that it is seen in; as many threads work as there are unmixers.
    """
    manifest.check_length(len(patches))
    patches, part, c = _finite(patches), _Part(manifest.patch), manifest.division
    seen = []  # of each window its part of the patches, and their corner
    for k in range(len(patches) - WINDOW + 1):
        part.follow(patches[k : k + WINDOW])
        seen.append((part.of(patches[k : k + WINDOW]), tuple(part.corner)))
    wanted = {(k + t, corner): window[t] for k, (window, corner) in enumerate(seen) for t in range(WINDOW)}
    spare = SimpleQueue[Unmixer]()
    for unmixer in unmixers:
        spare.put(unmixer)

    def unfold(patch: NDArray[np.float32]) -> Map:
        with _borrowed(spare) as unmixer:
            return next(iter(unmixer.unfold(patch[None])))

    def fuse(k: int) -> Unmixed:
        window, corner = seen[k]
        stack = [maps[k + t, corner] for t in range(WINDOW)]
        with _borrowed(spare) as unmixer:
            given = with_told(window[None], np.array([UNTOLD]), manifest)
            return unmixer.fuse([stack], given, _places(manifest, range(k, k + WINDOW)))

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
