"""Write a generated set to a folder: in parallel, resumable, always with the same bytes.

A set is a manifest and a list of jobs; each job names the files it makes. A file gets its name only once it is complete,
so after any interruption a job is done if all of its files exist.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from irst_stream.errors import OutputError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.manifest import Manifest, manifest_path, read_manifest, scene_frame_name, write_manifest
from irst_stream.io.media import csist
from irst_stream.io.media.images import encode_png
from irst_stream.optics import PATCH, SIGMA
from irst_stream.sim import FRAMES_PER_TRAJECTORY, Scene, SceneSettings, csist100k, seqcsist
from irst_stream.sim.datasets import BLOCK_IMAGES, DEFAULT_RULES, SeqCsistRules, check_draw, check_rules, manifest_rules
from irst_stream.version import __version__

__all__ = ["GeneratedSet", "Job", "patch_set", "scene_set"]

SCENE_JOB_FRAMES = 50
MOST_DIFFERENCES = 4  # named of two sets


class Job(Protocol):
    """A part of a set that any process can make on its own."""

    @property
    def frames(self) -> int:
        """The number of the set's frames that the job makes."""

    def names(self) -> Iterable[str]:
        """The paths of the job's files, relative to the set's folder."""

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Make the files: path and content of each, in the order of names()."""


@dataclass(frozen=True, slots=True)
class GeneratedSet:
    """A set to generate: its folder, its manifest, and the jobs that make its files."""

    folder: Path
    manifest: Manifest
    jobs: Sequence[Job]

    def claim(self) -> None:
        """Create the folder and its manifest if missing; raise an OutputError if it holds anything but this set."""
        with _write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            found = read_manifest(self.folder)
            if found is None and any(path.suffix != ".part" for path in self.folder.iterdir()):
                raise OutputError(
                    f"{self.folder}: holds files that do not belong to a generated set; choose an empty folder"
                )
            if found is None:
                write_manifest(self.folder, self.manifest)
            elif found != self.manifest:
                difference = _difference(found, self.manifest)
                raise OutputError(f"{self.folder}: holds a different set ({difference}); choose another folder")

    def missing(self) -> list[Job]:
        """The jobs with at least one file that does not exist yet."""
        folders = {name.rpartition("/")[0] for job in self.jobs for name in job.names()}
        existing = {f"{folder}/{name}".lstrip("/") for folder in folders for name in _file_names(self.folder / folder)}
        return [job for job in self.jobs if not existing.issuperset(job.names())]

    def fill(self, jobs: Sequence[Job], workers: int, done: Callable[[int], None]) -> None:
        """Run jobs, and call done(frames) as each ends. Raises an OutputError if another run is filling the folder."""
        with _write_errors(self.folder), _folder_lock(self.folder):
            for folder in {name.rpartition("/")[0] for job in jobs for name in job.names()}:
                (self.folder / folder).mkdir(parents=True, exist_ok=True)
            if workers > 1 and len(jobs) > 1:
                self._fill_in_parallel(jobs, workers, done)
            else:
                for job in jobs:
                    done(_run_job(self.folder, job))

    def _fill_in_parallel(self, jobs: Sequence[Job], workers: int, done: Callable[[int], None]) -> None:
        with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), _exit_with_parent) as pool:
            with _ignoring_sigint():  # workers inherit this: on Ctrl-C their parent ends them
                futures = [pool.submit(_run_job, self.folder, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    done(future.result())
            except BrokenProcessPool:
                raise OutputError(
                    f"{self.folder}: a worker process was killed; run the same command again to continue"
                ) from None
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def patch_set(
    folder: Path,
    dataset: str,
    count: int,
    *,
    seed: int = 0,
    split: str = "train",
    noise: tuple[float, float] = (0.0, 0.0),
    depth: int = 16,
    saturate: bool = False,
    rules: SeqCsistRules = DEFAULT_RULES,
) -> GeneratedSet:
    """Describe one split of SeqCSIST (`count` trajectories) or CSIST-100K (`count` images) in the published layout.

    8-bit files saturate at 255 DN; with `saturate`, 16-bit files do too. rules: of SeqCSIST only.
    """
    if depth not in (8, 16):
        raise UsageError(f"depth: expected 8 or 16 bits, got {depth}")
    if count < 1:
        raise UsageError(f"expected at least one {'trajectory' if dataset == 'seqcsist' else 'image'}, got {count}")
    check_draw(seed, split, noise)
    check_rules(rules)
    ceiling = 255 if saturate or depth == 8 else 2**depth - 1
    length = FRAMES_PER_TRAJECTORY if dataset == "seqcsist" else 1
    draw = {"seed": seed, "split": split, "noise_dn": list(noise), "depth_bits": depth, "ceiling_dn": ceiling}
    manifest = Manifest(dataset, __version__, count * length, {"count": count, **draw, **manifest_rules(dataset, rules)})
    size = BLOCK_IMAGES // length
    pieces = [(first, min(size, count - first)) for first in range(0, count, size)]
    jobs = [_PatchJob(dataset, first, n, length, seed, split, noise, depth, ceiling, rules) for first, n in pieces]
    return GeneratedSet(folder, manifest, jobs)


def scene_set(folder: Path, settings: SceneSettings, frames: int, *, seed: int = 0, name: str = "scene") -> GeneratedSet:
    """Describe a full-frame sequence: frames/ with PNG images, truth.jsonl, poses.jsonl and bad_pixels.json."""
    scene = Scene(settings, frames, seed, name)  # refuses invalid settings before anything is written
    manifest = Manifest("scene", __version__, frames, {"name": name, "seed": seed, **_as_json(asdict(settings))})
    starts = range(0, len(scene), SCENE_JOB_FRAMES)
    jobs: list[Job] = [_TruthJob(settings, frames, seed, name)]
    jobs += [_SceneJob(settings, frames, seed, name, k, min(SCENE_JOB_FRAMES, frames - k)) for k in starts]
    return GeneratedSet(folder, manifest, jobs)


@dataclass(frozen=True, slots=True)
class _PatchJob:
    """Images and annotations of `count` sequences of `length` frames, from number `first` on."""

    dataset: str
    first: int
    count: int
    length: int
    seed: int
    split: str
    noise: tuple[float, float]
    depth: int
    ceiling: int
    rules: SeqCsistRules

    @property
    def frames(self) -> int:
        return self.count * self.length

    def names(self) -> Iterator[str]:
        for number in range(self.first * self.length, (self.first + self.count) * self.length):
            yield csist.image_name(number)
            yield csist.annotation_name(number)

    def files(self) -> Iterator[tuple[str, bytes]]:
        generate = partial(seqcsist, rules=self.rules) if self.dataset == "seqcsist" else csist100k
        options: dict[str, Any] = {"seed": self.seed, "split": self.split, "noise": self.noise}
        patches = generate(self.count, first=self.first, depth=self.depth, ceiling=self.ceiling, **options)
        for k, n in enumerate(patches.count):
            for t in range(self.length):
                number = (self.first + k) * self.length + t
                xy, amplitude = patches.xy[k, t, :n], patches.amplitude[k, :n]
                yield csist.image_name(number), encode_png(patches.frames[k, t])
                yield csist.annotation_name(number), csist.encode_annotation(number, xy, amplitude, PATCH, SIGMA)


@dataclass(frozen=True, slots=True)
class _SceneJob:
    """Images of `frames` frames, from number `first` on, of a scene of `length` frames."""

    settings: SceneSettings
    length: int
    seed: int
    name: str
    first: int
    frames: int

    def names(self) -> Iterator[str]:
        return (scene_frame_name(index) for index in range(self.first, self.first + self.frames))

    def files(self) -> Iterator[tuple[str, bytes]]:
        scene = _cached_scene(self.settings, self.length, self.seed, self.name)
        for index, name in enumerate(self.names(), self.first):
            yield name, encode_png(scene.frame(index).pixels)


@dataclass(frozen=True, slots=True)
class _TruthJob:
    """Truth, poses and bad pixels of a scene of `length` frames."""

    settings: SceneSettings
    length: int
    seed: int
    name: str
    frames: int = 0

    def names(self) -> Iterator[str]:
        return iter(["truth.jsonl", "poses.jsonl", "bad_pixels.json"])

    def files(self) -> Iterator[tuple[str, bytes]]:
        scene = _cached_scene(self.settings, self.length, self.seed, self.name)
        yield "truth.jsonl", b"".join(jsonl.encode(scene.truth(index)) for index in range(self.length))
        yield "poses.jsonl", b"".join(jsonl.encode(scene.pose(index)) for index in range(self.length))
        yield "bad_pixels.json", msgspec.json.encode(scene.bad_pixels()) + b"\n"


@lru_cache(1)
def _cached_scene(settings: SceneSettings, frames: int, seed: int, name: str) -> Scene:
    """The scene, built once for all jobs that a worker process runs."""
    return Scene(settings, frames, seed, name)


def _run_job(folder: Path, job: Job) -> int:
    """Write a job's files; return its number of frames."""
    for name, data in job.files():
        path = folder / name
        part = path.with_name(path.name + ".part")
        with _write_errors(path):
            part.write_bytes(data)
            part.replace(path)
    return job.frames


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError that names the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder's manifest; the system releases it even if the process is killed."""
    with manifest_path(folder).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{folder}: another run is filling this folder; wait for it, or choose another") from None
        yield


