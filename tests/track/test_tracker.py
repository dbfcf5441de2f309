"""The tracker: what it keeps apart, how sure it is, and what it does with odd input."""

from dataclasses import replace

import numpy as np
import pytest
from tracking_scenes import scene

from irst_stream import Detections, Stamp, Truth, UsageError
from irst_stream.score import score_tracks
from irst_stream.track import Tracker, TrackSettings

SD = 0.08
RATE_HZ = 100.0


def stamp(index, epoch=0):
    return Stamp("a", epoch, index, round(index * 1e9 / RATE_HZ))


def detections(index, xy, amplitude=None, cov=None, epoch=0):
    xy = np.asarray(xy, float).reshape(-1, 2)
    n = len(xy)
    cov = np.tile(SD**2 * np.eye(2), (n, 1, 1)) if cov is None else cov
    amplitude = np.full(n, 235.0) if amplitude is None else np.asarray(amplitude, float)
    return Detections(stamp(index, epoch), xy, cov, amplitude, np.full(n, 7.0), np.ones(n), np.zeros(n, np.int64))


def follow(paths, amplitudes, seed=0, detected=0.95, settings=None, merge_px=0.5):
    """Paths (T, N, 2) px as a detector sees them, through a tracker: what is published and true of each frame."""
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


@pytest.mark.parametrize("rules", [{"own_sway_px_s": 3.0}, {"own_sway_px_s": 1.5, "motion": "imm"}])
def test_targets_that_manoeuvre_one_by_one_ask_for_what_the_settings_say(rules):
    seen = scene("manoeuvring", 8, 200, 2)
    usual, told = (
        score_tracks([(tracker.step(detections), truth) for detections, truth in seen]).identity.idf1
        for tracker in (Tracker(TrackSettings(own_sway_px_s=0.3)), Tracker(TrackSettings(**rules)))
    )
    assert usual < 0.7
    assert told > 0.85


def test_covariances_are_honest():
    """Mean squared error in units of the covariance, over 40 targets of 60 frames, against its 95 % bounds, by chance."""
    rng, errors = np.random.default_rng(3), []
    settings = TrackSettings(sway_px_s=6.0, own_sway_px_s=0.3, detection_probability=0.98)
    for seed in range(40):
        steps = settings.sway_px_s * np.sqrt(1 / RATE_HZ) * rng.standard_normal((61, 2))
        path = 50 + np.cumsum(np.cumsum(steps, axis=0) / RATE_HZ, axis=0)
        tracks, truth = follow(path[:, None], np.array([235.0]), seed, 0.98, settings)[-1]
        assert len(tracks) == 1
        away = tracks.state[0, :2] - truth.xy[0]
        errors.append(away @ np.linalg.solve(tracks.cov[0, :2, :2], away))
    assert 80 - 2.5 * np.sqrt(160) < np.sum(errors) < 80 + 2.5 * np.sqrt(160)  # chi^2 of 80 degrees of freedom


@pytest.mark.parametrize("overlap", [1, 5])
def test_what_errors_have_in_common_is_made_use_of(overlap):
    """Two targets in formation, whose errors are nearly opposite, so that their middle is known far better than either."""
    rng = np.random.default_rng(8)
    settings = TrackSettings(sway_px_s=6.0, own_sway_px_s=0.3, shared_frames=overlap)
    parts = np.zeros((2, 2, 4))
    parts[:, :, :2] = 0.3 * SD * np.eye(2)
    parts[:, :, 2:] = SD * np.array([np.eye(2), -np.eye(2)])
    cov = parts @ parts.swapaxes(1, 2)
    squares, errors = [], {True: [], False: []}
    for _ in range(40):
        steps = settings.sway_px_s * np.sqrt(1 / RATE_HZ) * rng.standard_normal((41, 2))
        middle = 50 + np.cumsum(np.cumsum(steps, axis=0) / RATE_HZ, axis=0)
        news = rng.standard_normal((41 + overlap, 4))
        told, untold = Tracker(settings), Tracker(settings)
        for t in range(41):
            xy = middle[t] + np.array([[-1.0, 0.0], [1.0, 0.0]])
            seen = detections(t, xy + parts @ news[t : t + overlap].sum(0) / np.sqrt(overlap), cov=cov)
            tracks = {True: told.step(replace(seen, factor=parts)), False: untold.step(seen)}
        for known, last in tracks.items():
            away = last.state[np.argsort(last.state[:, 0]), :2] - xy
            errors[known].append(np.sum(away.mean(0) ** 2))
            if known:
                squares.append(sum(a @ np.linalg.solve(c, a) for a, c in zip(away, last.cov[:, :2, :2], strict=True)))
    assert np.mean(errors[True]) < 0.8 * np.mean(errors[False])
    assert np.mean(squares) == pytest.approx(4, abs=1.3)


