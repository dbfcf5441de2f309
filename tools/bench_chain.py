"""Generated frames through the whole chain to tracks: scores, honesty, losses and time; prints a table.

    .venv/bin/python tools/bench_chain.py [--frames 600] [--seeds 2] [--known] [--json OUT]

The configuration is `camera`, with the brightness told as it is where a row says so. A target counts as lost in a frame
where no confirmed track is within --radius of it by the best matching of that frame; counted are targets of an SNR above 8
(peak pixel over noise), more than 8 px inside the frame, from their first such frame on. "told" counts such frames only in
which images without noise would tell that it is there: where the same group without it, its light given to another, fitted
to the window at its best, has a misfit larger by 25 at least. Of targets close to each other that may have any brightness,
not even those tell.

--known: the tracker gets detections as good as a window allows, in place of those of the chain. Each target in the frame is
one. It is off its place by as much as the noise of the window's pixels makes inevitable (the Cramer-Rao bound, given the
number of targets), alike in windows that overlap, and its covariance says so. What is missed then, no detector that looks
at one window at a time gains with this tracker.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_data import describe_machine
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from irst_stream.build import build_pipeline
from irst_stream.config import Config, read_config
from irst_stream.fit.compiled import INFINITE, FitPriors, ImagingModel, RegionImages
from irst_stream.fit.compiled.levenberg_marquardt import fit
from irst_stream.fit.fitter import priors_of
from irst_stream.optics import peak_response, render
from irst_stream.score import score_tracks
from irst_stream.settings import read_settings
from irst_stream.sim import Groups, Platform, Scene, SceneSettings
from irst_stream.sim.trajectories import GroupTrajectory, formation
from irst_stream.system.shipped import find_config
from irst_stream.track.tracker import Tracker
from irst_stream.types import Detections, Floats, Frame, Ints, Tracks, Truth, at_rest

TOLD = 25.0  # of misfit, as five standard deviations of one number have
BESIDE = 4.0  # px: targets that are nearer to one are fitted with it
SIDE = 15  # px, of the patches that they are fitted in
MARGIN = 8.0  # px from the frame's border
BRIGHT = 8.0  # SNR
CLUTTER_FRAMES = 100
SPEED_APART = (15.0, 60.0)  # px/s: of one group past another that meets it
APART = (1.0, 1.5)  # px between the members of groups that are well apart


@dataclass(frozen=True)
class Case:
    """A scene, what the configuration says of its targets' brightness, DN, and whether frames bear poses.

    meeting: whether groups meet, two and two, in place of those that the scene's settings would have; learns: whether
    clutter is learnt, on frames registered with each other, whatever their poses.
    """

    scene: SceneSettings
    amplitude_dn: tuple[float, float]
    poses: bool = False
    meeting: bool = False
    learns: bool = False


SWAYING = Platform(drift_x_px_s=15.0, drift_y_px_s=-4.0, jitter_px=0.1)
CLOUD = read_settings(find_config("scene-cloud", "scene"), SceneSettings)
CALM = replace(CLOUD.background, gradient_dn=0.0, cloud_dn=0.0, edge_dn=0.0)
CASES = {
    "groups, known brightness": Case(SceneSettings(), (235.0, 12.0)),
    "groups 1 to 1.5 px apart": Case(SceneSettings(groups=Groups(spacing_px=APART)), (235.0, 12.0)),
    "the same, SNR 8 to 20, brightness unknown": Case(
        SceneSettings(groups=Groups(spacing_px=APART, snr=(8.0, 20.0))), (150.0, 100.0)
    ),
    "singles": Case(SceneSettings(groups=Groups(groups=0, singles=15)), (235.0, 12.0)),
    "on a moving platform, poses unknown": Case(
        SceneSettings(groups=Groups(spacing_px=APART), platform=SWAYING), (235.0, 12.0)
    ),
    "on a moving platform, poses known": Case(
        SceneSettings(groups=Groups(spacing_px=APART), platform=SWAYING), (235.0, 12.0), poses=True
    ),
    "under broken cloud on a moving platform, poses known, brightness unknown": Case(CLOUD, (350.0, 150.0), poses=True),
    "the same, clutter learnt on registered frames": Case(CLOUD, (350.0, 150.0), poses=True, learns=True),
    "the same targets, sky without a cloud": Case(replace(CLOUD, background=CALM), (350.0, 150.0), poses=True),
    "groups of three that meet": Case(SceneSettings(), (235.0, 12.0), meeting=True),
}


def main() -> None:
    """Runs all cases, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600, help="of each scene (default 600)")
    parser.add_argument("--seeds", type=int, default=2, help="scenes of each kind (default 2)")
    parser.add_argument("--radius", type=float, default=0.5, help="px, of a match (default 0.5)")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--known", action="store_true", help="detections as good as a window allows")
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    args = parser.parse_args()
    print(
        " | ".join(("case", "GOSPA", "HOTA", "IDF1", "switches", "false", "error px", "NEES", "longest loss", "told", "ms"))
    )
    figures: dict[str, Any] = {"machine": describe_machine()}
    for name, case in CASES.items():
        if args.only in name:
            runs = [run(case, args.frames, seed, args.radius, known=args.known) for seed in range(args.seeds)]
            figures[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
            figures[name] |= {key: max(run[key] for run in runs) for key in ("longest_loss", "longest_told")}
            print(row(name, figures[name]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def row(name: str, f: dict[str, float]) -> str:
    """One line of the table."""
    scores = f"{f['gospa']:.3f} | {f['hota']:.3f} | {f['idf1']:.3f} | {f['switches']:.1f} | {f['false']:.3f}"
    losses = f"{f['longest_loss']:.0f} | {f['longest_told']:.0f}"
    return f"{name} | {scores} | {f['error']:.4f} | {f['nees']:.2f} | {losses} | {f['ms']:.2f}"


def run(case: Case, frames: int, seed: int, radius: float, known: bool = False) -> dict[str, float]:
    """One scene; known: see --known."""
    scene = Scene(
        case.scene, frames, seed, trajectories=meetings(frames / case.scene.sensor.rate_hz, seed) if case.meeting else ()
    )
    config = configured(case)
    noise = case.scene.sensor.noise_dn(case.scene.background.level_dn)
    took: list[float] = []
    every = tracks_at_the_bound(scene, config, noise) if known else tracks_of_chain(scene, case, config, took)
    pairs = [(tracks, scene.truth(tracks.stamp.index)) for tracks in every]
    report = score_tracks(list(pairs), radius=radius)
    errors, nees = matched_errors(pairs, radius)
    bright = BRIGHT * noise / peak_response(case.scene.sensor.sigma_px)
    follow_told = partial(told, scene, priors_of(config.fit), noise)
    return {
        "gospa": report.gospa.total,
        "hota": report.hota.hota,
        "idf1": report.identity.idf1,
        "switches": float(report.clear.switches),
        "false": report.clear.false / len(pairs),
        "error": float(np.sqrt(np.mean(errors))),
        "nees": float(np.mean(nees)),
        "longest_loss": float(longest_loss(pairs, radius, bright, scene)),
        "longest_told": float(longest_loss(pairs, radius, bright, scene, follow_told)),
        "ms": float(np.median(took) * 1e3) if took else np.nan,
    }


def tracks_of_chain(scene: Scene, case: Case, config: Config, took: list[float]) -> Iterator[Tracks]:
    """Yield the tracks that the whole chain finds in a scene's frames; took: gets the time of each frame, s."""
    pipeline = build_pipeline(config, tracks=True)
    for frame in given(scene, poses=case.poses):
        began = time.perf_counter()
        results = pipeline.step([frame])
        took.append(time.perf_counter() - began)
        yield from (tracks for tracks in results[1:] if isinstance(tracks, Tracks))


def tracks_at_the_bound(scene: Scene, config: Config, noise: float) -> Iterator[Tracks]:
    """Yield the tracks of detections as good as a window allows, see --known; noise: of a pixel, DN."""
    tracker, rng = Tracker(config.track), np.random.default_rng(0)
    shape = scene.settings.sensor.height, scene.settings.sensor.width
    drawn: dict[tuple[int, int], Floats] = {}  # unit errors (2,) of each target in each frame, which windows share
    for index in range(2, scene.frames - 2):
        truth = scene.truth(index)
        inside = np.flatnonzero(((truth.xy > 2) & (truth.xy < np.array(shape[::-1]) - 3)).all(axis=1))
        xy, cov, sd = truth.xy[inside], np.empty((len(inside), 2, 2)), np.empty(len(inside))
        for near in companies(xy):
            rows, ahead = inside[near], places(scene, index + 1, index)
            speed = np.array([ahead.get(int(truth.id[r]), truth.xy[r]) - truth.xy[r] for r in rows])
            bound = error_bound(truth.xy[rows], speed, truth.amplitude[rows], config.fit.sigma_px, noise)
            place = (5 * np.arange(len(near))[:, None] + [0, 1]).ravel()
            units = [
                sum(drawn.setdefault((int(truth.id[r]), k), rng.standard_normal(2)) for k in range(index - 2, index + 3))
                for r in rows
            ]
            joint = bound[np.ix_(place, place)]
            xy[near] += (np.linalg.cholesky(joint) @ np.ravel(units) / np.sqrt(5)).reshape(-1, 2)
            cov[near] = [joint[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] for k in range(len(near))]
            sd[near] = np.sqrt(np.diag(bound)[4::5])
        sure, none = np.ones(len(inside)), np.zeros(len(inside), np.int64)
        seen = Detections(truth.stamp, xy, cov, truth.amplitude[inside], sd, sure, none)
        yield from tracker.settle(seen, scene.pose(index), shape)


def companies(xy: Floats) -> list[Ints]:
    """Rows of targets at xy (N, 2) px that are linked by steps of less than BESIDE, px."""
    near = np.linalg.norm(xy[:, None] - xy, axis=2) < BESIDE
    count, number = connected_components(near)
    return [np.flatnonzero(number == k) for k in range(count)]


def error_bound(xy: Floats, speed: Floats, amplitude: Floats, sigma: float, noise: float) -> Floats:
    """The Cramer-Rao bound (5K, 5K) of a window's places, speeds and amplitudes of K targets whose number is known.

    xy (K, 2) px, speed (K, 2) px a frame, amplitude (K,) DN; sigma: of the PSF, px; noise: of a pixel, DN. Speeds are known
    to 0.3 px a frame, places to a pixel and amplitudes to 150 DN beforehand.
    """
    p = np.column_stack([xy - np.round(xy.mean(axis=0)) + SIDE // 2, speed, amplitude])
    steps = np.tile([1e-3, 1e-3, 1e-3, 1e-3, 1.0], len(p))

    def images(parameters: Floats) -> Floats:
        each = parameters.reshape(p.shape)
        around = each[:, :2] + np.arange(-2, 3)[:, None, None] * each[:, 2:4]
        return np.asarray(render(around, np.tile(each[:, 4], (5, 1)), (SIDE, SIDE), sigma).ravel())

    moves = np.diag(steps)
    slopes = np.array([images(p.ravel() + move) - images(p.ravel() - move) for move in moves]) / (2 * steps[:, None])
    known = np.tile([1.0, 1.0, 0.3, 0.3, 150.0], len(p))
    return np.asarray(np.linalg.inv(slopes @ slopes.T / noise**2 + np.diag(1 / known**2)))


def meetings(duration_s: float, seed: int) -> list[GroupTrajectory]:
    """Nine pairs of groups of three: the middles of pair k are nearest, k px apart, at half time."""
    rng = np.random.default_rng(seed)
    trajectories = []
    for k in range(9):
        place = np.array([160.0, 128.0]) * (1 + k % 3, 1 + k // 3) + rng.uniform(-0.5, 0.5, 2)
        angle, drift = rng.uniform(0, 2 * np.pi), rng.uniform(-10, 10, 2)
        ahead = np.array([np.cos(angle), np.sin(angle)])
        for side in (-0.5, 0.5):
            velocity = drift + side * rng.uniform(*SPEED_APART) * ahead
            offsets = formation(rng, 3, rng.uniform(*APART))
            nearest = place + side * k * np.array([-ahead[1], ahead[0]])
            trajectories.append(straight(duration_s, nearest - velocity * duration_s / 2, velocity, offsets, rng.random(3)))
    return trajectories


def straight(duration_s: float, origin: Floats, velocity: Floats, offsets: Floats, strength: Floats) -> GroupTrajectory:
    """A flight of a formation in a straight line, px and px/s, from the scene's beginning to its end and beyond."""
    still = np.zeros(len(offsets))
    return GroupTrajectory(0.0, duration_s + 1.0, origin, velocity, np.zeros(2), offsets, still, still, strength)


def configured(case: Case) -> Config:
    """The camera's configuration, with what is known of the targets' brightness."""
    config = read_config(find_config("scene"))
    if case.learns:
        register, propose = replace(config.register, when="always"), replace(config.propose, clutter_frames=CLUTTER_FRAMES)
        config = replace(config, register=register, propose=propose)
    return replace(config, fit=replace(config.fit, amplitude_dn=case.amplitude_dn[0], amplitude_sd_dn=case.amplitude_dn[1]))


def given(scene: Scene, *, poses: bool) -> Iterator[Frame]:
    """The scene's frames, with their poses where these are known."""
    for k in range(scene.frames):
        frame = scene.frame(k)
        yield replace(frame, pose=scene.pose(k)) if poses else frame


def matched(tracks: Tracks, truth: Truth, radius: float) -> tuple[Any, Any, Floats]:
    """Rows of confirmed tracks and of targets that belong together in one frame, and their distances, px."""
    sure = np.flatnonzero(tracks.confirmed)
    apart = np.linalg.norm(tracks.state[sure, None, :2] - truth.xy, axis=-1)
    mine, theirs = linear_sum_assignment(np.minimum(apart, 2 * radius))
    near = apart[mine, theirs] <= radius
    return sure[mine[near]], theirs[near], apart[mine, theirs][near]


def matched_errors(pairs: list[tuple[Tracks, Truth]], radius: float) -> tuple[Floats, Floats]:
    """Squared distances, px^2, and the same in units of the covariance; 2 is honest."""
    squares, units = [], []
    for tracks, truth in pairs:
        mine, theirs, apart = matched(tracks, truth, radius)
        away = tracks.state[mine, :2] - truth.xy[theirs]
        squares.append(apart**2)
        units.append(np.einsum("ni,nij,nj->n", away, np.linalg.inv(tracks.cov[mine, :2, :2]), away))
    return np.concatenate(squares), np.concatenate(units)


def longest_loss(
    pairs: list[tuple[Tracks, Truth]],
    radius: float,
    bright: float,
    scene: Scene,
    known: Callable[[Truth, int], bool] | None = None,
) -> int:
    """The most frames on end in which a bright target that had a track has none; known: whether a row's counts."""
    sensor = scene.settings.sensor
    side = np.array([sensor.width, sensor.height]) - 1 - MARGIN
    lost: dict[int, int] = {}
    longest = 0
    for tracks, truth in pairs:
        _, theirs, _ = matched(tracks, truth, radius)
        counts = ((truth.xy > MARGIN) & (truth.xy < side)).all(axis=1) & (truth.amplitude > bright)
        for k, number in enumerate(truth.id.tolist()):
            if k in theirs:
                lost[number] = 0
            elif number in lost and counts[k] and (known is None or known(truth, k)):
                lost[number] += 1
                longest = max(longest, lost[number])
    return longest


def told(scene: Scene, known: FitPriors, noise: float, truth: Truth, row: int) -> bool:
    """Whether a window's images without noise would tell that the target of that row is there; known: to the fit.

    Its light is given to each of its neighbours in turn; where another start led to a better one, yes is said too often.
    """
    index = truth.stamp.index
    near = truth.id[np.abs(truth.xy - truth.xy[row]).max(axis=1) < BESIDE].tolist()
    around = [places(scene, k, index) for k in range(max(index - 2, 0), min(index + 3, scene.frames))]
    if len(near) == 1 or len(around) < 5 or any(number not in frame for number in near for frame in around):
        return True
    corner = np.round(truth.xy[row]) - SIDE // 2
    xy = np.array([[frame[number] for number in near] for frame in around]) - corner
    light = np.array([truth.amplitude[truth.id == number][0] for number in near])
    times, shifts = at_rest(1, 5)
    images = render(xy, np.tile(light, (5, 1)), (SIDE, SIDE), known.sigma)
    seen = RegionImages(images, times, shifts[0], noise, (-INFINITE, INFINITE), 0.0)
    whole = np.column_stack([xy[2], (xy[4] - xy[0]) / 4, light])

    # The misfits of other numbers are compared, not their priors.
    model = ImagingModel(known.sigma, known.shape, known.priors._replace(min_spread=0.0))

    def misfit(start: Floats) -> float:
        found = fit(start, seen, model, np.empty((0, 3)), 60)
        return float(found[1])

    me = near.index(int(truth.id[row]))
    without = []
    for other in set(range(len(near))) - {me}:
        one = whole.copy()
        share = light[[me, other]] / light[[me, other]].sum()
        one[other] = share @ whole[[me, other]]
        one[other, 4] = light[me] + light[other]
        without.append(misfit(np.delete(one, me, axis=0)))
    return min(without) - misfit(whole) > TOLD


def places(scene: Scene, index: int, centre: int) -> dict[int, Floats]:
    """Where the targets of a frame would be had the platform pointed where it did in another one, px, by their numbers; its
    roll, which moves them by some hundredths of a pixel here, is left out.
    """
    truth, now, then = scene.truth(index), scene.pose(index), scene.pose(centre)
    moved = np.array([then.x - now.x, then.y - now.y])
    return dict(zip(truth.id.tolist(), truth.xy + moved, strict=True))


if __name__ == "__main__":
    main()
