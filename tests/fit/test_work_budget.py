"""The budget of a frame's fits: who is served, who waits, and that all come round; by a clock that the test sets."""

import numpy as np
import pytest

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.groups import WarmGroups
from irst_stream.fit.settings import FitSettings
from irst_stream.fit.warm_start import AT_ONCE
from irst_stream.fit.work_budget import MAX_WAIT, SCRATCH_UNITS, FitBudget


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def groups(owed, best=1):
    """Groups that are owed a fit from scratch for so many windows, one in each region."""
    start = Fitter(FitSettings()).cold_start(len(owed))
    best = np.broadcast_to(best, len(owed)).astype(np.int64)
    return WarmGroups(
        np.arange(len(owed)), np.zeros((len(owed), 2)), start._replace(best=best, owed=np.array(owed, np.int64))
    )


@pytest.fixture
def budget():
    """A budget that has learnt that a unit takes 1 ms."""
    clock = Clock()
    learnt = FitBudget(clock)
    served = learnt.serve(groups([0, 0, 0]), np.arange(3))
    clock.now += 1e-3 * served.units
    learnt.served(served.units)
    return learnt


def test_all_are_served_while_time_suffices_and_before_anything_is_known(budget):
    for one in (FitBudget(), budget):
        one.allowed_s = 1e-3 * (3 + SCRATCH_UNITS)
        served = one.serve(groups([0, 3, 5, AT_ONCE]), np.arange(4))
        assert served.rows.tolist() == [0, 1, 2, 3]
        assert served.units == 3 + SCRATCH_UNITS
        assert one.allows(served.units)
        assert not +one.put_off


def test_fits_from_scratch_are_postponed_and_those_that_have_waited_longest_come_first(budget):
    for one, paid in ((FitBudget(), [1, 2, 3]), (budget, [2])):
        one.allowed_s = 1e-3 * (1 + SCRATCH_UNITS)
        assert one.pay(np.array([0, 1, 7, 3])).tolist() == paid
        assert one.put_off["postponed"] == 3 - len(paid)
        assert one.pay(np.array([0, 0])).tolist() == []
    budget.allowed_s = -1.0
    assert budget.pay(np.array([1, 1])).tolist() == []
    assert not budget.allows(1)


def test_the_last_regions_are_left_out_and_come_round(budget):
    budget.allowed_s = 2.5e-3
    numbers, one_each = np.array([10, 11, 12, 13]), groups([0, 0, 0, 0])
    turns = [budget.serve(one_each, numbers).rows.tolist() for _ in range(2 * MAX_WAIT + 2)]
    assert turns[:MAX_WAIT] == MAX_WAIT * [[0, 1]]
    assert turns[MAX_WAIT] == [2, 3]
    assert turns[MAX_WAIT + 1] == [0, 1]
    assert budget.put_off["unserved"] == 2 * len(turns)


def test_one_region_is_served_however_late_it_is(budget):
    budget.allowed_s = 0.0
    assert budget.serve(groups([0, 0], best=0), np.arange(2)).rows.tolist() == [0]
    assert budget.serve(groups([]), np.arange(0)).rows.tolist() == []
