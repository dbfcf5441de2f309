"""The table of methods: what it says is what the code gives, and three rows are scored again from their weights."""

import json

import leaderboard
import leaderboard_page
import numpy as np
import pytest

from irst_stream.commands.comparison import Figures
from irst_stream.commands.contenders import WHOLE, find_contender
from irst_stream.learn.methods import registered
from irst_stream.learn.published import published

KEPT = json.loads(leaderboard_page.DATA.read_text("utf-8"))
TRAINED = {name: row for name, row in KEPT["rows"].items() if row["trained"]}
MARGIN = 0.5  # %: of the draws


def test_every_method_has_a_row():
    assert KEPT["rows"].keys() == {*WHOLE, *registered()}
    assert {"ista", "bid", "derefnet", "focus", "edsr"} <= TRAINED.keys()


def test_the_page_is_written_from_the_results():
    text = leaderboard_page.PAGE.read_text("utf-8")
    assert text == leaderboard_page.page_text(KEPT, text), "write it again: tools/leaderboard.py --page"


@pytest.mark.parametrize("name", ["focus", "srcnn", "ista-net"])
def test_a_row_is_what_its_weights_give(name):
    row = KEPT["rows"][name]
    scene = leaderboard.benchmark("seqcsist", row["run"]["windows"]["seqcsist"] // 16)
    contender = find_contender(name)
    maps, corners = contender.maps(scene)
    figures = Figures.of(contender.at_cells(scene, maps, corners, 70.0))
    kept = row["worlds"]["seqcsist"]["cells"]
    assert figures.cso_map == pytest.approx(kept["cso_map"], abs=0.05)
    assert figures.ap == pytest.approx(kept["ap"], abs=0.1)
    assert figures.count == pytest.approx(kept["count"], abs=0.3)


def ceiling():
    """CSO-mAP, %, of targets anywhere in their cells, read at cell centres, if scores ranked them by how near they are."""
    half = 0.5 / 3  # px, of a cell's side
    places = np.linspace(-half, half, 401)
    away = np.hypot(*np.meshgrid(places, places))
    return 100 * np.mean([(away < limit).mean() for limit in (0.05, 0.10, 0.15, 0.20, 0.25)])


def test_no_method_is_above_the_ceiling_of_its_readout():
    """Perfect labels all have the same score, so maps that rank targets by nearness lie above them."""
    assert ceiling() == pytest.approx(58.7, abs=0.1)
    for row in TRAINED.values():
        for world in ("seqcsist", "csist100k"):
            if cells := row["worlds"][world]["cells"]:
                assert cells["cso_map"] < ceiling() + MARGIN


def test_every_trained_row_says_how_it_came_about():
    for name, row in TRAINED.items():
        assert row["run"]["commit"], name
        if name not in (*WHOLE, "ista", "bid", "derefnet"):
            assert row["frames"] > 0 < row["minutes"], name
            assert row["settings"]["method"] == name
    assert published().keys() <= registered().keys()


def test_a_wrong_name_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["leaderboard.py", "--only", "nothing"])
    assert leaderboard.main() == 2
    assert "nothing: no such method" in capsys.readouterr().err
