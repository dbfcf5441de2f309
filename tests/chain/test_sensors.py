"""One chain per sensor: independent, with track ids that are never reused, and bounded in number."""

from functools import partial

import numpy as np
import pytest

from irst_stream import Detections, Frame, Pose, Stamp, Tracks
from irst_stream.chain import pipeline as pipeline_module
from irst_stream.chain.front_end import FrontEnd
from irst_stream.chain.pipeline import Pipeline
from irst_stream.chain.platform import PoseHistory
from irst_stream.chain.sensor import NoNetwork, SensorChain
from irst_stream.chain.window import WindowBuilder
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings
from irst_stream.track import Tracker, TrackSettings

AT_ONCE = TrackSettings(false_tracks_h=1e8)  # confirmed at the first detection


class BrightestPixel:
    """A resolver whose only detection is the brightest pixel."""

    alarm, watch, budget = "", None, None

    def __call__(self, window, _):
        image = window.patches[0, 0]
        y, x = np.unravel_index(image.argmax(), image.shape)
        return Detections.bare(window.stamp, np.array([[x, y]], float), np.full(1, 235.0), np.ones(1))


def sensor_chain(events, first_id, settings, length=1):
    windows = WindowBuilder(length, events=events)
    front_end = FrontEnd(CorrectSettings(), None, RegisterSettings(), None, windows.count)
    return SensorChain(
        front_end, windows, PoseHistory(length), None, BrightestPixel(), Tracker(settings, first_id=first_id)
    )


def made(settings=AT_ONCE):
    return Pipeline(NoNetwork(), partial(sensor_chain, settings=settings))


def seen(sensor, index, x=5, epoch=0, **more):
    pixels = np.zeros((11, 11), np.uint8)
    pixels[5, x] = 200
    return Frame(Stamp(sensor, epoch, index, index * 100_000_000), pixels, **more)


def tracks_of(results):
    return [result for result in results if isinstance(result, Tracks)]


def test_sensors_are_tracked_independently():
    pipeline = made()
    for k in range(5):
        a, b = tracks_of(pipeline.step([seen("a", k), seen("b", k, 3 + k)]))
    assert (a.stamp.sensor, b.stamp.sensor) == ("a", "b")
    np.testing.assert_allclose(a.state[0, :2], 5.0, atol=1e-6)
    assert b.state[0, 2] > 5 > abs(a.state[0, 2])


def test_ids_of_a_sensor_that_was_forgotten_are_not_used_again():
    pipeline = made()
    [before] = tracks_of(pipeline.step([seen("a", 0)]))
    pipeline.forget("a")
    pipeline.forget("never heard of")
    [again] = tracks_of(pipeline.step([seen("a", 1)]))
    [restarted] = tracks_of(pipeline.step([seen("a", 0, epoch=1)]))
    assert len({*before.id, *again.id, *restarted.id}) == 3


def test_of_too_many_sensors_the_most_recent_are_held(monkeypatch):
    monkeypatch.setattr(pipeline_module, "MAX_SENSORS", 4)
    pipeline = made()
    for k in range(7):
        pipeline.step([seen(f"s{k}", 0)])
    [held], [dropped] = (tracks_of(pipeline.step([seen(name, 1)])) for name in ("s3", "s0"))
    assert held.id == 1
    assert dropped.id != 1


@pytest.mark.parametrize("bound", [1, 256])
def test_with_a_smoothing_lag_every_frame_of_each_epoch_gets_tracks_once(bound, monkeypatch):
    monkeypatch.setattr(pipeline_module, "MAX_SENSORS", bound)
    pipeline = made(TrackSettings(smoothing_lag=3))
    given = [("a", 0, 8), ("b", 0, 2), ("c", 1, 6)]
    tracks = []
    for sensor, epoch, frames in given:
        for k in range(frames):
            tracks += tracks_of(pipeline.step([seen(sensor, k, epoch=epoch)]))
    tracks += tracks_of(pipeline.finish())
    for sensor, epoch, frames in given:
        stamps = [t.stamp.index for t in tracks if (t.stamp.sensor, t.stamp.epoch) == (sensor, epoch)]
        assert stamps == list(range(frames))
    assert pipeline.finish() == []


def test_a_forgotten_sensor_starts_a_new_window():
    pipeline = Pipeline(NoNetwork(), partial(sensor_chain, settings=AT_ONCE, length=5))
    for k in range(4):
        assert pipeline.step([seen("a", k)]) == []
    pipeline.forget("a")
    assert pipeline.step([seen("a", 4)]) == []
    assert pipeline.events == {}


def test_a_pose_that_cannot_be_used_is_counted():
    pipeline = made()
    odd = Pose(Stamp("a", 0, 0, 0), np.nan, np.nan, np.nan)
    assert len(pipeline.step([seen("a", 0, pose=odd)])) == 2
    assert pipeline.events == {("a", "pose"): 1}


class Crowd:
    """A resolver that finds forty targets in one place."""

    alarm, budget = "", None

    def __call__(self, window, _):
        xy = 5 + np.random.default_rng(window.stamp.index).uniform(0, 1, (40, 2))
        return Detections.bare(window.stamp, xy, np.full(40, 235.0), np.ones(40))


def test_work_cut_short_is_counted_as_an_event():
    def chain(events, first_id):
        windows, tracker = (
            WindowBuilder(1, events=events),
            Tracker(TrackSettings(max_steps=10, max_tracks=20), None, first_id),
        )
        front_end = FrontEnd(CorrectSettings(), None, RegisterSettings(), None, windows.count)
        return SensorChain(front_end, windows, PoseHistory(1), None, Crowd(), tracker)

    pipeline = Pipeline(NoNetwork(), chain)
    for k in range(5):
        pipeline.step([seen("a", k)])
    assert pipeline.events["a", "exhausted"] == 4  # the first frame has nothing to associate
    assert pipeline.events["a", "refused"] >= 20
