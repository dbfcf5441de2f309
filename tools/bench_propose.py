"""How fast and how surely regions are found in full frames here; run it with .venv/bin/python tools/bench_propose.py.

One core, 640 x 512 px, 14 bits, default bad pixels, a platform that drifts by 0.1 px a frame and jitters by 0.2 px. A group
is found if a region's middle lies within 4 px of its own along both axes; a region is false if no group is within 8 px.
Groups of 2 to 5 and single targets count apart; those whose middle is nearer than 3 px to the border do not. Time is the
process's own, so that other processes on the machine disturb little. Prints tables and writes out/bench_propose.json.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_data import describe_machine

from irst_stream.propose.proposer import Proposals, Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.sim import Groups, Platform, Scene, SceneSettings, Sensor
from irst_stream.sim.background import BACKGROUNDS
from irst_stream.types import Truth

OUT = Path("out/bench_propose.json")
SNR_BINS = ((6, 6), (6, 8), (8, 12), (12, 20))  # peak pixel of each target over the noise of a frame
WARM_UP, FRAMES = 2, 14
PROMISED = {"found": ">= 0.98", "false": "<= 1", "ms": "< 3"}


@dataclass
class Tally:
    """What was counted: whether each group and each single target was found, false regions and ms of each frame."""

    groups: list[bool] = field(default_factory=list)
    singles: list[bool] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The figures of a line of the table."""
        p50, p99 = np.percentile(self.ms, [50, 99])
        found, single, false = (float(np.mean(v)) for v in (self.groups, self.singles, self.false))
        return {"groups": found, "singles": single, "false": false, "ms_p50": float(p50), "ms_p99": float(p99)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=4, help="scenes of each background and SNR (default 4)")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    print(
        f"{'background':<14}{'SNR':<8}{'frames':>7}{'groups':>9}{'singles':>9}{'false/frame':>13}{'ms p50':>9}{'ms p99':>8}"
    )
    print(f"{'promised':<29}{PROMISED['found']:>9}{'':>9}{PROMISED['false']:>13}{PROMISED['ms']:>9}")
    results = [row for name in BACKGROUNDS for snr in SNR_BINS for row in bench(name, snr, args.scenes)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "promised": PROMISED, "results": results}, indent=2) + "\n")
    return 0


def bench(name: str, snr: tuple[float, float], scenes: int) -> list[dict[str, Any]]:
    """One background and range of SNR: lines for the centre frame alone and for the whole window's light."""
    tallies: dict[int, Tally] = defaultdict(Tally)
    for seed in range(scenes):
        groups = Groups(groups=8, singles=5, snr=snr)
        settings = SceneSettings(Sensor(), BACKGROUNDS[name], groups, Platform(drift_x_px_s=10, jitter_px=0.2))
        run_scene(Scene(settings, FRAMES, seed), tallies)
    rows = []
    for frames, tally in sorted(tallies.items()):
        row = {"background": name, "snr": snr, "frames": frames, **tally.row()}
        rows.append(row)
        figures = (
            f"{row['groups']:>9.3f}{row['singles']:>9.3f}{row['false']:>13.2f}{row['ms_p50']:>9.2f}{row['ms_p99']:>8.2f}"
        )
        print(f"{name:<14}{f'{snr[0]}-{snr[1]}':<8}{frames:>7}{figures}")
    return rows


def run_scene(scene: Scene, tallies: dict[int, Tally]) -> None:
    """Every frame of a scene, as a pipeline meets them: one made ready, then the window's centre frame searched."""
    frames = [frame.pixels for frame, _, _ in scene]
    for length in (1, 5):
        proposer, held = Proposer(ProposeSettings(), frames[0].shape), []
        for index, pixels in enumerate(frames):
            began = time.process_time()
            held = [*held, proposer.prepare(pixels)][-length:]
            if len(held) < length:
                continue
            middle = length // 2
            found = proposer.propose(held[middle], held[:middle] + held[middle + 1 :])
            spent = time.process_time() - began
            if index >= length - 1 + WARM_UP:
                tallies[length].ms.append(spent * 1e3)
                judge(found, scene.truth(index - middle), scene.settings.sensor, tallies[length])


def judge(found: Proposals, truth: Truth, sensor: Sensor, tally: Tally) -> None:
    """Adds one frame's hits and false regions."""
    false = np.ones(len(found.centres), bool)
    for group in np.unique(truth.group):
        xy = truth.xy[truth.group == group]
        middle = xy.mean(axis=0)
        distance = np.abs(found.centres - middle).max(axis=1)
        false &= distance > 8
        if (middle >= 3).all() and (middle <= np.array([sensor.width - 4, sensor.height - 4])).all():
            (tally.groups if len(xy) > 1 else tally.singles).append(bool((distance <= 4).any()))
    tally.false.append(int(false.sum()))


if __name__ == "__main__":
    sys.exit(main())
