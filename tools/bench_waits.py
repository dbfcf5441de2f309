"""How long the computing thread of a live run waits for the interpreter's lock; see tools/bench_live.py.

Of each step, the time that passes less the processor time of the thread is time in which it waits: for the lock, which the
receiving and publishing threads hold meanwhile, or for a core. The same frames in a process without other threads tell the
second part. The fit has one thread, so that no step waits for helpers.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from bench_cameras import CAMERA, camera_frames, run_live

from irst_stream import Frame, Stamp
from irst_stream.build import build_pipeline
from irst_stream.chain.pipeline import Pipeline, Result
from irst_stream.config import read_config
from irst_stream.system.shipped import find_config

WARM_UP = 200  # frames
Row = tuple[str, str, str]


def bench_waits(args: argparse.Namespace) -> tuple[Any, list[Row]]:
    """What the computing thread waits for the interpreter's lock: live, and by itself."""
    config, timed = replace(read_config(find_config("camera")), threads=1), []

    def wrapped(pipeline: Pipeline) -> TimedPipeline:
        timed.append(TimedPipeline(pipeline))
        return timed[-1]

    seconds = min(args.minutes * 6, 60.0)
    with TemporaryDirectory() as folder:
        scene = camera_frames(Path(folder))
        run_live(config, scene, CAMERA.rate, seconds, wrapped=wrapped)
        step_alone(wrapped(build_pipeline(config, tracks=True)), scene, round(seconds * CAMERA.rate))
    shares = {how: pipeline.waits() for how, pipeline in zip(("live", "alone"), timed, strict=True)}
    return shares, [
        (f"computing thread, {how}: waits, of its time; p50 / p99, ms", f"{share:.1%}; {p50:.2f} / {p99:.2f}", "")
        for how, (share, p50, p99) in shares.items()
    ]


class TimedPipeline:
    """A pipeline whose steps are timed, by the clock and by the processor time of the thread that runs them, ms."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.passed: list[float] = []
        self.computed: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def step(self, frames: Sequence[Frame], more: bool = False) -> list[Result]:
        began, computed = time.perf_counter_ns(), time.thread_time_ns()
        results = self._pipeline.step(frames, more)
        self.computed.append((time.thread_time_ns() - computed) / 1e6)
        self.passed.append((time.perf_counter_ns() - began) / 1e6)
        return results

    def waits(self) -> tuple[float, float, float]:
        """The share of the time spent waiting, and its median and 99th percentile, ms, after the warm-up."""
        passed, computed = np.array(self.passed[WARM_UP:]), np.array(self.computed[WARM_UP:])
        waited = np.maximum(passed - computed, 0)
        return waited.sum() / passed.sum(), *np.percentile(waited, (50, 99)).tolist()


def step_alone(pipeline: TimedPipeline, scene: Path, frames: int) -> None:
    """Take a camera's frames from memory, in one thread."""
    images = np.fromfile(scene, np.uint16).reshape(-1, CAMERA.height, CAMERA.width)
    for k in range(frames):
        stamp = Stamp("camera", k // len(images), k, round(k * 1e9 / CAMERA.rate))
        pipeline.step([Frame(stamp, images[k % len(images)], 16383.0)])
        pipeline.get_ahead()
