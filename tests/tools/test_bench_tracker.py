"""The scenes in which trackers are compared, and the comparison itself."""

import json
import sys
from dataclasses import replace

import bench_tracker
import numpy as np
import pytest
import tracking_scenes as scenes
from bench_tracker import VARIANTS, Setting, bench, judge, run
from tracking_rivals import Steps
from tracks_and_truth import tracks

from irst_stream.track.settings import TrackSettings, check_tracking

KINDS = scenes.KINDS


def flown(kind, seed=0, groups=9, frames=200):
    return scenes.fly(kind, np.full(groups, 4), frames, np.random.default_rng(seed))


def apart(xy, group):
    """(pairs,): distances of members of the same group, and of different ones, in one frame."""
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    one, other = np.triu_indices(len(xy), 1)
    same = group[one] == group[other]
    return distance[one, other][same], distance[one, other][~same]


class Knowing(Steps):
    """A tracker that was told the truth, and may err in a given way."""

    def __init__(self, frames, offset=0.0, blind_to=()):
        self.truth, self.offset, self.blind_to = [truth for _, truth in frames], offset, blind_to

    def step(self, detections):
        truth = self.truth[detections.stamp.index]
        points = {int(k): xy + self.offset for k, xy in zip(truth.id, truth.xy, strict=True) if k not in self.blind_to}
        return replace(tracks(detections.stamp.index, points), stamp=detections.stamp)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_scene(kind):
    one, same, other = (scenes.scene(kind, 3, 5, seed) for seed in (1, 1, 2))
    for (a, truth), (b, again) in zip(one, same, strict=True):
        np.testing.assert_array_equal(a.xy, b.xy)
        np.testing.assert_array_equal(truth.xy, again.xy)
    assert not np.array_equal(one[0][1].xy, other[0][1].xy)


def test_members_of_a_formation_stay_apart_and_in_place():
    flock = flown("formation")
    near, _ = apart(flock.xy[0], flock.group)
    later, _ = apart(flock.xy[-1], flock.group)
    np.testing.assert_allclose(near, later, atol=1e-9)
    assert 0.4 * 2**0.5 < near.min() < 1
    assert np.linalg.norm(np.diff(flock.xy, axis=0), axis=-1).max() < 0.15  # px a frame: slow


def test_members_that_cross_meet_at_half_time_and_part_again():
    flock = flown("crossing")
    start, middle, end = (apart(flock.xy[t], flock.group)[0] for t in (0, 100, 199))
    assert np.median(middle) < scenes.MERGE_PX < min(np.median(start), np.median(end))


def test_members_that_manoeuvre_go_their_own_ways_and_meet_again_and_again():
    flock = flown("manoeuvring")
    own = np.concatenate(
        [flock.xy[:, 4 * g : 4 * g + 4] - flock.xy[:, 4 * g : 4 * g + 4].mean(1, keepdims=True) for g in range(9)], 1
    )
    speed = scenes.RATE_HZ * np.linalg.norm(np.diff(own, axis=0), axis=-1)
    assert 2 < np.sqrt(np.mean(speed**2)) < 6  # px/s
    merged = np.array([(apart(xy, flock.group)[0] < scenes.MERGE_PX).mean() for xy in flock.xy])
    assert 0.02 < merged.mean() < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_groups_keep_11_px_apart(kind):
    flock = flown(kind)
    assert min(apart(xy, flock.group)[1].min() for xy in flock.xy) > 11


