"""How well and how fast trackers follow groups of targets; .venv/bin/python tools/bench_tracker.py.

The scenes are those of tools/tracking_scenes.py, the rivals those of tools/tracking_rivals.py, which the bench extra
installs: .venv/bin/pip install -e '.[bench]' (norfair as norfair-enough, its maintained fork; norfair wants NumPy < 2).
All have the same settings in all scenes. Whatever has step(Detections) -> Tracks can be compared; confirmed tracks count,
those of each frame whenever they come.

GOSPA: of each frame, with a cut-off of 2 px and p = 2, as a distance per target: the root of the squared distance's share
of each target, averaged over the frames, px. IDF1, HOTA and the counts: within 1 px. ms: the time of step, conversions
included.

Known from elsewhere, for 20 groups of 59 targets in all (GOSPA / IDF1, and HOTA where they cross), and ms a frame with 20
and 100 groups on two cores at 2.5 GHz; the scenes' free choices were made so that the first two come out near them:
                                              formation       crossing                ms
    Stone Soup GNN, KD-tree                   .112 / .992     .566 / .635 / .566      111 / 619
    filterpy + scipy loop                     .106 / .993     .545 / .603 / .539      6.5 / 41
    a NumPy batch tracker that models merging .105 / .993     .409 / .730 / .670      1.5 / 11

Prints tables and writes out/bench_tracker.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_data import describe_machine
from tracking_rivals import RIVALS, Steps
from tracking_scenes import RATE_HZ, Frames, Kind, scene

from irst_stream.score import RADIUS, TruthAndTracks, score_tracks
from irst_stream.score.gospa import gospa_parts
from irst_stream.types import Detections, Stamp, Tracks

OUT = Path("out/bench_tracker.json")
CUTOFF_PX = 2.0  # of GOSPA
SEED = 15  # with which 20 groups are 59 targets
WARM_UP = 3  # frames whose time does not count
CROWD, CROWD_FRAMES = 300, 300  # detections a frame, anywhere within a few gates: the worst that a detector can do
CROWD_SIDES_PX = (3.0, 20.0, 100.0)
OURS = "irst-stream"
VARIANTS: dict[str, dict[str, Any]] = {  # of our settings: see TrackSettings for when to use which
    OURS: {},
    f"{OURS}, 20 hypotheses": {"max_hypotheses": 20},
    f"{OURS}, high accuracy": {"max_hypotheses": 20, "smoothing_lag": 5},  # smoothed, five frames later
    f"{OURS}, calm members": {"own_manoeuvre_px_s2": 0.3},
    f"{OURS}, agile members": {"own_manoeuvre_px_s2": 3.0},
    f"{OURS}, imm": {"motion": "imm"},
}


class Setting(NamedTuple):
    """A scene to run; members: of each group, 0 for any."""

    kind: Kind
    groups: int
    frames: int
    members: int = 0

    def title(self) -> str:
        targets = f", {self.groups * self.members} targets, for the time" if self.members else ""
        return f"{self.kind}, {self.groups} group{'s' * (self.groups > 1)}{targets}, {self.frames} frames"


SETTINGS = (
    *(Setting(kind, groups, 200) for groups in (1, 20, 100) for kind in ("formation", "crossing")),
    Setting("manoeuvring", 20, 200),
    Setting("formation", 50, 20),
    Setting("formation", 250, 12, 4),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the scenes (default {SEED})")
    parser.add_argument("--only", metavar="NAME", help="trackers whose name contains this, such as irst or filterpy")
    parser.add_argument("--groups", type=int, metavar="N", help="scenes of so many groups alone")
    args = parser.parse_args()
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    trackers = {name: make for name, make in available().items() if (args.only or "").lower() in name.lower()}
    settings = [setting for setting in SETTINGS if args.groups in (None, setting.groups)]
    results = [row for setting in settings for row in bench(setting, args.seed, trackers)]
    if OURS in trackers and args.groups is None:
        results += [stress(trackers[OURS], side) for side in CROWD_SIDES_PX]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "seed": args.seed, "results": results}, indent=2) + "\n")
    return 0


def available() -> dict[str, Callable[[], Steps]]:
    """The trackers that are installed, by name; says which are not."""
    found: dict[str, Callable[[], Steps]] = {}
    try:
        from irst_stream.track import Tracker, TrackSettings

        for name, rules in VARIANTS.items():
            found[name] = partial(Tracker, TrackSettings(**rules))
    except ModuleNotFoundError as error:
        print(f"skipped: {OURS}, which has no tracker yet ({error})")
    for rival in RIVALS:
        try:
            rival()
            found[rival.name] = rival
        except ImportError as error:
            print(f"skipped: {rival.name}, {rival.package} is not installed ({error}): pip install -e '.[bench]'")
    return found


def bench(setting: Setting, seed: int, trackers: dict[str, Callable[[], Steps]]) -> list[dict[str, Any]]:
    """One scene: a line for each tracker."""
    frames = scene(setting.kind, setting.groups, setting.frames, seed, setting.members)
    targets = len(frames[0][1])
    seen = np.mean([len(detections) for detections, _ in frames])
    print(f"\n{setting.title()}: {targets} targets, {seen:.1f} detections a frame")
    print(f"{'':<26}{'GOSPA':>8}{'IDF1':>8}{'HOTA':>8}{'switches':>10}{'breaks':>8}{'tracks':>8}{'ms p50':>10}{'p99':>9}")
    rows = []
    for name, make in trackers.items():
        answers, ms = run(make(), frames)
        row = {**setting._asdict(), "targets": targets, "tracker": name, **judge(answers, frames), **ms}
        rows.append(row)
        scores = "".join(f"{row[key]:>8.3f}" for key in ("gospa", "idf1", "hota"))
        counts = f"{row['switches']:>10}{row['fragments']:>8}{row['tracks']:>8}"
        print(f"{name:<26}{scores}{counts}{row['ms_p50']:>10.2f}{row['ms_p99']:>9.2f}", flush=True)
    return rows


def stress(make: Callable[[], Any], side: float) -> dict[str, Any]:
    """The time of frames that hold a crowd of false detections within a square of that side, px: a line."""
    rng, tracker, spent = np.random.default_rng(0), make(), []
    for k in range(CROWD_FRAMES):
        xy = rng.uniform(0, side, (CROWD, 2))
        seen = Detections.bare(Stamp("crowd", 0, k, round(k * 1e9 / RATE_HZ)), xy, np.full(CROWD, 235.0), np.ones(CROWD))
        began = time.perf_counter()
        tracker.step(seen)
        spent.append(1e3 * (time.perf_counter() - began))
    p50, p99 = (float(value) for value in np.percentile(spent[WARM_UP:], [50, 99]))
    row = {"crowd": CROWD, "side_px": side, "ms_p50": p50, "ms_p99": p99, "exhausted": tracker.exhausted}
    print(f"\ncrowd of {CROWD} detections in {side:g} x {side:g} px: {p50:.1f} ms (p50), {p99:.1f} ms (p99)")
    print(f"    {tracker.exhausted} frames cut short, {tracker.refused} detections that started no track", flush=True)
    return row


def run(tracker: Steps, frames: Frames) -> tuple[list[Tracks], dict[str, float]]:
    """What a tracker says of each frame, at last, and the time it took."""
    answers, spent = [], []
    for detections, _ in frames:
        began = time.perf_counter()
        answers.append(tracker.step(detections))
        spent.append(1e3 * (time.perf_counter() - began))
    said = {tracks.stamp: tracks for tracks in (*answers, *tracker.finish())}
    p50, p99 = np.percentile(spent[WARM_UP:], [50, 99])
    return [said[detections.stamp] for detections, _ in frames], {"ms_p50": float(p50), "ms_p99": float(p99)}


def judge(answers: list[Tracks], frames: Frames) -> dict[str, Any]:
    """The scores of a tracker's answers."""
    pairs: list[tuple[Tracks | None, Any]] = [(tracks, truth) for tracks, (_, truth) in zip(answers, frames, strict=True)]
    data = TruthAndTracks.of(pairs, CUTOFF_PX)
    squares = gospa_parts(data.tracks.points.count, data.truth.points, data.pairs, CUTOFF_PX, 2).sum(1)
    report = score_tracks(pairs, RADIUS)
    return {
        "gospa": float(np.mean(np.sqrt(squares / data.truth.points.count))),
        "idf1": report.identity.idf1,
        "hota": report.hota.hota,
        "mota": report.clear.mota,
        "switches": report.clear.switches,
        "fragments": report.clear.fragments,
        "tracks": report.tracks,
        "position_rmse": report.follow.position_rmse,
        "velocity_rmse": report.follow.velocity_rmse,
    }


if __name__ == "__main__":
    sys.exit(main())
