"""Where groups are looked at from one window to the next, and which of them are one."""

import numpy as np

from irst_stream.fit.groups import HeldGroups, overlapping, placed, united
from irst_stream.fit.warm_start import WarmStart

SIDES = (11, 11)
SPREAD = 0.005  # px a frame


def groups(*members, corners=None):
    """Groups of up to five targets, each (K, 4) x, y px of its patch and vx, vy px a frame."""
    solutions, best = np.zeros((len(members), 6, 5, 5)), np.array([len(m) for m in members])
    for row, targets in zip(solutions, members, strict=True):
        row[len(targets), : len(targets)] = np.reshape([(*target, 200.0) for target in targets], (-1, 5))
    corners = np.zeros((len(members), 2)) if corners is None else np.array(corners, float)
    return HeldGroups(
        np.arange(len(members)), corners, WarmStart(solutions, best, np.arange(len(members)), np.zeros(solutions.shape[:2]))
    )


def test_patches_overlap_that_share_pixels():
    corners = np.array([[0.0, 0.0], [10.0, 10.0], [11.0, 0.0], [40.0, 0.0]])
    shared = overlapping(corners, SIDES)
    assert [tuple(pair) for pair in np.argwhere(np.triu(shared))] == [(0, 1), (1, 2)]
    np.testing.assert_array_equal(shared, shared.T)


def test_a_group_is_looked_at_where_it_is_nearest_to_the_middle():
    known = groups([(3, 4, 0, 0), (5, 4, 0, 0)], [(6, 5, 0, 0)], [(5, 5, 0, 0)], corners=[(20, 20), (10, 20), (90, 90)])
    corners = np.array([[60.0, 60.0], [22.0, 18.0], [12.0, 20.0]])
    moved = placed(known, corners, SIDES)
    assert moved.region.tolist() == [1, 2], "the one that is in no region is forgotten"
    np.testing.assert_array_equal(moved.corner, corners[1:])
    np.testing.assert_allclose(moved.held.targets(0)[:, :2], [(1, 6), (3, 6)])
    np.testing.assert_allclose(moved.held.targets(1)[:, :2], [(4, 5)])
    np.testing.assert_allclose(known.held.targets(0)[:, :2], [(3, 4), (5, 4)])
    assert placed(known, np.array([[20.0, 20.0], [0.0, 0.0]]), SIDES).held.age[0] == known.held.age[0]
    assert (moved.held.age > 1000).all(), "the patches are others"


def test_groups_that_meet_share_a_region_but_for_those_without_targets():
    known = groups([(5, 5, 0, 0)], [], [(4, 5, 0, 0)], [], corners=[(20, 20), (20, 20), (21, 20), (50, 20)])
    moved = placed(known, np.array([[20.0, 20.0], [50.0, 20.0]]), SIDES)
    assert moved.region.tolist() == [0, 0, 1]
    assert moved.held.best.tolist() == [1, 1, 0]


def one(*members):
    """How many groups are left of these, which share a region."""
    given = groups(*members)
    left = united(given._replace(region=np.zeros(len(members), np.int64)), SPREAD, SIDES)
    assert left.held.best.sum() == given.held.best.sum(), "no target is lost"
    return len(left.region)


def test_groups_of_one_region_that_go_the_same_way_are_one():
    still, fast = (0.1, 0.0), (0.15, 0.0)
    pair = [(4, 5, *still), (5, 5, *still)]
    assert one(pair, [(6, 5, 0.11, 0.0)]) == 1
    assert one(pair, [(6, 5, 0.11, 0.0)], [(6, 6, 0.1, 0.01)]) == 1
    assert one(pair, [(6, 5, *fast)]) == 2
    assert one(pair, [(10, 5, *still)]) == 2, "at the rim its light is not all there"
    assert one(2 * pair, pair) == 2, "too many for one fit"
    apart = groups(pair, pair, corners=[(0, 0), (1, 0)])
    assert len(united(apart, SPREAD, SIDES).region) == 2
