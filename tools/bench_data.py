"""How fast data is generated, written, read and scored here; run it with .venv/bin/python tools/bench_data.py.

Every figure is the median of several runs after a warm-up, with the slowest beside it. Prints a table and writes
out/bench_data.json. One core means that the process is tied to one.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy

from irst_stream import __version__, open_source
from irst_stream.io.media.images import encode_png
from irst_stream.score import cso_map
from irst_stream.sim import Groups, Scene, SceneSettings, csist100k, seqcsist
from irst_stream.sim.background import BACKGROUNDS
from irst_stream.sim.on_disk import GeneratedSet, patch_set, scene_set
from irst_stream.system.machine import usable_cores

OUT = Path("out/bench_data.json")
Result = dict[str, Any]
Run = Callable[[], float]  # does one run; returns how much work it was


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement (default 5)")
    parser.add_argument("--quick", action="store_true", help="write 10,000 instead of 100,000 images to disk")
    args = parser.parse_args()
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        results = [*bench_one_core(args.runs, Path(folder)), *bench_disk(Path(folder), 10_000 if args.quick else 100_000)]
    print(f"{'measurement':<74}{'median':>10}{'slowest':>10}  unit      to reach")
    for r in results:
        print(f"{r['name']:<74}{figure(r['median']):>10}{figure(r['slowest']):>10}  {r['unit']:<10}{r['target']}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    return 0


def bench_one_core(runs: int, folder: Path) -> list[Result]:
    """Everything that is promised for one core, and reading."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    cv2.setNumThreads(1)
    try:
        return [*bench_patches(runs), *bench_scenes(runs), *bench_scoring(runs), *bench_reading(runs, folder)]
    finally:
        os.sched_setaffinity(0, cores)


def bench_patches(runs: int) -> list[Result]:
    def seqcsist_run() -> float:
        return seqcsist(2000).frames.size / 121

    def noisy_run() -> float:
        return seqcsist(2000, noise=(0.0, 5.0), depth=16).frames.size / 121

    def csist_run() -> float:
        return csist100k(20_000).frames.size / 121

    return [
        rate("SeqCSIST in memory, one core", "frames/s", seqcsist_run, runs, ">= 20,000"),
        rate("SeqCSIST in memory, noise 0 to 5 DN, 16 bits, one core", "frames/s", noisy_run, runs, ">= 20,000"),
        rate("CSIST-100K in memory, one core", "frames/s", csist_run, runs, ""),
    ]


def bench_scenes(runs: int) -> list[Result]:
    results = []
    for name, backdrop in BACKGROUNDS.items():
        scene = Scene(SceneSettings(background=backdrop, groups=Groups(groups=10)), 20)

        def run(scene: Scene = scene) -> float:
            return sum(len(encode_png(frame.pixels)) > 0 for frame, _, _ in scene)

        title = f"scene 640 x 512, 14 bits, {name}, 10 groups, as PNG, one core"
        results.append(rate(title, "frames/s", run, runs, ">= 30"))
    return results


def bench_scoring(runs: int) -> list[Result]:
    rng = np.random.default_rng(0)
    truths = list(rng.uniform(4, 6, (15_000, 3, 2)))
    found = [
        np.column_stack([np.r_[t + rng.normal(0, 0.08, (3, 2)), rng.uniform(4, 6, (1, 2))], rng.random(4)]) for t in truths
    ]
    results = []
    for mode in ("standard", "legacy"):

        def run(mode: str = mode) -> float:
            cso_map(found, truths, mode=mode)
            return 1

        title = f"CSO-mAP of 15,000 images x 4 detections, 5 distances, {mode}, one core"
        results.append(duration(title, run, runs, "< 0.3"))
    return results


def bench_reading(runs: int, folder: Path) -> list[Result]:
    fill(patch_set(folder / "read", "seqcsist", 250), 1)
    fill(scene_set(folder / "scene", SceneSettings(), 60), 1)

    def patches() -> float:
        return sum(1 for _ in open_source(folder / "read"))

    def truths() -> float:
        return sum(1 for _ in open_source(folder / "read").truths())

    def scene() -> float:
        return sum(1 for _ in open_source(folder / "scene"))

    return [
        rate("reading SeqCSIST images, one core", "frames/s", patches, runs, ""),
        rate("reading SeqCSIST annotations, one core", "frames/s", truths, runs, ""),
        rate("reading a 640 x 512 scene, one core", "frames/s", scene, runs, ""),
    ]


def bench_disk(folder: Path, images: int) -> list[Result]:
    """A whole set as files, once, since it is as long as many runs."""
    results = []
    for dataset, count in (("csist100k", images), ("seqcsist", images // 20)):
        began = time.perf_counter()
        fill(patch_set(folder / dataset, dataset, count), usable_cores())
        seconds = time.perf_counter() - began
        shutil.rmtree(folder / dataset)
        title = f"{dataset}, {images:,} PNG + XML on disk, {usable_cores()} cores"
        results.append({"name": title, "unit": "s", "median": seconds, "slowest": seconds, "target": "< 240 for 100,000"})
    return results


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate(name: str, unit: str, run: Run, runs: int, target: str) -> Result:
    """Work a second."""
    rates = [work / seconds for seconds, work in measured(run, runs)]
    return {"name": name, "unit": unit, "median": statistics.median(rates), "slowest": min(rates), "target": target}


def duration(name: str, run: Run, runs: int, target: str) -> Result:
    """Seconds a run."""
    seconds = [s for s, _ in measured(run, runs)]
    return {"name": name, "unit": "s", "median": statistics.median(seconds), "slowest": max(seconds), "target": target}


def measured(run: Run, runs: int) -> list[tuple[float, float]]:
    """Seconds and work of each run, the warm-up left out."""
    run()
    results = []
    for _ in range(runs):
        began = time.perf_counter()
        work = run()
        results.append((time.perf_counter() - began, work))
    return results


def fill(made: GeneratedSet, workers: int) -> None:
    made.claim()
    made.fill(made.missing(), workers, lambda _: None)


def describe_machine() -> dict[str, str]:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "opencv": cv2.__version__}
    return {"irst-stream": __version__, "Python": platform.python_version(), "processor": model, **versions}


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
