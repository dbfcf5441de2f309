"""No world's accuracy may fall unseen: small draws of each are compared with tests/tools/accuracy_baseline.json.

`.venv/bin/python tools/bench_accuracy.py --baseline tests/tools/accuracy_baseline.json` rewrites that file; look at what
changed before you commit it. The held-out worlds only guard: nothing is to be tuned on them.
"""

import json
from pathlib import Path

import pytest
from bench_accuracy import small_scores
from worlds import GROUPS, WORLDS

BASELINE = json.loads(Path(__file__).with_name("accuracy_baseline.json").read_text())
ROUNDING = 1.0  # of CSO-mAP: processors round differently, and a window or two of a small draw may turn out otherwise


@pytest.fixture(scope="module", params=GROUPS)
def scores(request):
    worlds = tuple(world for world in WORLDS if world.group == request.param)
    return small_scores(worlds)


def test_no_readout_falls_in_any_world(scores):
    fallen = {
        f"{world}, {readout}": (BASELINE[world][readout], score)
        for world, found in scores.items()
        for readout, score in found.items()
        if score < BASELINE[world][readout] - ROUNDING
    }
    assert not fallen, "world and readout: CSO-mAP before, now"


def test_every_world_has_a_baseline():
    assert {world.name for world in WORLDS} == set(BASELINE)
