"""Detection probability, false detections and ROC against hand-computed cases."""

import json

import numpy as np
import pytest

from irst_stream import Detections, Stamp, Truth
from irst_stream.score import HIT_RADIUS, hits, score_detections

NAN = float("nan")


def truth(*boxes, index=0, frame_size=(0, 0)):
    """boxes: x, y of the centre, width, height; NaN for a point."""
    rows = np.array(boxes, np.float64).reshape(-1, 4)
    n = len(rows)
    stamp = Stamp("a", 0, index, 0)
    return Truth(stamp, np.arange(n), np.zeros(n, int), rows[:, :2], np.full(n, np.nan), rows[:, 2:], frame_size)


def found(*rows):
    """x, y, score."""
    return np.array(rows, np.float64).reshape(-1, 3)


def test_shares_and_counts_by_hand():
    # Frame 0: two detections on a target, a false one; frame 1: one on the first of two targets; frame 2: a false one.
    truths = [truth((10, 10, NAN, NAN)), truth((5, 5, NAN, NAN), (30, 30, NAN, NAN), index=1), truth(index=2)]
    detections = [found((11, 10, 5), (10, 12, 3), (20, 20, 4)), found((5, 8, 2)), found((1, 1, 1))]
    got = hits(detections, truths, 3.0, "centre")
    assert got.found == pytest.approx(2 / 3)
    assert got.false_per_frame == pytest.approx(2 / 3)
    assert got.per_target == pytest.approx(3 / 2)
    assert got.exactly_one == 0.5
    # True scores 5, 3, 2 against false ones 4, 1: 5 beats both, 3 and 2 beat one each: 4 of 6.
    assert got.roc_area == pytest.approx(4 / 6)
    # The targets' own detections are the nearest: 1 px and 3 px off.
    assert got.error_p50 == pytest.approx(2)
    assert got.error_p90 == pytest.approx(1 + 0.9 * 2)
    assert np.isnan(got.false_per_pixel)


def test_the_roc_by_hand():
    truths = [truth((10, 10, NAN, NAN)), truth((5, 5, NAN, NAN), index=1)]
    roc = hits([found((10, 10, 5), (20, 20, 4), (10, 11, 1)), found((5, 5, 3), (9, 9, 3))], truths, 3.0, "centre").roc
    assert roc.score.tolist() == [5, 4, 3, 1]
    assert roc.found.tolist() == [0.5, 0.5, 1, 1]
    assert roc.false_per_frame.tolist() == [0, 0.5, 1, 1]


def test_ties_count_half():
    got = hits([found((0, 0, 1), (9, 9, 1), (9, 0, 0))], [truth((0, 0, NAN, NAN))], 1.0, "centre")
    assert got.roc_area == pytest.approx((0.5 + 1) / 2)


def test_false_detections_a_pixel_need_every_frames_size():
    sized = [truth(frame_size=(20, 10)), truth(index=1, frame_size=(30, 10))]
    assert hits([found((1, 1, 1)), found()], sized, 3.0, "centre").false_per_pixel == pytest.approx(1 / 500)
    assert np.isnan(hits([found((1, 1, 1)), found()], [sized[0], truth(index=1)], 3.0, "centre").false_per_pixel)


def test_a_box_reaches_farther_than_its_centre():
    # A box of 11 x 5 px around (20, 20), grown by 2 px: x from 12.5 to 27.5, y from 15.5 to 24.5.
    real = [truth((20, 20, 11, 5))]
    inside, beside, corner = (27.5, 20, 1), (27.6, 20, 1), (27.5, 24.5, 1)
    assert [hits([found(one)], real, 2.0, "box").found for one in (inside, beside, corner)] == [1, 0, 1]
    assert hits([found(inside)], real, 2.0, "centre").found == 0
    assert hits([found((22, 20, 1))], real, 2.0, "centre").found == 1
    assert hits([found(inside)], real, 2.0, "box").error_p50 == 7.5


def test_a_detection_finds_one_target_and_the_most_are_found():
    # Both detections are nearest to the first target; each target gets one all the same.
    real = [truth((0, 0, NAN, NAN), (2, 0, NAN, NAN))]
    got = hits([found((0, 0, 1), (0.5, 0, 1))], real, 2.0, "centre")
    assert (got.found, got.per_target, got.exactly_one) == (1, 1, 1)
    assert (got.error_p50, got.error_p90) == pytest.approx((0.75, 0.9 * 1.5))
    assert hits([found((1, 0, 1))], real, 2.0, "centre").found == 0.5


def test_nothing_to_count_is_nan():
    nobody = hits([found((1, 1, 1))], [truth()], 3.0, "centre")
    assert np.isnan([nobody.found, nobody.per_target, nobody.exactly_one, nobody.roc_area, nobody.error_p50]).all()
    assert nobody.false_per_frame == 1
    nothing = hits([found()], [truth((1, 1, 3, 3))], 3.0, "box")
    assert (nothing.found, nothing.false_per_frame, len(nothing.roc.score)) == (0, 0, 0)
    assert np.isnan(nothing.per_target)
    assert np.isnan(hits([], [], 3.0, "box").false_per_frame)


def test_many_thresholds_are_thinned_from_the_first_to_the_last():
    rng = np.random.default_rng(0)
    detections = [np.column_stack([rng.uniform(0, 100, (1000, 2)), rng.random(1000)])]
    roc = hits(detections, [truth((50, 50, 9, 9))], 3.0, "box").roc
    assert len(roc.score) == 200
    assert (roc.score[0], roc.score[-1]) == (detections[0][:, 2].max(), detections[0][:, 2].min())
    assert (np.diff(roc.false_per_frame) >= 0).all()


def report(real, radius=None):
    stamp = Stamp("a", 0, 0, 0)
    return score_detections([(Detections.bare(stamp, np.array([[4.0, 4.0]]), np.ones(1), np.ones(1)), real)], radius=radius)


def test_a_report_has_hits_where_boxes_or_a_radius_are_given():
    boxes, points = truth((5, 5, 3, 3)), truth((5, 5, NAN, NAN))
    assert (report(boxes).radius, set(report(boxes).hits)) == (HIT_RADIUS, {"centre", "box"})
    assert (report(points).radius, report(points).hits) == (None, {})
    assert set(report(points, 2.0).hits) == {"centre"}
    plain = report(boxes, 1.0).as_dict()
    json.dumps(plain, allow_nan=False)
    assert "cso_map" not in plain
    assert (plain["hits"]["centre"]["found"], plain["hits"]["box"]["found"]) == (0, 1)
    assert plain["hits"]["box"]["roc"] == {"score": [1], "found": [1], "false_per_frame": [0]}
    assert "hits" not in report(points).as_dict()
    assert report(points).as_dict()["cso_map"] == 0


def test_truth_without_amplitudes_has_no_amplitude_error():
    near = report(truth((4, 4, NAN, NAN)))
    assert near.errors.recall == 1
    assert np.isnan(near.errors.amplitude_rmse)
