"""Scores of tracks against py-motmetrics and TrackEval, on scenes where targets crowd, come and go, and tracks err."""

import followed
import numpy as np
import pytest

from irst_stream.score import Encounters, clear, hota, identity

RADIUS = 0.7
SEEDS = range(12)
ABOVE_ZERO = 1e-12  # TrackEval accepts a similarity of its threshold, and 0 is that of everything out of range


def distances(tracks, truth):
    return np.linalg.norm(truth.xy[:, None] - tracks.state[None, :, :2], axis=-1)


def motmetrics(film, radius):
    mm = pytest.importorskip("motmetrics", reason="bash tools/test.sh installs it")
    book = mm.MOTAccumulator(auto_id=True)
    for tracks, truth in film:
        distance = distances(tracks, truth)
        book.update(truth.id, tracks.id, np.where(distance <= radius, distance, np.nan))
    names = ["num_switches", "num_misses", "num_false_positives", "num_fragmentations", "num_detections"]
    names += ["motp", "mota", "idf1", "idp", "idr", "idtp", "idfp", "idfn"]
    return mm.metrics.create().compute(book, metrics=names, return_dataframe=False)


def trackeval(films, radius, metric, **config):
    """TrackEval's own result over the films, combined as it combines sequences."""
    te = pytest.importorskip("trackeval", reason="bash tools/test.sh installs it")
    kind = getattr(te.metrics, metric)
    scorer = kind({"PRINT_CONFIG": False, **config}) if config else kind()
    parts = {}
    for film in films:
        real, found = ([side.id for side in sides] for sides in zip(*((t, f) for f, t in film), strict=True))
        parts[film[0][1].stamp.sensor] = scorer.eval_sequence(
            {
                "num_timesteps": len(film),
                "num_gt_dets": sum(map(len, real)),
                "num_tracker_dets": sum(map(len, found)),
                **numbered("gt", real),
                **numbered("tracker", found),
                "similarity_scores": [np.maximum(1 - distances(f, t) / radius, 0) for f, t in film],
            }
        )
    return scorer.combine_sequences(parts)


def numbered(name, ids):
    """Ids as TrackEval wants them, 0 to n - 1."""
    unique = np.unique(np.concatenate(ids))
    return {f"num_{name}_ids": len(unique), f"{name}_ids": [np.searchsorted(unique, some) for some in ids]}


def films(seed):
    return [followed.random_film(seed, sequence="a"), followed.random_film(seed + 100, 25, 3, 2.0, sequence="b")]


def met(films, radius=RADIUS):
    return Encounters.of([frame for film in films for frame in film], radius)


@pytest.mark.parametrize("seed", SEEDS)
def test_clear_and_identity_equal_motmetrics(seed):
    film = followed.random_film(seed)
    book = motmetrics(film, RADIUS)
    got, who = clear(met([film])), identity(met([film]))
    counts = [got.switches, got.fragments, got.missed, got.false, got.matched]
    names = ["num_switches", "num_fragmentations", "num_misses", "num_false_positives", "num_detections"]
    assert counts == [book[name] for name in names]
    assert [who.true, who.false, who.missed] == [book[name] for name in ("idtp", "idfp", "idfn")]
    ours = [got.mota, got.motp, who.idf1, who.idp, who.idr]
    np.testing.assert_allclose(ours, [book[n] for n in ("mota", "motp", "idf1", "idp", "idr")], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_hota_equals_trackeval(seed):
    theirs = trackeval(films(seed), RADIUS, "HOTA")
    ours = hota(met(films(seed)))
    names = ["HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr"]
    values = [getattr(ours, field) for field in ours.__slots__]
    np.testing.assert_allclose(values, [np.mean(theirs[name]) for name in names], rtol=0, atol=1e-9)
    assert 0.1 < ours.hota < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_identity_equals_trackeval(seed):
    theirs = trackeval(films(seed), RADIUS, "Identity", THRESHOLD=ABOVE_ZERO)
    ours = identity(met(films(seed)))
    np.testing.assert_allclose([ours.idf1, ours.idp, ours.idr], [theirs[n] for n in ("IDF1", "IDP", "IDR")], atol=1e-9)
    assert [ours.true, ours.false, ours.missed] == [theirs[n] for n in ("IDTP", "IDFP", "IDFN")]


@pytest.mark.parametrize("seed", SEEDS)
def test_clear_by_its_rules_equals_trackeval(seed):
    theirs = trackeval(films(seed), RADIUS, "CLEAR", THRESHOLD=ABOVE_ZERO)
    ours = clear(met(films(seed)), "trackeval")
    counts = [ours.matched, ours.missed, ours.false, ours.switches, ours.fragments]
    assert counts == [theirs[n] for n in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "Frag")]
    np.testing.assert_allclose([ours.mota, 1 - ours.motp / RADIUS], [theirs["MOTA"], theirs["MOTP"]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_far_targets_give_the_same_by_either_rules(seed):
    film = followed.random_film(seed, targets=3, side=400.0, gaps=False)
    some = [frame for frame in film if len(frame[0])]
    one, other = clear(met([some])), clear(met([some]), "trackeval")
    names = ["mota", "motp", "matched", "missed", "false", "switches", "fragments"]
    np.testing.assert_allclose([getattr(one, n) for n in names], [getattr(other, n) for n in names], atol=1e-12)
    assert one.switches
    assert one.fragments


@pytest.mark.parametrize("empty", ["truth", "tracks"])
def test_one_side_alone_equals_trackeval(empty):
    film = [
        (f, followed.truth(k, {})) if empty == "truth" else (followed.tracks(k, {}), t)
        for k, (f, t) in enumerate(followed.random_film(1))
    ]
    theirs, ours = trackeval([film], RADIUS, "HOTA"), hota(met([film]))
    assert (ours.hota, ours.det_a, ours.ass_a, ours.loc_a) == (0, 0, 0, 1)
    assert [np.mean(theirs[n]) for n in ("HOTA", "DetA", "AssA", "LocA")] == [0, 0, 0, 1]
    assert identity(met([film])).idf1 == trackeval([film], RADIUS, "Identity", THRESHOLD=ABOVE_ZERO)["IDF1"] == 0
