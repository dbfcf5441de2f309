"""The methods that `compare` and the leaderboard hold against each other, and how each answers windows of frames.

A contender answers with fine maps, which are read at cell centres and, apart from that, given to the fit as its start; or,
like the fit alone and the whole pipeline, with detections.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from irst_stream.build import build_pipeline, resolver_maker
from irst_stream.chain.window import WindowBuilder
from irst_stream.config import Config
from irst_stream.errors import FormatError, UsageError
from irst_stream.learn.methods.classical import CLASSICAL
from irst_stream.optics import FineGrid
from irst_stream.protocols import Unmixer
from irst_stream.resolve.cells import THRESHOLD, read_cells
from irst_stream.system.shipped import configs_folder, engines_folder, find_engine
from irst_stream.types import Detections, Frame, Ints, RegionOutput, Truth, Unmixed, Window
from irst_stream.unmix.backends import build_unmixer, choose_backend
from irst_stream.unmix.engine import WINDOW, Engine, EngineManifest, read_engine
from irst_stream.unmix.stream import crop_corner, light_centre
from irst_stream.unmix.told import UNKNOWN_SENSOR, with_sensor_planes

__all__ = [
    "WHOLE",
    "Contender",
    "NetworkContender",
    "Scene",
    "WholeContender",
    "find_contender",
    "known_contenders",
    "published_threshold",
]

WHOLE = {
    "labels": "perfect labels at cell centres",
    "fit": "the fit, without a network",
    "default": "irst-stream's default",
}  # contenders that are not networks
PLAIN_HEADS = {"derefnet": "seqcsist"}  # networks whose shipped engine has another head too, and that engine
AT_ONCE = 64  # windows
CLASSICAL_PATCH = (7, 7)
PUBLISHED_THRESHOLD = {"csist100k": 50.0}  # DN, where it is not read_cells' own


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Windows with the truth of their centre frames, in order; config: how the fit reads them; dataset: "" if of none."""

    frames: Sequence[Frame]
    windows: Sequence[Window]
    truths: Sequence[Truth]
    config: Config
    dataset: str = ""

    @classmethod
    def of(cls, pairs: Sequence[tuple[Frame, Truth]], config: Config, dataset: str = "") -> Scene:
        """Windows of frames with truth, sensor by sensor, of the configuration's length; those too short give none."""
        truth_of = {(t.stamp.sensor, t.stamp.epoch, t.stamp.index): t for _, t in pairs}
        windows: list[Window] = []
        builders: dict[str, WindowBuilder] = {}
        for frame, _ in pairs:
            if frame.stamp.sensor not in builders:
                builders[frame.stamp.sensor] = WindowBuilder(config.window, lag=config.lag)
            if (window := builders[frame.stamp.sensor].push(frame)) is not None:
                windows.append(window)
        if any(len(window.patches) != 1 for window in windows):
            raise UsageError("compare takes patches of one group each, as SeqCSIST's; these frames are larger")
        truths = [truth_of[w.stamp.sensor, w.stamp.epoch, w.stamp.index] for w in windows]
        return cls([frame for frame, _ in pairs], windows, truths, config, dataset)

    def of_windows(self, count: int) -> Scene:
        """The scene of the first `count` windows, with the frames of their sensors up to those that they need."""
        if count >= len(self.windows):
            return self
        windows, truths = self.windows[:count], self.truths[:count]
        last = {w.stamp.sensor: w.stamp.index + len(w.frame_times) // 2 for w in windows}
        frames = [f for f in self.frames if f.stamp.index <= last.get(f.stamp.sensor, -1)]
        return replace(self, frames=frames, windows=windows, truths=truths)

    def patches(self) -> NDArray[np.float32]:
        """(N, 5, H, W) DN: the windows' frames; a single frame is repeated."""
        stack = np.stack([np.nan_to_num(window.patches[0]) for window in self.windows])
        return np.broadcast_to(stack, (len(stack), WINDOW, *stack.shape[2:])) if stack.shape[1] == 1 else stack


@dataclass(frozen=True, slots=True, eq=False)
class NetworkContender:
    """A method that answers with fine maps.

    thresholds: DN by data set, from which a cell is a target, chosen in validation; record: what its engine's record says
    of training and cost.
    """

    name: str
    manifest: EngineManifest
    unmixer: Unmixer
    thresholds: Mapping[str, float] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def maps(self, scene: Scene) -> tuple[NDArray[np.float32], Ints]:
        """Fine maps (N, H, W) DN of the windows' centre frames, and the corners (N, 2), x and y px, of what it saw."""
        patches = scene.patches()
        size, shape = self.manifest.patch, patches.shape[2:]
        corners = crop_corner(light_centre(patches.mean(axis=1)), shape, size)
        rows, columns = (corners[:, k, None] + np.arange(size[1 - k]) for k in (1, 0))
        at = np.arange(len(corners))[:, None, None, None], np.arange(WINDOW)[:, None, None]
        crops = np.ascontiguousarray(patches[at[0], at[1], rows[:, None, :, None], columns[:, None, None, :]])
        parts = [self._run(crops[k : k + AT_ONCE]) for k in range(0, len(crops), AT_ONCE)]
        return np.concatenate(parts), corners

    def _run(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (B, H, W) of cropped windows (B, 5, h, w)."""
        if self.manifest.window == 1:
            return np.asarray(list(self.unmixer.unfold(np.ascontiguousarray(crops[:, WINDOW // 2]))), np.float32)
        unfolded = list(self.unmixer.unfold(crops.reshape(-1, *crops.shape[2:])))
        stacks = [unfolded[k : k + WINDOW] for k in range(0, len(unfolded), WINDOW)]
        planes = with_sensor_planes(crops, np.tile(UNKNOWN_SENSOR, (len(crops), 1)), self.manifest)
        return self.unmixer.fuse(stacks, planes, np.tile(np.arange(WINDOW), (len(crops), 1))).map

    def grid(self) -> FineGrid:
        """The grid of its maps."""
        return FineGrid(self.manifest.division, self.manifest.patch)

    def at_cells(
        self, scene: Scene, maps: NDArray[np.float32], corners: Ints, threshold: float
    ) -> list[tuple[Detections, Truth]]:
        """Detections at the centres of the cells from the threshold, DN, on, with the truths."""
        found = []
        for fine, corner, truth in zip(maps, corners, scene.truths, strict=True):
            targets = read_cells(fine, self.grid(), threshold)
            found.append((targets._replace(xy=targets.xy + corner).detections(truth.stamp), truth))
        return found

    def into_fit(self, scene: Scene, maps: NDArray[np.float32], corners: Ints) -> Iterator[tuple[Detections, Truth]]:
        """Detections of the fit started from the maps, with the truths."""
        plain = msgspec.structs.replace(self.manifest, head="map")
        new_resolver = resolver_maker(replace(scene.config, readout="best"), plain)
        resolver, sensor = new_resolver(), None
        for window, fine, corner, truth in zip(scene.windows, maps, corners, scene.truths, strict=True):
            if window.stamp.sensor != sensor:  # a fit goes on from the last window of its own sensor
                resolver, sensor = new_resolver(), window.stamp.sensor
            yield resolver(window, [RegionOutput(Unmixed.plain(fine[None]), corner)]), truth


@dataclass(frozen=True, slots=True)
class WholeContender:
    """One of WHOLE, which answers with detections."""

    name: str

    def detections(self, scene: Scene) -> list[tuple[Detections, Truth]]:
        """Detections of each window, with the truths."""
        if self.name == "labels":
            grid, threshold = FineGrid(3, scene.windows[0].patches.shape[2:]), published_threshold(scene.dataset)
            labels = (grid.label(truth.xy, truth.amplitude) for truth in scene.truths)
            return [
                (read_cells(label, grid, threshold).detections(truth.stamp), truth)
                for label, truth in zip(labels, scene.truths, strict=True)
            ]
        config = replace(scene.config, readout="fit") if self.name == "fit" else scene.config
        pipeline = build_pipeline(config)
        found = {_key(one): one for one in pipeline.run(scene.frames) if isinstance(one, Detections)}
        return [(found[_key(truth)], truth) for truth in scene.truths]


Contender: TypeAlias = NetworkContender | WholeContender


def published_threshold(dataset: str) -> float:
    """The published threshold of a data set, DN."""
    return PUBLISHED_THRESHOLD.get(dataset, THRESHOLD)


def find_contender(name: str) -> Contender:
    """Return a contender by name, or by its engine's folder; a UsageError lists what there is.

    A network that is not trained here is named with the command that trains it.
    """
    if name in WHOLE:
        return WholeContender(name)
    if name in CLASSICAL:
        method = CLASSICAL[name](FineGrid(3, CLASSICAL_PATCH))
        manifest = EngineManifest(sha256="", made_by="", network=name, window=1, patch=CLASSICAL_PATCH)
        chosen = dict.fromkeys(("", "seqcsist", "csist100k"), method.threshold)
        return NetworkContender(name, manifest, NumpyMethod(method), chosen, {"multiply_adds": method.multiply_adds})
    try:
        engine = read_engine(find_engine(PLAIN_HEADS.get(name, name)))
    except UsageError as error:
        if (configs_folder() / "methods" / f"{name}.toml").is_file():
            raise UsageError(
                f"{name}: not trained here; tools/train_methods.py {name} trains it, and compare then takes "
                f"out/methods/{name}/engine"
            ) from error
        raise UsageError(
            f"{name}: no such method, and no engine's folder; there are: {', '.join(known_contenders())}"
        ) from error
    choice = choose_backend(engine, "onnx" if engine.manifest.graphs else "numpy")
    title = name if name in PLAIN_HEADS else engine.manifest.network
    record = _plain_size(engine) if name in PLAIN_HEADS else _record(engine.folder / "record.json")
    chosen = {key: one["threshold"] for key, one in record.get("validation", {}).items()}
    return NetworkContender(title, engine.manifest, build_unmixer(engine, choice, 1), chosen, record)


def _plain_size(engine: Engine) -> Mapping[str, Any]:
    """The parameters of a network of two heads without those of the other head, and without constants."""
    constants = ("unfold.phi", "unfold.qinit")
    arrays = (a for name, a in engine.weights.items() if name not in constants and not name.startswith("head."))
    return {"parameters": sum(array.size for array in arrays)}


def known_contenders() -> list[str]:
    """The names that find_contender knows here, without those that still have to be trained."""
    bundled = (folder.parent.name for folder in sorted(engines_folder().glob("*/manifest.toml")))
    return [*WHOLE, *CLASSICAL, *PLAIN_HEADS, *(name for name in bundled if name not in ("general", "seqcsist"))]


class NumpyMethod:
    """A method that is a function of patches (B, h, w) DN; a protocols.Unmixer."""

    def __init__(self, maps: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._maps = maps

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the maps (B, H, W) DN of patches (B, h, w) DN."""
        return self._maps(patches)

    def fuse(self, maps: Any, patches: NDArray[np.float32], places: Ints) -> Unmixed:  # noqa: ARG002 - single frames
        """Take each window's middle map."""
        return Unmixed.plain(np.asarray([window[WINDOW // 2] for window in maps], np.float32))


def _record(path: Any) -> Mapping[str, Any]:
    """An engine's record; empty where it has none."""
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from error
    return record


def _key(record: Detections | Truth) -> tuple[str, int, int]:
    return record.stamp.sensor, record.stamp.epoch, record.stamp.index