def test_targets_that_are_near_are_seen_as_one():
    # The first three hang together over the second; the fourth is near them too, but of another group.
    xy = np.array([[0.0, 0.0], [0.4, 0.0], [0.8, 0.0], [0.8, 0.1], [5.0, 5.0]])
    place, brightness, group = scenes.merged(xy, np.array([100.0, 100.0, 200.0, 50.0, 10.0]), np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(place, [[0.5, 0.0], [0.8, 0.1], [5.0, 5.0]])
    assert brightness.tolist() == [400, 50, 10]
    assert group.tolist() == [0, 1, 1]


def test_the_detector_errs_as_it_says():
    frames = scenes.scene("formation", 30, 100)
    targets = len(frames[0][1])
    offsets, found, false = [], 0, 0
    for detections, truth in frames:
        distance = np.linalg.norm(detections.xy[:, None] - truth.xy[None], axis=-1)
        near = distance.min(axis=1) < 4 * scenes.SD_PX
        found, false = found + int(near.sum()), false + int((~near).sum())
        offsets.append((detections.xy - truth.xy[distance.argmin(axis=1)])[near])
    assert found / (100 * targets) == pytest.approx(scenes.DETECTED, abs=0.01)
    assert false / (100 * 30) == pytest.approx(scenes.FALSE_ALARMS, abs=0.01)
    assert np.concatenate(offsets).std() == pytest.approx(scenes.SD_PX, rel=0.03)


def test_the_scores_are_those_of_the_docstring():
    frames = scenes.scene("formation", 5, 10)
    targets = len(frames[0][1])
    perfect = judge(run(Knowing(frames), frames)[0], frames)
    assert (perfect["gospa"], perfect["idf1"], perfect["hota"], perfect["switches"]) == (pytest.approx(0), 1, 1, 0)
    off = judge(run(Knowing(frames, np.array([0.06, 0.08])), frames)[0], frames)
    assert off["gospa"] == pytest.approx(0.1)
    blind = judge(run(Knowing(frames, blind_to=(0,)), frames)[0], frames)
    assert blind["gospa"] == pytest.approx((2**2 / 2 / targets) ** 0.5)


def test_tracks_that_wait_count_for_the_frame_that_they_are_of():
    class Late(Knowing):
        def step(self, detections):
            self.came = [*getattr(self, "came", []), super().step(detections)]
            return self.came[max(len(self.came) - 3, 0)]

        def finish(self):
            return self.came[-2:]

    frames = scenes.scene("crossing", 2, 8, 0)
    assert judge(run(Late(frames), frames)[0], frames)["gospa"] == pytest.approx(0)


def test_a_tracker_is_run_and_printed(capsys):
    frames = scenes.scene("crossing", 2, 8, 0)
    (row,) = bench(Setting("crossing", 2, 8), 0, {"knowing": lambda: Knowing(frames)})
    assert (row["tracker"], row["idf1"], row["groups"]) == ("knowing", 1, 2)
    assert row["ms_p50"] > 0
    assert "crossing, 2 groups, 8 frames" in capsys.readouterr().out


def test_what_is_not_installed_is_said_and_left_out(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("stonesoup", "filterpy", "norfair", "irst_stream.track"):
        monkeypatch.setitem(sys.modules, name, None)
        for loaded in [key for key in sys.modules if key.startswith(f"{name}.")]:
            monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setattr(sys, "argv", ["bench_tracker.py", "--groups", "1"])
    assert bench_tracker.main() == 0
    out = capsys.readouterr().out
    assert "skipped: irst-stream, which has no tracker yet" in out
    for package in ("stonesoup", "filterpy", "norfair"):
        assert f"{package} is not installed" in out
    assert json.loads((tmp_path / "out" / "bench_tracker.json").read_text())["results"] == []


@pytest.mark.filterwarnings("ignore")  # of others' packages
@pytest.mark.parametrize("rival", bench_tracker.RIVALS, ids=lambda rival: rival.package)
def test_the_rivals_follow_a_formation(rival):
    pytest.importorskip(rival.package, reason="the bench extra installs it")
    frames = scenes.scene("formation", 2, 40)
    got = judge(run(rival(), frames)[0], frames)
    assert got["idf1"] > 0.9
    assert got["gospa"] < 0.2


def test_the_variants_are_settings_of_the_tracker():
    for rules in VARIANTS.values():
        check_tracking(TrackSettings(**rules))
