"""Mixed groups obey their rules."""

import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.optics import render
from irst_stream.sim import mixed


@pytest.fixture(scope="module")
def groups():
    return mixed(2000, 5, seed=3).patches


def test_a_draw_is_reproducible_and_differs_from_others(groups):
    np.testing.assert_array_equal(mixed(2000, 5, seed=3).patches.frames, groups.frames)
    for other in ({"number": 1}, {"split": "val"}, {"seed": 4}):
        assert (mixed(2000, 5, **{"seed": 3} | other).patches.frames != groups.frames).any()


def test_counts_and_positions_obey_the_rules(groups):
    assert set(groups.count) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal((groups.amplitude > 0).sum(1), groups.count)
    np.testing.assert_array_equal(np.isfinite(groups.xy[:, 0, :, 0]).sum(1), groups.count)
    assert np.nanmin(groups.xy) > -1.5
    assert np.nanmax(groups.xy) < 11.5
    middle = groups.xy[:, 2]
    apart = np.linalg.norm(middle[:, :, None] - middle[:, None], axis=-1)
    apart[:, np.arange(5), np.arange(5)] = np.nan
    nearest = np.nanmin(apart[groups.count > 1], axis=(1, 2))
    assert nearest.min() > 0.2  # adjacent short arms of a cross
    assert np.median(nearest) < 1


def test_brightness_spans_two_decades(groups):
    brightest = groups.amplitude.max(1) / groups.noise
    assert brightest.max() / brightest.min() > 100
    faint = mixed(200, snr=(3.0, 4.0)).patches
    assert np.median(faint.amplitude[:, 0] / faint.noise) < 4.0 / 0.2


def test_bright_frames_show_their_targets():
    """At an SNR of a thousand, noise, background and the PSF's ellipticity are small compared with the targets' light."""
    made = mixed(300, snr=(1e3, 1e3)).patches
    errors = []
    for k in range(300):
        light = [render(np.nan_to_num(made.xy[k]), made.amplitude[k], sigma=s) for s in np.linspace(0.4, 0.8, 41)]
        errors.append(min(np.median(np.abs(made.frames[k] - guess)) for guess in light) / made.noise[k])
    assert np.median(errors) < 5


def test_stated_facts_are_true_or_unknown():
    made, facts = mixed(2000, seed=3)
    noise, sigma, mean, spread = facts.T
    for known in (noise, sigma, mean):
        assert np.isfinite(known).mean() == pytest.approx(0.75, abs=0.03)
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(spread))
    ratio = (noise / made.noise)[np.isfinite(noise)]
    assert (ratio.mean(), ratio.std()) == pytest.approx((1, 0.05), abs=0.005)
    deviation = ((made.amplitude[:, 0] - mean) / spread)[np.isfinite(mean)]
    assert (deviation.mean(), deviation.std()) == pytest.approx((0, 1), abs=0.06)


def test_all_arrangements_occur(groups):
    middle = groups.xy[:, 2]
    apart = np.linalg.norm(middle[:, :, None] - middle[:, None], axis=-1)
    apart[:, np.arange(5), np.arange(5)] = np.nan
    nearest = np.nanmin(apart[groups.count > 1], axis=(1, 2))
    farthest = np.nanmax(apart[groups.count > 1], axis=(1, 2))
    assert (nearest > 1.0).mean() > 0.05
    assert (farthest < 1.3).mean() > 0.3, "crowded into a pixel, or on a cross"


def test_invalid_draws_are_refused():
    with pytest.raises(UsageError, match="mixed: expected groups"):
        mixed(0)
