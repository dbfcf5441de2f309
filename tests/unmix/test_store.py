"""Slots of maps on a GPU: none allocated twice, none lost, neighbours together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from irst_stream.unmix.store import SlotAllocator, contiguous_runs


def slots_of(maps):
    return [one.slot for one in maps]


def test_slots_are_consecutive_and_released_when_their_maps_are_dropped():
    slots = SlotAllocator(10, 100)
    first, second = slots.take(4), slots.take(3)
    assert (slots_of(first), slots_of(second)) == ([0, 1, 2, 3], [4, 5, 6])
    del first
    assert slots.available == 7
    assert slots_of(slots.take(4)) == [0, 7, 8, 9]  # round the store, in order


def test_a_store_that_has_grown_gives_its_new_slots():
    slots = SlotAllocator(2, 100)
    maps = slots.take(2)
    slots.count = 4
    assert slots.available == 2
    assert slots_of(slots.take(2)) == [2, 3]
    assert slots_of(maps) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=60))
def test_no_slot_is_allocated_twice(steps):
    slots, held = SlotAllocator(64, 64), []
    for wanted, dropped in steps:
        del held[:dropped]
        if slots.available >= wanted:
            held.append(slots.take(wanted))
        numbers = [slot for maps in held for slot in slots_of(maps)]
        assert len(numbers) == len(set(numbers)) == 64 - slots.available


def test_slots_are_split_into_contiguous_runs():
    assert contiguous_runs(np.array([0, 1, 2, 7, 9, 10])) == [(0, 0, 3), (3, 7, 1), (4, 9, 2)]
    assert contiguous_runs(np.array([5])) == [(0, 5, 1)]
    assert contiguous_runs(np.array([], int)) == []
