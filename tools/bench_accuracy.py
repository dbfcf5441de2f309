"""How good the detections are, in the worlds of tools/worlds.py; run it with .venv/bin/python tools/bench_accuracy.py.

For each world and readout: CSO-mAP by the legacy scorer, how often the number of targets is right, GOSPA, milliseconds a
window, and calibration: by how much, in the worst decile of scores, the share of detections with a target within 0.15 px
differs from their mean score. Beside them the yardsticks of tools/yardsticks.py. Writes out/bench_accuracy.json.

--baseline FILE writes the CSO-mAP of small draws, which tests/tools/test_accuracy.py holds every later state against.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from bench_data import describe_machine
from worlds import GROUPS, WORLDS, World
from yardsticks import ArmsModel, truth_started

from irst_stream import Detections, Frame, Stamp, Truth
from irst_stream.build import resolver_maker, told_of
from irst_stream.chain.window import WindowBuilder
from irst_stream.config import Config
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.region_targets import CLOSE_PX, NO_TARGETS, RegionTargets
from irst_stream.score import score_detections
from irst_stream.sim import PatchSequences
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_engine
from irst_stream.types import Window
from irst_stream.unmix.backends import build_unmixer, choose_backend
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.stream import WindowUnmixer

OUT = Path("out/bench_accuracy.json")
READOUTS = ("cells", "network", "fit", "best")
TRUTH_STARTED, ARMS = "truth-started fit", "arrangement as a model"
SMALL, SMALL_SEED = 3, 200  # trajectories a world, and the seed, of the baseline's draws
FEWEST = 50  # detections that a decile must hold to be judged
WHOLE = 1 / np.sqrt(12)  # DN: what rounding adds to the noise


@dataclass
class Answers:
    """What one readout gave, and the seconds it took for each window."""

    pairs: list[tuple[Detections, Truth]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, found: Detections, truth: Truth, seconds: float) -> None:
        self.pairs.append((found, truth))
        self.seconds.append(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=60, help="of each SeqCSIST world (default 60)")
    parser.add_argument("--seed", type=int, default=100, help="of the draws (default 100)")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORLD", help="groups (a, b, c) or parts of worlds' names")
    parser.add_argument("--lag", type=int, help="measure windows this many frames before their newest; fit and best alone")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="measure small draws and write them here")
    args = parser.parse_args()
    if args.baseline:
        args.baseline.write_text(json.dumps(small_scores(WORLDS), indent=1) + "\n")
        return 0
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    chosen = [w for w in WORLDS if not args.only or any(part == w.group or part in w.name for part in args.only)]
    results = []
    with get_context("spawn").Pool(usable_cores()) as pool:
        for world in chosen:
            count = max(round(args.trajectories * world.sequences), 1)
            size = -(-count // (4 * usable_cores()))
            pieces = [(first, min(size, count - first)) for first in range(0, count, size)]
            results += report(world, pool.map(partial(answer, world, args.seed, lag=args.lag), pieces))
    OUT.parent.mkdir(exist_ok=True)
    written = {"machine": machine, "trajectories": args.trajectories, "seed": args.seed, "lag": args.lag}
    OUT.write_text(json.dumps(written | {"results": results}, indent=2) + "\n")
    return 0


def small_scores(worlds: tuple[World, ...]) -> dict[str, dict[str, float]]:
    """CSO-mAP, %, of small draws: by world and readout."""
    scores = {}
    for world in worlds:
        found = answer(world, SMALL_SEED, (0, max(round(SMALL * world.sequences), 1)), yardsticks=False)
        scores[world.name] = {name: round(measure(one)["cso_map"], 2) for name, one in found.items()}
    return scores


def answer(
    world: World, seed: int, piece: tuple[int, int], *, yardsticks: bool = True, lag: int | None = None
) -> dict[str, Answers]:
    """What each readout finds in some sequences; the network looks once, and its time counts for each that needs it.

    With a lag, only the readouts with a fit and the fit started from the truth: all else is about the middle frame.
    """
    config = world.settings()
    lag = None if config.window == 1 else lag
    engine = read_engine(find_engine(config.engine))
    unmixer = build_unmixer(engine, choose_backend(engine, config.backend), 1)
    unmix = WindowUnmixer(unmixer, engine.manifest, sensor=told_of(config))
    makers = {name: resolver_maker(replace(config, readout=name), engine.manifest) for name in READOUTS}
    makers = makers if lag is None else {name: makers[name] for name in ("fit", "best")}
    fitter, arms, yardsticks = Fitter(config.fit), ArmsModel(), yardsticks and lag is None
    found = {name: Answers() for name in makers}
    truths: dict[tuple[str, int], Truth] = {}
    sensor = ""
    for truth, frame in frames(world.draw(piece[1], piece[0], seed), world.full_scale):
        if frame.stamp.sensor != sensor:  # each sequence is a sensor of its own
            sensor, windows, maps = frame.stamp.sensor, WindowBuilder(config.window, lag=lag), unmix.new_maps()
            readers = {name: make() for name, make in makers.items()}
        truths[frame.stamp.sensor, frame.stamp.index] = truth
        window = windows.push(frame)
        if window is None:
            continue
        truth = truths[window.stamp.sensor, window.stamp.index]
        looked, (seen,) = timed(unmix, [(window, maps)])
        for name, read in readers.items():
            seconds, detections = timed(read, window, seen)
            found[name].add(detections, truth, seconds + (looked if name != "fit" else 0))
        for name, work in _yardsticks(world, config, fitter, arms, window, truth).items() if yardsticks else ():
            seconds, best = timed(work)
            found.setdefault(name, Answers()).add(best.detections(truth.stamp), truth, seconds)
    return found


def _yardsticks(
    world: World, config: Config, fitter: Fitter, arms: ArmsModel, window: Window, truth: Truth
) -> dict[str, Callable[[], RegionTargets]]:
    images = window.patches[0].astype(np.float64)
    noise = float(fitter.noise_levels(window.patches, window.noise)[0])
    work = {TRUTH_STARTED: partial(truth_started, window, truth.xy, truth.amplitude, config.fit, noise)}
    if world.arms:
        work[ARMS] = lambda: _of_model(*arms(images, noise, 0.0, world.full_scale))
    return work


def _of_model(xy: np.ndarray, probability: float) -> RegionTargets:
    if not len(xy):
        return NO_TARGETS
    unknown = np.full(len(xy), np.nan)
    return RegionTargets.alone(xy, np.full((len(xy), 2, 2), np.nan), unknown, unknown, np.full(len(xy), probability))


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - began, result


def frames(patches: PatchSequences, full_scale: float) -> Iterator[tuple[Truth, Frame]]:
    for k in range(len(patches)):
        n = patches.count[k]
        for t in range(patches.frames.shape[1]):
            stamp = Stamp(f"{k}", 0, t, 0)
            truth = Truth(stamp, np.arange(n), np.zeros(n, np.int64), patches.xy[k, t, :n], patches.amplitude[k, :n])
            yield truth, Frame(stamp, patches.frames[k, t], full_scale)


def measure(answers: Answers) -> dict[str, Any]:
    """The figures of one readout: CSO-mAP and right numbers in %, GOSPA px, ms a window, the worst decile's error."""
    scores = score_detections(answers.pairs, "legacy")
    ms = 1e3 * np.array(answers.seconds)
    return {
        "cso_map": 100 * scores.cso_map.map,
        "ap": [100 * float(ap) for ap in scores.cso_map.ap],
        "count": 100 * scores.errors.count_accuracy,
        "gospa": scores.gospa.total,
        "ms": {"p50": float(np.median(ms)), "p99": float(np.percentile(ms, 99))},
        "deciles": deciles(answers.pairs) if all(found.score.max(initial=0) <= 1 for found, _ in answers.pairs) else [],
    }


