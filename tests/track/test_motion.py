"""Motion models against filterpy's, and against two steps of half the time."""

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import IMMEstimator, KalmanFilter

from irst_stream import Detections, Stamp
from irst_stream.track import Tracker, TrackSettings
from irst_stream.track.compiled.updating import kalman_update
from irst_stream.track.motion import MODELS, window_noise

RATE = 0.7  # rad/s
VELOCITY, ACCELERATION, TURN = MODELS["velocity"], MODELS["acceleration"], MODELS["turn"]


def velocity(dt):
    return VELOCITY.modes[0].transition(dt, RATE)


def turn(dt, rate):
    return TURN.modes[0].transition(dt, rate)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_keeps_the_contract(model):
    """Two half steps are a whole one, noise is symmetric and positive, and every mode moves a state at rest nowhere."""
    assert model.size in (4, 6)
    assert model.modes
    noise, half = model.noise(0.2), model.noise(0.1)
    assert noise.shape == (model.size, model.size)
    np.testing.assert_allclose(noise, noise.T, atol=1e-15)
    assert model.density(0.5) > 0
    assert np.linalg.eigvalsh(noise).min() > 0
    at_rest = np.zeros(model.size)
    at_rest[:2] = 3.0, 4.0
    for mode in model.modes:
        move = mode.transition(0.1, RATE)
        assert mode.agility > 0
        np.testing.assert_allclose(move @ move, mode.transition(0.2, RATE), atol=1e-12)
        np.testing.assert_allclose(mode.transition(0.0, RATE), np.eye(model.size), atol=1e-12)
        np.testing.assert_allclose(move @ at_rest, at_rest, atol=1e-12)
    straight = {"velocity": velocity, "acceleration": lambda dt: ACCELERATION.modes[0].transition(dt, RATE)}
    for name, move in straight.items():
        if model is MODELS[name]:
            np.testing.assert_allclose(move(0.1) @ half @ move(0.1).T + half, noise, atol=1e-12)


@pytest.mark.parametrize(("model", "dim"), [(VELOCITY, 2), (ACCELERATION, 3)])
def test_process_noise_is_filterpys(model, dim):
    want = Q_continuous_white_noise(dim, 0.3, block_size=2, order_by_dim=False)
    np.testing.assert_allclose(model.noise(0.3), want, rtol=1e-12)


def lasting_accelerations(rng, shape, dt, lasting_s):
    """Ornstein-Uhlenbeck accelerations of variance 1 along the first axis of the shape, a step of dt seconds each."""
    keep, out = np.exp(-dt / lasting_s), rng.standard_normal(shape)
    for k in range(1, len(out)):
        out[k] = keep * out[k - 1] + np.sqrt(1 - keep**2) * out[k]
    return out


