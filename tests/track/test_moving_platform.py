"""A platform that shakes and rolls: with its poses, targets are tracked as if it stood still."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream import Detections, Pose, Stamp, Truth, UsageError
from irst_stream.chain.platform import to_frame, to_world
from irst_stream.score import score_tracks
from irst_stream.track import Tracker, TrackSettings

SHAPE = (240, 320)
CENTRE = np.array([159.5, 119.5])
SD = 0.08


def poses(frames, seed=0, jitter_px=3.0, roll_rad=0.02, drift_px=0.5):
    """Poses with random shifts of several px, rolls that move the frame's corners by as much, and a steady drift."""
    rng = np.random.default_rng(seed)
    shift = jitter_px * rng.standard_normal((frames, 2)) + drift_px * np.arange(frames)[:, None]
    roll = roll_rad * rng.standard_normal(frames)
    return [Pose(stamp(t), *xy, angle) for t, (xy, angle) in enumerate(zip(shift.tolist(), roll.tolist(), strict=True))]


def stamp(t):
    return Stamp("a", 0, t, t * 10_000_000)


def to_shaken(pose, xy):
    """Positions in the frame of points in the world: the definition in types.Pose, written out."""
    c, s = np.cos(pose.roll_rad), np.sin(pose.roll_rad)
    return (xy - CENTRE) @ np.array([[c, s], [-s, c]]) + CENTRE + (pose.x, pose.y)


def world(frames=80, seed=0):
    """Five pairs of targets that drift slowly: detections (T, 10, 2) and truth (T, 10, 2), px."""
    rng = np.random.default_rng(seed)
    middle = np.array([[30, 30], [290, 40], [160, 120], [40, 200], [280, 210]], float)
    start = np.repeat(middle, 2, axis=0) + np.tile([[-0.6, 0.0], [0.6, 0.2]], (5, 1))
    path = start + np.arange(frames)[:, None, None] * np.repeat(rng.uniform(-0.03, 0.03, (5, 2)), 2, axis=0)
    return path + SD * rng.standard_normal(path.shape), path


def report(with_poses, settings=None, shake=True):
    """Scores of a shaken scene, in px of the shaken frames; with_poses: whether the tracker is given the poses."""
    seen, path = world()
    tracker, frames = Tracker(settings, SHAPE), []
    still = [Pose(stamp(t), 0.0, 0.0, 0.0) for t in range(len(path))]
    for t, pose in enumerate(poses(len(path)) if shake else still):
        xy, true = to_shaken(pose, seen[t]), to_shaken(pose, path[t])
        n = len(xy)
        spread = np.tile(SD**2 * np.eye(2), (n, 1, 1))
        detections = Detections(stamp(t), xy, spread, np.full(n, 235.0), np.full(n, 7.0), np.ones(n), np.zeros(n))
        tracks = tracker.step(detections, pose if with_poses else None)
        ids = np.arange(n)
        frames.append((tracks, Truth(stamp(t), ids, ids // 2, true, np.full(n, 235.0))))
    lag = tracker.settings.smoothing_lag
    truths = [truth for _, truth in frames]
    return score_tracks([(tracks, truths[tracks.stamp.index]) for tracks, _ in frames[lag:]]).as_dict()


@pytest.mark.parametrize("rules", [{}, {"smoothing_lag": 5}, {"shared_frames": 3}, {"motion": "acceleration"}])
def test_poses_compensate_a_shaking_platform(rules):
    settings = TrackSettings(**rules)
    steady, stabilised = report(False, settings, shake=False), report(True, settings)
    assert stabilised["tracks"] == steady["tracks"] == 10
    assert stabilised["identity"]["idf1"] == steady["identity"]["idf1"] > 0.96  # confirmed once windows share no frame
    assert stabilised["follow"]["position_rmse"] == pytest.approx(steady["follow"]["position_rmse"], rel=1e-6)


def test_without_poses_a_shaking_platform_breaks_all_tracks():
    assert report(False)["identity"]["idf1"] < 0.2


def test_to_frame_and_to_world_are_inverse_and_rotate_covariances():
    pose = Pose(stamp(0), 5.0, -3.0, 0.7)
    rng = np.random.default_rng(1)
    xy, factor = rng.uniform(0, 200, (7, 2)), rng.standard_normal((7, 4, 4))
    cov = factor @ np.swapaxes(factor, 1, 2)
    state, seen_cov = to_frame(pose, CENTRE, np.hstack([xy, np.tile([1.0, 0.0], (7, 1))]), cov)
    np.testing.assert_allclose(state[:, :2], to_shaken(pose, xy), atol=1e-10)
    np.testing.assert_allclose(state[:, 2:], np.tile([np.cos(0.7), np.sin(0.7)], (7, 1)), atol=1e-12)  # x towards y
    parts = np.linalg.cholesky(seen_cov[:, :2, :2])
    back, back_cov, back_parts = to_world(pose, CENTRE, state[:, :2], seen_cov[:, :2, :2], parts)
    np.testing.assert_allclose(back, xy, atol=1e-10)
    np.testing.assert_allclose(back_cov, cov[:, :2, :2], atol=1e-10)
    np.testing.assert_allclose(back_parts @ back_parts.swapaxes(1, 2), cov[:, :2, :2], atol=1e-10)


def test_late_frames_are_inserted_with_their_poses():
    seen, _ = world(12)
    late, in_order = Tracker(shape=SHAPE), Tracker(shape=SHAPE)
    given = [
        (Detections.bare(stamp(t), to_shaken(pose, seen[t]), np.full(10, 235.0), np.ones(10)), pose)
        for t, pose in enumerate(poses(12))
    ]
    given[7] = (given[7][0], None)  # takes the pose of the frame before, which arrives later
    for t in (0, 1, 2, 4, 3, 5, 7, 8, 6, 9, 11, 10):
        tracks = late.step(*given[t])
    for each in given:
        expected = in_order.step(*each)
    one, other = (np.lexsort(each.state.T) for each in (tracks, expected))
    np.testing.assert_array_equal(tracks.state[one], expected.state[other])


def test_a_frame_whose_pose_is_not_finite_takes_the_pose_before():
    tracker = Tracker(shape=SHAPE)
    pose = Pose(stamp(0), 4.0, 2.0, 0.3)
    for t, each in enumerate([pose, replace(pose, x=np.nan), replace(pose, roll_rad=np.inf), None]):
        xy = to_shaken(pose, np.array([[50.0, 60.0]]))
        tracks = tracker.step(Detections.bare(stamp(t), xy, np.ones(1), np.ones(1)), each)
    assert tracks.id.tolist() == [1]
    np.testing.assert_allclose(tracks.state[0], [*xy[0], 0, 0], atol=1e-9)


def test_poses_that_roll_require_the_shape_of_the_frames():
    nothing = Detections.bare(stamp(0), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    with pytest.raises(UsageError, match=r"shape: expected \(H, W\) of the frames, since poses roll about their centre"):
        Tracker().step(nothing, Pose(stamp(0), 0.0, 0.0, 0.1))
    Tracker().step(nothing, Pose(stamp(0), 3.0, 4.0, 0.0))
