"""The table of faults: what is lost is counted."""

import pytest
from bench_faults import FAULTS


@pytest.mark.parametrize("inject", FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_is_survived_and_what_it_costs_is_counted(inject, tmp_path):
    row = inject(tmp_path)
    assert row.survived, row
    assert row.is_honest, row
