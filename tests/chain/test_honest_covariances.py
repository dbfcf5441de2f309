"""From pixels to tracks: the covariances that come out hold what they promise, whether windows overlap or not.

Two targets 2.5 px apart, of whose amplitudes next to nothing is known; and two 1 px apart, which trade light in the fit, so
that their errors are alike, under a tight prior, of a sensor at rest and of one that shakes, whose poses are known.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from irst_stream import Detections, Frame, Pose, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render
from irst_stream.track import TrackSettings
from irst_stream.track.motion import MODELS

RATE_HZ, FRAMES, RUNS = 100.0, 41, 60
NOISE, AMPLITUDE = 2.0, 235.0
WANDER, OWN_WANDER = 6.0, 0.3  # px/s, by which a group's velocity, and a target's within it, wander in a second
TRACK = TrackSettings(manoeuvre_px_s2=60.0, own_manoeuvre_px_s2=3.0, manoeuvre_s=0.005)  # the same: 2 a^2 tau
FIT = FitSettings(most_targets=2, speed_px=0.3, own_speed_px=0.005, starts=1, noise_dn=NOISE)
FAR, NEAR = (2.5, 100.0), (1.0, 9.0)  # px apart, and by how much the fit's prior lets amplitudes differ, DN


class Followed(NamedTuple):
    """What came of one run, frame by frame, and where the two targets were, (T, 2, 2) px."""

    detections: list[Detections]
    tracks: list[Tracks]
    xy: np.ndarray


def pair_that_sways(rng, spacing):
    """(T, 2, 2) px: two targets whose velocities wander as WANDER says, about the middle of a patch."""
    step = np.sqrt(1 / RATE_HZ) * rng.standard_normal((FRAMES, 3, 2))
    speed = np.cumsum(WANDER * step[:, :1] + OWN_WANDER * step[:, 1:], axis=0)
    turn = rng.uniform(0, np.pi)
    apart = np.array([-spacing / 2, spacing / 2])[:, None] * np.array([np.cos(turn), np.sin(turn)])
    return 5 + apart + np.cumsum(speed - speed.mean(axis=(0, 1)), axis=0) / RATE_HZ


def followed(window, spacing, amplitude_sd, shake=0.0):
    """Each run's images through the whole chain; shake: px, of the platform, which its poses tell."""
    fit = replace(FIT, amplitude_sd_dn=amplitude_sd)
    pipeline = build_pipeline(Config(window=window, fit=fit, track=TRACK), tracks=True)
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        poses = shake * np.random.default_rng([seed, 1]).standard_normal((FRAMES, 2))
        xy = pair_that_sways(rng, spacing) + poses[:, None]
        light = np.tile(AMPLITUDE + 8 * rng.standard_normal(2), (FRAMES, 1))
        images = render(xy, light) + NOISE * rng.standard_normal((FRAMES, 11, 11))
        stamps = [Stamp(f"run {seed}", 0, t, round(t * 1e9 / RATE_HZ)) for t in range(FRAMES)]
        said = [Pose(stamp, *pose, 0.0) for stamp, pose in zip(stamps, poses.tolist(), strict=True)]
        seen = zip(stamps, images.astype(np.float32), said, strict=True)
        frames = [Frame(stamp, image, pose=pose) for stamp, image, pose in seen]
        results = [result for frame in frames for result in pipeline.step([frame])]
        yield Followed(results[::2], results[1::2], xy)


@pytest.fixture(scope="module", params=[(1, *FAR), (5, *FAR), (1, *NEAR), (5, *NEAR), (5, *NEAR, 0.15)], ids=str)
def runs(request):
    return list(followed(*request.param))


def squared(away, cov):
    """(N, 2) px and (N, 2, 2) px^2 to the sum of squares in units of the covariance."""
    return float(np.einsum("ni,nij,nj->", away, np.linalg.inv(cov), away))


def matched(xy, truth):
    """The rows of each that belong together."""
    return linear_sum_assignment(np.linalg.norm(xy[:, None] - truth, axis=-1))


def within_its_bounds(total, freedom):
    """Whether a sum of squares is chi^2 of so many degrees of freedom, at 95 % of chance."""
    return abs(total - freedom) < 1.96 * np.sqrt(2 * freedom)


def test_errors_are_as_large_as_the_covariances_say(runs):
    total = 0.0
    for run in runs:
        tracks = run.tracks[-1]
        assert tracks.confirmed.tolist() == [True, True]
        mine, theirs = matched(tracks.state[:, :2], run.xy[tracks.stamp.index])
        total += squared(tracks.state[mine, :2] - run.xy[tracks.stamp.index][theirs], tracks.cov[mine, :2, :2])
    assert within_its_bounds(total, 4 * RUNS)


def test_identity_is_kept(runs):
    assert all(run.tracks[1].id.tolist() == run.tracks[-1].id.tolist() for run in runs)


def test_detections_surprise_as_much_as_their_prediction_allows():
    """Of single frames, whose errors do not depend on each other; every fifth, so that each is news."""
    straight = MODELS["velocity"]
    move = straight.modes[0].transition(1 / RATE_HZ, 0.0)
    noise = (WANDER**2 + OWN_WANDER**2) * straight.noise(1 / RATE_HZ)
    total, freedom = 0.0, 0
    for run in followed(1, *FAR):
        for k in range(10, FRAMES - 1, 5):
            tracks, next_seen = run.tracks[k], run.detections[k + 1]
            ahead = tracks.state @ move.T
            cov = move @ tracks.cov @ move.T + noise
            mine, theirs = matched(ahead[:, :2], next_seen.xy)
            total += squared(ahead[mine, :2] - next_seen.xy[theirs], cov[mine, :2, :2] + next_seen.cov[theirs])
            freedom += 2 * len(mine)
    assert freedom == 4 * RUNS * 6
    assert within_its_bounds(total, freedom)
