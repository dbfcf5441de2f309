"""Places of maps on a GPU: none twice, none lost, neighbours together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from irst_stream.unmix.store import Places, runs


def taken(held):
    return [one.place for one in held]


def test_places_follow_each_other_and_are_free_again_when_nobody_holds_them():
    places = Places(10, 100)
    first, second = places.take(4), places.take(3)
    assert (taken(first), taken(second)) == ([0, 1, 2, 3], [4, 5, 6])
    del first
    assert places.free == 7
    assert taken(places.take(4)) == [0, 7, 8, 9]  # round the store, in order


def test_a_store_that_has_grown_gives_its_new_places():
    places = Places(2, 100)
    held = places.take(2)
    places.count = 4
    assert places.free == 2
    assert taken(places.take(2)) == [2, 3]
    assert taken(held) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=60))
def test_no_place_is_held_twice(steps):
    places, held = Places(64, 64), []
    for wanted, dropped in steps:
        del held[:dropped]
        if places.free >= wanted:
            held.append(places.take(wanted))
        numbers = [place for some in held for place in taken(some)]
        assert len(numbers) == len(set(numbers)) == 64 - places.free


def test_runs_of_neighbours():
    assert runs(np.array([0, 1, 2, 7, 9, 10])) == [(0, 0, 3), (3, 7, 1), (4, 9, 2)]
    assert runs(np.array([5])) == [(0, 5, 1)]
    assert runs(np.array([], int)) == []
