"""Covariances of the fit: errors have the stated size, for noise of each kind and targets that share light."""

import math

import numpy as np
import pytest
from fitted_images import TIMES, UNKNOWN_BRIGHTNESS, fit, images, match, window

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.region_targets import NO_TARGETS, block_diagonal, stack_factors
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render

CHI2_95 = 5.991  # of two degrees of freedom


@pytest.fixture(scope="module")
def fitter():
    return fit()


@pytest.mark.parametrize("spacing", [0.7, 1.0])
def test_the_95_percent_ellipse_holds_the_truth_in_95_percent_of_cases(spacing, fitter):
    rng = np.random.default_rng(5)
    inside = []
    for k in range(400):
        angle = rng.uniform(0, np.pi)
        arm = spacing / 2 * np.array([np.cos(angle), np.sin(angle)])
        xy = 5 + rng.uniform(-0.5, 0.5, 2) + np.array([arm, -arm])
        patches = images(xy, rng.normal(0, 0.03, 2), rng.normal(235, 8.7, 2), 2.0, seed=k)
        found = fitter(window(patches))
        if len(found) == 2:
            away = found.xy[match(found, xy)] - xy
            cov = found.cov[match(found, xy)]
            inside += [e @ np.linalg.solve(c, e) < CHI2_95 for e, c in zip(away, cov, strict=True)]
    assert len(inside) > 780
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_errors_of_targets_that_share_light_have_the_stated_joint_covariance():
    """A pair's joint errors are chi^2 of four degrees of freedom; by the two covariances alone they are not."""
    fitter, together, alone = fit(most_targets=2, noise_dn=4.0), [], []
    rng = np.random.default_rng(5)
    for k in range(400):
        angle = rng.uniform(0, np.pi)
        arm = 0.45 * np.array([np.cos(angle), np.sin(angle)])
        xy = 5 + rng.uniform(-0.5, 0.5, 2) + np.array([arm, -arm])
        found = fitter(window(images(xy, rng.normal(0, 0.03, 2), rng.normal(235, 8.7, 2), 4.0, seed=k)))
        assert len(found) == 2
        order = match(found, xy)
        away, parts = found.xy[order] - xy, found.factor[order].reshape(4, -1)
        np.testing.assert_allclose(found.factor @ found.factor.swapaxes(1, 2), found.cov, rtol=1e-9, atol=1e-12)
        together.append(away.ravel() @ np.linalg.solve(parts @ parts.T, away.ravel()))
        alone.append(np.einsum("ni,nij,nj->", away, np.linalg.inv(found.cov[order]), away))
    assert np.mean(together) == pytest.approx(4, abs=0.35)  # 2.5 deviations of a mean of 400
    assert np.std(together) == pytest.approx(np.sqrt(8), rel=0.2)
    assert np.std(alone) > 1.15 * np.sqrt(8)


def test_error_factors_stay_independent_between_regions():
    """Block-diagonal where groups of one region are joined; stacked over the same columns for several regions."""
    one, other = (NO_TARGETS._replace(factor=np.full((n, 2, r), float(n))) for n, r in ((1, 2), (2, 3)))
    both = block_diagonal([one.factor, other.factor])
    assert both.shape == (3, 2, 5)
    assert (both[0] @ both[1:].swapaxes(1, 2) == 0).all()
    np.testing.assert_array_equal(both[1] @ both[2].T, other.factor[0] @ other.factor[1].T)
    stacked = stack_factors([one.factor, NO_TARGETS.factor, other.factor])
    assert stacked.shape == (3, 2, 3)
    np.testing.assert_array_equal(stacked[1:], other.factor)


