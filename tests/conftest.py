from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from irst_stream import propose
from irst_stream.cuda_driver import ask_cuda_driver
from irst_stream.resolve import fit
from irst_stream.track import tracker

# The same examples on every machine and in every run: a failure is the change's, not the day's.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """Has all compiled that is compiled on its first use, which takes a while, before anybody waits for an answer."""
    for part in (propose, fit, tracker):
        part.warm_up()


@cache
def why_no_gpu():
    """In the driver's words; "" where there is one."""
    return ask_cuda_driver().reason


def pytest_runtest_setup(item):
    """Tests marked gpu run where there is one."""
    if item.get_closest_marker("gpu") and why_no_gpu():
        pytest.skip(f"needs a GPU: {why_no_gpu()}")
