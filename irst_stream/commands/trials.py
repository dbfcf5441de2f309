"""What an engine is tried on: generated windows of the kind that it was made for, with their truth."""

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
from irst_stream.unmix.stream import corner_of, light_centre
from irst_stream.unmix.told import UNTOLD, with_told

__all__ = ["Trial", "accuracy", "fresh_windows", "look", "places_of", "random_windows", "usual_windows"]

AT_ONCE = 64  # windows
NOISE_DN = (0.0, 5.0)
BENCHMARK = (np.nan, SIGMA, 235.0, 8.7)  # what its rules say of a sensor whose noise nobody knows


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """N windows as a network takes them: patches (N, 5, h, w) DN, followed by the planes of unmix.told if it takes any; the
    truth of their centre frames, each (n, 2) x, y px in them.
    """

    windows: NDArray[np.float32]
    truths: list[Floats]


def usual_windows(manifest: EngineManifest, count: int) -> NDArray[np.float32]:
    """(count, 5, h, w) DN, with what it is told, of all that the network was made for, to calibrate it by."""
    if manifest.scale == "peak":
        groups, told = mixed(count, WINDOW, seed=11, number=0)
        return _seen(groups.frames, told, manifest)[0]
    moving, still = count - count // 4, count // 4
    clips = seqcsist(moving, seed=11, noise=NOISE_DN).frames
    first = np.random.default_rng(11).integers(0, clips.shape[1] - WINDOW + 1, moving)
    chosen = clips[np.arange(moving)[:, None], first[:, None] + np.arange(WINDOW)]
    images = csist100k(max(still, 1), seed=11, noise=NOISE_DN).frames[:still]
    return _seen(np.concatenate([chosen, np.repeat(images, WINDOW, axis=1)]), np.tile(BENCHMARK, (count, 1)), manifest)[0]


def random_windows(manifest: EngineManifest, count: int) -> NDArray[np.float32]:
    """(count, 5, h, w) DN of noise alone; the network is told nothing about it."""
    drawn = np.random.default_rng(0).uniform(0, 250, (count, WINDOW, *manifest.patch))
    return with_told(drawn.astype(np.float32), np.tile(UNTOLD, (count, 1)), manifest)


def fresh_windows(manifest: EngineManifest, count: int) -> Trial:
    """Windows that nothing was calibrated by, with their truth."""
    if manifest.scale == "peak":
        made, told = mixed(count, WINDOW, seed=12, number=0)
        frames, xy = made.frames, made.xy[:, WINDOW // 2]
    else:
        clips = seqcsist(-(-count // 4), seed=12, noise=(2.0, 2.0))
        starts = range(0, clips.frames.shape[1] - WINDOW + 1, WINDOW)
        frames = np.concatenate([clips.frames[:, k : k + WINDOW] for k in starts])[:count]
        xy, told = np.concatenate([clips.xy[:, k + WINDOW // 2] for k in starts])[:count], np.tile(BENCHMARK, (count, 1))
    windows, corner = _seen(frames, told, manifest)
    return Trial(windows, [all_[~np.isnan(all_[:, 0])] - at for all_, at in zip(xy, corner, strict=True)])


def look(unmixer: Unmixer, windows: NDArray[np.float32], at_once: int = AT_ONCE) -> Unmixed:
    """What a network sees in windows (N, 5, h, w), so many at once."""
    seen = [_look(unmixer, windows[k : k + at_once]) for k in range(0, len(windows), at_once)]
    return Unmixed(np.concatenate([one.map for one in seen]), np.concatenate([one.claims for one in seen]))


def accuracy(seen: Unmixed, truths: list[Floats], manifest: EngineManifest) -> float:
    """CSO-mAP, as the reference scores it, of what the network has seen: by its continuous head where it has one."""
    grid = FineGrid(manifest.division, manifest.patch)
    if manifest.head == "continuous":
        found = [read_claims(claims, grid, ClaimSettings()) for claims in seen.claims]
    else:
        found = [read_cells(image, grid) for image in seen.map]
    return 100 * cso_map([np.column_stack([one.xy, one.score]) for one in found], truths, mode="legacy").map


def places_of(count: int) -> Ints:
    """(count, 5): the frames' places, of windows that begin a clip."""
    return np.tile(np.arange(WINDOW), (count, 1))


def _look(unmixer: Unmixer, windows: NDArray[np.float32]) -> Unmixed:
    frames = np.ascontiguousarray(windows[:, :WINDOW].reshape(-1, *windows.shape[2:]))
    maps = list(unmixer.unfold(frames))
    stacks = [maps[k : k + WINDOW] for k in range(0, len(maps), WINDOW)]
    return unmixer.fuse(stacks, np.ascontiguousarray(windows), places_of(len(windows)))


def _seen(frames: NDArray[np.float32], told: Floats, manifest: EngineManifest) -> tuple[NDArray[np.float32], Ints]:
    """The part of each window's frames around the light, as a stream cuts it, with what is told (N, 4); corners (N, 2)."""
    frames = frames.astype(np.float32, copy=False)
    corner = corner_of(light_centre(frames.mean(axis=1)), frames.shape[2:], manifest.patch)
    rows, columns = manifest.patch
    parts = [clip[:, y : y + rows, x : x + columns] for clip, (x, y) in zip(frames, corner, strict=True)]
    return with_told(np.stack(parts), told, manifest), corner
