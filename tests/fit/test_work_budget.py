"""The budget of a frame's fits: who is served, who waits, and that all come round; by a clock that the test sets."""

import numpy as np
import pytest

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.groups import WarmGroups
from irst_stream.fit.settings import FitSettings
from irst_stream.fit.work_budget import MAX_WAIT, SCRATCH_UNITS, FitBudget

REFIT_EVERY = 8


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def groups(ages, best=1):
    """Groups of these ages, one in each region."""
    start = Fitter(FitSettings()).cold_start(np.array(ages, np.int64))
    start = start._replace(best=np.broadcast_to(best, len(ages)).astype(np.int64))
    return WarmGroups(np.arange(len(ages)), np.zeros((len(ages), 2)), start)


@pytest.fixture
def budget():
    """A budget that has learnt that a unit takes 1 ms."""
    clock = Clock()
    learnt = FitBudget(clock)
    served = learnt.serve(groups([0, 0, 0]), np.arange(3), REFIT_EVERY)
    clock.now += 1e-3 * served.units
    learnt.served(served.units)
    return learnt


def test_all_are_served_while_time_suffices_and_before_anything_is_known(budget):
    for one in (FitBudget(), budget):
        one.allowed_s = 1e-3 * (3 + SCRATCH_UNITS)
        served = one.serve(groups([0, 3, 5, REFIT_EVERY - 1]), np.arange(4), REFIT_EVERY)
        assert served.rows.tolist() == [0, 1, 2, 3]
        assert not served.postponed.any()
        assert served.units == 3 + SCRATCH_UNITS
        assert not one.put_off


def test_fits_from_scratch_are_postponed_before_a_region_is_left_out_and_the_oldest_are_paid_first(budget):
    budget.allowed_s = 1e-3 * (4 + SCRATCH_UNITS)
    due = groups([0, REFIT_EVERY - 1, REFIT_EVERY + 3, REFIT_EVERY])
    served = budget.serve(due, np.arange(4), REFIT_EVERY)
    assert served.rows.tolist() == [0, 1, 2, 3]
    assert served.postponed.tolist() == [False, True, False, True]
    assert budget.put_off == {"postponed": 2, "unserved": 0}


def test_the_last_regions_are_left_out_and_come_round(budget):
    budget.allowed_s = 2.5e-3
    numbers, one_each = np.array([10, 11, 12, 13]), groups([0, 0, 0, 0])
    turns = [budget.serve(one_each, numbers, REFIT_EVERY).rows.tolist() for _ in range(2 * MAX_WAIT + 2)]
    assert turns[:MAX_WAIT] == MAX_WAIT * [[0, 1]]
    assert turns[MAX_WAIT] == [2, 3]
    assert turns[MAX_WAIT + 1] == [0, 1]
    assert budget.put_off["unserved"] == 2 * len(turns)


def test_one_region_is_served_however_late_it_is(budget):
    budget.allowed_s = 0.0
    assert budget.serve(groups([0, 0], best=0), np.arange(2), REFIT_EVERY).rows.tolist() == [0]
    assert budget.serve(groups([]), np.arange(0), REFIT_EVERY).rows.tolist() == []
