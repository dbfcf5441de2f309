"""CSO-mAP against a slow, plain implementation of the reference's rules, and against hand-computed cases."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import scored_images

from irst_stream.score import THRESHOLDS, cso_map, match_nearest, ragged


def slow_map(detections, truths, threshold, mode):
    """The AP at one threshold, computed one detection at a time."""
    ranked = []
    for found, real in zip(detections, truths, strict=True):
        taken = set()
        for x, y, score in sorted(found.tolist(), key=lambda row: -row[2]):
            dtype = np.float32 if mode == "legacy" else np.float64  # the reference uses 32-bit floats
            distance = [np.linalg.norm(np.array([x, y], dtype) - t[:2].astype(dtype)) for t in real]
            candidates = [k for k in range(len(real)) if mode == "legacy" or k not in taken]
            nearest = min(candidates, key=lambda k: distance[k], default=None)
            hit = nearest is not None and nearest not in taken and distance[nearest] <= dtype(threshold)
            if hit:
                taken.add(nearest)
            ranked.append((score, hit))
    ranked.sort(key=lambda row: -row[0])
    total = sum(map(len, truths))
    if not total:
        return np.nan
    recall, precision, true = [0.0], [], 0
    for k, (_, hit) in enumerate(ranked, 1):
        true += hit
        recall.append(true / total)
        precision.append(true / k)
    return sum((recall[k + 1] - recall[k]) * max(precision[k:]) for k in range(len(precision)))


@pytest.mark.parametrize("mode", ["standard", "legacy"])
@settings(max_examples=150)
@given(scored_images(tied_scores=False))
def test_equals_the_slow_implementation(mode, images):
    found, real = images
    slow = [slow_map(found, real, t, mode) for t in THRESHOLDS]
    got = cso_map(found, real, mode=mode)
    np.testing.assert_allclose(got.ap, slow, atol=1e-9)
    np.testing.assert_allclose(got.map, np.mean(slow), atol=1e-9)


@pytest.mark.parametrize("mode", ["standard", "legacy"])
@given(scored_images(tied_scores=True))
def test_equal_scores_keep_their_input_order(mode, images):
    found, real = images
    got = cso_map(found, real, mode=mode)
    np.testing.assert_allclose(got.ap, [slow_map(found, real, t, mode) for t in THRESHOLDS], atol=1e-9)


@given(scored_images())
def test_the_order_of_images_does_not_matter(images):
    found, real = images
    scores = np.concatenate([f[:, 2] for f in found])
    if len(set(scores)) == len(scores):
        np.testing.assert_allclose(cso_map(found, real).ap, cso_map(found[::-1], real[::-1]).ap, atol=1e-12)


def test_the_docstring_example():
    found, real = [np.array([[0.05, 0, 2.0], [0.08, 0, 1.0]])], [np.array([[0.0, 0.0], [0.2, 0.0]])]
    assert cso_map(found, real, [0.15], "legacy").ap == pytest.approx([0.5])
    assert cso_map(found, real, [0.15], "standard").ap == pytest.approx([1.0])


def test_a_hand_computed_case():
    # By score: true, false, true, of 3 truths. Precision 1, 1/2, 2/3; envelope 1, 2/3, 2/3; AP = 1/3 + 2/3 / 3.
    found = [np.array([[0, 0, 0.9], [3, 3, 0.5]]), np.array([[1, 1, 0.4]])]
    real = [np.array([[0.0, 0.0]]), np.array([[1.0, 1.0], [5.0, 5.0]])]
    assert cso_map(found, real).ap == pytest.approx([5 / 9] * 5)


def test_legacy_distances_are_32_bit_floats():
    found, real = [np.array([[5.0, 5.0, 1.0]])], [np.array([[5.05, 5.0]])]
    assert cso_map(found, real, [0.05], "standard").map == 1
    assert cso_map(found, real, [0.05], "legacy").map == 0


def test_the_threshold_itself_is_in_range():
    assert cso_map([np.array([[0.25, 0, 1.0]])], [np.zeros((1, 2))]).ap.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("mode", ["standard", "legacy"])
def test_defined_where_the_reference_crashes(mode):
    one = np.array([[0.0, 0.0, 1.0]])
    nothing, none = np.zeros((0, 3)), np.zeros((0, 2))
    assert cso_map([one], [one[:, :2]], mode=mode).map == 1  # one image alone
    assert cso_map([nothing], [one[:, :2]], mode=mode).map == 0  # no detection at all
    assert cso_map([one, one], [one[:, :2], none], mode=mode).ap == pytest.approx([1.0] * 5)  # an image without truths
    assert np.isnan(cso_map([one], [none], mode=mode).map)
    assert np.isnan(cso_map([nothing], [none], mode=mode).map)
    assert np.isnan(cso_map([], [], mode=mode).map)


def test_errors_name_the_invalid_input():
    with pytest.raises(ValueError, match=r"detections\[0\]: expected shape \(n, 3\), got \(1, 2\)"):
        cso_map([np.zeros((1, 2))], [np.zeros((1, 2))])
    with pytest.raises(ValueError, match="one array of truths for each image, got 2 for 1"):
        cso_map([np.zeros((1, 3))], [np.zeros((1, 2))] * 2)
    with pytest.raises(ValueError, match="finite"):
        cso_map([np.full((1, 3), np.nan)], [np.zeros((1, 2))])
    with pytest.raises(ValueError, match="thresholds: expected at least one"):
        cso_map([], [], [])
    with pytest.raises(ValueError, match="mode"):
        cso_map([], [], mode="other")


def test_many_pairs_are_scored_in_blocks(monkeypatch):
    monkeypatch.setattr(ragged, "PAIRS_AT_ONCE", 50)
    rng = np.random.default_rng(3)
    found, real = [rng.uniform(0, 1, (40, 3)) for _ in range(5)], [rng.uniform(0, 1, (n, 2)) for n in (0, 3, 60, 1, 20)]
    assert cso_map(found, real).ap == pytest.approx([slow_map(found, real, t, "standard") for t in THRESHOLDS])


def test_matching_returns_rows_of_the_concatenated_arrays():
    found = [np.array([[0.0, 0, 1], [9, 9, 2]]), np.array([[1.0, 1, 1]])]
    real = [np.array([[0.1, 0.0]]), np.array([[5.0, 5.0], [1.0, 1.1]])]
    rows, truths = match_nearest(found, real, 0.25)
    assert rows.tolist() == [0, 2]
    assert truths.tolist() == [0, 2]


def test_15000_images_are_scored_in_far_less_time_than_one_at_a_time():
    rng = np.random.default_rng(0)
    real = list(rng.uniform(4, 6, (15_000, 3, 2)))
    found = [np.column_stack([np.concatenate([t + 0.05, t[:1] + 1]), rng.random(4)]) for t in real]
    cso_map(found[:100], real[:100])

    def seconds(run):
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    slow = seconds(lambda: slow_map(found[:1500], real[:1500], 0.1, "standard")) * 10 * len(THRESHOLDS)
    assert min(seconds(lambda: cso_map(found, real)) for _ in range(3)) < slow / 5
