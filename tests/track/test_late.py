"""Late frames: inserted as if they had come in order, or dropped and counted."""

from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_scenes import scene

from irst_stream import Detections, Stamp
from irst_stream.track import Tracker, TrackSettings

LATE_S = 0.05


def recording(count=30, groups=2, seed=1):
    return [detections for detections, _ in scene("crossing", groups, count, seed)]


def delayed(frames, delays):
    """Frames in their order of arrival, each delayed by its number of seconds."""
    order = np.argsort(
        [each.stamp.time_ns / 1e9 + delay for each, delay in zip(frames, delays, strict=True)], kind="stable"
    )
    return [frames[k] for k in order]


def assert_alike(tracks, others):
    """Equal to the last bit, except for ids, which correspond one to one."""
    assert tracks.stamp == others.stamp
    assert len(set(tracks.id.tolist())) == len(tracks) == len(others)
    one, other = (np.lexsort(each.state.T) for each in (tracks, others))
    for column in map(attrgetter, ("state", "cov", "amplitude", "score", "confirmed", "detection")):
        np.testing.assert_array_equal(column(tracks)[one], column(others)[other])


@settings(deadline=None, max_examples=25)
@given(st.data())
@pytest.mark.parametrize("rules", [{}, {"smoothing_lag": 4, "shared_frames": 5}, {"motion": "imm"}])
def test_frames_within_the_bound_may_come_in_any_order(rules, data):
    frames = recording()
    delays = data.draw(st.lists(st.floats(0, 0.99 * LATE_S), min_size=len(frames), max_size=len(frames)))
    late, in_order = (Tracker(TrackSettings(late_s=LATE_S, **rules)) for _ in range(2))
    for each in delayed(frames, delays):
        tracks = late.step(each)
    for each in frames:
        expected = in_order.step(each)
    assert late.late == 0
    assert_alike(tracks, expected)


def test_after_each_late_frame_tracks_are_as_if_all_had_come_in_order():
    frames = recording(60)
    late, in_order = Tracker(), Tracker()
    partner = {}
    for k in range(0, 60, 3):
        for each in (frames[k], frames[k + 2], frames[k + 1]):
            tracks = late.step(each)
        for each in frames[k : k + 3]:
            expected = in_order.step(each)
        assert_alike(tracks, expected)
        one, other = (np.lexsort(each.state.T) for each in (tracks, expected))
        for track_id, expected_id in zip(tracks.id[one].tolist(), expected.id[other].tolist(), strict=True):
            assert partner.setdefault(track_id, expected_id) == expected_id
    assert len(partner) == len(set(partner.values()))


def test_published_tracks_keep_their_ids_and_ids_are_not_reused():
    tracker = Tracker()
    born = {}
    for each in (0, 1, 4, 5, 3, 2, 6):
        xy = np.array([[5.0, 5.0], [20.0 + 10 * each, 5.0]])  # a target at rest, and a false alarm in each frame
        stamp = Stamp("a", 0, each, each * 10_000_000)
        tracks = tracker.step(Detections.bare(stamp, xy, np.full(2, 235.0), np.ones(2)))
        assert tracks.stamp.index == max(5 if each in (2, 3) else 0, each)
        for track_id, x in zip(tracks.id.tolist(), tracks.state[:, 0], strict=True):
            assert abs(born.setdefault(track_id, x) - x) < 1
    assert sum(abs(x - 5) < 1 for x in born.values()) == 1


@pytest.mark.parametrize(("late_s", "dropped"), [(0.0, 4), (0.015, 3), (0.025, 1), (0.035, 0)])
def test_frames_later_than_the_bound_are_dropped_and_counted(late_s, dropped):
    frames = recording(12)
    tracker = Tracker(TrackSettings(late_s=late_s))
    for k in (0, 1, 2, 4, 5, 3, 9, 6, 7, 8, 10):  # 20, 30, 20 and 10 ms late
        assert tracker.step(frames[k]).stamp.index == (9 if k in (6, 7, 8) else 5 if k == 3 else k)
    assert tracker.late == dropped


def test_the_first_frames_may_be_swapped_and_a_second_of_the_same_time_is_dropped():
    frames = recording(3)
    late, in_order = Tracker(), Tracker()
    for k in (1, 0, 0, 1, 2):
        tracks = late.step(frames[k])
    for each in frames:
        expected = in_order.step(each)
    assert_alike(tracks, expected)
    assert late.late == 2


def test_the_number_of_kept_states_is_bounded_for_any_stamps():
    tracker = Tracker(TrackSettings(late_s=10.0))
    nothing = np.zeros((0, 2))
    for k in range(1000):
        tracker.step(Detections.bare(Stamp("a", 0, k, k), nothing, np.zeros(0), np.zeros(0)))
    tracker.step(Detections.bare(Stamp("a", 0, 0, 900), nothing, np.zeros(0), np.zeros(0)))
    assert tracker.late == 1
