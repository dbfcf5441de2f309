"""Track scores against py-motmetrics and TrackEval, on random scenes with close targets and imperfect tracks."""

import numpy as np
import pytest
import tracks_and_truth as made

from irst_stream.score import TruthAndTracks, clear, hota, identity

RADIUS = 0.7
SEEDS = range(12)
ABOVE_ZERO = 1e-12  # TrackEval accepts a similarity equal to its threshold, and pairs out of range have similarity 0


def distances(tracks, truth):
    return np.linalg.norm(truth.xy[:, None] - tracks.state[None, :, :2], axis=-1)


def motmetrics(film, radius):
    mm = pytest.importorskip("motmetrics", reason="bash tools/test.sh installs it")
    accumulator = mm.MOTAccumulator(auto_id=True)
    for tracks, truth in film:
        distance = distances(tracks, truth)
        accumulator.update(truth.id, tracks.id, np.where(distance <= radius, distance, np.nan))
    names = ["num_switches", "num_misses", "num_false_positives", "num_fragmentations", "num_detections"]
    names += ["motp", "mota", "idf1", "idp", "idr", "idtp", "idfp", "idfn"]
    return mm.metrics.create().compute(accumulator, metrics=names, return_dataframe=False)


def trackeval(films, radius, metric, **config):
    """TrackEval's result, with each film as one sequence."""
    te = pytest.importorskip("trackeval", reason="bash tools/test.sh installs it")
    metric_class = getattr(te.metrics, metric)
    scorer = metric_class({"PRINT_CONFIG": False, **config}) if config else metric_class()
    results = {}
    for film in films:
        real, found = ([side.id for side in sides] for sides in zip(*((t, f) for f, t in film), strict=True))
        results[film[0][1].stamp.sensor] = scorer.eval_sequence(
            {
                "num_timesteps": len(film),
                "num_gt_dets": sum(map(len, real)),
                "num_tracker_dets": sum(map(len, found)),
                **numbered("gt", real),
                **numbered("tracker", found),
                "similarity_scores": [np.maximum(1 - distances(f, t) / radius, 0) for f, t in film],
            }
        )
    return scorer.combine_sequences(results)


def numbered(name, ids):
    """Renumber ids from 0 to n - 1, as TrackEval requires."""
    unique = np.unique(np.concatenate(ids))
    return {f"num_{name}_ids": len(unique), f"{name}_ids": [np.searchsorted(unique, frame_ids) for frame_ids in ids]}


def films(seed):
    return [
        made.random_film(seed, sequence="a"),
        made.random_film(seed + 100, 25, 3, 2.0, sequence="b"),
    ]


def truth_and_tracks(films, radius=RADIUS):
    return TruthAndTracks.of([frame for film in films for frame in film], radius)


@pytest.mark.parametrize("seed", SEEDS)
def test_clear_and_identity_equal_motmetrics(seed):
    film = made.random_film(seed)
    expected = motmetrics(film, RADIUS)
    ours, ours_identity = clear(truth_and_tracks([film])), identity(truth_and_tracks([film]))
    counts = [ours.switches, ours.fragments, ours.missed, ours.false, ours.matched]
    names = ["num_switches", "num_fragmentations", "num_misses", "num_false_positives", "num_detections"]
    assert counts == [expected[name] for name in names]
    assert [ours_identity.true, ours_identity.false, ours_identity.missed] == [
        expected[name] for name in ("idtp", "idfp", "idfn")
    ]
    values = [ours.mota, ours.motp, ours_identity.idf1, ours_identity.idp, ours_identity.idr]
    np.testing.assert_allclose(values, [expected[n] for n in ("mota", "motp", "idf1", "idp", "idr")], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_hota_equals_trackeval(seed):
    theirs = trackeval(films(seed), RADIUS, "HOTA")
    ours = hota(truth_and_tracks(films(seed)))
    names = ["HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr"]
    values = [getattr(ours, field) for field in ours.__slots__]
    np.testing.assert_allclose(values, [np.mean(theirs[name]) for name in names], rtol=0, atol=1e-9)
    assert 0.1 < ours.hota < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_identity_equals_trackeval(seed):
    theirs = trackeval(films(seed), RADIUS, "Identity", THRESHOLD=ABOVE_ZERO)
    ours = identity(truth_and_tracks(films(seed)))
    np.testing.assert_allclose([ours.idf1, ours.idp, ours.idr], [theirs[n] for n in ("IDF1", "IDP", "IDR")], atol=1e-9)
    assert [ours.true, ours.false, ours.missed] == [theirs[n] for n in ("IDTP", "IDFP", "IDFN")]


@pytest.mark.parametrize("seed", SEEDS)
def test_clear_by_trackeval_rules_equals_trackeval(seed):
    theirs = trackeval(films(seed), RADIUS, "CLEAR", THRESHOLD=ABOVE_ZERO)
    ours = clear(truth_and_tracks(films(seed)), "trackeval")
    counts = [ours.matched, ours.missed, ours.false, ours.switches, ours.fragments]
    assert counts == [theirs[n] for n in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "Frag")]
    np.testing.assert_allclose([ours.mota, 1 - ours.motp / RADIUS], [theirs["MOTA"], theirs["MOTP"]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_both_clear_rules_agree_on_well_separated_targets(seed):
    film = made.random_film(seed, targets=3, side=400.0, gaps=False)
    with_tracks = [frame for frame in film if len(frame[0])]
    one, other = clear(truth_and_tracks([with_tracks])), clear(truth_and_tracks([with_tracks]), "trackeval")
    names = ["mota", "motp", "matched", "missed", "false", "switches", "fragments"]
    np.testing.assert_allclose([getattr(one, n) for n in names], [getattr(other, n) for n in names], atol=1e-12)
    assert one.switches
    assert one.fragments


@pytest.mark.parametrize("empty", ["truth", "tracks"])
def test_truth_or_tracks_alone_equal_trackeval(empty):
    film = [
        (f, made.truth(k, {})) if empty == "truth" else (made.tracks(k, {}), t)
        for k, (f, t) in enumerate(made.random_film(1))
    ]
    theirs, ours = trackeval([film], RADIUS, "HOTA"), hota(truth_and_tracks([film]))
    assert (ours.hota, ours.det_a, ours.ass_a, ours.loc_a) == (0, 0, 0, 1)
    assert [np.mean(theirs[n]) for n in ("HOTA", "DetA", "AssA", "LocA")] == [0, 0, 0, 1]
    assert (
        identity(truth_and_tracks([film])).idf1 == trackeval([film], RADIUS, "Identity", THRESHOLD=ABOVE_ZERO)["IDF1"] == 0
    )