def deciles(pairs: list[tuple[Detections, Truth]]) -> list[dict[str, float]]:
    """Of each tenth of the scores from 0 to 1 that holds enough: mean score, share of hits, how many."""
    score, hit = [np.zeros(0)], [np.zeros(0, bool)]
    for found, truth in pairs:
        score.append(found.score)
        away = np.linalg.norm(found.xy[:, None] - truth.xy, axis=-1) if len(truth) else np.full((len(found), 1), np.inf)
        hit.append(away.min(1) < CLOSE_PX)
    scores, hits = np.concatenate(score), np.concatenate(hit)
    tenth = np.clip((10 * scores).astype(int), 0, 9)
    rows = [(tenth == k) for k in range(10) if (tenth == k).sum() >= FEWEST]
    return [{"score": float(scores[r].mean()), "hits": float(hits[r].mean()), "of": int(r.sum())} for r in rows]


def report(world: World, parts: list[dict[str, Answers]]) -> list[dict[str, Any]]:
    """Prints a world's rows; gives them."""
    results = []
    print(f"{world.group}: {world.name} ({GROUPS[world.group]})")
    for name in parts[0]:
        pairs = [pair for part in parts for pair in part[name].pairs]
        whole = Answers(pairs, [s for part in parts for s in part[name].seconds])
        row = {"group": world.group, "world": world.name, "readout": name, "windows": len(pairs), **measure(whole)}
        worst = max(
            (abs(d["score"] - d["hits"]) for d in row["deciles"]), default=float("nan")
        )  # cells' are no probabilities
        print(
            f"  {name:<24} CSO-mAP {row['cso_map']:6.2f}   right number {row['count']:6.2f} %   GOSPA {row['gospa']:.3f} px"
            f"   {row['ms']['p50']:6.2f} / {row['ms']['p99']:6.2f} ms   worst decile {worst:.2f}",
            flush=True,
        )
        results.append(row)
    return results


if __name__ == "__main__":
    sys.exit(main())
