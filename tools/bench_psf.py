"""How much longer the fit and the search take under each kind of PSF than under a round Gaussian.

    python tools/bench_psf.py [--repeats 12] [--json OUT.json]

The fit: windows of 5 frames of 11 x 11 px with 1 to 3 targets. The search: frames of 640 x 512 px, prepared and searched.
Times are of the thread's processor, the least of the repeats, which take turns, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.settings import FitSettings
from irst_stream.point_spread import gaussian, tabulated
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.psf_field import sensor_psf, uniform, write_psf
from irst_stream.types import at_rest

SIGMA, RATIO, ANGLE = 0.8, 1.5, 30.0
WINDOWS, NOISE, AMPLITUDE = 5, 2.0, 400.0  # windows of each number of targets, DN, DN
KINDS = {"round": (1.0, 0.0), "along an axis": (RATIO, 0.0), "rotated": (RATIO, ANGLE), "table": (RATIO, ANGLE)}


def fit_tasks(table: str, model_error: float) -> dict[str, Callable[[], object]]:
    """What fits the same windows under each kind of PSF."""
    tasks: dict[str, Callable[[], object]] = {}
    for name, (ratio, angle) in KINDS.items():
        known = {"axis_ratio": ratio, "axis_angle_deg": angle, "psf_table": table if name == "table" else ""}
        priors = {"amplitude_dn": 300.0, "amplitude_sd_dn": 200.0, "sigma_doubt": 0.0, "noise_dn": NOISE}
        fitter = Fitter(FitSettings(sigma_px=SIGMA, model_error=model_error, **known, **priors))
        rng, times, windows = np.random.default_rng(0), at_rest(1, 5)[0], []
        for count in (1, 2, 3):
            for _ in range(WINDOWS):
                xy = np.tile(5 + rng.uniform(-1.8, 1.8, (count, 2)), (5, 1, 1))
                light = fitter.field.middle.render(xy, np.full((5, count), AMPLITUDE))
                windows.append(light + rng.normal(0, NOISE, light.shape))
        tasks[name] = lambda fitter=fitter, windows=windows, times=times: [fitter(w, times) for w in windows]
    return tasks


def search_tasks(table: str) -> dict[str, Callable[[], object]]:
    """What prepares and searches the same frame under each kind of PSF."""
    rng = np.random.default_rng(1)
    frame = rng.normal(1000, 5, (512, 640)).round().astype(np.uint16)
    tasks: dict[str, Callable[[], object]] = {}
    for name, (ratio, angle) in KINDS.items():
        psf = sensor_psf(SIGMA, ratio, angle, table if name == "table" else "").middle
        proposer = Proposer(ProposeSettings(sigma_px=SIGMA), frame.shape, psf=psf)
        tasks[name] = lambda proposer=proposer: proposer.propose(proposer.prepare(frame))
    return tasks


def times_of(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least time of each task, ms; the tasks take turns."""
    least = dict.fromkeys(tasks, np.inf)
    for _ in range(repeats):
        for name, task in tasks.items():
            began = time.thread_time()
            task()
            least[name] = min(least[name], 1e3 * (time.thread_time() - began))
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "psf.npz")
        write_psf(Path(table), uniform(tabulated(gaussian(SIGMA, RATIO, ANGLE).table, 8)))
        jobs = {
            "fit": fit_tasks(table, 0.0),
            "fit, model_error 0.02": fit_tasks(table, 0.02),
            "search, 640 x 512 px": search_tasks(table),
        }
        found = {job: times_of(tasks, args.repeats) for job, tasks in jobs.items()}
    for job, each in found.items():
        print(job)
        for name, ms in each.items():
            print(f"  {name:14} {ms:8.2f} ms   {ms / each['round']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
