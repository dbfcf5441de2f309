"""Assignment of groups to regions from window to window, and the merging of groups."""

import numpy as np

from irst_stream.fit.groups import WarmGroups, assign_regions, linked, merge_groups, overlapping
from irst_stream.fit.warm_start import WarmStart

SIDES = (11, 11)
SPREAD = 0.005  # px a frame


def groups(*members, corners=None):
    """Groups of up to five targets, each (K, 4) x, y px of its patch and vx, vy px a frame."""
    count = len(members)
    solutions, best = np.zeros((count, 6, 5, 5)), np.array([len(m) for m in members])
    for row, targets in zip(solutions, members, strict=True):
        row[len(targets), : len(targets)] = np.reshape([(*target, 200.0) for target in targets], (-1, 5))
    corners = np.zeros((count, 2)) if corners is None else np.array(corners, float)
    return WarmGroups(
        np.arange(count),
        corners,
        WarmStart(solutions, best, np.arange(count), np.zeros(solutions.shape[:2]), np.zeros(count), np.zeros((count, 2))),
    )


def test_patches_that_share_pixels_overlap():
    corners = np.array([[0.0, 0.0], [10.0, 10.0], [11.0, 0.0], [40.0, 0.0]])
    shared = overlapping(corners, SIDES)
    assert [tuple(pair) for pair in np.argwhere(np.triu(shared))] == [(0, 1), (1, 2)]
    np.testing.assert_array_equal(shared, shared.T)


def test_a_group_is_assigned_to_the_region_with_the_nearest_centre():
    known = groups([(3, 4, 0, 0), (5, 4, 0, 0)], [(6, 5, 0, 0)], [(5, 5, 0, 0)], corners=[(20, 20), (10, 20), (90, 90)])
    corners = np.array([[60.0, 60.0], [22.0, 18.0], [12.0, 20.0]])
    moved = assign_regions(known, corners, SIDES)
    assert moved.region.tolist() == [1, 2], "the group outside every region is dropped"
    np.testing.assert_array_equal(moved.corner, corners[1:])
    np.testing.assert_allclose(moved.warm_start.targets(0)[:, :2], [(1, 6), (3, 6)])
    np.testing.assert_allclose(moved.warm_start.targets(1)[:, :2], [(4, 5)])
    np.testing.assert_allclose(known.warm_start.targets(0)[:, :2], [(3, 4), (5, 4)])
    assert assign_regions(known, np.array([[20.0, 20.0], [0.0, 0.0]]), SIDES).warm_start.owed[0] == known.warm_start.owed[0]
    assert (moved.warm_start.owed > 0).all(), "moved patches are owed a fit from scratch"


def test_groups_that_meet_share_a_region_and_empty_ones_are_dropped():
    known = groups([(5, 5, 0, 0)], [], [(4, 5, 0, 0)], [], corners=[(20, 20), (20, 20), (21, 20), (50, 20)])
    moved = assign_regions(known, np.array([[20.0, 20.0], [50.0, 20.0]]), SIDES)
    assert moved.region.tolist() == [0, 0, 1]
    assert moved.warm_start.best.tolist() == [1, 1, 0]


def merged_count(*members):
    """Number of groups left after merging these, which share a region."""
    given = groups(*members)
    left = merge_groups(given._replace(region=np.zeros(len(members), np.int64)), SPREAD, SIDES)
    assert left.warm_start.best.sum() == given.warm_start.best.sum(), "no target is lost"
    return len(left.region)


def test_groups_of_one_region_with_the_same_velocity_merge():
    still, fast = (0.1, 0.0), (0.15, 0.0)
    pair = [(4, 5, *still), (5, 5, *still)]
    assert merged_count(pair, [(6, 5, 0.11, 0.0)]) == 1
    assert merged_count(pair, [(6, 5, 0.11, 0.0)], [(6, 6, 0.1, 0.01)]) == 1
    assert merged_count(pair, [(6, 5, *fast)]) == 2
    assert merged_count(pair, [(10, 5, *still)]) == 2, "at the patch's border part of its light is missing"
    beside = [(7, 5, *still), (7, 6, *still)]
    assert merged_count(2 * pair, beside) == 2, "too many for one fit"
    apart = groups(pair, pair, corners=[(0, 0), (1, 0)])
    assert len(merge_groups(apart, SPREAD, SIDES).region) == 2


def test_of_two_groups_that_follow_the_same_light_the_fainter_goes():
    four = [(x, y, 0.1, 0.0) for x in (4, 6) for y in (4, 6)]
    given = groups(four, [(4.4, 4.2, 0.1, 0.0), (6, 6.3, 0.1, 0.0)])._replace(region=np.zeros(2, np.int64))
    left = merge_groups(given, SPREAD, SIDES)
    np.testing.assert_array_equal(left.warm_start.targets(0), given.warm_start.targets(0))
    assert len(left.region) == 1


def test_of_two_groups_of_one_target_in_the_same_place_the_brighter_one_stays_however_they_move():
    def pair(apart):
        both = groups([(3, 4, 0.9, 0)], [(3 + apart, 4, -0.8, 0.3)])
        start = both.warm_start
        solutions = start.solutions[:, :2, :1].copy()
        solutions[1, 1, 0, 4] = 900.0
        return both._replace(region=np.zeros(2, int), warm_start=start._replace(solutions=solutions))

    assert merge_groups(pair(0.6), 0.005, SIDES).warm_start.targets(0)[0, 4] == 900.0
    assert len(merge_groups(pair(0.6), 0.005, SIDES).region) == 1
    assert len(merge_groups(pair(1.6), 0.005, SIDES).region) == 2


def test_groups_are_linked_through_others_whose_pixels_they_share():
    shared = overlapping(np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [60.0, 0.0]]), SIDES)
    assert linked(np.array([0]), shared).tolist() == [0, 1, 2]
    assert linked(np.array([3]), shared).tolist() == [3]
    assert linked(np.array([], np.int64), shared).tolist() == []
