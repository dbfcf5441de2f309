"""Track scores against hand-computed cases."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from tracks_and_truth import film, random_film, tracks, truth

from irst_stream import FormatError
from irst_stream.score import TruthAndTracks, clear, hota, identity, ospa2, score_tracks
from irst_stream.score.matching import best_pairs

HERE, THERE = (0.0, 0.0), (9.0, 0.0)


def truth_and_tracks(frames, radius=1.0):
    return TruthAndTracks.of(frames, radius)


def swapped():
    """Two targets at rest for four frames; their tracks swap after two."""
    return film([{1: HERE, 2: THERE}] * 4, [{7: HERE, 8: THERE}] * 2 + [{8: HERE, 7: THERE}] * 2)


def test_perfect_tracks():
    report = score_tracks(film([{1: HERE, 2: THERE}] * 3, [{7: HERE, 8: THERE}] * 3))
    assert set(asdict(report.hota).values()) == {1.0}
    assert (report.identity.idf1, report.clear.mota, report.clear.motp) == (1, 1, 0)
    assert (report.clear.switches, report.clear.fragments) == (0, 0)
    assert (report.gospa.total, report.ospa2) == (0, 0)
    assert (report.follow.purity, report.follow.confirm_frames, report.follow.never) == (1, 0, 0)


def test_swapped_tracks():
    got = score_tracks(swapped())
    # 8 matched pairs, of four couples of identities that share 2 of 4 + 4 - 2 frames each.
    assert (got.hota.det_a, got.hota.loc_a) == (1, 1)
    assert got.hota.ass_a == pytest.approx(2 / 6)
    assert (got.hota.ass_re, got.hota.ass_pr) == (0.5, 0.5)
    assert got.hota.hota == pytest.approx((1 / 3) ** 0.5)
    assert (got.identity.idf1, got.identity.idp, got.identity.idr) == (0.5, 0.5, 0.5)
    assert (got.identity.true, got.identity.false, got.identity.missed) == (4, 4, 4)
    assert (got.clear.switches, got.clear.fragments) == (2, 0)
    assert got.clear.mota == pytest.approx(1 - 2 / 8)
    assert got.follow.purity == 0.5
    assert got.ospa2 == pytest.approx(0.5)  # each path is exact in half of its frames, and a radius away in the others
    assert got.gospa.total == 0  # GOSPA ignores identities


def test_hota_of_a_distance():
    # Similarity 1 - 0.25 / 1 = 0.75: matched at the 15 thresholds up to 0.75, not at the 4 above.
    got = hota(truth_and_tracks(film([{1: HERE}] * 2, [{7: (0.25, 0.0)}] * 2)))
    assert got.hota == got.det_a == got.ass_a == pytest.approx(15 / 19)
    assert got.loc_a == pytest.approx((15 * 0.75 + 4) / 19)


def test_hota_prefers_identities_that_share_most_frames():
    # In the second frame track 8 is nearer, but track 7 follows the target in all others.
    near = hota(truth_and_tracks(film([{1: HERE}] * 3, [{7: HERE}, {7: (0.2, 0.0), 8: (0.1, 0.0)}, {7: HERE}])))
    assert near.ass_re == pytest.approx(np.mean([1] * 16 + [2 / 3] * 3))
    assert near.det_pr == pytest.approx(np.mean([3 / 4] * 16 + [2 / 4] * 3))


def test_clear_counts_missed_false_switches_and_fragments():
    real = [{1: HERE}] * 6
    found = [{}, {7: HERE}, {}, {7: (0.5, 0.0), 9: THERE}, {8: HERE}, {}]
    got = clear(truth_and_tracks(film(real, found)))
    assert (got.matched, got.missed, got.false, got.switches, got.fragments) == (3, 3, 1, 1, 1)
    assert got.mota == pytest.approx(1 - (3 + 1 + 1) / 6)
    assert got.motp == pytest.approx(0.5 / 3)


def test_clear_keeps_a_match_while_it_is_in_range():
    real, found = [{1: HERE}] * 2, [{7: (0.1, 0.0)}, {7: (0.9, 0.0), 8: HERE}]
    assert clear(truth_and_tracks(film(real, found))).switches == 0
    assert clear(truth_and_tracks(film(real, [found[0], {7: (1.1, 0.0), 8: HERE}]))).switches == 1


def test_the_two_readings_of_clear():
    # Target 1 is in range of track 7 only, target 2 of both tracks: two far matches, or a single near one.
    real, found = [{1: (0.0, 0.0), 2: (0.9, 0.0)}], [{7: (0.85, 0.0), 8: (1.8, 0.0)}]
    many, near = clear(truth_and_tracks(film(real, found))), clear(truth_and_tracks(film(real, found)), "trackeval")
    assert (many.matched, near.matched) == (2, 1)
    # After a break track 8 is nearer, but 7 matched last: only "motmetrics" remembers it.
    film_ = film([{1: HERE}] * 3, [{7: HERE}, {9: THERE}, {7: (0.5, 0.0), 8: HERE}])
    assert (clear(truth_and_tracks(film_)).switches, clear(truth_and_tracks(film_), "trackeval").switches) == (0, 1)


def test_identity_gives_each_target_one_track():
    # Track 7 follows target 1 for three frames, then 2 for two, in which 8 follows 1: 2 + 2 exceeds 3 + 0.
    real = [{1: HERE, 2: THERE}] * 5
    got = identity(truth_and_tracks(film(real, [{7: HERE}] * 3 + [{7: THERE, 8: HERE}] * 2)))
    assert (got.true, got.false, got.missed) == (4, 3, 6)
    assert got.idf1 == pytest.approx(2 * 4 / (10 + 7))


def test_ospa2_by_hand():
    # Track 7 is 0.2 off for 2 frames and missing for 2: (2 x 0.2 + 2 x 1) / 4; track 8 is false: 1; mean of two paths.
    frames = film([{1: HERE}] * 4, [{7: (0.2, 0.0), 8: THERE}] * 2 + [{}] * 2)
    assert ospa2(truth_and_tracks(frames)) == pytest.approx(((0.4 + 2) / 4 + 1) / 2)
    assert ospa2(truth_and_tracks(frames), p=2) == pytest.approx((((2 * 0.04 + 2) / 4 + 1) / 2) ** 0.5)
    assert ospa2(truth_and_tracks(frames, 0.1)) == pytest.approx(0.1)


def test_gospa_over_time_by_hand():
    # Frame by frame: 0.6 off; missed; missed and false. The frames are passed in reverse order.
    frames = film([{1: HERE}] * 3, [{7: (0.6, 0.0)}, None, {7: THERE}])
    report = score_tracks(frames[::-1])
    time = report.over_time
    assert time.index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(time.gospa, [0.6, 0.5**0.5, 1])
    np.testing.assert_allclose(time.parts, [[0.36, 0, 0], [0, 0.5, 0], [0, 0.5, 0.5]])
    assert time.position_rmse.tolist() == pytest.approx([0.6, np.nan, np.nan], nan_ok=True)
    assert (time.targets.tolist(), time.tracks.tolist()) == ([1, 1, 1], [1, 0, 1])
    assert report.gospa.total == pytest.approx(np.mean(time.gospa))
    assert report.unanswered == 1


def test_errors_of_position_and_velocity():
    # The target moves at 0.3 px per 10 ms frame, 30 px/s; the track is 0.1 off and its velocity (27, 4), 5 off.
    real = [{1: (0.3 * t, 0.0)} for t in range(4)]
    frames = [(tracks(t, {7: (0.3 * t, 0.1)}, velocity=(27.0, 4.0)), truth(t, real[t])) for t in range(4)]
    got = score_tracks(frames).follow
    assert got.position_rmse == pytest.approx(0.1)
    assert got.velocity_rmse == pytest.approx(5)
    assert np.isnan(score_tracks(frames[:2]).follow.velocity_rmse)  # no frame has two neighbours


def test_time_to_confirm():
    # Target 1 is confirmed two frames after its first, 2 at once, 3 never; tentative points do not count.
    real = [{1: HERE}, {1: HERE}, {1: HERE, 2: THERE}, {1: HERE, 2: THERE, 3: (50.0, 0.0)}]
    found = [{7: HERE}, {7: HERE}, {7: HERE, 8: THERE}, {7: HERE, 8: THERE, 9: (50.0, 0.0)}]
    frames = [(tracks(t, found[t], tentative=(7,) if t < 2 else (9,)), truth(t, real[t])) for t in range(4)]
    got = score_tracks(frames)
    assert (got.follow.confirm_frames, got.follow.confirm_ms, got.follow.never) == (1, 10, 1)
    assert (got.tracks, got.points) == (2, 4)


def test_purity_is_over_matched_points():
    # Track 7 matches target 1 twice, target 2 once, and none once.
    frames = film([{1: HERE, 2: THERE}] * 4, [{7: HERE}, {7: HERE}, {7: THERE}, {7: (50.0, 0.0)}])
    assert score_tracks(frames).follow.purity == pytest.approx(2 / 3)


def test_sequences_are_independent():
    one = film([{1: HERE}] * 3, [{7: HERE}] * 3, "a")
    other = film([{1: HERE}] * 3, [{8: HERE}] * 3, "b")
    got = score_tracks([frame for both in zip(one, other, strict=True) for frame in both])
    assert (got.targets, got.tracks, got.clear.switches, got.identity.idf1, got.hota.hota) == (2, 2, 0, 1, 1)


def test_frames_may_be_in_any_order():
    frames = random_film(3)
    assert score_tracks(frames).as_dict() == score_tracks(frames[::-1]).as_dict()


@pytest.mark.parametrize(
    ("real", "found"), [([], []), ([{}], [{}]), ([{}], [None]), ([{1: HERE}] * 2, [{}] * 2), ([{}] * 2, [{7: HERE}] * 2)]
)
def test_scores_without_data_are_none(real, found):
    report = score_tracks(film(real, found))
    plain = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert plain["clear"]["motp"] is None
    assert plain["follow"]["position_rmse"] is plain["follow"]["purity"] is plain["follow"]["confirm_ms"] is None
    nothing = not any(real) and not any(found)
    assert plain["hota"]["hota"] == (None if nothing else 0)
    assert plain["identity"]["idf1"] == (None if nothing else 0)
    assert plain["gospa"]["total"] == (None if not real else 0 if nothing else pytest.approx(0.5**0.5))
    assert plain["ospa2"] == (None if not real else 0 if nothing else 1)
    assert plain["clear"]["mota"] == (0 if any(real) else None)


def test_an_identity_twice_in_a_frame_is_refused():
    twice = tracks(0, {7: HERE, 8: THERE})
    object.__setattr__(twice, "id", np.array([7, 7]))
    with pytest.raises(FormatError, match="sequence 'a' index 0: id 7 occurs twice"):
        score_tracks([(twice, truth(0, {}))])


def test_best_pairs_maximise_the_total_gain():
    # Greedy choice takes 5 and blocks the rest; the best is 4 + 3. The last pair is a component of its own.
    left, right = np.array([0, 0, 1, 9]), np.array([0, 1, 0, 9])
    assert best_pairs(left, right, np.array([5.0, 4.0, 3.0, 1.0])).tolist() == [False, True, True, True]
    assert best_pairs(left[:0], right[:0], np.zeros(0)).tolist() == []
