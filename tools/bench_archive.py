"""How a run over many recordings scales; run it with .venv/bin/python tools/bench_archive.py.

Recordings are generated once. Every arrangement of workers computes all of them into a new folder, in turns, so that a
busy machine slows all alike; figures are medians of frames/s and of the ratio to one worker in the same turn. Workers have
computed two recordings before the clock runs. "ms per piece" is what a piece costs beyond its computing: its step's way to
the worker and back, reading, writing and its share of the joins. Prints a table and writes out/bench_archive.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream import __version__
from irst_stream.archive.driver import run_archive
from irst_stream.archive.job import Job
from irst_stream.archive.recordings import find_recordings
from irst_stream.archive.workers import LocalWorkers, OneWorker, Workers, ray_workers
from irst_stream.build import compile_everything
from irst_stream.cluster.ray_cluster import import_ray
from irst_stream.config import read_config
from irst_stream.sim import Groups, Scene, SceneSettings, Sensor
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_config

OUT = Path("out/bench_archive.json")
Open = Callable[[Job], AbstractContextManager[Workers]]
Way = tuple[Open, int]  # and how many workers there are


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="turns (default 3)")
    parser.add_argument("--recordings", type=int, default=8, help="recordings of 200 frames (default 8)")
    parser.add_argument("--piece", type=int, default=50, help="frames of a piece (default 50)")
    parser.add_argument(
        "--nodes", type=int, default=2, help="nodes of a Ray cluster on this machine, 0 for none (default 2)"
    )
    args = parser.parse_args()
    compile_everything()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        sources = write_recordings(here / "films", args.recordings)
        job = Job(here / "out", read_config(find_config("scene")), piece_frames=args.piece, lead_in=0, tracks=True)
        ways: dict[str, Way] = {
            "1 worker, this process": (lambda job: closing(OneWorker(job)), 1),
            "1 process": (lambda job: closing(LocalWorkers(job, 1)), 1),
            "2 processes": (lambda job: closing(LocalWorkers(job, 2)), 2),
        }
        if args.nodes:
            with cluster(args.nodes) as address:
                ways |= {f"Ray, {n} x 1 CPU": (on_ray(address, n), n) for n in range(1, args.nodes + 1)}
                rows = measure(ways, job, sources, args.runs)
        else:
            rows = measure(ways, job, sources, args.runs)
    print(f"{'workers':<26}{'frames/s':>10}{'to the first':>14}{'efficiency':>12}{'ms per piece':>14}")
    for row in rows:
        figures = f"{row['frames_s']:>10.1f}{row['ratio']:>14.2f}{row['efficiency']:>12.2f}{row['overhead_ms']:>14.1f}"
        print(f"{row['workers']:<26}{figures}")
    OUT.parent.mkdir(exist_ok=True)
    facts = {"irst_stream": __version__, "cores": usable_cores(), "arguments": vars(args)}
    OUT.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")
    return 0


def write_recordings(folder: Path, count: int) -> list[str]:
    """Write scenes of 96 x 80 px as arrays; return their paths."""
    folder.mkdir()
    settings = SceneSettings(Sensor(96, 80), groups=Groups(groups=1, singles=1))
    for k in range(count):
        scene = Scene(settings, 200, k)
        np.save(folder / f"film{k:03d}.npy", np.stack([scene.frame(i).pixels for i in range(200)]))
    return find_recordings([str(folder)])


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """A cluster of a head without CPUs and nodes of one CPU each, all on this machine; yields its address."""
    import_ray("bench_archive")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        made.add_node(num_cpus=1, object_store_memory=80 << 20)
    try:
        yield f"ray://{made.address}"
    finally:
        made.shutdown()


def on_ray(address: str, count: int) -> Open:
    return lambda job: ray_workers(address, job, count)


def measure(ways: dict[str, Way], job: Job, sources: list[str], runs: int) -> list[dict[str, Any]]:
    """Take turns; return a row for each way."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for turn in range(runs):
        for number, (name, way) in enumerate(ways.items()):
            seen[name].append(one_run(way, replace(job, out=job.out / f"{turn}-{number}"), sources))
    first = [run["frames_s"] for run in seen[next(iter(ways))]]
    rows = []
    for name, found in seen.items():
        ratio = statistics.median(run["frames_s"] / base for run, base in zip(found, first, strict=True))
        rates, costs = ([run[key] for run in found] for key in ("frames_s", "overhead_ms"))
        workers = ways[name][1]
        row = {"workers": name, "frames_s": statistics.median(rates), "all_frames_s": rates, "ratio": ratio}
        rows.append(row | {"efficiency": ratio / workers, "overhead_ms": statistics.median(costs)})
    return rows


def one_run(way: Way, job: Job, sources: list[str]) -> dict[str, float]:
    """Compute all recordings with workers that are there and warm."""
    open_workers, count = way
    with open_workers(job) as workers:
        while workers.count < count:
            workers.outcomes()
        warm, rest = sources[:2], sources[2:]
        list(run_archive(warm, len(warm), workers, lambda _: None))
        began = time.perf_counter()
        done = list(run_archive(rest, len(rest), workers, lambda _: None))
        wall = time.perf_counter() - began
    if faults := [summary.fault for summary in done if summary.fault]:
        raise SystemExit(faults[0])
    pieces, computing = sum(s.pieces for s in done), sum(s.seconds for s in done)
    frames = sum(s.frames for s in done)
    return {"frames_s": frames / wall, "overhead_ms": 1e3 * (count * wall - computing) / pieces}


if __name__ == "__main__":
    raise SystemExit(main())
