"""Run windows of patches through a network; each frame is unfolded once and its map shared by the windows that contain it.

A network whose own patch is smaller than the incoming patches sees only a crop around the light. The crop stays in place
while the light stays near its centre, so that maps remain valid; when it must move, by whole pixels, the maps that are
held are dropped and computed again.
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
from irst_stream.unmix.told import UNKNOWN_SENSOR, SensorFacts, with_sensor_planes

__all__ = ["MapStream", "NetworkInput", "SensorMaps", "WindowUnmixer", "crop_corner", "light_centre", "run", "run_sequence"]

MAX_OFF_CENTRE_PX = 1.0  # how far the light may be from the crop's centre, along each axis, before the crop moves

log = logging.getLogger(__name__)


class WindowUnmixer:
    """Runs a network on the windows of any number of sensors, each with any number of regions."""

    def __init__(
        self,
        unmixer: Unmixer,
        manifest: EngineManifest,
        fallbacks: Fallbacks = (),
        sensor: SensorFacts = UNKNOWN_SENSOR,
        *,
        runs_aside: bool = False,
    ) -> None:
        """fallbacks: replacements for an unmixer that fails on its GPU, used in order: a description and a function that
        builds the unmixer. sensor: the facts given to the network; an unknown noise is replaced by each window's measured
        noise. runs_aside: whether two threads may use the unmixer, one for each part, as on the CPU: a GPU's context
        belongs to one.

        `alarm` says what has failed and what replaced it; "" while nothing has failed.
        """
        self.manifest, self.alarm, self.runs_aside, self._sensor = manifest, "", runs_aside, sensor
        self._unmixer, self._fallbacks = unmixer, iter(fallbacks)
        self._sensor_maps: WeakSet[SensorMaps] = WeakSet()

    def new_maps(self) -> SensorMaps:
        """Create the map storage of one more sensor."""
        maps = SensorMaps()
        self._sensor_maps.add(maps)
        return maps

    def __call__(self, windows: Sequence[tuple[Window, SensorMaps]]) -> list[list[RegionOutput]]:
        """Run the network once on all regions of all windows, each paired with its sensor's maps.

        Returns one list per window with one output per region. A window has five frames; a single frame is treated as a
        static scene. If the unmixer fails on its GPU, the next fallback runs the same windows; without one left, the
        DeviceError is raised.
        """
        while True:
            try:
                return self.fuse(self.unfold(windows))
            except DeviceError as error:
                self._replace_unmixer(error.with_traceback(None))  # the traceback's frames would keep the unmixer alive

    def unfold(self, windows: Sequence[tuple[Window, SensorMaps]]) -> UnfoldedWindows:
        """Do the first part of a call: compute the new frames' maps."""
        inputs = [region for window, maps in windows for region in self._network_inputs(window, maps)]
        return UnfoldedWindows([len(window.patches) for window, _ in windows], unfold(self._unmixer, inputs))

    def fuse(self, unfolded: UnfoldedWindows) -> list[list[RegionOutput]]:
        """Do the second part of a call: combine the maps. Another thread may unfold the next windows meanwhile."""
        outputs = iter(fuse(self._unmixer, unfolded.regions))
        return [list(islice(outputs, count)) for count in unfolded.counts]

    def _replace_unmixer(self, error: IrstError) -> None:
        """Switch to the next fallback that can be built, dropping all maps; raise the last error if there is none."""
        for maps in self._sensor_maps:
            for stream in maps.streams.values():
                stream.clear()
        del self._unmixer
        gc.collect()  # frees the failed unmixer's GPU memory before another unmixer allocates as much
        for description, build in self._fallbacks:
            self.alarm = f"the network failed ({error}); {description}"
            log.error("%s", self.alarm)
            try:
                self._unmixer = build()
            except IrstError as build_error:
                error = build_error
                continue
            return
        raise error

    def _network_inputs(self, window: Window, maps: SensorMaps) -> list[NetworkInput]:
        """Pair each region's patches with its map stream; drop the streams of past regions and past epochs."""
        stamp, frames = window.stamp, window.patches.shape[1]
        if frames not in (1, WINDOW):
            raise UsageError(f"window: this engine needs {WINDOW} frames, or 1, got {frames}")
        known = maps.streams if maps.epoch == stamp.epoch else {}
        streams = {region: known.get(region) or MapStream(self.manifest) for region in window.region.tolist()}
        maps.epoch, maps.streams = stamp.epoch, streams
        numbers = np.broadcast_to(stamp.index + np.rint(window.frame_times).astype(np.int64), WINDOW).tolist()
        shape = (WINDOW, *window.patches.shape[2:])
        noise = window.noise if np.isnan(self._sensor[0]) else np.full(len(window.noise), self._sensor[0])
        return [
            NetworkInput(stream, np.broadcast_to(patches, shape), numbers, (noise_dn, *self._sensor[1:]))
            for stream, patches, noise_dn in zip(streams.values(), window.patches, noise.tolist(), strict=True)
        ]


