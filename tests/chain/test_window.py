"""Each rule of the sliding window, and that streaming equals cutting windows out of whole sequences."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream import Frame, Stamp, UsageError
from irst_stream.build import build_pipeline
from irst_stream.chain.regions import RegionPlaces
from irst_stream.chain.window import WindowBuilder
from irst_stream.config import Config
from irst_stream.optics import render
from irst_stream.propose.settings import ProposeSettings
from irst_stream.sim import seqcsist


def frame(index, sensor="a", epoch=0, size=11, time_ns=None, clock="sensor"):
    time_ns = index * 10_000_000 if time_ns is None else time_ns
    return Frame(Stamp(sensor, epoch, index, time_ns, "", clock), np.full((size, size), index % 250, np.uint8))


def indices(windows, frames):
    """The indices of the centre frames of the windows that the frames complete."""
    return [w.stamp.index for f in frames if (w := windows.push(f)) is not None]


def test_a_window_is_centred_two_frames_ago():
    windows = WindowBuilder()
    assert indices(windows, map(frame, range(8))) == [2, 3, 4, 5]
    window = windows.push(frame(8))
    assert window.patches.shape == (1, 5, 11, 11)
    assert window.patches[0, :, 0, 0].tolist() == [4, 5, 6, 7, 8]
    assert (window.frame_times.tolist(), window.platform_shifts.any()) == ([-2, -1, 0, 1, 2], False)
    assert window.stamp == frame(6).stamp
    assert window.region.tolist() == [0]
    assert windows.events == {}


def test_windows_of_one_frame_are_completed_by_each_frame():
    assert indices(WindowBuilder(1), map(frame, [0, 5, 9])) == [0, 5, 9]


RULES = {
    "gap": ([frame(i) for i in (0, 1, 2, 3, 6, 7, 8, 9, 10)], [8], {"gap": 1, "missing": 2}),
    "a long gap": ([frame(i) for i in (*range(5), *range(1000, 1005))], [2, 1002], {"gap": 1, "missing": 995}),
    "an implausible gap": (
        [frame(i) for i in (*range(5), *range(10**15, 10**15 + 5))],
        [2, 10**15 + 2],
        {"gap": 1, "missing": 1_000_000},
    ),
    "stray": ([frame(i) for i in (*range(5), 2**60, *range(6, 11))], [2, 8], {"gap": 1, "missing": 1, "stray": 1}),
    "two strays": (
        [frame(i) for i in (*range(5), 2**40, 2**60, *range(7, 12))],
        [2, 9],
        {"gap": 2, "missing": 2, "stray": 1},
    ),
    "restart in the same epoch": (
        [frame(i) for i in (*range(60), *range(10))],
        [*range(2, 58), 6, 7],
        {"late": 4, "restart": 1},
    ),
    "a few late frames": ([frame(i) for i in (*range(9), 3, 4, 5, 6, 9, 2, 3, 10)], [*range(2, 9)], {"late": 6}),
    "duplicate": ([frame(i) for i in (0, 1, 2, 2, 3, 4)], [2], {"duplicate": 1}),
    "late": ([frame(i) for i in (0, 1, 2, 1, 3, 4)], [2], {"late": 1}),
    "restart": ([*map(frame, range(4)), *(frame(i, epoch=1) for i in range(5))], [2], {"restart": 1}),
    "restart into the past": ([frame(i, epoch=e) for e in (5, 3) for i in range(5)], [2, 2], {"restart": 1}),
    "size": ([*map(frame, range(4)), *(frame(i, size=9) for i in range(4, 9))], [6], {"size": 1}),
    "pause": (
        [*map(frame, range(4)), *(frame(i, time_ns=i * 10**7 + 3600 * 10**9) for i in range(4, 9))],
        [6],
        {"pause": 1},
    ),
    "clock": (
        [*(frame(i, clock="unix") for i in range(4)), *(frame(i, time_ns=i, clock="unix") for i in range(4, 6))],
        [2, 3],
        {"clock": 1},
    ),
    "a sensor clock is not checked": ([frame(i, time_ns=0) for i in range(6)], [2, 3], {}),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_applied_and_counted(rule):
    frames, answered, events = RULES[rule]
    windows = WindowBuilder()
    assert indices(windows, frames) == answered
    assert windows.events == {("a", event): times for event, times in events.items()}


def test_regions_as_full_as_most_targets_allows_are_told_by_their_number_once(caplog):
    windows = WindowBuilder()
    for index in (41, 42):
        windows.count(frame(index).stamp, "targets", 1)
    assert caplog.messages == [
        "a: frame 41: regions with as many targets as most_targets allows: 1; such regions are counted"
    ]
    assert windows.events == {("a", "targets"): 2}


def test_frames_that_are_too_small_are_dropped():
    windows = WindowBuilder(min_shape=(7, 7))
    assert indices(windows, (frame(i, size=5) for i in range(5))) == []
    assert windows.events == {("a", "small"): 5}
    strip = Frame(Stamp("a", 0, 9, 0), np.zeros((8, 100), np.uint8))
    assert windows.push(strip) is None
    assert windows.events["a", "small"] == 6


@pytest.mark.parametrize("length", [0, 2, -1])
def test_lengths_that_are_not_odd_are_refused(length):
    with pytest.raises(UsageError, match="expected an odd number"):
        WindowBuilder(length)


def test_the_pipeline_gives_detections_for_the_middle_frames_of_each_trajectory():
    patches = seqcsist(2, seed=3, depth=16)
    pipeline = build_pipeline(Config())
    answers = []
    for k in range(2):
        for t in range(20):
            for found in pipeline.step([Frame(Stamp(f"s{k}", 0, t, 0), patches.frames[k, t], 65535.0)]):
                answers.append((found.stamp.sensor, found.stamp.index))
                assert len(found) == patches.count[k]
    assert answers == [(f"s{k}", t) for k in range(2) for t in range(2, 18)]
    assert pipeline.clocks.summaries()["resolve"].samples == 32


def test_a_region_keeps_its_place_and_number_while_its_group_stays_inside():
    regions = RegionPlaces((512, 640))
    corners, numbers = regions.follow(np.array([[100.3, 50.2], [300.0, 400.0]]))
    assert corners.tolist() == [[95, 45], [295, 395]]
    again, same = regions.follow(np.array([[301.9, 401.9], [99.0, 51.0]]))
    assert again.tolist() == [[295, 395], [95, 45]]
    assert same.tolist() == numbers[::-1].tolist()
    moved, other = regions.follow(np.array([[302.6, 401.0], [99.0, 51.0]]))
    assert moved.tolist() == [[298, 396], [95, 45]]
    assert other[1] == numbers[0]
    assert other[0] not in numbers, "a region that moved gets a new number"
    assert regions.follow(np.zeros((0, 2)))[1].tolist() == []
    assert regions.follow(np.array([[99.0, 51.0]]))[1] > other.max(), "a lost region returns with a new number"


def test_a_region_at_the_border_stays_inside_the_frame():
    regions = RegionPlaces((512, 640))
    corners, numbers = regions.follow(np.array([[0.0, 1.0], [639.0, 511.0]]))
    assert corners.tolist() == [[0, 0], [629, 501]]
    again, same = regions.follow(np.array([[1.5, 0.0], [639.4, 510.0]]))
    assert (again.tolist(), same.tolist()) == (corners.tolist(), numbers.tolist())


SURE = ProposeSettings(false_alarms=1e-4)  # noise alone raises no region in these few frames


def full_frames(frames=8, shape=(120, 160), ceiling=4095.0):
    """Two groups that move slowly over a uniform, noisy background: (frame, places of the targets (4, 2) px) of each."""
    rng = np.random.default_rng(4)
    start = np.array([[40.2, 30.1], [40.9, 30.4], [110.0, 80.3], [110.4, 81.1]])
    made = []
    for t in range(frames):
        xy = start + 0.12 * t
        image = 200 + render(xy, np.full(4, 400.0), shape) + 3 * rng.standard_normal(shape)
        pixels = np.rint(np.clip(image, 0, ceiling)).astype(np.uint16)
        made.append((Frame(Stamp("cam", 0, t, t * 10**7), pixels, ceiling), xy))
    return made


def test_regions_of_full_frames_are_cut_at_the_same_place_in_all_frames():
    windows = WindowBuilder(search=SURE)
    made = full_frames()
    held = [w for frame, _ in made if (w := windows.push(frame)) is not None]
    assert [w.stamp.index for w in held] == [2, 3, 4, 5]
    for window in held:
        assert window.patches.shape == (2, 5, 11, 11)
        xy = made[window.stamp.index][1].reshape(2, 2, 2).mean(1)
        order = np.argsort(window.corners[:, 0])
        assert np.abs(window.corners[order] + 5 - xy).max() < 2.5
        assert np.abs(window.noise - 3).max() < 1
        assert np.abs(window.ceiling - (4095 - 200)).max() < 10
        assert abs(np.median(window.patches)) < 3, "the background is gone"


def test_a_regions_patch_of_a_frame_is_the_same_in_every_window():
    """So a map computed once is valid in all of them, and streamed output equals that of whole windows.

    Pixels that blink are masked, in the newest frame as in the others.
    """
    seen, masked = {}, []
    windows = WindowBuilder(search=SURE)
    for frame_, _ in full_frames(12):
        pixels, x = frame_.pixels.copy(), 37 + frame_.stamp.index % 3
        pixels[27, x] += 900
        window = windows.push(replace(frame_, pixels=pixels))
        for k in range(0 if window is None else len(window.region)):
            column, row = (np.array([x, 27]) - window.corners[k]).astype(int)
            if 0 <= column < 11 and 0 <= row < 11:
                masked.append(np.isnan(window.patches[k, -1, row, column]))
            for t, patch in enumerate(window.patches[k]):
                key = int(window.region[k]), window.stamp.index + t - 2
                np.testing.assert_array_equal(patch, seen.setdefault(key, patch))
    assert len(seen) < 12 * 2 + 8, "regions kept their numbers"
    assert masked == [True] * 8


def test_saturated_pixels_are_at_the_regions_ceiling():
    windows = WindowBuilder(search=SURE)
    held = [w for frame_, _ in full_frames(5, ceiling=300.0) if (w := windows.push(frame_)) is not None]
    (window,) = held
    for patches, ceiling in zip(window.patches, window.ceiling, strict=True):
        assert (patches >= ceiling - 1e-3).sum() >= 5
        assert patches.max() == pytest.approx(ceiling)


def test_detections_in_full_frames_are_where_the_targets_are():
    pipeline = build_pipeline(Config(propose=SURE))
    made = full_frames()
    found = [f for frame_, _ in made for f in pipeline.step([frame_])]
    for answer in found:
        xy = made[answer.stamp.index][1]
        apart = np.linalg.norm(answer.xy[:, None] - xy[None], axis=-1)
        assert apart.min(0).max() < 0.3
        assert set(answer.region.tolist()) <= {0, 1}
