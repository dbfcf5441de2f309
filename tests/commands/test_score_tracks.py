"""Scores of tracks at the command line."""

import json

import pytest
from matplotlib.image import imread
from tracks_and_truth import tracks, truth

from irst_stream.cli import main
from irst_stream.io import jsonl
from irst_stream.types import Tracks, Truth


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in a folder with tracks.jsonl and truth.jsonl; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    real = [{1: (3.0 + 0.1 * t, 2.0), 2: (6.0, 5.0)} for t in range(10)]
    found = [{7: (3.1 + 0.1 * t, 2.0), 8: (6.0, 5.0)} for t in range(9)]
    jsonl.write(tmp_path / "truth.jsonl", [truth(t, points) for t, points in enumerate(real)])
    jsonl.write(tmp_path / "tracks.jsonl", [tracks(t, points) for t, points in enumerate(found)])

    def run(command):
        code = main(command.split())
        out, err = capsys.readouterr()
        return code, out, err

    return run


def line(out, name):
    """The rest of the output line that starts with a name."""
    return next(text.removeprefix(name).strip() for text in out.splitlines() if text.startswith(name))


def test_tracks_are_recognised_by_the_files_content(run, tmp_path):
    code, out, err = run("score tracks.jsonl truth.jsonl --json s.json --plot s.png")
    assert (code, err) == (0, "")
    assert "note: 1 of 10 frames have no line of tracks and count as empty" in out
    assert "10 frames, 2 targets, 2 confirmed tracks, frames all, radius 1 px" in out
    said = json.loads((tmp_path / "s.json").read_text())
    assert (said["tracks"], said["truth"], said["frames"]) == ("tracks.jsonl", "truth.jsonl", "all")
    assert said["scores"]["clear"]["missed"] == 2
    assert said["scores"]["identity"]["idf1"] == pytest.approx(2 * 18 / 38)
    assert said["scores"]["over_time"]["gospa"][9] == pytest.approx(1)
    assert f"{100 * said['scores']['hota']['hota']:.2f}" in out
    assert imread(tmp_path / "s.png").std() > 0.05


def test_the_radius_limits_matches(run):
    out = run("score tracks.jsonl truth.jsonl --radius 0.05")[1]
    assert line(out, "points matched / missed / false") == "9 / 11 / 9"


def test_frames_can_be_chosen(run):
    assert "8 frames, 2 targets" in run("score tracks.jsonl truth.jsonl --frames :-2")[1]


def test_tracks_of_a_scene_are_drawn_over_its_frame(run, tmp_path):
    assert run("simulate scene scene --frames 4 --size 64x48 --groups 1 --workers 1")[0] == 0
    found = [
        tracks(t.stamp.index, {int(k): tuple(xy) for k, xy in zip(t.id, t.xy, strict=True)}, t.stamp.sensor)
        for t in jsonl.read(tmp_path / "scene" / "truth.jsonl", Truth)
    ]
    jsonl.write(tmp_path / "same.jsonl", found)
    code, out, _ = run("score same.jsonl scene --plot s.png")
    assert code == 0
    assert line(out, "identity switches / fragments") == "0 / 0"
    blank = run("score same.jsonl scene/truth.jsonl --plot blank.png")[0]
    assert blank == 0
    assert imread(tmp_path / "s.png").mean() < imread(tmp_path / "blank.png").mean() - 0.05


def test_no_confirmed_track_and_no_target(run, tmp_path):
    jsonl.write(tmp_path / "none.jsonl", [tracks(0, {})])
    jsonl.write(tmp_path / "nobody.jsonl", [truth(0, {})])
    for found, real in (("none", "truth"), ("tracks", "nobody"), ("none", "nobody")):
        if found == "tracks":
            jsonl.write(tmp_path / "tracks.jsonl", [tracks(0, {7: (0.0, 0.0)})])
        code, out, err = run(f"score {found}.jsonl {real}.jsonl --plot s.png --json s.json")
        assert (code, err) == (0, "")
        assert "HOTA" in out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("score tracks.jsonl truth.jsonl --mode legacy", "--mode: applies to detections only; tracks.jsonl holds tracks"),
        ("score tracks.jsonl truth.jsonl --maps m.npy", "--maps: applies to detections only; tracks.jsonl holds tracks"),
        ("score tracks.jsonl truth.jsonl --frame-size 9x9", "--frame-size: applies to detections only; tracks.jsonl holds"),
        ("score tracks.jsonl tracks.jsonl", "tracks.jsonl:1: not a line of truth: Object contains unknown field `tracks`"),
        ("score truth.jsonl truth.jsonl", "truth.jsonl:1: not a line of detections: Object contains unknown field `truth`"),
        ("score tracks.jsonl nowhere", "nowhere: no such file or folder"),
        ("score nowhere.jsonl truth.jsonl", "nowhere.jsonl: No such file"),
        ("score tracks.jsonl truth.jsonl --frames 90:99", "no frame lies within --frames 90:99"),
        ("score tracks.jsonl truth.jsonl --json tracks.jsonl", "would change the input"),
        ("score other.jsonl truth.jsonl", "other.jsonl: sequence 'y' index 0 is not in the truth"),
        ("score twice.jsonl truth.jsonl", "twice.jsonl: sequence 'a' index 3: id 7 occurs twice"),
        ("score tracks.jsonl double.jsonl", "double.jsonl: sequence 'a' index 0: id 1 occurs twice"),
        ("score broken.jsonl truth.jsonl", "broken.jsonl:2: "),
    ],
)
def test_wrong_inputs_are_one_clear_line_and_exit_code_2(command, message, run, tmp_path):
    (tmp_path / "found.jsonl").write_text('{"sequence":"a","index":0,"detections":[]}\n')
    (tmp_path / "broken.jsonl").write_text('{"sequence":"a","index":0,"tracks":[]}\nno\n')
    jsonl.write(tmp_path / "other.jsonl", [tracks(0, {7: (0.0, 0.0)}, name) for name in "yz"])
    row, target = '{"id":7,"x":1,"y":1,"vx":0,"vy":0,"amplitude":1,"score":1}', '{"id":1,"x":1,"y":1,"amplitude":1}'
    (tmp_path / "twice.jsonl").write_text(f'{{"sequence":"a","index":3,"tracks":[{row},{row}]}}\n')
    (tmp_path / "double.jsonl").write_text(
        "".join(f'{{"sequence":"a","index":{k},"truth":[{target},{target}]}}\n' for k in range(10))
    )
    code, _, err = run(command)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_kind_of_a_file_is_read_from_its_first_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    for text, expected in (
        ("", False),
        ("\n\n", False),
        ("[1]\n", False),
        ('\n{"tracks":[]}', True),
        ('{"truth":[]}', False),
    ):
        path.write_text(text)
        assert jsonl.holds(path, Tracks) is expected