def test_smoothed_output_is_later_and_better():
    path, light = crossing(), np.array([226.0, 244.0])
    at_once = follow(path, light)
    later = follow(path, light, settings=TrackSettings(smoothing_lag=8))
    truths = [truth for _, truth in at_once]
    pairs = [(tracks, truths[tracks.stamp.index]) for tracks, _ in later[20:]]
    assert [tracks.stamp.index for tracks, _ in pairs] == list(range(12, 192))
    rough, smooth = (score_tracks(frames).as_dict()["follow"]["position_rmse"] for frames in (at_once[20:], pairs))
    assert smooth < 0.9 * rough


def test_tracks_are_confirmed_and_ended_and_ids_never_come_again():
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


def test_a_restart_begins_anew_and_what_is_late_is_counted():
    tracker = Tracker()
    ids = [tracker.step(detections(k, [[5, 5]])).id[0] for k in range(4)]
    assert len(set(ids)) == 1
    tracker.step(detections(2, [[5, 5]]))
    assert tracker.late == 1
    assert tracker.step(detections(0, [[5, 5]], epoch=1)).id[0] > ids[0]
    assert len(tracker.step(detections(10**6, [], epoch=1))) == 0, "hours of silence"


@pytest.mark.parametrize("overlap", [0, 1, 5])
def test_odd_detections_do_no_harm(overlap):
    tracker = Tracker(TrackSettings(shared_frames=overlap))
    rng = np.random.default_rng(0)
    for k in range(5):
        tracker.step(detections(k, [[5, 5], [5, 5], [5, 5]]))  # identical
    broken = np.array([np.full((2, 2), np.nan), np.zeros((2, 2)), [[1.0, 2.0], [2.0, 1.0]], [[1.0, 1 - 2e-16], [1.0, 1.0]]])
    seen = detections(5, [[5, 5], [9, 9], [12, 12], [5, 6]], cov=broken)
    odd = seen.factor, np.full((4, 2, 3), np.nan), np.full((4, 2, 3), np.inf), np.ones((4, 2, 999))
    for k, factor in enumerate(odd):
        tracker.step(replace(seen, factor=factor, stamp=stamp(5 + k)))
    for k in range(9, 12):
        tracks = tracker.step(detections(k, rng.uniform(0, 11, (1000, 2))))  # a thousand false alarms in one patch
        assert np.isfinite(tracks.state).all()
        assert (np.linalg.eigvalsh(tracks.cov) > 0).all()
    for k in range(12, 63):
        tracks = tracker.step(detections(k, [], amplitude=[]))
    assert len(tracks) == 0


def test_brightness_that_is_unknown_is_left_out():
    tracker = Tracker()
    for k in range(6):
        tracks = tracker.step(detections(k, [[5 + 0.01 * k, 5], [8, 5]], amplitude=[np.nan, np.nan]))
    assert tracks.confirmed.tolist() == [True, True]
    assert np.isnan(tracks.amplitude).all()


@pytest.mark.parametrize("settings", [{"motion": "imm"}, {"motion": "acceleration"}, {"motion": "turn"}, {"overlap": 5}])
def test_every_model_follows_a_plain_flight(settings):
    path = np.stack([10 + 0.05 * np.arange(60), 10 - 0.02 * np.arange(60)], axis=-1)[:, None]
    frames = follow(path, np.array([235.0]), settings=TrackSettings(**settings))
    tracks, truth = frames[-1]
    assert len(tracks) == 1
    assert np.linalg.norm(tracks.state[0, :2] - truth.xy[0]) < 0.15
    assert (np.linalg.eigvalsh(tracks.cov) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sway_px_s": 0.0}, "track.sway_px_s: expected a number above 0"),
        ({"detection_probability": 1.0}, "track.detection_probability: expected more than 0 and less than 1"),
        (
            {"confirm_hits": 4, "confirm_window": 3},
            "track.confirm_hits: expected 1 <= confirm_hits <= confirm_window <= 32",
        ),
        ({"max_hypotheses": 0}, "track.max_hypotheses: expected 1 to 200"),
    ],
)
def test_settings_that_make_no_tracker_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Tracker(TrackSettings(**settings))


def test_a_clock_that_goes_back_starts_anew_and_keeps_nothing_dark():
    tracker = Tracker()
    for k in range(20):
        seen = detections(k, [[5.0, 5.0]])
        if k >= 10:
            seen = replace(seen, stamp=replace(seen.stamp, time_ns=seen.stamp.time_ns - 3_600_000_000_000))
        tracks = tracker.step(seen)
        assert tracks.stamp == seen.stamp
        assert tracks.confirmed.any() == (k not in (0, 10))
    assert tracker.late == 0


def test_what_is_hardly_believed_starts_no_track_but_keeps_one_going():
    tracker = Tracker()
    for k in range(40):
        doubted = replace(detections(k, [[5.0, 5.0]]), score=np.full(1, 0.05))
        assert len(tracker.step(doubted)) == 0
    for k in range(40, 80):
        seen = replace(detections(k, [[5.0, 5.0]]), score=np.full(1, 0.95 if k < 44 else 0.05))
        tracks = tracker.step(seen)
    assert tracks.confirmed.tolist() == [True]
    assert tracks.detection.tolist() == [0]
