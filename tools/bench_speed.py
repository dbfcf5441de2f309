"""How fast the network runs on this CPU, against the reference's way; run it with .venv/bin/python tools/bench_speed.py.

The baseline is our restatement of how the reference toolkit writes DeRefNet: plain PyTorch on all cores, one trajectory a
batch, PhiT Phi as a full product, the symmetry branch and the time code's matrix computed at run time too, every window's
five frames' features anew, neighbours one after the other. Against it, streams of single patches through the exported
engine, each frame unfolded once, with the reference's map as its only output, or with the continuous head besides. All take
turns, so that a busy machine is equally busy for all; medians. Writes out/bench_speed.json.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from bench_data import describe_machine
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from irst_stream.learn.deform import deform_conv
from irst_stream.learn.network import DeRefNet
from irst_stream.sim import seqcsist
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.backends import build_unmixer, choose_backend
from irst_stream.unmix.engine import WINDOW, Engine, read_engine, write_engine, write_graphs
from irst_stream.unmix.graph import build_all
from irst_stream.unmix.settings import Backend
from irst_stream.unmix.stream import MapStream, NetworkInput, run, run_sequence

OUT = Path("out/bench_speed.json")
REFERENCE = "reference as written, PyTorch, all cores"
FRAMES = 20
ROUNDS = 7
BACKENDS: tuple[Backend, ...] = ("onnx", "openvino", "openvino-bf16")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="seqcsist", help="folder or name of an exported engine (default seqcsist)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns each takes (default {ROUNDS})")
    args = parser.parse_args()
    engine = read_engine(find_engine(args.engine))
    patches = seqcsist(1, seed=3, noise=(2.0, 2.0)).frames[0]
    machine = describe_machine() | {"torch": torch.__version__, "cores": usable_cores()}
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    with TemporaryDirectory() as folder:
        plain = without_head(engine, Path(folder))
        runs = {REFERENCE: Reference(DeRefNet())}
        for head, made in (("plain head", plain), ("continuous head", engine)):
            for backend in BACKENDS:
                runs[f"{head}, {backend}: one stream, one core"] = Stream(made, backend, 1)
                runs[f"{head}, {backend}: one recording, all cores"] = Recording(made, backend, usable_cores())
                runs[f"{head}, {backend}: as many streams as cores"] = Streams(made, backend, usable_cores())
    seconds = {name: [] for name in runs}
    for runner in runs.values():
        runner(patches)
    for _ in range(args.rounds):
        for name, runner in runs.items():
            began = time.perf_counter()
            outputs = runner(patches)
            seconds[name].append((time.perf_counter() - began) / outputs)
    base = np.median(seconds[REFERENCE])
    results = []
    for name, runner in runs.items():
        per_frame = float(np.median(seconds[name]))
        latency = np.percentile(runner.latencies, (50, 99)) * 1e3 if runner.latencies else (np.nan, np.nan)
        row = {"name": name, "frames_s": 1 / per_frame, "times_the_reference": base / per_frame}
        results.append(row | {"latency_ms": {"p50": latency[0], "p99": latency[1]}})
        print(
            f"{name:<54}{1 / per_frame:8.1f} output frames/s{base / per_frame:8.2f} x"
            + (f"   latency p50 {latency[0]:.2f} ms, p99 {latency[1]:.2f} ms" if runner.latencies else "")
        )
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    return 0


def without_head(engine: Engine, folder: Path) -> Engine:
    """The same network with the reference's single map as its only output."""
    weights = {name: array for name, array in engine.weights.items() if not name.startswith("head.")}
    m = engine.manifest
    write_engine(folder, weights, made_by=m.made_by, scale=m.scale, patch=m.patch, division=m.division)
    plain = read_engine(folder)
    write_graphs(folder, plain, build_all(plain.manifest, plain.data))
    return read_engine(folder)


