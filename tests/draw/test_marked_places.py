"""Places of a frame to mark and enlarge: each target in one, at most once, on the frame."""

import numpy as np
import pytest

from irst_stream import Detections, Stamp, Truth
from irst_stream.draw.places import Place, enclosing_place, places

STAMP, SHAPE = Stamp("sky", 0, 0, 0), (100, 200)  # rows, columns


def truth(xy, group=None, amplitude=None):
    n = len(xy)
    groups = np.zeros(n, int) if group is None else np.array(group)
    amplitudes = np.full(n, np.nan) if amplitude is None else np.array(amplitude, float)
    return Truth(STAMP, np.arange(n), groups, np.array(xy, float).reshape(n, 2), amplitudes)


def test_targets_far_from_each_other_are_places_of_their_own_even_in_one_group():
    xy = [(10, 10), (150, 20), (90, 80)]
    found = places(truth(xy), None, SHAPE)
    assert [(place.x, place.y) for place in found] == xy


def test_a_close_group_is_one_place_and_comes_first():
    found = places(truth([(150, 20), (50.2, 50), (52, 51)], group=[3, 8, 8]), None, SHAPE)
    assert found == [Place(51, 50, 3), Place(150, 20, 3)]


def test_targets_that_an_earlier_place_shows_are_none_of_their_own_and_the_brightest_come_first():
    found = places(truth([(10, 10), (150, 20), (152, 21)], amplitude=[1, 2, 9]), None, SHAPE)
    assert found == [Place(152, 21, 3), Place(10, 10, 3)]


@pytest.mark.parametrize("size", [(9, 7), (3, 40), (1, 1)])
def test_a_place_holds_the_box(size):
    boxes = Truth.boxes(STAMP, np.array([[60.0, 30.0]]), np.array([size], float))
    (place,) = places(boxes, None, SHAPE)
    assert place.holds(boxes.xy - boxes.size / 2, boxes.xy + boxes.size / 2)


def test_places_outside_the_frame_are_left_out():
    assert places(truth([(-9, 10), (10, 140), (204, 5)]), None, SHAPE) == []
    assert len(places(truth([(-2, 10)]), None, SHAPE)) == 1


def test_detections_are_places_where_there_is_no_truth():
    found = Detections.bare(STAMP, np.array([[10.0, 10], [10.4, 10], [40, 50]]), np.ones(3), np.ones(3))
    assert places(None, found, SHAPE) == [Place(10, 10, 3), Place(40, 50, 3)]
    assert places(None, None, SHAPE) == []
    assert places(truth(np.zeros((0, 2))), found, SHAPE) == []


def test_what_encloses_several_points_shows_them_all():
    xy = np.array([[2.0, 3], [12, 3.5]])
    assert enclosing_place(xy, xy).holds(xy, xy)
