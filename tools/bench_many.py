"""One process with 64 patch feeds and 4 cameras: what it holds, and whether each sensor gets its share; see bench_live.py.

Every feed is open-loop, of a process of its own. Beside them, one sensor floods, or one is so full of false targets that
each of its frames takes as long as it may.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import zmq

from irst_stream import Frame, Stamp
from irst_stream.build import build_pipeline
from irst_stream.chain.pipeline import Pipeline, Result
from irst_stream.config import read_config
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource, open_socket
from irst_stream.live.runner import Runner
from irst_stream.live.status import Status
from irst_stream.sim import Groups, Scene, SceneSettings, seqcsist
from irst_stream.system.shipped import find_config

LOCAL = "tcp://127.0.0.1:*"
PATCHES, PATCH_HZ, CAMERAS, CAMERA_HZ = 64, 20.0, 4, 25.0
FLOOD_HZ = 2000.0
PERIODS = 100  # frames of a sensor before they are sent again
WARM_S, MEASURED_S = 4.0, 10.0
SHARES = (0.25, 0.5, 1.0)  # of the rates above
RATES = {"patch": PATCH_HZ, "camera": CAMERA_HZ}
GUESTS = ("nobody", "flood", "faulty")  # what sends beside them
Row = tuple[str, str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--send", nargs=3, required=True, metavar=("WHAT", "ENDPOINT", "SHARE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    send(args.send[0], args.send[1], float(args.send[2]))
    return 0


def bench_many(_: argparse.Namespace) -> tuple[Any, list[Row]]:
    """Frames answered of those received, of the sensor that fares worst and of the middle one."""
    figures: dict[str, Any] = {}
    rows: list[Row] = []
    for share in SHARES:
        for guest in GUESTS:
            measured = figures[f"{share:g} {guest}"] = measure(share, guest)
            rates = f"64 patches at {PATCH_HZ * share:g}/s, 4 cameras at {CAMERA_HZ * share:g}/s, beside {guest}: "
            pairs = [(measured[kind]["worst"], measured[kind]["middle"]) for kind in RATES]
            answered = "; ".join(f"{worst:.0%} / {middle:.0%}" for worst, middle in pairs)
            cost = " / ".join(f"{measured[kind]['ms']:.2f}" for kind in RATES)
            rows.append((f"{rates}answered, worst / middle", answered, ""))
            rows.append((f"{rates}ms a frame; cores", f"{cost}; {measured['cores']:.2f}", ""))
    return figures, rows


def measure(share: float, guest: str) -> dict[str, Any]:
    """All feeds at a share of their rates, beside a guest, through one pipeline."""
    config = replace(read_config(find_config("camera")), most_sensors=128)
    pipeline = CostedPipeline(build_pipeline(config, tracks=True))
    kinds = ["patch", "camera", *([guest] if guest != "nobody" else [])]
    sources = {kind: ZmqSource(ReceiveSettings(LOCAL, bind=True), "live") for kind in kinds}
    sinks = {"published": ZmqSink(PublishSettings(LOCAL), "live")}
    runner = Runner(pipeline, sources, sinks, "live", depth=config.queue, most_sensors=config.most_sensors)
    runner.start()
    with ExitStack() as opened:
        for kind, source in sources.items():
            command = [sys.executable, __file__, "--send", kind, source.endpoint, str(share)]
            opened.callback(opened.enter_context(subprocess.Popen(command)).terminate)
        while len(runner.status().sensors) < PATCHES + CAMERAS:
            time.sleep(0.05)
        time.sleep(WARM_S)
        pipeline.clear()
        before, process = runner.status(), psutil.Process()
        cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(MEASURED_S)
        after, elapsed = runner.status(), time.monotonic() - began
        cpu = sum(process.cpu_times()[:2]) - cpu
    runner.stop()
    runner.wait()
    measured = {kind: answered_shares(before, after, kind) | {"ms": pipeline.ms_a_frame(kind)} for kind in RATES}
    return {**measured, "cores": cpu / elapsed, "p99": after.stages["compute"].percentiles[2], "unused": after.unused}


class CostedPipeline:
    """A pipeline that adds up the computing time of each kind of sensor."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def clear(self) -> None:
        self._spent_ns, self._frames = Counter[str](), Counter[str]()
        self._pipeline.clocks.clear()

    def step(self, frames: Sequence[Frame], more: bool = False) -> list[Result]:
        results = self._pipeline.step(frames, more)
        self._add({}, self._pipeline.spent_ns)
        self._frames.update(frame.stamp.sensor.partition("-")[0] for frame in frames)
        return results

    def get_ahead(self) -> None:
        before = dict(self._pipeline.spent_ns)
        self._pipeline.get_ahead()
        self._add(before, self._pipeline.spent_ns)

    def _add(self, before: Mapping[str, int], spent_ns: Mapping[str, int]) -> None:
        for sensor, spent in spent_ns.items():
            self._spent_ns[sensor.partition("-")[0]] += spent - before.get(sensor, 0)

    def ms_a_frame(self, kind: str) -> float:
        """The mean computing time of a frame of a kind of sensors."""
        return self._spent_ns[kind] / 1e6 / max(self._frames[kind], 1)


