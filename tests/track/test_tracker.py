"""The tracker: identities, consistency of covariances, smoothing, confirmation, and odd input."""

from dataclasses import replace

import numpy as np
import pytest
from tracking_scenes import scene

from irst_stream import Detections, Stamp, Truth, UsageError
from irst_stream.score import score_tracks
from irst_stream.track import Tracker, TrackSettings

SD = 0.08
RATE_HZ = 100.0
WANDER_PX_S = 6.0  # by which a group's velocity wanders in a second; a target's within the group: a twentieth of it
WANDERING = {"manoeuvre_px_s2": 60.0, "own_manoeuvre_px_s2": 3.0, "manoeuvre_s": 0.005}  # the same, 2 a^2 tau = 6^2


def stamp(index, epoch=0):
    return Stamp("a", epoch, index, round(index * 1e9 / RATE_HZ))


def detections(index, xy, amplitude=None, cov=None, epoch=0):
    xy = np.asarray(xy, float).reshape(-1, 2)
    n = len(xy)
    cov = np.tile(SD**2 * np.eye(2), (n, 1, 1)) if cov is None else cov
    amplitude = np.full(n, 235.0) if amplitude is None else np.asarray(amplitude, float)
    return Detections(stamp(index, epoch), xy, cov, amplitude, np.full(n, 7.0), np.ones(n), np.zeros(n, np.int64))


def follow(paths, amplitudes, seed=0, detected=0.95, settings=None, merge_px=0.5):
    """Track simulated detections of paths (T, N, 2) px: the tracks and the truth of each frame."""
    rng = np.random.default_rng(seed)
    tracker, frames = Tracker(settings), []
    for t, xy in enumerate(paths):
        light = amplitudes * (1 + 0.03 * rng.standard_normal(len(xy)))
        seen, dn = list(xy), list(light)
        if len(xy) == 2 and np.linalg.norm(xy[0] - xy[1]) < merge_px:
            seen, dn = [np.average(xy, axis=0, weights=light)], [light.sum()]
        kept = rng.random(len(seen)) < detected
        noisy = np.array(seen)[kept] + SD * rng.standard_normal((int(kept.sum()), 2))
        tracks = tracker.step(detections(t, noisy, np.array(dn)[kept]))
        n = np.arange(len(xy))
        frames.append((tracks, Truth(stamp(t), n, np.zeros_like(n), xy, amplitudes)))
    return frames


def crossing(frames=200):
    """Two targets that sway together and pass through each other."""
    t = np.arange(frames)[:, None]
    sway = 4 * np.sin(2 * np.pi * t / 400 + np.array([0.3, 1.1]))
    apart = (t / frames - 0.5) * np.array([1.8, 0.3])
    return np.stack([20 + sway + apart, 20 + sway - apart], axis=1)


def test_identity_survives_a_long_merge():
    for seed in range(4):
        report = score_tracks(follow(crossing(), np.array([226.0, 244.0]), seed)).as_dict()
        assert report["identity"]["idf1"] > 0.97
        assert report["tracks"] == 2


@pytest.mark.parametrize("rules", [{"own_manoeuvre_px_s2": 3.0}, {"own_manoeuvre_px_s2": 1.5, "motion": "imm"}])
def test_targets_that_manoeuvre_one_by_one_need_larger_own_accelerations(rules):
    seen = scene("manoeuvring", 8, 200, 2)
    calm, fitting = (
        score_tracks([(tracker.step(detections), truth) for detections, truth in seen]).identity.idf1
        for tracker in (Tracker(TrackSettings(own_manoeuvre_px_s2=0.3)), Tracker(TrackSettings(**rules)))
    )
    assert calm < 0.7
    assert fitting > 0.85


