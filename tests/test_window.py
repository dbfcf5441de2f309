"""Each rule of the sliding window, and that streaming equals cutting windows out of the whole."""

import numpy as np
import pytest

from irst_stream import Frame, Stamp, UsageError
from irst_stream.build import build_pipeline
from irst_stream.config import Config
from irst_stream.sim import seqcsist
from irst_stream.window import PatchWindows


def frame(index, sensor="a", epoch=0, size=11):
    return Frame(Stamp(sensor, epoch, index, index * 10), np.full((size, size), index % 250, np.uint8))


def indices(windows, frames):
    """The centre frames of the windows that the frames complete."""
    return [w.stamp.index for f in frames if (w := windows.push(f)) is not None]


def test_a_window_is_centred_two_frames_ago():
    windows = PatchWindows()
    assert indices(windows, map(frame, range(8))) == [2, 3, 4, 5]
    window = windows.push(frame(8))
    assert window.patches.shape == (1, 5, 11, 11)
    assert window.patches[0, :, 0, 0].tolist() == [4, 5, 6, 7, 8]
    assert window.times.tolist() == [-2, -1, 0, 1, 2]
    assert window.stamp == frame(6).stamp


def test_a_window_of_one_answers_each_frame():
    assert indices(PatchWindows(1), map(frame, [0, 5, 9])) == [0, 5, 9]


def test_a_gap_starts_the_window_anew():
    assert indices(PatchWindows(), map(frame, [0, 1, 2, 3, 5, 6, 7, 8, 9])) == [7]


def test_duplicates_and_late_frames_are_dropped_and_counted():
    windows = PatchWindows()
    assert indices(windows, map(frame, [0, 1, 2, 2, 1, 3, 4])) == [2]
    assert windows.dropped == {"duplicate": 1, "late": 1}


def test_a_restart_or_another_size_starts_the_window_anew_for_that_sensor_only():
    windows = PatchWindows()
    feed = [frame(i, s) for i in range(4) for s in "ab"]
    assert indices(windows, feed) == []
    assert indices(windows, [frame(0, "a", epoch=1), frame(4, "b")]) == [2]
    assert indices(windows, [frame(i, "a", epoch=1) for i in range(1, 5)]) == [2]
    assert indices(windows, [frame(5, "a", epoch=1, size=9)]) == []


def test_a_sensor_can_be_forgotten():
    windows = PatchWindows()
    assert indices(windows, map(frame, range(4))) == []
    windows.forget("a")
    windows.forget("never seen")
    assert indices(windows, [frame(4)]) == []


@pytest.mark.parametrize("length", [0, 2, -1])
def test_other_lengths_are_refused(length):
    with pytest.raises(UsageError, match="expected an odd number"):
        PatchWindows(length)


def test_the_pipeline_answers_the_middle_frames_of_each_trajectory():
    patches = seqcsist(2, seed=3, depth=16)
    pipeline = build_pipeline(Config(), full_scale=65535)
    answers = []
    for k in range(2):
        for t in range(20):
            found = pipeline.step(Frame(Stamp(f"s{k}", 0, t, 0), patches.frames[k, t]))
            if found is not None:
                answers.append((found.stamp.sensor, found.stamp.index))
                assert len(found) == patches.count[k]
    assert answers == [(f"s{k}", t) for k in range(2) for t in range(2, 18)]