class Reference:
    """A trajectory at a time, as the toolkit does it."""

    def __init__(self, network: DeRefNet, device: str = "cpu") -> None:
        self.network, self.latencies, self.device = network.train().to(device), [], device
        phi = self.network.unfold.phi
        self.gram = phi.T @ phi
        self.code = torch.randn(len(self.gram), len(self.gram), device=device) / len(self.gram)

    @torch.no_grad()
    def __call__(self, patches: np.ndarray) -> int:
        net, y = self.network, torch.from_numpy(patches).to(self.device).flatten(1)
        x = y @ net.unfold.qinit.T
        for stage in net.unfold.fcs:
            step = stage.lambda_step
            r = (x - step * (x @ self.gram) + step * (y @ net.unfold.phi)).view(-1, 1, 33, 33)
            features = stage.conv2_forward(F.relu(stage.conv1_forward(r)))
            shrunk = features.sign() * F.relu(features.abs() - stage.soft_thr)
            x = stage.conv2_backward(F.relu(stage.conv1_backward(shrunk))).flatten(1)
            _ = stage.conv2_backward(F.relu(stage.conv1_backward(features))) - r  # the symmetry branch
        gates = [
            torch.sigmoid(t / FRAMES * torch.ones(1, x.shape[1], device=self.device) @ self.code) for t in range(len(x))
        ]
        maps = (x * torch.cat(gates)).view(-1, 1, 33, 33)
        fuse, outputs = net.fuse, 0
        for centre in range(WINDOW // 2, len(x) - WINDOW // 2):
            window = range(centre - WINDOW // 2, centre + WINDOW // 2 + 1)
            features = {t: F.relu(fuse.extract(maps[t : t + 1])) for t in window}
            images = []
            for t in window:
                if t == centre:
                    images.append(maps[t : t + 1])
                    continue
                steering = fuse.select(features[centre], features[t])
                moved = deform_conv(features[t], fuse.align_1.conv_offset(steering), fuse.align_1.weight)
                moved = deform_conv(moved, fuse.align_2.conv_offset(moved), fuse.align_2.weight)
                images.append(fuse.conv(moved))
            fuse.tail(fuse.blocks(F.relu(fuse.merge(torch.cat(images, 1)))))
            outputs += 1
        return outputs


class Stream:
    """One patch after another, as a sensor sends them; from each on, the window it completes is answered."""

    def __init__(self, engine: Engine, backend: Backend, threads: int) -> None:
        self.unmixer, self.engine, self.latencies = (
            build_unmixer(engine, choose_backend(engine, backend), threads),
            engine,
            [],
        )

    def __call__(self, patches: np.ndarray) -> int:
        stream, outputs = MapStream(self.engine.manifest), 0
        for first in range(len(patches) - WINDOW + 1):
            began = time.perf_counter()
            run(self.unmixer, [NetworkInput(stream, patches[first : first + WINDOW], range(first, first + WINDOW))])
            if first:  # the first window has five frames to unfold
                self.latencies.append(time.perf_counter() - began)
            outputs += 1
        return outputs


class Recording:
    """One stream's patches, all of them at hand: as many windows at once as there are cores."""

    latencies = ()

    def __init__(self, engine: Engine, backend: Backend, cores: int) -> None:
        choice = choose_backend(engine, backend)
        self.unmixers, self.engine = [build_unmixer(engine, choice, 1) for _ in range(cores)], engine

    def __call__(self, patches: np.ndarray) -> int:
        return len(run_sequence(self.unmixers, self.engine.manifest, patches).map)


class Streams:
    """As many sensors as cores, each a stream with a thread of its own."""

    def __init__(self, engine: Engine, backend: Backend, count: int) -> None:
        self.streams = [Stream(engine, backend, 1) for _ in range(count)]
        self.pool = ThreadPoolExecutor(count)

    @property
    def latencies(self) -> list[float]:
        return [seconds for stream in self.streams for seconds in stream.latencies]

    def __call__(self, patches: np.ndarray) -> int:
        return sum(self.pool.map(lambda stream: stream(patches), self.streams))


if __name__ == "__main__":
    sys.exit(main())
