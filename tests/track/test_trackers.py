"""One tracker a sensor: each by itself, ids that are never used twice, no growth."""

import numpy as np
import pytest

from irst_stream import Detections, Stamp
from irst_stream.track import TrackSettings
from irst_stream.track.trackers import MOST_SENSORS, Trackers


def seen(sensor, index, xy=(5.0, 5.0), epoch=0):
    stamp = Stamp(sensor, epoch, index, index * 10_000_000)
    return Detections.bare(stamp, np.array([xy]), np.full(1, 235.0), np.ones(1))


@pytest.fixture
def trackers():
    return Trackers(TrackSettings(hits=1, of=1))


def test_sensors_are_followed_apart(trackers):
    for k in range(10):
        [a], [b] = trackers(seen("a", k)), trackers(seen("b", k, (5.0 + 0.1 * k, 5.0)))
    assert a.stamp.sensor == "a"
    assert b.stamp.sensor == "b"
    np.testing.assert_allclose(a.state[0, :2], 5.0, atol=1e-6)
    assert b.state[0, 2] > 5 > abs(a.state[0, 2])


def test_ids_of_a_sensor_that_was_forgotten_are_not_used_again(trackers):
    before = trackers(seen("a", 0))[0].id
    trackers.forget("a")
    trackers.forget("never heard of")
    again = trackers(seen("a", 1))[0].id
    restarted = trackers(seen("a", 0, epoch=1))[0].id
    assert len({*before, *again, *restarted}) == 3


def test_of_many_sensors_the_last_ones_are_followed(trackers):
    for k in range(MOST_SENSORS + 3):
        trackers(seen(f"s{k}", 0))
    assert trackers(seen("s3", 1))[0].id == 1
    assert trackers(seen("s0", 1))[0].id != 1


def test_with_a_lag_every_frame_is_answered_once_to_the_end_of_each_epoch():
    trackers = Trackers(TrackSettings(lag=3))
    given = [("a", 0, 8), ("b", 0, 2), ("a", 1, 6)]
    tracks = [t for sensor, epoch, frames in given for k in range(frames) for t in trackers(seen(sensor, k, epoch=epoch))]
    tracks += trackers.finish()
    for sensor, epoch, frames in given:
        stamps = [t.stamp.index for t in tracks if (t.stamp.sensor, t.stamp.epoch) == (sensor, epoch)]
        assert stamps == list(range(frames))
    assert trackers.finish() == []