def test_covariances_are_honest():
    """The normalised estimation error squared (NEES) of 40 targets after 60 frames sums up to a chi^2 of 80 degrees."""
    rng, errors = np.random.default_rng(3), []
    settings = TrackSettings(**WANDERING, detection_probability=0.98)
    for seed in range(40):
        steps = WANDER_PX_S * np.sqrt(1 / RATE_HZ) * rng.standard_normal((61, 2))
        path = 50 + np.cumsum(np.cumsum(steps, axis=0) / RATE_HZ, axis=0)
        tracks, truth = follow(path[:, None], np.array([235.0]), seed, 0.98, settings)[-1]
        assert len(tracks) == 1
        away = tracks.state[0, :2] - truth.xy[0]
        errors.append(away @ np.linalg.solve(tracks.cov[0, :2, :2], away))
    assert 80 - 2.5 * np.sqrt(160) < np.sum(errors) < 80 + 2.5 * np.sqrt(160)  # chi^2 of 80 degrees of freedom


@pytest.mark.parametrize("shared_frames", [1, 5])
def test_shared_parts_of_errors_improve_the_mean_position(shared_frames):
    """Two targets in formation with nearly opposite errors: their mean position is known far better than either."""
    rng = np.random.default_rng(8)
    settings = TrackSettings(**WANDERING, shared_frames=shared_frames)
    parts = np.zeros((2, 2, 4))
    parts[:, :, :2] = 0.3 * SD * np.eye(2)
    parts[:, :, 2:] = SD * np.array([np.eye(2), -np.eye(2)])
    cov = parts @ parts.swapaxes(1, 2)
    squares, errors = [], {True: [], False: []}
    for _ in range(40):
        steps = WANDER_PX_S * np.sqrt(1 / RATE_HZ) * rng.standard_normal((41, 2))
        middle = 50 + np.cumsum(np.cumsum(steps, axis=0) / RATE_HZ, axis=0)
        noise = rng.standard_normal((41 + shared_frames, 4))
        with_parts, without_parts = Tracker(settings), Tracker(settings)
        for t in range(41):
            xy = middle[t] + np.array([[-1.0, 0.0], [1.0, 0.0]])
            seen = detections(t, xy + parts @ noise[t : t + shared_frames].sum(0) / np.sqrt(shared_frames), cov=cov)
            tracks = {True: with_parts.step(replace(seen, factor=parts)), False: without_parts.step(seen)}
        for with_parts_known, last in tracks.items():
            away = last.state[np.argsort(last.state[:, 0]), :2] - xy
            errors[with_parts_known].append(np.sum(away.mean(0) ** 2))
            if with_parts_known:
                squares.append(sum(a @ np.linalg.solve(c, a) for a, c in zip(away, last.cov[:, :2, :2], strict=True)))
    assert np.mean(errors[True]) < 0.8 * np.mean(errors[False])
    assert np.mean(squares) == pytest.approx(4, abs=1.3)


def test_smoothed_tracks_are_delayed_and_more_accurate():
    path, light = crossing(), np.array([226.0, 244.0])
    at_once = follow(path, light)
    later = follow(path, light, settings=TrackSettings(smoothing_lag=8))
    truths = [truth for _, truth in at_once]
    pairs = [(tracks, truths[tracks.stamp.index]) for tracks, _ in later[20:]]
    assert [tracks.stamp.index for tracks, _ in pairs] == list(range(12, 192))
    rough, smooth = (score_tracks(frames).as_dict()["follow"]["position_rmse"] for frames in (at_once[20:], pairs))
    assert smooth < 0.9 * rough


def test_tracks_are_confirmed_and_ended_and_ids_are_not_reused():
    tracker = Tracker(TrackSettings(max_coast_s=0.05))
    first = tracker.step(detections(0, [[5, 5]]))
    assert first.confirmed.tolist() == [False]
    second = tracker.step(detections(1, [[5, 5]]))
    assert second.confirmed.tolist() == [True]
    assert second.id.tolist() == first.id.tolist()
    for k in range(2, 12):
        gone = tracker.step(detections(k, []))
    assert len(gone) == 0
    assert tracker.step(detections(12, [[5, 5]])).id[0] > first.id[0]


def test_a_new_epoch_resets_the_tracker_and_late_frames_are_counted():
    tracker = Tracker()
    ids = [tracker.step(detections(k, [[5, 5]])).id[0] for k in range(4)]
    assert len(set(ids)) == 1
    tracker.step(detections(2, [[5, 5]]))
    assert tracker.late == 1
    assert tracker.step(detections(0, [[5, 5]], epoch=1)).id[0] > ids[0]
    assert len(tracker.step(detections(10**6, [], epoch=1))) == 0, "hours of silence"