def test_faint_light_gives_covariances_no_wider_than_the_patch():
    """Under a broad amplitude prior a faint target may be anywhere, and bright ones may coincide."""
    fitter = Fitter(FitSettings(amplitude_dn=150.0, amplitude_sd_dn=100.0, speed_px=0.3, own_speed_px=0.005, starts=1))
    rng = np.random.default_rng(8)
    for k in range(60):
        light = images(rng.uniform(2, 8, (3, 2)), (0, 0), rng.uniform(0, 30, 3), depth=False)
        found = fitter((light + 4 * rng.standard_normal(light.shape)).astype(np.float32), TIMES, noise_dn=4.0)
        assert (np.linalg.eigvalsh(found.cov) > 0).all()
        assert (np.linalg.eigvalsh(found.cov) <= 11**2 / 12 + 1e-6).all()
        np.testing.assert_array_equal(found.cov, found.cov.swapaxes(1, 2))
        assert (found.amplitude > 0).all(), k


def test_covariances_are_consistent_with_shot_noise():
    rng = np.random.default_rng(4)
    shot, dark, xy = 0.5, 3.0, np.array([[4.4, 5.1], [6.4, 4.8]])
    fits = {s: Fitter(FitSettings(**UNKNOWN_BRIGHTNESS, most_targets=3, shot_dn=s)) for s in (0.0, shot)}
    squares = {s: [] for s in fits}
    for _ in range(300):
        light = render(np.tile(xy, (5, 1, 1)), np.tile([260.0, 180.0], (5, 1)))
        images = light + np.sqrt(dark**2 + shot * light) * rng.standard_normal(light.shape)
        for s, fitted in fits.items():
            found = fitted(images, TIMES, noise_dn=dark)
            if len(found.xy) == 2:
                order = match(found, xy)
                away = found.xy[order] - xy
                squares[s] += list(np.einsum("ni,nij,nj->n", away, np.linalg.inv(found.cov[order]), away))
    assert len(squares[shot]) == 600
    assert np.mean(squares[shot]) == pytest.approx(2, abs=0.25)  # three standard deviations
    assert np.mean(squares[0.0]) > 3


def test_covariances_are_consistent_with_fixed_pattern_noise():
    rng = np.random.default_rng(6)
    fixed, changing, xy = 2.0, 3.0, np.array([[5.2, 4.9]])
    both = math.hypot(fixed, changing)
    fits = {s: Fitter(FitSettings(**UNKNOWN_BRIGHTNESS, fixed_dn=s)) for s in (0.0, fixed)}
    squares = {s: [] for s in fits}
    for _ in range(300):
        light = render(np.tile(xy, (5, 1, 1)), np.full((5, 1), 200.0))
        images = light + changing * rng.standard_normal(light.shape) + fixed * rng.standard_normal(light.shape[1:])
        for s, fitted in fits.items():
            found = fitted(images, TIMES, noise_dn=both)
            if len(found.xy) == 1:
                away = found.xy[0] - xy[0]
                squares[s].append(away @ np.linalg.solve(found.cov[0], away))
    assert len(squares[fixed]) == 300
    assert np.mean(squares[fixed]) == pytest.approx(2, abs=0.35)  # three standard deviations
    assert np.mean(squares[0.0]) > 3


def test_unexplained_light_inflates_covariances():
    rng, fit, beyond = np.random.default_rng(7), Fitter(FitSettings(most_targets=1)), []
    for _ in range(100):
        clean = render(np.full((5, 1, 2), 5.2), np.full((5, 1), 235.0)) + 2 * rng.standard_normal((5, 11, 11))
        sure, unsure = (fit(seen, TIMES, noise_dn=2.0) for seen in (clean, clean + 6 * rng.standard_normal((11, 11))))
        assert unsure.cov[0].trace() > 4 * sure.cov[0].trace()
        assert unsure.amplitude_sd[0] > 2 * sure.amplitude_sd[0]
        np.testing.assert_allclose(unsure.factor[0] @ unsure.factor[0].T, unsure.cov[0], rtol=1e-6)
        away = unsure.xy[0] - 5.2
        beyond.append(away @ np.linalg.solve(unsure.cov[0], away))
    assert np.mean(np.array(beyond) > CHI2_95) < 0.25, "the fit estimates the excess misfit from about twenty pixels only"