def _file_names(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []


@contextmanager
def _ignoring_sigint() -> Iterator[None]:
    """Ignore Ctrl-C if this is the main thread, the only one that receives it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit_with_parent() -> None:
    """Make a worker process exit when its parent has ended for any reason."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _difference(found: Manifest, wanted: Manifest) -> str:
    """Describe how two manifests differ: their sets, else the parameters that do, MOST_DIFFERENCES at most."""
    if found.dataset != wanted.dataset or found.irst_stream != wanted.irst_stream:
        return f"{found.dataset} by irst-stream {found.irst_stream}, not {wanted.dataset} by {wanted.irst_stream}"
    changes = [f"{found.frames} frames, not {wanted.frames}"] if found.frames != wanted.frames else []
    changes += _changes(found.parameters, wanted.parameters, "")
    more = len(changes) - MOST_DIFFERENCES
    return "; ".join(changes[:MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def _changes(found: dict[str, Any], wanted: dict[str, Any], prefix: str) -> Iterator[str]:
    """Yield the parameters of two sets that differ, by dotted path."""
    for key in {**found, **wanted}:
        have, want = found.get(key), wanted.get(key)
        if isinstance(have, dict) and isinstance(want, dict):
            yield from _changes(have, want, f"{prefix}{key}.")
        elif have != want:
            yield f"{prefix}{key} is {have}, not {want}"


def _as_json(value: Any) -> Any:
    """Convert dataclass contents to what JSON reads back: tuples become lists, NumPy scalars become numbers."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
