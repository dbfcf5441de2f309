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


SPACINGS = 4  # of groups of no benchmark, for each of three SNRs, brightness told; then the same, untold


def worlds_of(group):
    """Those of a group; of groups of no benchmark each SNR and spacing once, its brightness told or untold in turn."""
    worlds = [world for world in WORLDS if world.group == group]
    if group != "c":
        return worlds
    return [world for k, world in enumerate(worlds) if (k // SPACINGS + k % SPACINGS) % 2 == 0]


@pytest.fixture(scope="module", params=GROUPS)
def scores(request):
    return small_scores(tuple(worlds_of(request.param)))


def test_no_readout_falls_in_any_world(scores):
    fallen = {
        f"{world}, {readout}": (BASELINE[world][readout], score)
        for world, found in scores.items()
        for readout, score in found.items()
        if score < BASELINE[world][readout] - ROUNDING
    }
    assert not fallen, "world and readout: CSO-mAP before, now"


def test_each_snr_and_spacing_of_groups_of_no_benchmark_is_drawn_once():
    names = [world.name.removesuffix(", unknown") for world in worlds_of("c")]
    assert len(names) == len(set(names)) == 12
    assert sum(world.name.endswith(", unknown") for world in worlds_of("c")) == 6


def test_every_world_has_a_baseline():
    assert {world.name for world in WORLDS} == set(BASELINE)
