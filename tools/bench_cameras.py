"""Simulated cameras that tools/bench_live.py sends to a pipeline."""

from pathlib import Path
from typing import NamedTuple

from irst_stream.io.media.raw import write_raw
from irst_stream.sim import Groups, Scene, SceneSettings, Sensor


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
