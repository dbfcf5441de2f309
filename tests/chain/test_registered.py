"""Frames of a moving platform that sends no poses: registered by their images, fitted and tracked as if it had."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream import Detections, Frame, Pose, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.chain.platform import PlatformView, window_pose, with_pose_errors
from irst_stream.conditioning.settings import RegisterSettings
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.propose.settings import ProposeSettings
from irst_stream.score import score_tracks
from irst_stream.sim import Groups, Platform, Scene, SceneSettings, Sensor
from irst_stream.sim.background import BACKGROUNDS
from irst_stream.types import Window, at_rest

CONFIG = Config(
    fit=FitSettings(amplitude_dn=900, amplitude_sd_dn=500, speed_px=0.3, own_speed_px=0.005, starts=1, refit_every=8),
    propose=ProposeSettings(false_alarms=0.1),
    register=RegisterSettings("auto"),
)


def shaken_scene(frames=60, seed=3):
    background = replace(BACKGROUNDS["broken-cloud"], wind_x_px_s=0.0, wind_y_px_s=0.0)
    platform = Platform(drift_x_px_s=40.0, drift_y_px_s=-15.0, jitter_px=0.8)
    groups = Groups(groups=2, singles=6, snr=(30, 60), speed_px_s=(1.0, 8.0))
    return Scene(SceneSettings(Sensor(320, 256), background, groups, platform), frames, seed)


def followed(made, config, given=lambda frame, _: frame):
    pipeline = build_pipeline(config, tracks=True)
    truth = {frame.stamp.index: true for frame, true, _ in made}
    results = list(pipeline.run(given(frame, pose) for frame, _, pose in made))
    tracks = [r for r in results if isinstance(r, Tracks)]
    report = score_tracks([(t, truth[t.stamp.index]) for t in tracks]).as_dict()
    return report["identity"]["idf1"], [r for r in results if isinstance(r, Detections)], pipeline


def test_a_registered_platform_is_followed_as_one_that_sends_its_poses():
    off, scores = replace(CONFIG, register=RegisterSettings()), []
    for seed in (3, 4, 5, 6):  # one scene alone differs by chance: which identities are mixed up
        made = list(shaken_scene(seed=seed))
        with_poses, _, _ = followed(made, off, lambda frame, pose: replace(frame, pose=pose))
        registered, found, pipeline = followed(made, CONFIG)
        scores.append((registered, with_poses, followed(made, off)[0]))
        assert not pipeline.events["scene", "unregistered"]
    registered, with_poses, blind = np.mean(scores, axis=0)
    assert registered > with_poses - 0.05 > blind + 0.1
    again = followed(made, CONFIG)[1]
    assert all((a.xy == b.xy).all() and (a.cov == b.cov).all() for a, b in zip(found, again, strict=True))


def test_a_sensor_that_sends_poses_is_not_registered():
    made = list(shaken_scene(12))

    def sent(frame, pose):
        return frame if frame.stamp.index % 3 == 1 else replace(frame, pose=pose)

    _, found, pipeline = followed(made, CONFIG, sent)
    _, plain, _ = followed(made, replace(CONFIG, register=RegisterSettings()), sent)
    assert all((a.xy == b.xy).all() for a, b in zip(found, plain, strict=True))
    assert not pipeline.events["scene", "unregistered"]


def test_poses_that_a_sensor_sends_can_be_left_unused():
    made = list(shaken_scene(12))
    always = replace(CONFIG, register=RegisterSettings("always"))
    _, found, _ = followed(
        made, always, lambda frame, pose: replace(frame, pose=replace(pose, x=pose.x + 3.0 * pose.stamp.index))
    )
    _, plain, _ = followed(made, CONFIG)
    assert all((a.xy == b.xy).all() and (a.cov == b.cov).all() for a, b in zip(found, plain, strict=True))


def false_detections(found, made):
    """Detections a frame that are more than 2 px from any target."""
    truth = {true.stamp.index: true.xy for _, true, _ in made}
    nearest = [np.linalg.norm(d.xy[:, None] - truth[d.stamp.index], axis=-1).min(axis=1) for d in found]
    return np.mean([(away > 2).sum() for away in nearest])


def test_clutter_stays_with_clouds_that_drift_against_a_platform():
    background = replace(BACKGROUNDS["broken-cloud"], wind_x_px_s=12.0, wind_y_px_s=3.0, edge_dn=250.0)
    platform, groups = Platform(drift_x_px_s=15.0, drift_y_px_s=-4.0), Groups(groups=0, singles=6, snr=(15, 40))
    made = list(Scene(SceneSettings(Sensor(256, 192), background, groups, platform), 130, 3))
    config = replace(CONFIG, propose=replace(CONFIG.propose, clutter_frames=100, false_alarms=0.5, most_regions=12))
    rates = []
    for when in ("auto", "always"):
        chosen = replace(config, register=RegisterSettings(when))
        _, found, _ = followed(made, chosen, lambda frame, pose: replace(frame, pose=pose))
        rates.append(false_detections(found[-50:], made))  # once clutter is known
    assert rates[0] > max(15, 5 * rates[1])


def test_frames_without_anything_to_see_are_counted_and_used_without_a_pose(caplog):
    rng = np.random.default_rng(1)
    pipeline = build_pipeline(CONFIG)
    frames = [Frame(Stamp("a", 0, k, k * 10**7), rng.normal(1000, 8, (128, 160)).astype(np.float32)) for k in range(12)]
    results = list(pipeline.run(frames))
    assert len(results) == 8
    assert pipeline.events["a", "unregistered"] == 11
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "a: frame 1 shows too little to measure the platform's motion; such frames have no pose, and are counted"
    ]


def views(*deviations):
    return [PlatformView(Pose(Stamp("a", 0, k, 0), float(k), 0.0, 0.0, sd), (20, 20)) for k, sd in enumerate(deviations)]


def detection():
    one = Detections.bare(Stamp("a", 0, 1, 0), np.zeros((1, 2)), np.ones(1), np.ones(1))
    return replace(one, cov=0.01 * np.eye(2)[None], factor=0.1 * np.eye(2)[None])


def three_frames(lag):
    one, still = np.ones(1), at_rest(1, 3, lag)
    return Window(
        Stamp("a", 0, 2 - lag, 0), np.zeros((1, 2)), np.zeros((1, 3, 9, 9), np.float32), *still, np.zeros(1, int), one, one
    )


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_the_errors_of_poses_are_counted_as_they_arise(lag):
    """A target is seen in three frames, each placed by its pose: drawn, fitted by a straight path, and compared."""
    rng, sd, window = np.random.default_rng(2), np.array([0.1, 0.2, 0.3]), three_frames(lag)
    errors = sd * rng.standard_normal((200_000, 3))
    line = errors.mean(axis=1) if lag == 1 else np.polyval(np.polyfit(np.arange(3), errors.T, 1), 2 - lag)
    in_frame = line - errors[:, 2 - lag]
    told = with_pose_errors(detection(), window, views(*sd))
    assert told.cov[0, 0, 0] - 0.01 == pytest.approx(in_frame.var(), rel=0.02)
    assert (told.factor[0] @ told.factor[0].T)[0, 0] == pytest.approx(told.cov[0, 0, 0])
    assert window_pose(window, views(*sd)).sd_px == pytest.approx(line.std(), rel=0.02)
    assert with_pose_errors(detection(), window, views(0.0, 0.0, 0.0)).cov[0, 0, 0] == 0.01
    assert with_pose_errors(detection(), window, []).cov[0, 0, 0] == 0.01
