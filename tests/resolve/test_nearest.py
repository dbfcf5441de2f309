"""Overlapping regions report each target once."""

import numpy as np

from irst_stream import Stamp
from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.resolve.nearest import keep_nearest, reassign_to_nearest
from irst_stream.types import Window, at_rest


def window(*corners):
    n = len(corners)
    patches, unknown, stamp = np.zeros((n, 5, 11, 11), np.float32), np.full(n, np.nan), Stamp("a", 0, 2, 0)
    xy = np.array(corners, float).reshape(n, 2)
    return Window(stamp, xy, patches, *at_rest(n, 5), np.arange(n), unknown, unknown)


def found(*xy):
    n = len(xy)
    return RegionTargets.alone(
        np.array(xy, float), np.tile(np.eye(2), (n, 1, 1)), np.arange(n) + 1.0, np.ones(n), np.ones(n)
    )


def test_a_target_seen_by_two_regions_is_kept_by_the_nearest():
    pair = window((20, 30), (26, 30), (60, 60))
    left, right, far = keep_nearest(pair, [found((5, 5), (9, 5)), found((3, 5), (-1, 5)), found((1, 1))])
    assert left.xy.tolist() == [[5, 5]]
    assert right.xy.tolist() == [[3, 5]]
    assert far.xy.tolist() == [[1, 1]]
    assert right.amplitude.tolist() == [1]


def test_a_target_is_reassigned_to_its_nearest_region():
    pair = window((20, 30), (26, 30), (60, 60))
    left, right, far = reassign_to_nearest(pair, [found((5, 5), (9, 6), (4, 5)), NO_TARGETS, found((1, 1))])
    assert left.xy.tolist() == [[5, 5], [4, 5]]
    assert right.xy.tolist() == [[3, 6]]
    assert right.amplitude.tolist() == [2]
    assert far.xy.tolist() == [[1, 1]]


def test_targets_of_separate_regions_are_unchanged():
    given = [found((5, 5), (10, 10)), NO_TARGETS]
    for settled in (keep_nearest, reassign_to_nearest):
        assert all(one is other for one, other in zip(settled(window((0, 0), (11, 0)), given), given, strict=True))
    assert keep_nearest(window(), []) == []
