import subprocess
import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Has the fit compiled, which takes up to half a minute on its first use, before anybody waits for an answer."""
    data = tmp_path_factory.mktemp("compiled") / "data"
    simulate = ("simulate", "seqcsist", data, "--trajectories", "2", "--split", "test")
    for words in (simulate, ("replay", data / "test", "--readout", "fit")):
        subprocess.run([sys.executable, "-m", "irst_stream.cli", *map(str, words)], check=True, capture_output=True)
