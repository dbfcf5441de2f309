"""Trains the methods of irst_stream.learn.methods, one after another; run it with .venv/bin/python tools/train_methods.py.

Without names it trains all of them in the order of ORDER; with names, or paths of TOML files, those. Each takes its
settings from configs/methods and goes into out/methods/NAME: checkpoint.pt, curves.json and, when it is done, engine/ with
weights, graphs and the record of how they came about. Run it again to go on where it stopped, or with a larger budget.
"""

import argparse
import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import torch
from bench_data import commit
from train import machine

from irst_stream.errors import IrstError
from irst_stream.learn.training.run import Run, open_run, train
from irst_stream.learn.training.settings import find_training
from irst_stream.system.machine import usable_cores

ROOT = Path("out/methods")
ORDER = (
    "espcn", "srcnn", "focus", "edsr",
    "ista-net", "ista-net+", "fista-net", "dista-net", "ista-net++",
    "lamp", "tilista", "lista", "liht",
    "usrnet", "rpcanet", "dbpn", "gmfn", "tdan", "rdn",
    "srresnet", "srgan", "rrdb", "esrgan", "bsrgan",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="methods, or TOML files (default: all)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the CPU (default all)")
    parser.add_argument("--minutes", type=float, help="for each, at most, in place of the settings' budget")
    parser.add_argument("--root", type=Path, default=ROOT, help=f"where the runs are kept (default {ROOT})")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = args.names or list(ORDER)
    try:
        if len(names) == 1:
            train_one(names[0], args.root, args.minutes)
            return 0
        for name in names:
            find_training(name)  # a wrong name is said before hours of work
    except IrstError as error:
        print(f"train_methods: {error}", file=sys.stderr)
        return 2
    command = [sys.executable, __file__, "--threads", str(args.threads), "--root", str(args.root)]
    command += ["--minutes", str(args.minutes)] if args.minutes else []
    codes = [subprocess.run([*command, name], check=False).returncode for name in names]  # each frees its memory
    return 2 if any(codes) else 0


def train_one(name: str, root: Path, minutes: float | None) -> None:
    settings = find_training(name)
    settings = dataclasses.replace(settings, minutes=minutes) if minutes else settings
    folder = root / settings.method
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start = root / settings.start / "checkpoint.pt" if settings.start else None
    run = open_run(settings, folder, start, device)
    if run.progress >= 1 and (folder / "engine" / "record.json").exists():
        print(f"{settings.method}: done")
        return
    print(f"{settings.method}: {'goes on after' if run.step else 'begins at'} step {run.step}", flush=True)
    began = time.strftime("%Y-%m-%d %H:%M")
    train(run, folder, report)
    from irst_stream.learn.training.finish import finish

    facts = {"commit": commit(), "begun": began, "machine": machine(device) | {"threads": torch.get_num_threads()}}
    record = finish(run, folder, f"tools/train_methods.py {name}, commit {commit()}", facts)
    print(f"{settings.method}: {record['validation']}", flush=True)


def report(run: Run) -> None:
    point = run.curves[-1]
    losses = ", ".join(f"{key} {value:.4g}" for key, value in point.items() if key not in ("frames", "seconds"))
    print(f"{run.settings.method}: {point['frames']:,} frames, {point['seconds'] / 60:.1f} min: {losses}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