class SensorMaps:
    """The map streams of one sensor's regions, in its current epoch."""

    def __init__(self) -> None:
        self.epoch = 0
        self.streams: dict[int, MapStream] = {}  # by region number


class MapStream:
    """The maps of one region's latest frames, and the crop of the region that the network sees."""

    def __init__(self, manifest: EngineManifest) -> None:
        self.manifest = manifest
        self._crop = _Crop(manifest.patch)
        self._maps: dict[int, Map] = {}  # by frame number

    @property
    def corner(self) -> Ints:
        """(2,) x, y px of the crop's first pixel within the region."""
        return self._crop.corner

    def crop_window(self, patches: NDArray[Any], numbers: Sequence[int]) -> tuple[NDArray[np.float32], list[int]]:
        """Crop a window's patches (5, H, W) DN to what the network sees, moving the crop if the light has left its centre.

        Returns the cropped patches (5, h, w) DN, with non-finite pixels set to 0, and the rows of the frames without a map.
        """
        patches = _finite(patches)
        if self._crop.follow(patches):
            self._maps.clear()
        new = {number: k for k, number in enumerate(numbers) if number not in self._maps}
        return self._crop.apply(patches), list(new.values())

    def clear(self) -> None:
        """Drop all maps."""
        self._maps.clear()

    def add_maps(self, numbers: Sequence[int], new: Sequence[int], maps: Sequence[Map]) -> list[Map]:
        """Store the maps of the new frames (rows `new`), drop those outside the window, and return the window's five."""
        self._maps.update(zip((numbers[k] for k in new), maps, strict=True))
        self._maps = {number: self._maps[number] for number in numbers}
        return [self._maps[number] for number in numbers]

    def time_indices(self, numbers: Sequence[int]) -> Ints:
        """(5,): the frames' time indices as the engine's time code counts them."""
        indices: Ints = _time_indices(self.manifest, numbers)[0]
        return indices


def run(unmixer: Unmixer, inputs: Sequence[NetworkInput]) -> list[RegionOutput]:
    """Run windows of any regions through the network in one batch; one output per window, none for no windows."""
    return fuse(unmixer, unfold(unmixer, inputs))


def unfold(unmixer: Unmixer, inputs: Sequence[NetworkInput]) -> UnfoldedRegions | None:
    """Compute the maps of the frames that have none yet, in one batch; None for no windows."""
    if not inputs:
        return None
    cropped, new = zip(*(one.stream.crop_window(one.patches, one.numbers) for one in inputs), strict=True)
    new_frames = np.concatenate([window[rows] for window, rows in zip(cropped, new, strict=True)])
    unfolded = iter(unmixer.unfold(new_frames) if len(new_frames) else ())
    maps = [
        one.stream.add_maps(one.numbers, rows, list(islice(unfolded, len(rows))))
        for one, rows in zip(inputs, new, strict=True)
    ]
    places = np.stack([one.stream.time_indices(one.numbers) for one in inputs])
    sensors = np.array([one.sensor for one in inputs])
    patches = with_sensor_planes(np.stack(cropped), sensors, inputs[0].stream.manifest)
    return UnfoldedRegions(maps, patches, places, [one.stream.corner.copy() for one in inputs])


def fuse(unmixer: Unmixer, regions: UnfoldedRegions | None) -> list[RegionOutput]:
    """Combine the maps of windows in one batch; one output per window."""
    if regions is None:
        return []
    unmixed = unmixer.fuse(regions.maps, regions.patches, regions.places)
    return [
        RegionOutput(Unmixed(unmixed.map[k : k + 1], unmixed.claims[k : k + 1]), corner)
        for k, corner in enumerate(regions.corners)
    ]


class UnfoldedRegions(NamedTuple):
    """The input of protocols.Unmixer.fuse for N windows, and the corner (2,) x, y px of each one's crop."""

    maps: list[list[Map]]
    patches: NDArray[np.float32]
    places: Ints
    corners: list[Ints]


class UnfoldedWindows(NamedTuple):
    """Windows whose maps are computed: the number of regions of each, and all regions, None where there are none."""

    counts: list[int]
    regions: UnfoldedRegions | None


class NetworkInput(NamedTuple):
    """One region's window: its map stream, patches (5, h, w) DN, frame numbers and sensor facts.

    A frame number that was seen before means the same frame, whose map is used again.
    """

    stream: MapStream
    patches: NDArray[Any]
    numbers: Sequence[int]
    sensor: SensorFacts = UNKNOWN_SENSOR


Fallbacks = Iterable[tuple[str, Callable[[], Unmixer]]]


