"""Windows that are measured at another frame than their middle one: answered sooner, nearly as well, and honestly."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from irst_stream import Detections, Frame, Stamp, Tracks, Truth
from irst_stream.build import build_pipeline
from irst_stream.config import Config, parse_config, read_config
from irst_stream.errors import FormatError
from irst_stream.fit.settings import FitSettings
from irst_stream.propose.settings import ProposeSettings
from irst_stream.score import score_detections, score_tracks
from irst_stream.sim import Groups, Platform, Scene, SceneSettings, Sensor, seqcsist
from irst_stream.system.shipped import find_config

WHOLE = 65535.0


def cso_map(config, patches):
    pipeline, pairs = build_pipeline(config), []
    for k in range(len(patches)):
        n = patches.count[k]
        for t, pixels in enumerate(patches.frames[k]):
            for found in pipeline.step([Frame(Stamp(f"{k}", 0, t, 0), pixels, WHOLE)]):
                xy = patches.xy[k, found.stamp.index, :n]
                pairs.append((found, Truth(found.stamp, np.arange(n), np.zeros(n), xy, patches.amplitude[k, :n])))
    return 100 * score_detections(pairs, "legacy").cso_map.map


@pytest.mark.parametrize("readout", ["fit", "best"])
def test_a_window_without_lag_costs_less_than_three_points(readout):
    patches = seqcsist(8, seed=22, split="test", noise=(2.0, 2.0), depth=16)
    config = replace(read_config(find_config("seqcsist")), readout=readout)
    assert cso_map(replace(config, lag=0), patches) > cso_map(config, patches) - 3


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_places_and_covariances_are_those_of_the_frame_that_is_measured(lag):
    """A target that crosses its pixels; NEES, 2 where honest, 1.4 to 2.6 asked of 40 runs of 8 windows."""
    rng, squares = np.random.default_rng(lag), []
    config = Config(
        lag=lag, fit=FitSettings(noise_dn=4.0, amplitude_dn=500, amplitude_sd_dn=300, speed_px=0.3, refit_every=1)
    )
    pipeline = build_pipeline(config)
    for run in range(40):
        start, speed = rng.uniform(4.5, 6.5, 2), rng.normal(0, 0.1, 2)
        for t in range(12):
            true = start + speed * (t - 6)
            frame = Frame(Stamp(f"{run}", 0, t, t * 10**7), drawn(true, 500.0, rng), WHOLE)
            for found in pipeline.step([frame]):
                assert found.stamp.index == t - lag
                if len(found) == 1:
                    error = found.xy[0] - (true - lag * speed)
                    squares.append(error @ np.linalg.solve(found.cov[0], error))
    assert len(squares) > 0.95 * 40 * 8
    assert 1.4 < np.mean(squares) < 2.6


def drawn(xy, amplitude, rng, noise=4.0, sigma=0.5):
    edges = np.arange(-0.5, 11.0)
    profile = [np.diff(ndtr((edges - place) / sigma)) for place in xy]
    return (amplitude * np.outer(profile[1], profile[0]) + noise * rng.standard_normal((11, 11))).astype(np.float32)


def test_tracks_of_a_moving_platform_lose_little_without_lag():
    groups = Groups(groups=1, singles=6, snr=(30, 60), speed_px_s=(1.0, 8.0))
    platform = Platform(drift_x_px_s=40.0, drift_y_px_s=-15.0, jitter_px=0.3, roll_jitter_mrad=2.0)
    config = Config(
        fit=FitSettings(amplitude_dn=900, amplitude_sd_dn=500, speed_px=0.3, own_speed_px=0.005, starts=1, refit_every=8),
        propose=ProposeSettings(false_alarms=0.1),
    )
    scores = {}
    for lag in (None, 0):
        made = list(Scene(SceneSettings(Sensor(160, 128), groups=groups, platform=platform), 60, 5))
        truth = {frame.stamp.index: true for frame, true, _ in made}
        pipeline = build_pipeline(replace(config, lag=lag), tracks=True)
        results = list(pipeline.run(replace(frame, pose=pose) for frame, _, pose in made))
        assert results[-2].stamp.index == (57 if lag is None else 59)
        pairs = [(r, truth[r.stamp.index]) for r in results if isinstance(r, Tracks)]
        scores[lag] = score_tracks(pairs).as_dict()["identity"]["idf1"]
        found = [(r, truth[r.stamp.index]) for r in results if isinstance(r, Detections)]
        assert score_detections(found).errors.position_rmse < 0.3
    assert scores[0] > scores[None] - 0.05


def test_a_lag_that_cannot_be_is_refused_in_one_line():
    with pytest.raises(FormatError, match=r"lag: expected 0 to 4 of the window's 5 frames, got 5"):
        parse_config("lag = 5", "a.toml")
    with pytest.raises(FormatError, match=r"lag: readout 'network' measures the window's middle frame; expected 2, got 0"):
        parse_config('lag = 0\nreadout = "network"\nengine = "general"', "a.toml")
