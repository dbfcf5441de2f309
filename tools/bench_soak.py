"""Many hours of one camera through the live pipeline, sent faster; run it with .venv/bin/python tools/bench_soak.py.

A process of its own sends a scene to and fro, open-loop, in one epoch, with stamps of the camera's rate but --speed times
as fast. It goes through the configuration `camera` with tracks, to a socket, to a file of tracks and to the live page's
history. The queue of frames is --speed times as long as usual: as long in time as at the camera's own rate, since a machine
that halts does so for no shorter than there. Prints, for each tenth of the run, memory, frames that were not used and
latencies, and writes out/bench_soak.json. Latencies end to end count from the newest frame's arrival, less the window's
lag. On a busy machine, give the process priority.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import psutil
import zmq
from bench_cameras import Camera, camera_frames
from bench_data import describe_machine

from irst_stream import Frame, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.config import read_config
from irst_stream.io.lines_sink import LinesSink, WriteSettings
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource, open_socket
from irst_stream.live.runner import Runner
from irst_stream.system.shipped import find_config
from irst_stream.unmix.engine import WINDOW
from irst_stream.web.history import History

OUT = Path("out/bench_soak.json")
LOCAL = "tcp://127.0.0.1:*"
WARM_UP_S = 20.0  # of the run, in which memory fills; its latencies do not count
PARTS = 10
HISTORY_BYTES = 32 * 10**6  # filled within the warm-up
KEPT_MB = 200.0  # of tracks on the disk


class Part(NamedTuple):
    """A tenth of the run: hours of the feed until its end, memory then, frames not used so far, latencies in ms."""

    hours: float
    memory_mb: float
    unused: int
    compute_p50: float
    compute_p99: float
    late_p99: float  # beyond the window's lag


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=8.0, help="of the feed (default 8)")
    parser.add_argument("--rate", type=float, default=25.0, help="its frames/s (default 25)")
    parser.add_argument("--speed", type=float, default=4.0, help="how much faster it is sent (default 4)")
    parser.add_argument("--size", type=int, nargs=2, default=[640, 512], metavar=("W", "H"), help="(default 640 512)")
    parser.add_argument("--groups", type=int, default=5, help="of targets (default 5)")
    parser.add_argument("--send", nargs=2, metavar=("FILE", "ENDPOINT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        send(Path(args.send[0]), args.send[1], args)
        return 0
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    print(f"{'hours':>6}{'MB':>9}{'unused':>9}{'compute p50':>13}{'p99, ms':>9}{'late p99, ms':>14}")
    parts = soak(args)
    growth = parts[-1].memory_mb / parts[0].memory_mb - 1
    print(f"memory at the end against the first tenth's: {growth:+.2%}")
    OUT.parent.mkdir(exist_ok=True)
    results = {"settings": vars(args), "parts": [part._asdict() for part in parts], "growth": growth}
    OUT.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    return 0


def soak(args: argparse.Namespace) -> list[Part]:
    """Run all hours; print each tenth as it ends."""
    config = read_config(find_config("camera"))
    pipeline = build_pipeline(config, tracks=True)
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True), "live")
    parts: list[Part] = []
    with TemporaryDirectory() as folder:
        scene = camera_frames(Path(folder), Camera(*args.size, groups=args.groups))
        sinks = {
            "published": ZmqSink(PublishSettings(LOCAL), "live"),
            "tracks": LinesSink(WriteSettings(f"{folder}/tracks-{{start}}.jsonl", rotate_mb=20.0, keep_mb=KEPT_MB), Tracks),
            "page": History(HISTORY_BYTES),
        }
        runner = Runner(pipeline, {"in": source}, sinks, "live", depth=round(config.queue * args.speed))
        runner.start()
        own = [
            "--hours",
            str(args.hours),
            "--rate",
            str(args.rate),
            "--speed",
            str(args.speed),
            "--size",
            *map(str, args.size),
        ]
        command = [sys.executable, __file__, "--send", str(scene), source.endpoint, *own]
        with subprocess.Popen(command) as child:
            while not runner.status().frames:
                time.sleep(0.1)
            began = time.monotonic()
            time.sleep(WARM_UP_S)
            for number in range(1, PARTS + 1):
                pipeline.clocks.clear()
                ends = began + WARM_UP_S + number / PARTS * (args.hours * 3600 / args.speed - 2 * WARM_UP_S)
                time.sleep(max(ends - time.monotonic(), 0))
                parts.append(measure(runner, args, (time.monotonic() - began) * args.speed / 3600))
            child.wait()
        runner.stop()
        runner.wait()
        sent = round(args.hours * 3600 * args.rate)
        print(f"{sent} frames sent, {runner.status().frames} received, {sum(runner.status().unused.values())} not used")
    return parts


def measure(runner: Runner, args: argparse.Namespace, hours: float) -> Part:
    """What the last tenth of a run was like."""
    status = runner.status()
    stages = ("compute", "end to end published")
    compute, whole = (status.stages[name].percentiles if name in status.stages else 3 * [np.nan] for name in stages)
    lag = WINDOW // 2 / (args.rate * args.speed) * 1e3
    memory = psutil.Process().memory_info().rss / 1e6
    part = Part(hours, memory, sum(status.unused.values()), compute[0], compute[2], whole[2] - lag)
    print(f"{hours:6.2f}{memory:9.1f}{part.unused:9d}{compute[0]:13.2f}{compute[2]:9.2f}{part.late_p99:14.2f}", flush=True)
    return part


def send(path: Path, endpoint: str, args: argparse.Namespace) -> None:
    """Send a scene to and fro, each frame when it is due; body of a child process."""
    images = np.fromfile(path, np.uint16).reshape(-1, *args.size[::-1])
    context: zmq.Context = zmq.Context()
    socket = open_socket(context, zmq.PUB, Link(endpoint))
    there_and_back = 2 * len(images) - 2
    began = time.monotonic() + 1.0
    for k in range(round(args.hours * 3600 * args.rate)):
        wait = began + k / (args.rate * args.speed) - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        place = k % there_and_back
        image = images[min(place, there_and_back - place)]
        frame = Frame(Stamp("camera", 1, k, round(k * 1e9 / args.rate)), image, 16383.0)
        socket.send_multipart(wire.encode(frame), copy=False)
    socket.close(2000)
    context.term()


if __name__ == "__main__":
    sys.exit(main())