@pytest.mark.parametrize("lasting_s", [0.02, 0.5, 100.0])
@pytest.mark.parametrize("frames", [1, 3, 5, 9])
def test_window_noise_is_the_variance_of_a_straight_path_about_the_place_in_the_centre_frame(frames, lasting_s):
    fine, frame_s, half = 20, 0.04, frames // 2
    acceleration = lasting_accelerations(np.random.default_rng(2), (2 * half * fine + 1, 4000), frame_s / fine, lasting_s)
    place = np.cumsum(np.cumsum(acceleration, axis=0), axis=0)[::fine] * (frame_s / fine) ** 2
    for lag in {half, half // 2, 0}:
        line = np.polynomial.polynomial.polyfit(np.arange(frames), place, min(frames - 1, 1))
        away = np.polynomial.polynomial.polyval(frames - 1 - lag, line) - place[frames - 1 - lag]
        assert np.var(away) == pytest.approx(window_noise(frames, lag, frame_s, lasting_s), rel=0.15, abs=1e-12)


@pytest.mark.parametrize("noise_px", [0.02, 0.08])
@pytest.mark.parametrize("rate_hz", [10, 25, 50, 100, 200])
def test_covariances_are_honest_at_any_frame_rate(rate_hz, noise_px):
    """The same motion, windows of five frames and default settings; NEES of 100 runs, 2 where honest, 1.3 to 2.7 asked."""
    settings = TrackSettings(shared_frames=5)
    fine, frames, runs = max(round(500 / rate_hz), 1), 24, 100
    dt, rng = 1 / (fine * rate_hz), np.random.default_rng(rate_hz)
    sd = np.hypot(settings.manoeuvre_px_s2, settings.own_manoeuvre_px_s2)
    acceleration = sd * lasting_accelerations(rng, ((frames + 4) * fine, runs, 2), dt, settings.manoeuvre_s)
    speed = rng.uniform(-10, 10, (runs, 2)) + np.cumsum(acceleration, axis=0) * dt
    place = (100.0 * np.arange(runs)[:, None] + np.cumsum(speed, axis=0) * dt)[::fine]
    noisy = place + noise_px * np.sqrt(5) * rng.standard_normal(place.shape)
    tracker, one = Tracker(settings), np.ones(runs)
    for t in range(frames):
        seen, cov = noisy[t : t + 5].mean(axis=0), np.tile(noise_px**2 * np.eye(2), (runs, 1, 1))
        stamp = Stamp("a", 0, t, round(t * 1e9 / rate_hz))
        tracks = tracker.step(Detections(stamp, seen, cov, 235 * one, 7 * one, one, np.arange(runs)))
    assert tracks.id.tolist() == list(range(1, runs + 1))
    away = tracks.state[:, :2] - place[frames + 1]
    nees = np.einsum("ni,nij,nj->n", away, np.linalg.inv(tracks.cov[:, :2, :2]), away)
    assert 1.3 < nees.mean() < 2.7


def test_a_turn_is_a_circle_and_a_slow_turn_is_straight():
    state = np.array([0.0, 0.0, 2.0, 0.0])
    np.testing.assert_allclose(turn(np.pi, 1.0) @ state, [0, 4, -2, 0], atol=1e-12)  # half a circle of radius 2
    np.testing.assert_allclose(turn(0.5, 1e-12), velocity(0.5), atol=1e-9)


def test_prediction_and_update_are_filterpys():
    rng = np.random.default_rng(0)
    oracle = KalmanFilter(dim_x=4, dim_z=2)
    oracle.H = np.eye(2, 4)
    oracle.x, oracle.P = rng.normal(size=(4, 1)), np.diag([0.2, 0.3, 4.0, 5.0])
    x, cov, mode_probs = oracle.x.copy().reshape(1, 1, 4), oracle.P.copy()[None], np.ones(1)
    for _ in range(50):
        dt = float(rng.uniform(0.01, 0.1))
        oracle.predict(F=velocity(dt), Q=VELOCITY.noise(dt))
        x[0, 0], cov[0] = velocity(dt) @ x[0, 0], velocity(dt) @ cov[0] @ velocity(dt).T + VELOCITY.noise(dt)
        spread = np.array([[0.01, 0.003], [0.003, 0.02]])
        z = rng.normal(size=(2, 1))
        oracle.update(z, R=spread)
        measurement = np.array([*z[:, 0], spread[0, 0], spread[0, 1], spread[1, 1]])
        log = kalman_update(x, cov, mode_probs, 1, np.ones(1), measurement, 1.0, False)
        np.testing.assert_allclose(x[0, 0], oracle.x[:, 0], atol=1e-9)
        np.testing.assert_allclose(cov[0], oracle.P, atol=1e-9)
        assert log == pytest.approx(float(oracle.log_likelihood), abs=1e-9)


def test_interacting_models_are_filterpys():
    """One target that turns, detected at irregular times: the modes are calm, agile and turning either way."""
    rng = np.random.default_rng(4)
    settings = TrackSettings(
        motion="imm", detection_probability=0.999999, clutter_density=1e-9, max_hypotheses=1, gate_chi2=1e3, max_coast_s=1.0
    )
    scales, rates = (0.1, 2.0, 0.3, 0.3), (0.0, 0.0, settings.turn_rad_s, -settings.turn_rad_s)
    spread = np.array([[0.01, 0.003], [0.003, 0.02]])
    place = np.array([[20.0], [30.0]])
    models = [KalmanFilter(dim_x=4, dim_z=2) for _ in scales]
    for model in models:
        model.x, model.H, model.R = np.vstack([place, np.zeros((2, 1))]), np.eye(2, 4), spread
        model.P = np.diag([0, 0, settings.speed_px_s**2, settings.speed_px_s**2]).astype(float)
        model.P[:2, :2] = spread
    switch = np.full((4, 4), 0.02 / 3) + (0.98 - 0.02 / 3) * np.eye(4)
    oracle = IMMEstimator(models, np.full(4, 0.25), switch)
    tracker, time_ns, speed = Tracker(settings), 0, 12.0
    tracker.step(Detections(Stamp("a", 0, 0, 0), place.T, spread[None], *np.full((3, 1), 1.0), np.zeros(1)))
    for k in range(1, 80):
        step_ns = int(rng.integers(5, 150)) * 1_000_000
        dt, time_ns = step_ns / 1e9, time_ns + step_ns
        for model, scale, rate in zip(models, scales, rates, strict=True):
            variance = (scale * settings.manoeuvre_px_s2) ** 2 + (max(scale, 0.5) * settings.own_manoeuvre_px_s2) ** 2
            density = VELOCITY.density(settings.manoeuvre_s) * variance
            model.F, model.Q = turn(dt, rate), density * VELOCITY.noise(dt)
        angle = 0.8 * time_ns / 1e9
        circle = speed * np.array([[np.sin(angle)], [np.cos(angle) - 1]])
        z = place + circle + np.linalg.cholesky(spread) @ rng.normal(size=(2, 1))
        oracle.predict()
        oracle.update(z)
        tracks = tracker.step(Detections(Stamp("a", 0, k, time_ns), z.T, spread[None], *np.full((3, 1), 1.0), np.zeros(1)))
        assert len(tracks) == 1
        np.testing.assert_allclose(tracks.state[0], oracle.x[:, 0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(tracks.cov[0], oracle.P, rtol=1e-9, atol=1e-9)
    assert oracle.mu.max() < 1 - 1e-6