def answered_shares(before: Status, after: Status, kind: str) -> dict[str, float]:
    """Of the frames received of each sensor of a kind, how many were answered: the worst, and the middle one."""
    pairs = [(before.sensors[name], now) for name, now in after.sensors.items() if name.startswith(kind)]
    answered = [(now.answered - old.answered) / max(now.frames - old.frames, 1) for old, now in pairs]
    return {"worst": min(answered), "middle": statistics.median(answered)}


def send(what: str, endpoint: str, share: float) -> None:
    """Send the frames of all sensors of a kind, each when it is due, until ended; body of a child process."""
    context: zmq.Context = zmq.Context()
    socket = open_socket(context, zmq.PUB, Link(endpoint, high_water=1000))
    names, rate, images = feeds(what)
    rate *= share if what in RATES else 1.0
    period, began = 1 / rate / len(names), time.monotonic() + 1.0
    for k in range(10**9):
        wait = began + k * period - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        index, which = divmod(k, len(names))
        stamp = Stamp(names[which], 1, index, time.time_ns(), "", "unix")
        pixels = images[which % len(images)][index % PERIODS]
        socket.send_multipart(wire.encode(Frame(stamp, pixels, 16383.0)), copy=False)


def feeds(what: str) -> tuple[list[str], float, list[np.ndarray]]:
    """Names, rate and images of the sensors of a kind."""
    if what in ("patch", "flood"):
        clips = seqcsist(16, noise=(2.0, 2.0), depth=16).frames
        staying = [np.resize(np.concatenate([clip, clip[-2:0:-1]]), (PERIODS, *clip.shape[1:])) for clip in clips]
        count, rate = (PATCHES, PATCH_HZ) if what == "patch" else (1, FLOOD_HZ)
        return [f"{what}-{k:02d}" for k in range(count)], rate, staying
    if what == "camera":
        scene = Scene(SceneSettings(groups=Groups(groups=3, singles=0, snr=(8.0, 20.0))), PERIODS)
        return (
            [f"camera-{k}" for k in range(CAMERAS)],
            CAMERA_HZ,
            [np.stack([scene.frame(i).pixels for i in range(PERIODS)])],
        )
    rng = np.random.default_rng(0)
    noisy = rng.normal(1000, 5, (PERIODS, 512, 640))
    places = rng.integers(8, 500, (400, 2)), rng.uniform(30, 300, 400)
    for (x, y), light in zip(*places, strict=True):
        noisy[:, y - 1 : y + 2, x - 1 : x + 2] += light * np.array([[0.1, 0.4, 0.1], [0.4, 1, 0.4], [0.1, 0.4, 0.1]])
    return ["faulty"], CAMERA_HZ, [noisy.clip(0, 16383).astype(np.uint16)]


if __name__ == "__main__":
    sys.exit(main())