class _Crop:
    """The crop of a region's patches that a network sees: its position, and when it must move."""

    def __init__(self, size: tuple[int, int]) -> None:
        """size: rows, columns."""
        self.corner = np.zeros(2, np.int64)  # x, y
        self._size, self._placed = size, False

    def follow(self, patches: NDArray[np.float32]) -> bool:
        """Centre the crop on the light of a window's patches (5, H, W) if it is too far off; return whether it moved."""
        centre = light_centre(patches.mean(axis=0)[None])[0]
        corner = crop_corner(centre, patches.shape[1:], self._size)
        near = np.abs(centre - self.corner - (np.array(self._size[::-1]) - 1) / 2) <= MAX_OFF_CENTRE_PX
        if self._placed and (near | (corner == self.corner)).all():
            return False
        self.corner, self._placed = corner, True
        return True

    def apply(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Crop patches (T, H, W) to (T, h, w)."""
        x, y = self.corner
        return np.ascontiguousarray(patches[:, y : y + self._size[0], x : x + self._size[1]])


def _finite(patches: NDArray[Any]) -> NDArray[np.float32]:
    return np.nan_to_num(patches.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)


def _time_indices(manifest: EngineManifest, numbers: Sequence[int]) -> Ints:
    """(1, 5): the frames' time indices, 0 to 4 for a code by window, the frame numbers for a code by clip."""
    if manifest.time_code == "window":
        return np.arange(WINDOW)[None]
    if max(numbers) >= manifest.code_length:
        raise UsageError(
            f"frame {max(numbers)}: this engine's time code covers clips of at most {manifest.code_length} frames"
        )
    return np.array(numbers)[None]


def light_centre(images: NDArray[Any]) -> Floats:
    """Return the centre of light (B, 2) x, y px of images (B, h, w): the centroid weighted by (brightness above median)^2.

    Of a uniform image it is the image's centre.
    """
    above = images - np.median(images, axis=(1, 2), keepdims=True)
    weight = np.maximum(above, 0).astype(np.float64) ** 2 + 1e-12
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    rows, columns = images.shape[1:]
    return np.stack([weight.sum(1) @ np.arange(columns), weight.sum(2) @ np.arange(rows)], axis=-1)


def crop_corner(centre: Floats, shape: tuple[int, ...], size: tuple[int, int]) -> Ints:
    """Return the first pixel (..., 2) x, y of a crop of `size` (rows, columns) about centres (..., 2) x, y, px.

    The crop is shifted to lie within the patch of `shape` (rows, columns). Raises a UsageError if the patch is smaller.
    """
    room = np.array(shape[::-1]) - size[::-1]
    if (room < 0).any():
        raise UsageError(f"patches of {shape[0]} x {shape[1]} px; this engine needs at least {size[0]} x {size[1]}")
    return np.clip(np.rint(centre - (np.array(size[::-1]) - 1) / 2), 0, room).astype(np.int64)


def run_sequence(unmixers: Sequence[Unmixer], manifest: EngineManifest, patches: NDArray[Any]) -> Unmixed:
    """Run a network on all windows of one sequence of patches (frames, h, w) DN.

    Returns frames - 4 outputs, one per window, on the fine grid of the whole patch, 0 outside the network's crop. Each
    frame is unfolded once for each crop that contains it; one thread works for each unmixer. The network gets no sensor
    facts. Raises a UsageError for sequences too short or too long for the engine.
    """
    manifest.check_length(len(patches))
    patches, crop, c = _finite(patches), _Crop(manifest.patch), manifest.division
    windows = []  # cropped patches and crop corner of each window
    for k in range(len(patches) - WINDOW + 1):
        crop.follow(patches[k : k + WINDOW])
        windows.append((crop.apply(patches[k : k + WINDOW]), tuple(crop.corner)))
    wanted = {(k + t, corner): window[t] for k, (window, corner) in enumerate(windows) for t in range(WINDOW)}
    idle = SimpleQueue[Unmixer]()
    for unmixer in unmixers:
        idle.put(unmixer)

    def unfold(patch: NDArray[np.float32]) -> Map:
        with _borrowed(idle) as unmixer:
            return next(iter(unmixer.unfold(patch[None])))

    def fuse(k: int) -> Unmixed:
        window, corner = windows[k]
        stack = [maps[k + t, corner] for t in range(WINDOW)]
        with _borrowed(idle) as unmixer:
            with_planes = with_sensor_planes(window[None], np.array([UNKNOWN_SENSOR]), manifest)
            return unmixer.fuse([stack], with_planes, _time_indices(manifest, range(k, k + WINDOW)))

    with ThreadPoolExecutor(len(unmixers)) as pool:
        maps = dict(zip(wanted, pool.map(unfold, wanted.values()), strict=True))
        outputs = list(pool.map(fuse, range(len(windows))))
    shape = (len(windows), patches.shape[1] * c, patches.shape[2] * c)
    whole, claims = np.zeros(shape, np.float32), np.zeros((shape[0], manifest.claim_channels, *shape[1:]), np.float32)
    height, width = manifest.cells
    for k, (unmixed, (_, (x, y))) in enumerate(zip(outputs, windows, strict=True)):
        whole[k, y * c : y * c + height, x * c : x * c + width] = unmixed.map[0]
        claims[k, :, y * c : y * c + height, x * c : x * c + width] = unmixed.claims[0]
    return Unmixed(whole, claims)


@contextmanager
def _borrowed(idle: SimpleQueue[Unmixer]) -> Iterator[Unmixer]:
    unmixer = idle.get()
    try:
        yield unmixer
    finally:
        idle.put(unmixer)
