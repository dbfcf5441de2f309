import subprocess
import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Has all compiled that is compiled on its first use, which takes a while, before anybody waits for an answer."""
    data = tmp_path_factory.mktemp("compiled") / "data"
    simulate = ("simulate", "seqcsist", data, "--trajectories", "2", "--split", "test")
    for words in (simulate, ("replay", data / "test", "--readout", "fit", "--tracks", data.parent / "tracks.jsonl")):
        subprocess.run([sys.executable, "-m", "irst_stream.cli", *map(str, words)], check=True, capture_output=True)