@pytest.mark.parametrize("shared_frames", [0, 1, 5])
def test_odd_detections_do_no_harm(shared_frames):
    tracker = Tracker(TrackSettings(shared_frames=shared_frames))
    rng = np.random.default_rng(0)
    for k in range(5):
        tracker.step(detections(k, [[5, 5], [5, 5], [5, 5]]))  # identical
    broken = np.array([np.full((2, 2), np.nan), np.zeros((2, 2)), [[1.0, 2.0], [2.0, 1.0]], [[1.0, 1 - 2e-16], [1.0, 1.0]]])
    seen = detections(5, [[5, 5], [9, 9], [12, 12], [5, 6]], cov=broken)
    odd = seen.factor, np.full((4, 2, 3), np.nan), np.full((4, 2, 3), np.inf), np.ones((4, 2, 999))
    for k, factor in enumerate(odd):
        tracker.step(replace(seen, factor=factor, stamp=stamp(5 + k)))
    for k in range(9, 12):
        tracks = tracker.step(detections(k, rng.uniform(0, 11, (1000, 2))))  # a thousand false alarms in one region
        assert np.isfinite(tracks.state).all()
        assert (np.linalg.eigvalsh(tracks.cov) > 0).all()
    for k in range(12, 63):
        tracks = tracker.step(detections(k, [], amplitude=[]))
    assert len(tracks) == 0


def test_unknown_brightness_is_ignored():
    tracker = Tracker()
    for k in range(6):
        tracks = tracker.step(detections(k, [[5 + 0.01 * k, 5], [8, 5]], amplitude=[np.nan, np.nan]))
    assert tracks.confirmed.tolist() == [True, True]
    assert np.isnan(tracks.amplitude).all()


@pytest.mark.parametrize(
    "settings", [{"motion": "imm"}, {"motion": "acceleration"}, {"motion": "turn"}, {"shared_frames": 5}]
)
def test_every_model_tracks_a_straight_flight(settings):
    path = np.stack([10 + 0.05 * np.arange(60), 10 - 0.02 * np.arange(60)], axis=-1)[:, None]
    frames = follow(path, np.array([235.0]), settings=TrackSettings(**settings))
    tracks, truth = frames[-1]
    assert tracks.confirmed.sum() == 1
    assert np.linalg.norm(tracks.state[tracks.confirmed][0, :2] - truth.xy[0]) < 0.15
    assert (np.linalg.eigvalsh(tracks.cov) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"manoeuvre_px_s2": 0.0}, "track.manoeuvre_px_s2: expected a number above 0"),
        ({"detection_probability": 1.0}, "track.detection_probability: expected more than 0 and less than 1"),
        ({"false_tracks_h": 0.0}, "track.false_tracks_h: expected a number above 0"),
        ({"clutter_memory_s": -1.0}, "track.clutter_memory_s: expected 0 or more"),
        ({"max_hypotheses": 0}, "track.max_hypotheses: expected 1 to 200"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Tracker(TrackSettings(**settings))


def test_a_clock_that_goes_back_resets_the_tracker_once():
    tracker = Tracker()
    for k in range(20):
        seen = detections(k, [[5.0, 5.0]])
        if k >= 10:
            seen = replace(seen, stamp=replace(seen.stamp, time_ns=seen.stamp.time_ns - 3_600_000_000_000))
        tracks = tracker.step(seen)
        assert tracks.stamp == seen.stamp
        assert tracks.confirmed.any() == (k not in (0, 10))
    assert tracker.late == 0


def test_a_score_of_zero_starts_no_track_but_continues_one():
    tracker = Tracker()
    for k in range(40):
        assert len(tracker.step(replace(detections(k, [[5.0, 5.0]]), score=np.zeros(1)))) == 0
    for k in range(40, 80):
        seen = replace(detections(k, [[5.0, 5.0]]), score=np.full(1, 0.95 if k < 44 else 0.0))
        tracks = tracker.step(seen)
    assert tracks.confirmed.tolist() == [True]
    assert tracks.detection.tolist() == [0]
