"""Confirmed tracks on their targets against hand-computed cases."""

from dataclasses import replace

import numpy as np
import pytest
from tracks_and_truth import film, tracks, truth

from irst_stream.score import HIT_RADIUS, RADIUS, score_tracks

HERE, THERE = (0.0, 0.0), (90.0, 0.0)


def boxed(frames, width, height):
    """The same frames with boxes around all targets."""
    return [(t, replace(real, size=np.tile([float(width), float(height)], (len(real), 1)))) for t, real in frames]


def test_shares_of_a_single_target_by_hand():
    # Five frames with the target: track 7 on it in two, 8 in one, none in two; two false tracks; one frame without it.
    real = [{1: HERE}] * 5 + [{}]
    found = [{7: HERE}, {7: (0.5, 0.0), 9: THERE}, {8: HERE}, {}, None, {9: THERE}]
    report = score_tracks(film(real, found))
    assert report.radius == RADIUS
    got = report.holding["centre"]
    assert set(report.holding) == {"centre"}
    assert (got.tracked, got.one_id) == (pytest.approx(3 / 5), pytest.approx(2 / 5))
    assert got.false_per_frame == pytest.approx(2 / 6)
    assert report.as_dict()["holding"]["centre"]["tracked"] == pytest.approx(3 / 5)


def test_tentative_tracks_do_not_count():
    frames = [(tracks(0, {7: HERE, 8: THERE}, tentative=(7,)), truth(0, {1: HERE}))]
    got = score_tracks(frames).holding["centre"]
    assert (got.tracked, got.false_per_frame) == (0, 1)


def test_boxes_by_hand():
    # A box of 11 x 5 px grown by 3 px reaches 8.5 px in x and 5.5 px in y.
    found = [{7: (8.5, 0.0)}, {7: (8.6, 0.0)}, {7: (0.0, 5.5)}, {8: (2.0, 0.0)}]
    report = score_tracks(boxed(film([{1: HERE}] * 4, found), 11, 5))
    assert report.radius == HIT_RADIUS
    centre, box = report.holding["centre"], report.holding["box"]
    assert (centre.tracked, centre.one_id, centre.false_per_frame) == (0.25, 0.25, 0.75)
    assert (box.tracked, box.one_id, box.false_per_frame) == (0.75, 0.5, 0.25)


def test_identities_are_summed_over_targets():
    # Target 1 has track 7 in two of three frames, target 2 has 8 in one and 9 in one.
    found = [{7: HERE, 8: THERE}, {7: HERE, 9: THERE}, {}]
    got = score_tracks(boxed(film([{1: HERE, 2: THERE}] * 3, found), 3, 3)).holding["box"]
    assert (got.tracked, got.one_id) == (pytest.approx(4 / 6), pytest.approx(3 / 6))


def test_several_points_have_no_holding_and_nothing_is_nan():
    assert score_tracks(film([{1: HERE, 2: THERE}], [{7: HERE}])).holding == {}
    nobody = score_tracks(film([{}], [{7: HERE}])).holding["centre"]
    assert np.isnan([nobody.tracked, nobody.one_id]).all()
    assert nobody.false_per_frame == 1
    assert np.isnan(score_tracks([]).holding["centre"].false_per_frame)
