"""Generated windows with truth, to calibrate, compare and score engines on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irst_stream.optics import SIGMA, FineGrid
from irst_stream.protocols import Unmixer
from irst_stream.resolve.cells import read_cells
from irst_stream.resolve.claims import read_claims
from irst_stream.resolve.settings import ClaimSettings
from irst_stream.score import cso_map
from irst_stream.sim import csist100k, mixed, seqcsist
from irst_stream.types import Floats, Ints, Unmixed
from irst_stream.unmix.engine import WINDOW, EngineManifest
from irst_stream.unmix.stream import crop_corner, light_centre
from irst_stream.unmix.told import UNKNOWN_SENSOR, with_sensor_planes

__all__ = [
    "LabelledWindows",
    "accuracy",
    "calibration_windows",
    "evaluation_windows",
    "frame_places",
    "noise_windows",
    "run_network",
]

BATCH = 64  # windows
NOISE_DN = (0.0, 5.0)
BENCHMARK = (np.nan, SIGMA, 235.0, 8.7)  # noise DN (unknown), PSF sigma px, mean and sd of the amplitude DN


@dataclass(frozen=True, slots=True, eq=False)
class LabelledWindows:
    """N windows as network input, with truth.

    windows: patches (N, 5, h, w) DN, followed by the sensor planes of unmix.told if the network takes them; truths: for
    each window, the targets of its centre frame, (n, 2) x, y px in the patch.
    """

    windows: NDArray[np.float32]
    truths: list[Floats]


def calibration_windows(manifest: EngineManifest, count: int) -> NDArray[np.float32]:
    """Generate (count, 5, h, w) DN, with sensor planes, covering what the network was trained for."""
    if manifest.scale == "peak":
        groups, sensor_facts = mixed(count, WINDOW, seed=11, number=0)
        return _crop(groups.frames, sensor_facts, manifest)[0]
    moving, still = count - count // 4, count // 4
    clips = seqcsist(moving, seed=11, noise=NOISE_DN).frames
    first = np.random.default_rng(11).integers(0, clips.shape[1] - WINDOW + 1, moving)
    chosen = clips[np.arange(moving)[:, None], first[:, None] + np.arange(WINDOW)]
    images = csist100k(max(still, 1), seed=11, noise=NOISE_DN).frames[:still]
    return _crop(np.concatenate([chosen, np.repeat(images, WINDOW, axis=1)]), np.tile(BENCHMARK, (count, 1)), manifest)[0]


def noise_windows(manifest: EngineManifest, count: int) -> NDArray[np.float32]:
    """Generate (count, 5, h, w) DN of uniform noise, with sensor planes of an unknown sensor."""
    drawn = np.random.default_rng(0).uniform(0, 250, (count, WINDOW, *manifest.patch))
    return with_sensor_planes(drawn.astype(np.float32), np.tile(UNKNOWN_SENSOR, (count, 1)), manifest)


def evaluation_windows(manifest: EngineManifest, count: int) -> LabelledWindows:
    """Generate windows that share no draw with calibration_windows, with their truth."""
    if manifest.scale == "peak":
        made, sensor_facts = mixed(count, WINDOW, seed=12, number=0)
        frames, xy = made.frames, made.xy[:, WINDOW // 2]
    else:
        clips = seqcsist(-(-count // 4), seed=12, noise=(2.0, 2.0))
        starts = range(0, clips.frames.shape[1] - WINDOW + 1, WINDOW)
        frames = np.concatenate([clips.frames[:, k : k + WINDOW] for k in starts])[:count]
        xy, sensor_facts = (
            np.concatenate([clips.xy[:, k + WINDOW // 2] for k in starts])[:count],
            np.tile(BENCHMARK, (count, 1)),
        )
    windows, corners = _crop(frames, sensor_facts, manifest)
    truths = [targets[~np.isnan(targets[:, 0])] - corner for targets, corner in zip(xy, corners, strict=True)]
    return LabelledWindows(windows, truths)


def run_network(unmixer: Unmixer, windows: NDArray[np.float32], batch: int = BATCH) -> Unmixed:
    """Run a network on windows (N, 5, h, w) DN, `batch` windows at a time."""
    outputs = [_run_batch(unmixer, windows[k : k + batch]) for k in range(0, len(windows), batch)]
    return Unmixed(np.concatenate([one.map for one in outputs]), np.concatenate([one.claims for one in outputs]))


def accuracy(output: Unmixed, truths: list[Floats], manifest: EngineManifest) -> float:
    """CSO-mAP in percent, matched as the reference does, of network output: of its continuous head if it has one."""
    grid = FineGrid(manifest.division, manifest.patch)
    if manifest.head == "continuous":
        found = [read_claims(claims, grid, ClaimSettings()) for claims in output.claims]
    else:
        found = [read_cells(image, grid) for image in output.map]
    return 100 * cso_map([np.column_stack([one.xy, one.score]) for one in found], truths, mode="legacy").map


def frame_places(count: int) -> Ints:
    """(count, 5): each frame's place in time, for windows that start a sequence."""
    return np.tile(np.arange(WINDOW), (count, 1))


def _run_batch(unmixer: Unmixer, windows: NDArray[np.float32]) -> Unmixed:
    frames = np.ascontiguousarray(windows[:, :WINDOW].reshape(-1, *windows.shape[2:]))
    maps = list(unmixer.unfold(frames))
    stacks = [maps[k : k + WINDOW] for k in range(0, len(maps), WINDOW)]
    return unmixer.fuse(stacks, np.ascontiguousarray(windows), frame_places(len(windows)))


def _crop(frames: NDArray[np.float32], sensor_facts: Floats, manifest: EngineManifest) -> tuple[NDArray[np.float32], Ints]:
    """Crop windows (N, 5, H, W) around their light, as a stream does, and append the sensor planes of sensor_facts (N, 4).

    Returns (N, planes, h, w) and the corners (N, 2), x and y px of the crop's first pixel.
    """
    frames = frames.astype(np.float32, copy=False)
    corners = crop_corner(light_centre(frames.mean(axis=1)), frames.shape[2:], manifest.patch)
    rows, columns = manifest.patch
    parts = [clip[:, y : y + rows, x : x + columns] for clip, (x, y) in zip(frames, corners, strict=True)]
    return with_sensor_planes(np.stack(parts), sensor_facts, manifest), corners
