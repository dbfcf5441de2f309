"""Groups of every kind keep to their rules."""

import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.optics import render
from irst_stream.sim import mixed


@pytest.fixture(scope="module")
def groups():
    return mixed(2000, 5, seed=3)


def test_every_draw_is_always_the_same_and_no_two_are_alike(groups):
    np.testing.assert_array_equal(mixed(2000, 5, seed=3).frames, groups.frames)
    for other in ({"number": 1}, {"split": "val"}, {"seed": 4}):
        assert (mixed(2000, 5, **{"seed": 3} | other).frames != groups.frames).any()


def test_numbers_and_places_are_within_the_rules(groups):
    assert set(groups.count) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal((groups.amplitude > 0).sum(1), groups.count)
    np.testing.assert_array_equal(np.isfinite(groups.xy[:, 0, :, 0]).sum(1), groups.count)
    assert np.nanmin(groups.xy) > -1.5
    assert np.nanmax(groups.xy) < 11.5
    middle = groups.xy[:, 2]
    apart = np.linalg.norm(middle[:, :, None] - middle[:, None], axis=-1)
    apart[:, np.arange(5), np.arange(5)] = np.nan
    nearest = np.nanmin(apart[groups.count > 1], axis=(1, 2))
    assert nearest.min() > 0.29
    assert np.median(nearest) < 1


def test_brightness_spans_two_decades(groups):
    brightest = groups.amplitude.max(1) / groups.noise
    assert brightest.max() / brightest.min() > 100
    faint = mixed(200, snr=(3.0, 4.0))
    assert (faint.amplitude.max(1) / faint.noise).max() < 4.0 / 0.2


def test_bright_frames_are_what_the_targets_give():
    """At an SNR of a thousand what is not the targets' light is within the noise and the background."""
    made = mixed(300, snr=(1e3, 1e3))
    errors = []
    for k in range(300):
        light = [render(np.nan_to_num(made.xy[k]), made.amplitude[k], sigma=s) for s in np.linspace(0.4, 0.8, 41)]
        errors.append(min(np.median(np.abs(made.frames[k] - guess)) for guess in light) / made.noise[k])
    assert np.median(errors) < 1.5


def test_impossible_draws_are_refused():
    with pytest.raises(UsageError, match="mixed: expected groups"):
        mixed(0)
