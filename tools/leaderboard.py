"""The table of all published methods; run it with .venv/bin/python tools/leaderboard.py.

Scores every method of irst_stream.learn.methods that is trained here (out/methods/NAME/engine, or bundled), perfect labels,
the fit and the default on the same generated windows, and writes irst_stream/docs/methods.json, methods.md between its
marks, methods.png, and out/leaderboard.html. --only scores some methods again and keeps the other rows.
"""

import argparse
import dataclasses
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from bench_data import commit, describe_machine
from leaderboard_page import DATA, write_page
from train_methods import ROOT
from worlds import WORLDS

from irst_stream.commands.comparison import Result, compare
from irst_stream.commands.contenders import (
    PLAIN_HEADS,
    WHOLE,
    NetworkContender,
    Scene,
    find_contender,
    known_contenders,
)
from irst_stream.config import read_config
from irst_stream.errors import IrstError
from irst_stream.learn.methods import find_method, registered
from irst_stream.learn.training.finish import cost
from irst_stream.learn.training.settings import MethodTraining
from irst_stream.sim import PatchSequences, csist100k, seqcsist
from irst_stream.system.shipped import find_config
from irst_stream.types import Frame, Stamp, Truth
from irst_stream.unmix.engine import WINDOW

SEED = 100
FIT_WINDOWS = 96  # of each world: the first ones, the same for all methods
HELD_OUT = ("waves at 0.07 px, 0 to 10 DN", "arms at any angle, 3 DN", "no arrangement, 3 DN")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="score these again, keep the others")
    parser.add_argument("--trajectories", type=int, default=40, help="of SeqCSIST; other sets in proportion (default 40)")
    parser.add_argument("--page", action="store_true", help="score nothing, write the page from methods.json again")
    args = parser.parse_args()
    try:
        kept = json.loads(DATA.read_text("utf-8")) if DATA.exists() and (args.only or args.page) else {"rows": {}}
        if not args.page:
            kept = score(args.only or [*WHOLE, *registered()], args.trajectories, kept["rows"])
            DATA.write_text(json.dumps(kept, indent=1) + "\n")
        write_page(kept)
    except IrstError as error:
        print(f"leaderboard: {error}", file=sys.stderr)
        return 2
    return 0


def score(names: list[str], trajectories: int, rows: dict[str, Any]) -> dict[str, Any]:
    """The rows of these methods beside those that are kept, each with the circumstances of its run."""
    for name in names:
        if name not in WHOLE:
            find_method(name)
    worlds = scenes(trajectories)
    run = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "seed": SEED}
    run |= {"windows": {name: len(scene.windows) for name, scene in worlds.items()}, "fitted": FIT_WINDOWS}
    for name in names:
        engine = ROOT / name / "engine"
        trained = name in known_contenders() or (engine / "manifest.toml").exists()
        if not trained:
            rows[name] = {"trained": False}
            continue
        contender = find_contender(name if name in known_contenders() else str(engine))
        began = time.monotonic()
        results = {world: compare(contender, scene, fit_windows=FIT_WINDOWS)[0] for world, scene in worlds.items()}
        rows[name] = row(contender, results) | {"run": run}
        seqcsist_row = rows[name]["worlds"]["seqcsist"]
        print(f"{name}: {seqcsist_row['cells'] or seqcsist_row['fit']}, {time.monotonic() - began:.0f} s", flush=True)
    for name in (*WHOLE, *registered()):
        rows.setdefault(name, {"trained": False})
    return {"machine": describe_machine(), "rows": rows}


def row(contender: Any, results: dict[str, Result]) -> dict[str, Any]:
    """A method's figures by world, its cost and its training."""
    worlds = {
        world: {part: figures and dataclasses.asdict(figures) for part, figures in parts_of(result).items()}
        | {"fit_rate": result.fit_rate}
        for world, result in results.items()
    }
    found: dict[str, Any] = {"trained": True, "worlds": worlds}
    if not isinstance(contender, NetworkContender):
        return found
    first = next(iter(results.values()))
    found |= {"rate": first.rate, "parameters": first.parameters, "multiply_adds": first.multiply_adds}
    record = dict(contender.record)
    if contender.name in PLAIN_HEADS:
        found |= derefnet_cost(contender)
    if "settings" in record:
        settings = record["settings"]
        found |= {key: record[key] for key in ("frames", "minutes", "validation", "commit", "machine", "begun")}
        found |= {"reduced": settings["reduced"], "patch": settings["patch"], "settings": settings}
    return found


def parts_of(result: Result) -> dict[str, Any]:
    return {"cells": result.cells, "best": result.best, "fit": result.fit}


def derefnet_cost(contender: NetworkContender) -> dict[str, int]:
    """DeRefNet's parameters and multiply-adds with its plain head, for a window, one frame of which is new."""
    from irst_stream.learn.network import DeRefNet
    from irst_stream.optics import FineGrid

    class Plain(DeRefNet):
        def forward(self, patches: Any) -> Any:
            maps = self.maps(patches[:, 0])[0]
            return self.merge(maps[:, None].expand(-1, WINDOW, *maps.shape[1:]), torch.arange(WINDOW), patches).map

    settings = MethodTraining("derefnet", patch=contender.manifest.patch[0])
    return cost(Plain(FineGrid(3, contender.manifest.patch)), settings, windows=True)


def scenes(trajectories: int) -> dict[str, Scene]:
    """The windows that every method is scored on: both sets' test splits without noise, and worlds outside all training."""
    found = {name: benchmark(name, trajectories) for name in ("seqcsist", "csist100k")}
    for world in WORLDS:
        if world.name in HELD_OUT:
            count = max(round(trajectories * world.sequences / 3), 1)
            found[world.name] = Scene.of(pairs(world.draw(count, 0, SEED), world.full_scale), world.settings())
    return found


def benchmark(name: str, trajectories: int) -> Scene:
    """One of the two sets' test splits, 16 windows a trajectory, without noise."""
    draw, count = {"seqcsist": (seqcsist, trajectories), "csist100k": (csist100k, 16 * trajectories)}[name]
    drawn = draw(count, seed=SEED, split="test", depth=16)
    return Scene.of(pairs(drawn, 65535.0), read_config(find_config(name)), name)


def pairs(patches: PatchSequences, full_scale: float) -> list[tuple[Frame, Truth]]:
    found = []
    for k in range(len(patches)):
        n = patches.count[k]
        for t in range(patches.frames.shape[1]):
            stamp = Stamp(f"{k}", 0, t, 0)
            truth = Truth(stamp, np.arange(n), np.zeros(n, np.int64), patches.xy[k, t, :n], patches.amplitude[k, :n])
            found.append((Frame(stamp, patches.frames[k, t], full_scale), truth))
    return found


if __name__ == "__main__":
    sys.exit(main())
