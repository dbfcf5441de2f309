"""Platform poses: how frames carry them, and how fits and tracks use them."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from irst_stream import Detections, Frame, Pose, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.chain.platform import PoseHistory, correct_for_roll, is_known, with_platform_shifts
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.io.zeromq import wire
from irst_stream.optics import render
from irst_stream.track import TrackSettings
from irst_stream.types import Window, at_rest

SHAPE = (11, 11)


def frame(index, x=0.0, y=0.0, roll=0.0, epoch=0, pixels=None):
    stamp = Stamp("a", epoch, index, index * 10**7)
    pixels = np.zeros(SHAPE, np.float32) if pixels is None else pixels
    return Frame(stamp, pixels, pose=Pose(stamp, x, y, roll))


def received(frame):
    """The frame after encoding and decoding."""
    return wire.decode(wire.encode(frame)).record


def with_metadata(frame, said):
    return replace(frame, metadata=msgspec.msgpack.encode(said), pose=None)


def test_a_pose_travels_with_a_frame():
    given = frame(3, 1.5, -2.0, 0.01)
    assert received(given).pose == Pose(given.stamp, 1.5, -2.0, 0.01)
    assert received(replace(given, pose=None)).pose is None
    assert received(with_metadata(given, {"gain": 3})).pose is None
    said = {"pose": {"x": 1, "y": 2}, "gain": 3}
    assert received(with_metadata(given, said)).pose == Pose(given.stamp, 1.0, 2.0, 0.0)
    assert msgspec.msgpack.decode(received(with_metadata(given, said)).metadata) == said


ODD = (
    [1, 2],
    {"pose": 3},
    {"pose": {"x": "far", "y": 0}},
    {"pose": {"x": float("nan"), "y": 0}},
    {"pose": {"x": 1e300, "y": 0}},
    {"pose": {"x": 1}},
)


@pytest.mark.parametrize("said", ODD, ids=str)
def test_an_odd_pose_is_counted_and_the_frame_is_used_without_one(said):
    odd = received(with_metadata(frame(0), said))
    assert not is_known(odd.pose)
    pipeline = build_pipeline(Config(window=1))
    assert len(pipeline.step([odd])) == 1
    assert pipeline.events["a", "pose"] == 1


def window(index, *corners, frames=5):
    n, stamp = len(corners), frame(index).stamp
    patches, unknown = np.zeros((n, frames, *SHAPE), np.float32), np.full(n, np.nan)
    xy = np.array(corners, float).reshape(n, 2)
    return Window(stamp, xy, patches, *at_rest(n, frames), np.arange(n), unknown, unknown)


def test_a_windows_views_are_all_known_or_none():
    poses = PoseHistory(5)
    for k in range(5):
        poses.add(frame(k, x=float(k == 2)))
    views = poses.window_views(frame(2).stamp)
    assert [view.pose.x for view in views] == [0, 0, 1, 0, 0]
    assert views[2].shape == SHAPE
    shifts = with_platform_shifts(window(2, (0, 0)), views).platform_shifts
    assert shifts[0].tolist() == [[-float(t != 0), 0] for t in (-2, -1, 0, 1, 2)]
    assert with_platform_shifts(window(2), views).platform_shifts.shape == (0, 5, 2)
    poses.add(frame(5, epoch=1))
    for index in (3, 4):
        assert poses.window_views(frame(index).stamp) == [], "frame 5 has not come; another epoch's does not count"
        assert not with_platform_shifts(window(index, (0, 0)), []).platform_shifts.any()


def test_a_rolling_platform_shifts_each_region_differently():
    poses = PoseHistory(3)
    for k, (x, roll) in enumerate([(0.0, 0.0), (3.0, 0.03), (1.0, 0.0)]):
        poses.add(replace(frame(k, x=x, roll=roll), pixels=np.zeros((41, 41), np.float32)))
    moved = with_platform_shifts(window(1, (15, 15), (15, 30), frames=3), poses.window_views(frame(1).stamp))
    np.testing.assert_allclose(moved.platform_shifts[0], [[-3, 0], [0, 0], [-2, 0]], atol=0.1)
    np.testing.assert_allclose(moved.platform_shifts[1, :, 0], [-3 + 15 * 0.03, 0, -2 + 15 * 0.03], atol=0.01)


def test_a_light_too_large_for_a_region_stays_where_the_centre_frame_saw_it():
    poses = PoseHistory(5)
    for k in range(5):
        poses.add(replace(frame(k, roll=0.01 * k), pixels=np.zeros((41, 41), np.float32)))
    views = poses.window_views(frame(2).stamp)
    seen = with_platform_shifts(window(2, (5, 5)), views)
    found = Detections.bare(seen.stamp, np.array([(8.0, 12.0), (30.0, 30.0)]), np.ones(2), np.ones(2))
    fitted, large = correct_for_roll(replace(found, region=np.array([0, -1])), seen, views).xy
    assert large.tolist() == [30, 30]
    assert fitted != pytest.approx([8, 12], abs=1e-6)


@pytest.mark.parametrize("readout", ["fit", "best"])
def test_a_rolling_platform_does_not_bias_targets_off_their_regions_centre(readout):
    rng, total, frames = np.random.default_rng(5), 0.0, 200
    rolls = 0.02 * rng.standard_normal(frames)
    turned = np.column_stack([np.cos(rolls), np.sin(rolls)]) * 4.0
    images = render(5.0 + turned[:, None], np.full((frames, 1), 235.0)) + 2 * rng.standard_normal((frames, 11, 11))
    pipeline = build_pipeline(Config(readout=readout, engine="seqcsist"))
    given = [frame(k, roll=float(rolls[k]), pixels=image.astype(np.float32)) for k, image in enumerate(images)]
    found = [result for f in given for result in pipeline.step([f])]
    for seen in found:
        away = seen.xy[0] - 5 - turned[seen.stamp.index]
        total += away @ np.linalg.solve(seen.cov[0], away)
    assert total / len(found) < 3.0, "2 where errors are as large as the covariances say"


def test_after_a_gap_the_platforms_motion_meanwhile_does_no_harm():
    """One frame in seven is missing, and the platform sweeps to and fro; its poses are known."""
    rng, errors = np.random.default_rng(6), []
    sweep = np.cumsum(np.where(np.arange(120) // 7 % 2, -0.5, 0.5))
    sweep -= sweep.mean()
    xy = np.array([[4.6, 5.2], [5.6, 4.8]])
    images = render(xy + sweep[:, None, None] * [1.0, 0.0], np.full((120, 2), 235.0))
    images += 2 * rng.standard_normal(images.shape)
    pipeline = build_pipeline(Config(fit=FitSettings(speed_px=0.3, own_speed_px=0.005, starts=1, refit_every=8)))
    for k, image in enumerate(images):
        if k % 7 != 6:
            for found in pipeline.step([frame(k, x=float(sweep[k]), pixels=image.astype(np.float32))]):
                truth = xy + np.array([sweep[found.stamp.index], 0.0])
                errors += list(np.linalg.norm(found.xy[:, None] - truth, axis=-1).min(axis=0))
    assert len(errors) > 60
    assert np.quantile(errors, 0.95) < 0.06


def test_known_poses_remove_the_shake_of_a_platform():
    rng = np.random.default_rng(4)
    shake = 0.15 * rng.standard_normal((60, 2))
    xy = 5.2 + shake[:, None]
    images = render(xy, np.full((60, 1), 235.0)) + rng.standard_normal((60, 11, 11))
    error = {}
    for known in (True, False):
        pipeline = build_pipeline(Config(), tracks=True)
        frames = [frame(k, *shake[k].tolist(), pixels=image.astype(np.float32)) for k, image in enumerate(images)]
        given = frames if known else [replace(f, pose=None) for f in frames]
        results = [result for f in given for result in pipeline.step([f])]
        last = results[20:]  # from the tenth frame on: detections and tracks
        error[known] = np.mean(
            [np.sum(((r.xy if isinstance(r, Detections) else r.state[:, :2])[0] - xy[r.stamp.index, 0]) ** 2) for r in last]
        )
    assert error[True] < 0.02 * error[False]


def test_repeated_frames_and_a_restart_keep_poses_known():
    poses = PoseHistory(3)
    for k in (0, 1, 1, 2, 0):
        poses.add(frame(k, x=1.0))
    assert [view.pose.x for view in poses.window_views(frame(1).stamp)] == [1, 1, 1]


def test_waiting_tracks_are_returned_when_a_sensor_restarts():
    pipeline = build_pipeline(Config(window=1, track=TrackSettings(smoothing_lag=3)), tracks=True)
    given = [frame(k, epoch=epoch) for epoch in (0, 1) for k in range(6)]
    results = [result for f in given for result in pipeline.step([f])] + pipeline.finish()
    tracks = [(r.stamp.epoch, r.stamp.index) for r in results if isinstance(r, Tracks)]
    assert tracks == [(f.stamp.epoch, f.stamp.index) for f in given]
