from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from irst_stream.system.gpu_probe import ask_cuda_driver

# The same examples on every machine and in every run: a failure is the change's, not the day's.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")


# Folders whose tests wait for answers for a limited time.
HURRIED = ("chain", "commands", "faults", "fleet", "live", "operations", "web")


@pytest.fixture(scope="session")
def compiled():
    """Compile everything that is compiled on its first use, and load it, before anybody waits for an answer."""
    from irst_stream.build import PARTS, compile_everything

    compile_everything()
    for part in PARTS:
        part.warm_up()


@pytest.fixture(autouse=True)
def _compiled_before_the_clock_runs(request):
    if request.path.parent.name in HURRIED:
        request.getfixturevalue("compiled")


@cache
def why_no_gpu():
    """In the driver's words; "" where there is one."""
    return ask_cuda_driver().reason


def pytest_runtest_setup(item):
    """Tests marked gpu run where there is one."""
    if item.get_closest_marker("gpu") and why_no_gpu():
        pytest.skip(f"needs a GPU: {why_no_gpu()}")
