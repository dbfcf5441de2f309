"""Simulated cameras that tools/bench_live.py sends to a pipeline, and such a run."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from irst_stream.build import build_pipeline
from irst_stream.chain.pace import FramePace
from irst_stream.chain.pipeline import Pipeline
from irst_stream.config import Config
from irst_stream.io.media.raw import write_raw
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource
from irst_stream.live.runner import Runner
from irst_stream.live.status import Status
from irst_stream.protocols import Sink
from irst_stream.sim import Groups, Scene, SceneSettings, Sensor

LOCAL = "tcp://127.0.0.1:*"


class Camera(NamedTuple):
    """A camera that is simulated, and what is promised for it."""

    width: int = 640
    height: int = 512
    rate: float = 100.0  # frames/s
    groups: int = 5
    frames: int = 400  # sent again and again
    compute: str = ""
    late: str = ""


CAMERA = Camera(compute="p99 < 5", late="<= 6 ms")


def camera_frames(folder: Path, load: Camera = CAMERA) -> Path:
    """A camera's scene, as one raw file."""
    path, groups = folder / "scene.raw", Groups(groups=load.groups, singles=0, snr=(8.0, 20.0))
    scene = Scene(SceneSettings(Sensor(load.width, load.height), groups=groups), load.frames)
    write_raw(path, (scene.frame(i).pixels for i in range(load.frames)), rate_hz=load.rate, bits=14)
    return path


def run_live(
    config: Config,
    frames: Path,
    rate: float,
    seconds: float,
    sinks: dict[str, Sink] | None = None,
    started: Callable[[Runner], None] = lambda _: None,
    wrapped: Callable[[Pipeline], Any] = lambda pipeline: pipeline,
) -> Status:
    """A camera's frames, sent by irst-stream feed, through a pipeline; the first two seconds do not count.

    started: called with the runner once it runs; wrapped: what runs in the pipeline's place.
    """
    pipeline = wrapped(build_pipeline(config, tracks=True, pace=FramePace()))
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True), "live")
    published = ZmqSink(PublishSettings(LOCAL), "live")
    runner = Runner(pipeline, {"in": source}, {"published": published, **(sinks or {})}, "live", depth=config.queue)
    runner.start()
    started(runner)
    command = ["feed", str(frames), "--to", source.endpoint, "--rate", f"{rate:g}", "--loop", "1000000"]
    command += ["--limit", str(round(rate * (seconds + 2)))]
    with subprocess.Popen([sys.executable, "-m", "irst_stream.cli", *command], stdout=subprocess.DEVNULL) as child:
        while runner.status().frames < 2 * rate and child.poll() is None:
            time.sleep(0.02)
        pipeline.clocks.clear()
        child.wait()
    while runner.status().waiting:
        time.sleep(0.02)
    runner.stop()
    runner.wait()
    return runner.status()
