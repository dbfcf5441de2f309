"""What the live pipeline promises, measured here; run it with .venv/bin/python tools/bench_live.py.

Every load is open-loop, sent by a process of its own over ZeroMQ on this machine. Prints a table and writes
out/bench_live.json. With all parts it takes some forty minutes; --only names parts, --minutes shortens the long ones.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import zmq
from bench_cameras import CAMERA, Camera, camera_frames, run_live
from bench_data import describe_machine
from bench_many import bench_many
from bench_viewer import watched
from bench_waits import bench_waits

from irst_stream import Detections, Frame, Stamp
from irst_stream.build import build_pipeline
from irst_stream.config import Config, read_config
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource, open_socket
from irst_stream.live.runner import Runner
from irst_stream.live.status import Status
from irst_stream.sim import seqcsist
from irst_stream.system.latency import Summary
from irst_stream.system.shipped import find_config, find_engine
from irst_stream.unmix.backends import build_unmixer, choose_backend
from irst_stream.unmix.engine import WINDOW, read_engine
from irst_stream.unmix.stream import MapStream, NetworkInput, run
from irst_stream.web.history import History

OUT = Path("out/bench_live.json")
LOCAL = "tcp://127.0.0.1:*"
SHAPE = (512, 640)
PATCHES = 300  # of a run as fast as it goes
Row = tuple[str, str, str]  # what, measured, promised


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="these parts (default all)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of a camera's run (default 10)")
    parser.add_argument("--patches", type=int, default=1_000_000, help="of the memory's run (default 1,000,000)")
    parser.add_argument("--send", nargs=3, metavar=("HOW", "ENDPOINT", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--receive", nargs=2, metavar=("HOW", "N"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        send(args.send[0], args.send[1], int(args.send[2]))
        return 0
    if args.receive:
        print(receive(args.receive[0], int(args.receive[1])))
        return 0
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    rows: list[Row] = []
    results = {}
    for name in args.only:
        results[name], table = PARTS[name](args)
        rows += table
        for what, measured, promised in table:
            print(f"{what:<72}{measured:>22}  {promised}", flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    return 0


def bench_camera(args: argparse.Namespace, load: Camera) -> tuple[Any, list[Row]]:
    """Frames of a camera, the fit, live, keeping pace."""
    with TemporaryDirectory() as folder:
        status = run_live(
            read_config(find_config("camera")), camera_frames(Path(folder), load), load.rate, args.minutes * 60
        )
    lag = WINDOW // 2 / load.rate * 1e3
    compute, whole = status.stages["compute"], status.stages["end to end published"]
    what = f"{load.width} x {load.height}, {load.rate:.0f} frames/s, {load.groups} groups, {args.minutes:g} min: "
    put_off = f"{status.events.get('postponed', 0)} / {status.events.get('unserved', 0)}"
    return as_dict(status), [
        (what + "frames not used", str(sum(status.unused.values())), "0"),
        (what + "fits postponed / regions left out", put_off, ""),
        (what + "compute p50 / p99, ms", f"{compute.percentiles[0]:.2f} / {compute.percentiles[2]:.2f}", load.compute),
        (what + f"end to end p99 beyond the window's {lag:.0f} ms", f"{whole.percentiles[2] - lag:.2f} ms", load.late),
    ]


def bench_patches(_: argparse.Namespace) -> tuple[Any, list[Row]]:
    """One feed of SeqCSIST patches through the network, as fast as it goes, against the bare engine on the same windows.

    The bare engine is the network alone, in one process, on one thread. Its maps of a frame hold for all windows of a group
    that stays where it is; where another group comes in every 20 frames they are computed anew in some 8 % of the windows.
    """
    config = replace(read_config(find_config("seqcsist")), readout="network", policy="lossless")
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for how, name in {"staying": "one group", "clips": "another group every 20 frames"}.items():
        ratios, bare, own, tails = [], [], [], []
        for _ in range(3):  # in turns, since the machine is shared
            rate, tail = bare_engine(config, patch_feed(how, PATCHES))
            piped, network = run_fast(config, how)
            bare.append(rate)
            own.append(tail)
            ratios.append(piped / rate)
            tails.append(network.percentiles[2] / network.percentiles[0])
        figures[how] = {"bare": bare, "of it": ratios, "bare p99 over p50": own, "p99 over p50": tails}
        what = f"patch feed, DeRefNet, {name}: "
        both = f"{statistics.median(own):.2f} / {statistics.median(tails):.2f}"
        rows += [
            (what + "bare engine, windows/s", f"{statistics.median(bare):.1f}", ""),
            (what + "of its rate", f"{statistics.median(ratios):.1%}", ">= 95 %"),
            (what + "p99 over p50, bare / live", both, "<= 1.5"),
        ]
    return figures, rows


def bench_transport(_: argparse.Namespace) -> tuple[Any, list[Row]]:
    """640 x 512 frames through sockets alone, against PyZMQ with the same options."""
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(7):
        for how, measured in rates.items():
            measured.append(transport_rate(how, 2000))
    ratio = statistics.median(b / a for a, b in zip(rates["bare"], rates["ours"], strict=True))
    return rates, [
        ("transport, 640 x 512 uint16: frames/s, PyZMQ", f"{statistics.median(rates['bare']):.0f}", ""),
        ("transport, 640 x 512 uint16: of PyZMQ's rate", f"{ratio:.1%}", ">= 85 %"),
    ]


def bench_recording(args: argparse.Namespace) -> tuple[Any, list[Row]]:
    """The camera with and without a recording of all of it, in turns."""
    config = read_config(find_config("camera"))
    tails: dict[bool, list[float]] = {False: [], True: []}
    seconds = min(args.minutes * 6, 60.0)
    with TemporaryDirectory() as folder:
        scene = camera_frames(Path(folder))
        for k in range(5):
            for recorded, measured in tails.items():
                path = Path(folder, f"{k}.mcap")
                sinks = {"recording": Recorder(RecordSettings(str(path)))} if recorded else {}
                status = run_live(config, scene, CAMERA.rate, seconds, sinks)
                measured.append(status.stages["end to end published"].percentiles[2])
                path.unlink(missing_ok=True)
    without, with_ = (statistics.median(t) for t in tails.values())
    return {"without": tails[False], "with": tails[True]}, [
        ("recording all of it: end to end p99 without / with, ms", f"{without:.2f} / {with_:.2f}", ""),
        ("recording all of it: change of p99", f"{with_ / without - 1:+.1%}", "<= +10 %"),
    ]


def bench_memory(args: argparse.Namespace) -> tuple[Any, list[Row]]:
    """Resident memory over a very long feed of patches, read by the fit."""
    config = replace(read_config(find_config("seqcsist")), readout="fit", policy="lossless", window=5)
    pipeline, process, seen = build_pipeline(config), psutil.Process(), {}
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True), "lossless")
    sink = ZmqSink(PublishSettings(LOCAL), "live")
    runner = Runner(pipeline, {"in": source}, {"published": sink}, "lossless")
    runner.start()
    with sender("clips", source.endpoint, args.patches):
        for mark in (10_000, args.patches):
            while runner.status().frames < mark:
                time.sleep(0.02)
            seen[mark] = process.memory_info().rss
    runner.stop()
    runner.wait()
    growth = seen[args.patches] / seen[10_000] - 1
    return seen, [
        (f"memory after {args.patches:,} patch frames, against after 10,000", f"{growth:+.2%}", "within 2 %"),
    ]


def bench_viewer(args: argparse.Namespace) -> tuple[Any, list[Row]]:
    """The camera with nobody looking and with a client of the live page in a process of its own, in turns."""
    config = read_config(find_config("camera"))
    tails: dict[bool, list[float]] = {False: [], True: []}
    dropped, shown = {False: 0, True: 0}, []
    seconds = min(args.minutes * 6, 60.0)
    with TemporaryDirectory() as folder:
        scene = camera_frames(Path(folder))
        for _ in range(5):
            for looking, measured in tails.items():
                history = History(128 * 10**6)
                with watched(history, looking) as client:
                    status = run_live(config, scene, CAMERA.rate, seconds, {"page": history}, client.serve)
                measured.append(status.stages["end to end published"].percentiles[2])
                dropped[looking] += sum(status.unused.values())
                shown += [client.frames / (seconds + 2)] if looking else []  # with the warm-up
    without, with_ = (statistics.median(t) for t in tails.values())
    return {"without": tails[False], "with": tails[True], "shown": shown, "dropped": list(dropped.values())}, [
        ("live page, one viewer: frames shown a second", f"{statistics.median(shown):.1f}", ""),
        ("live page: frames not used without / with a viewer", f"{dropped[False]} / {dropped[True]}", "0 / 0"),
        ("live page: end to end p99 without / with a viewer, ms", f"{without:.2f} / {with_:.2f}", ""),
        ("live page: change of p99", f"{with_ / without - 1:+.1%}", "<= +10 %"),
    ]


PARTS: dict[str, Callable[[argparse.Namespace], tuple[Any, list[Row]]]] = {
    "transport": bench_transport,
    "patches": bench_patches,
    "recording": bench_recording,
    "viewer": bench_viewer,
    "camera": lambda args: bench_camera(args, CAMERA),
    "fast": lambda args: bench_camera(args, Camera(rate=200.0, late="<= 10 ms")),
    "large": lambda args: bench_camera(args, Camera(1280, 1024, 60.0, 10, frames=100)),
    "memory": bench_memory,
    "waits": bench_waits,
    "many": bench_many,
}


def run_fast(config: Config, how: str) -> tuple[float, Summary]:
    """Patches as fast as the pipeline takes them: windows a second, and how long the network took for each."""
    pipeline, timer = build_pipeline(config), Timer(PATCHES - WINDOW + 1)
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True), "lossless")
    runner = Runner(
        pipeline, {"in": source}, {"published": ZmqSink(PublishSettings(LOCAL), "live"), "timer": timer}, "lossless"
    )
    runner.start()
    with sender(how, source.endpoint, PATCHES):
        timer.done.wait()
    runner.stop()
    runner.wait()
    return timer.rate, runner.status().stages["unmix"]


class Timer:
    """Counts detections, so that nobody has to look how far the pipeline is, which would take of its time."""

    takes, alarm, lost = (Detections,), "", 0

    def __init__(self, expected: int) -> None:
        self.done, self._expected, self._seen = threading.Event(), expected, 0
        self._began = self._ended = 0.0

    def start(self, *_: Any) -> None:
        """Needs nothing of the pipeline."""

    def write(self, *_: Any) -> None:
        """Counts one."""
        self._ended = time.monotonic()
        self._began = self._began or self._ended
        self._seen += 1
        if self._seen == self._expected:
            self.done.set()

    def idle(self) -> None:
        """Has nothing to do."""

    def close(self) -> None:
        """Holds nothing."""

    @property
    def rate(self) -> float:
        """Windows a second, from the first to the last."""
        return (self._expected - 1) / (self._ended - self._began)


def bare_engine(config: Config, patches: np.ndarray) -> tuple[float, float]:
    """Windows a second of the engine by itself, each frame unfolded once; p99 over p50 of their times."""
    engine = read_engine(find_engine(config.engine))
    unmixer = build_unmixer(engine, choose_backend(engine, config.backend), config.threads)
    stream = MapStream(engine.manifest)
    times = [time.perf_counter()]
    for first in range(len(patches) - WINDOW + 1):
        run(unmixer, [NetworkInput(stream, patches[first : first + WINDOW], range(first, first + WINDOW))])
        times.append(time.perf_counter())
    median, slow = np.percentile(np.diff(times), (50, 99))
    return (len(times) - 2) / (times[-1] - times[1]), slow / median


def patch_feed(how: str, frames: int) -> np.ndarray:
    """SeqCSIST patches (frames, 11, 11) uint16: "clips", one after another; or "staying", one clip to and fro."""
    if how == "clips":
        clips = seqcsist(-(-frames // 20), noise=(2.0, 2.0), depth=16).frames
        return clips.reshape(-1, *clips.shape[2:])[:frames]
    clip = seqcsist(1, noise=(2.0, 2.0), depth=16).frames[0]
    return np.resize(np.concatenate([clip, clip[-2:0:-1]]), (frames, *clip.shape[1:]))


def transport_rate(how: str, frames: int) -> float:
    """Frames a second from one fresh process into another, so that what ours asks of the system is not PyZMQ's too."""
    command = [sys.executable, __file__, "--receive", how, str(frames)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def receive(how: str, frames: int) -> float:
    """What the receiving process does, which starts the sender: frames a second, of which it looks at nothing itself."""
    with closing(bare_socket() if how == "bare" else ZmqSource(ReceiveSettings(LOCAL, bind=True), "lossless")) as end:
        endpoint = end.last_endpoint.decode().rstrip("\0") if isinstance(end, zmq.Socket) else end.endpoint
        received = bare(end) if isinstance(end, zmq.Socket) else iter(end)
        with sender(how, endpoint, frames + 1):
            next(received)
            began = time.perf_counter()
            for _ in range(frames):
                next(received)
            return frames / (time.perf_counter() - began)


def bare_socket() -> zmq.Socket[bytes]:
    """A socket with the options of a source's."""
    largest = int(ReceiveSettings(LOCAL).largest_mb * 2**20)
    socket = open_socket(zmq.Context.instance(), zmq.PULL, ReceiveSettings(LOCAL, bind=True), largest=largest)
    socket.set(zmq.RCVTIMEO, -1)
    return socket


def bare(socket: zmq.Socket[bytes]) -> Iterator[Any]:
    """Messages as PyZMQ gives them, without what we do with them."""
    while True:
        yield socket.recv_multipart(copy=False)


@contextmanager
def sender(how: str, endpoint: str, frames: int) -> Iterator[None]:
    """This script as a sender in a process of its own."""
    with subprocess.Popen([sys.executable, __file__, "--send", how, endpoint, str(frames)]) as child:
        yield
        child.wait()


def send(how: str, endpoint: str, frames: int) -> None:
    """What that process does."""
    context: zmq.Context = zmq.Context()
    socket = open_socket(context, zmq.PUSH, Link(endpoint))
    socket.set(zmq.SNDTIMEO, -1)
    if how in ("clips", "staying"):
        images = patch_feed(how, min(frames, 2000))
    else:
        images = np.random.default_rng(0).integers(0, 16383, (16, *SHAPE), dtype=np.uint16)
    for k in range(frames):
        frame = Frame(Stamp("load", 1, k, time.time_ns(), "", "unix"), images[k % len(images)], 65535.0)
        parts = [b"frame/load/", b"h" * 200, frame.pixels.data] if how == "bare" else wire.encode(frame)
        socket.send_multipart(parts, copy=False)
    socket.close(-1)
    context.term()


def as_dict(status: Status) -> dict[str, Any]:
    stages = {name: s._asdict() for name, s in status.stages.items()}
    return {"frames": status.frames, "unused": status.unused, "events": status.events, "stages": stages}


if __name__ == "__main__":
    sys.exit(main())
