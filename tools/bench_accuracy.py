"""How good the detections are, on fresh generated test sets; run it with .venv/bin/python tools/bench_accuracy.py.

Prints a table of CSO-mAP by the legacy scorer for each readout and set, then what stands beside it, and writes
out/bench_accuracy.json. SeqCSIST: the windows' centre frames 2 to 17 of every trajectory.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from bench_data import describe_machine

from irst_stream import Detections, Frame, Stamp, Truth
from irst_stream.build import build_resolver, told_of
from irst_stream.config import read_config
from irst_stream.machine import usable_cores
from irst_stream.optics import FineGrid
from irst_stream.resolve import read_cells
from irst_stream.resources import find_config, find_engine
from irst_stream.score import score_detections
from irst_stream.sim import Patches, csist100k, seqcsist
from irst_stream.unmix.backends import build_unmixer, choose_backend
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.stream import WindowUnmixer
from irst_stream.window import Windows

OUT = Path("out/bench_accuracy.json")
Answer = tuple[Detections, Truth, float]  # and the seconds it took


@dataclass(frozen=True)
class TestSet:
    name: str
    config: str
    draw: Callable[..., Patches]
    share: int  # sequences for each of --trajectories
    noise: float = 0.0
    depth: int = 16

    def patches(self, count: int, first: int, seed: int) -> Patches:
        noise = (self.noise, self.noise)
        return self.draw(count, first=first, seed=seed, split="test", noise=noise, depth=self.depth)


SETS = (
    TestSet("SeqCSIST 0 DN", "seqcsist", seqcsist, 1),
    TestSet("2 DN", "seqcsist", seqcsist, 1, noise=2.0),
    TestSet("5 DN", "seqcsist", seqcsist, 1, noise=5.0),
    TestSet("0 DN, 8 bit", "seqcsist", seqcsist, 1, depth=8),
    TestSet("CSIST-100K 0 DN", "csist100k", csist100k, 13),
)
PERFECT = "perfect labels, cell centres"
READOUTS: dict[str, Any] = {
    PERFECT: "",
    "cell centres, DeRefNet, plain head": "cells",
    "peaks, DeRefNet, plain head": "peaks",
    "continuous head alone": "network",
    "default: the surer of both": "best",
    "physics alone": "fit",
}
PUBLISHED = ("51.55", "49.09", "47.23", "-", "72.84 (c=7)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=750, help="of each SeqCSIST set (default 750)")
    parser.add_argument("--seed", type=int, default=100, help="of the test sets (default 100)")
    args = parser.parse_args()
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    results = []
    with get_context("spawn").Pool(usable_cores()) as pool:
        for test_set in SETS:
            count = args.trajectories * test_set.share
            size = -(-count // (8 * usable_cores()))
            pieces = [(first, min(size, count - first)) for first in range(0, count, size)]
            parts = pool.map(partial(read, test_set, args.seed), pieces)
            for label in READOUTS:
                answers = [answer for part in parts for answer in part[label]]
                results.append({"readout": label, "set": test_set.name, **measure(answers)})
                print(f"{label}, {test_set.name}: {results[-1]['legacy']['cso_map']:.4f}", file=sys.stderr)
    report(results)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "arguments": vars(args), "results": results}, indent=2) + "\n")
    return 0


def read(test_set: TestSet, seed: int, piece: tuple[int, int]) -> dict[str, list[Answer]]:
    """What each readout finds; the network looks once, and its time counts for each readout that needs it."""
    config = read_config(find_config(test_set.config))
    engine, grid = read_engine(find_engine(config.engine)), FineGrid()
    unmix = WindowUnmixer(build_unmixer(engine, choose_backend(engine, config.backend), 1), engine.manifest, told=told_of(config))
    resolvers = {
        label: build_resolver(replace(config, readout=readout), engine.manifest)
        for label, readout in READOUTS.items()
        if readout
    }
    windows, truths = Windows(config.window), {}
    answers: dict[str, list[Answer]] = {label: [] for label in READOUTS}
    for truth, frame in frames(test_set.patches(piece[1], piece[0], seed), 2.0**test_set.depth - 1):
        truths[truth.stamp.sensor, truth.stamp.index] = truth
        window = windows.push(frame)
        if window is None:
            continue
        truth = truths[window.stamp.sensor, window.stamp.index]
        looked, (seen,) = timed(unmix, [window])
        for label, resolve in resolvers.items():
            seconds, found = timed(resolve, window, seen)
            answers[label].append((found, truth, seconds + (looked if READOUTS[label] != "fit" else 0)))
        seconds, found = timed(read_cells, grid.label(truth.xy, truth.amplitude), grid)
        answers[PERFECT].append((found.detections(truth.stamp), truth, seconds))
    return answers


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - began, result


def frames(patches: Patches, full_scale: float) -> Iterator[tuple[Truth, Frame]]:
    for k in range(len(patches)):
        n = patches.count[k]
        for t in range(patches.frames.shape[1]):
            stamp = Stamp(f"{k}", 0, t, 0)
            truth = Truth(stamp, np.arange(n), np.zeros(n, np.int64), patches.xy[k, t, :n], patches.amplitude[k, :n])
            yield truth, Frame(stamp, patches.frames[k, t], full_scale)


def measure(answers: list[Answer]) -> dict[str, Any]:
    pairs = [(found, truth) for found, truth, _ in answers]
    seconds = np.array([s for _, _, s in answers])
    scores = {mode: score_detections(pairs, mode).as_dict() for mode in ("legacy", "standard")}
    return {**scores, "ms": {"p50": 1e3 * float(np.median(seconds)), "p99": 1e3 * float(np.percentile(seconds, 99))}}


def report(results: list[dict[str, Any]]) -> None:
    names = [s.name for s in SETS]
    print(f"{'CSO-mAP, legacy':<36}" + "".join(f"{name:>18}" for name in names))
    print(f"{'published best':<36}" + "".join(f"{text:>18}" for text in PUBLISHED))
    for readout in dict.fromkeys(r["readout"] for r in results):
        rows = [r for r in results if r["readout"] == readout]
        for label, value in (
            (readout, lambda r: f"{100 * r['legacy']['cso_map']:.2f}"),
            ("  standard mode", lambda r: f"{100 * r['standard']['cso_map']:.2f}"),
            ("  right number of targets, %", lambda r: f"{100 * r['legacy']['errors']['count_accuracy']:.2f}"),
            ("  GOSPA, px", lambda r: f"{r['legacy']['gospa']['total']:.4f}"),
            ("  ms a window, p50 / p99", lambda r: f"{r['ms']['p50']:.2f} / {r['ms']['p99']:.2f}"),
        ):
            print(f"{label:<36}" + "".join(f"{value(r):>18}" for r in rows))


if __name__ == "__main__":
    sys.exit(main())
