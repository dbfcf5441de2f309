"""Truth of every format at the command line: the same scores, and one clear line for what is wrong."""

import json

import numpy as np
import pytest
import truth_files
from matplotlib.image import imread
from tracks_and_truth import tracks

from irst_stream import Detections, Stamp
from irst_stream.cli import main
from irst_stream.io import jsonl
from irst_stream.io.media.images import encode_png

BOXES = [[(4, 6, 3, 3)], [], [(10, 12, 5, 2)]]
SIZE = (truth_files.WIDTH, truth_files.HEIGHT)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(command):
        code = main(command.split())
        out, err = capsys.readouterr()
        return code, out, err

    return run


def detections(*frames, sequence="flight", single=False):
    """x, y, score of each frame's detections; single: as of single images frame_0, frame_1, ..."""
    records = []
    for k, rows in enumerate(frames):
        found = np.array(rows, np.float64).reshape(-1, 3)
        stamp = Stamp(f"frame_{k}", 0, 0, 0) if single else Stamp(sequence, 0, k, 40 * k)
        records.append(Detections.bare(stamp, found[:, :2], np.full(len(found), np.nan), found[:, 2]))
    return records


FOUND = ([(5.0, 8.0, 0.9), (20.0, 20.0, 0.3)], [(1.0, 1.0, 0.2)], [(17.0, 12.5, 0.8)])


@pytest.mark.parametrize("write", truth_files.FORMATS, ids=lambda w: w.__name__)
def test_every_format_gives_the_same_scores(write, run, tmp_path):
    """A detection 1 px from the first target's centre; one 5 px from the second's, 2 px beyond its box; two false ones."""
    kind = truth_files.FORMATS[write]
    folder = tmp_path / "labels_here"
    folder.mkdir()
    path = write(folder, BOXES)
    jsonl.write(tmp_path / "found.jsonl", detections(*FOUND, single=kind.by_image))
    size = "" if kind.size else f" --frame-size {SIZE[0]}x{SIZE[1]}"
    code, out, err = run(f"score found.jsonl {path} --radius 3 --json s.json{size}")
    assert (code, err) == (0, "")
    scores = json.loads((tmp_path / "s.json").read_text())["scores"]
    centre = scores["hits"]["centre"]
    assert (centre["found"], centre["false_per_frame"], centre["exactly_one"]) == (0.5, 1, 1)
    assert centre["false_per_pixel"] == pytest.approx(3 / (3 * SIZE[0] * SIZE[1]))
    assert (centre["error_p50"], centre["roc_area"]) == (1, 1)
    assert ("box" in scores["hits"]) == kind.boxes
    assert ("note: TRUTH has boxes; CSO-mAP" in out) == kind.boxes
    assert ("cso_map" in scores) != kind.boxes
    if kind.boxes:
        box = scores["hits"]["box"]
        assert (box["found"], box["false_per_frame"]) == (1, pytest.approx(2 / 3))
        assert box["error_p90"] == pytest.approx(1 + 0.9 * 4)


def test_boxes_set_the_radius_and_the_plot_is_the_roc(run, tmp_path):
    truth_files.box_table(tmp_path, BOXES)
    jsonl.write(tmp_path / "found.jsonl", detections(*FOUND, sequence="cam"))
    code, out, _ = run("score found.jsonl flight.boxes.csv --plot roc.png")
    assert code == 0
    assert "paired: sequence 'cam' with truth 'flight'" in out
    assert "hits within 3 px of the target's" in out
    assert "right number of targets: 33.33 % of images" in out
    assert imread(tmp_path / "roc.png").std() > 0.02
    points = truth_files.points(tmp_path, BOXES)
    assert "hits within" not in run(f"score found.jsonl {points}")[1]
    assert run(f"score found.jsonl {points} --radius 3 --plot both.png")[0] == 0
    assert imread(tmp_path / "both.png").shape[1] > 1.5 * imread(tmp_path / "roc.png").shape[1]


def test_a_part_with_truth_is_scored(run, tmp_path):
    truth = truth_files.box_lines(tmp_path, BOXES)
    jsonl.write(tmp_path / "found.jsonl", detections(*FOUND, *FOUND))
    code, _, err = run(f"score found.jsonl {truth}")
    assert code == 2
    assert err == (
        "irst-stream: found.jsonl: sequence 'flight' index 3 is not in the truth, which has index 0 to 2 of that sequence; "
        "--frames 0:3 scores that part\n"
    )
    code, out, _ = run(f"score found.jsonl {truth} --frames 0:3")
    assert (code, out.splitlines()[0]) == (0, "3 images, 4 detections, 2 truths, frames 0:3, standard matching")


def test_what_could_not_be_measured_is_a_dash_without_a_unit(run, tmp_path):
    points = truth_files.points(tmp_path, BOXES)
    jsonl.write(tmp_path / "found.jsonl", detections([(5.0, 7.0, 0.9)], [], []))
    out = run(f"score found.jsonl {points} --radius 3")[1]
    assert "- %" not in out
    auc = next(line for line in out.splitlines() if "AUC" in line)
    assert auc.split()[-1] == "-"
    assert out.count("right number of targets") == 1


def test_tracks_are_scored_on_their_target(run, tmp_path):
    truth_files.box_table(tmp_path, BOXES)
    jsonl.write(tmp_path / "t.jsonl", [tracks(0, {7: (5.0, 8.0)}), tracks(1, {}), tracks(2, {8: (17.0, 12.5)})])
    code, out, err = run("score t.jsonl flight.boxes.csv --json s.json")
    assert (code, err) == (0, "")
    assert "radius 3 px" in out
    held = json.loads((tmp_path / "s.json").read_text())["scores"]["holding"]
    assert (held["centre"]["tracked"], held["box"]["tracked"], held["box"]["one_id"]) == (0.5, 1, 0.5)
    assert "target frames under the longest id" in out


def test_inspect_counts_and_marks_truth_beside_the_frames(run, tmp_path):
    (tmp_path / "frames").mkdir()
    for k in range(3):
        (tmp_path / "frames" / f"frame_{k}.png").write_bytes(encode_png(np.full(SIZE[::-1], 100 + k, np.uint8)))
    (tmp_path / "m").mkdir()
    truth_files.masks(tmp_path / "m", BOXES)
    code, out, _ = run("inspect frames --truth m --png a.png")
    assert code == 0
    assert "truth       2 targets in 3 frames (binary masks; paired by the names of images: 3 of 3)" in out
    assert run("inspect frames --png b.png")[0] == 0
    assert "truth       none" in run("inspect frames")[1]
    assert run("inspect frames --truth nowhere") == (2, "", "irst-stream: nowhere: no such file or folder\n")


class TestExport:
    """Detections and tracks for other programs."""

    @pytest.fixture
    def results(self, run, tmp_path):
        jsonl.write(tmp_path / "found.jsonl", detections(*FOUND))
        jsonl.write(tmp_path / "t.jsonl", [tracks(k, {7: (5.0 + k, 8.0), 8: (1.0, 2.0)}, "flight", (8,)) for k in range(3)])
        return run

    @pytest.mark.parametrize("name", ["found", "t"])
    def test_csv_is_scored_as_json_lines_are(self, name, results, tmp_path):
        truth = truth_files.box_table(tmp_path, BOXES)
        assert results(f"export {name}.jsonl {name}.csv")[0] == 0
        lines, csv = (results(f"score {name}.{kind} {truth}") for kind in ("jsonl", "csv"))
        assert lines == csv
        assert csv[0] == 0

    def test_tracks_become_mot_challenge_lines(self, results, tmp_path):
        code, out, _ = results("export t.jsonl t.txt --box 3x5")
        assert (code, out) == (0, "t.txt: 3 lines of 3 frames\n")
        assert (tmp_path / "t.txt").read_text().splitlines()[1] == "2,7,6.000,7.000,3,5,1,-1,-1,-1"
        code, out, _ = results("score t.jsonl t.txt")
        assert code == 0
        assert "target frames under the longest id                  100.00 %" in out

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("export found.jsonl found.txt", "--to mot: MOT Challenge lines hold tracks; found.jsonl holds detections"),
            (
                "export t.jsonl t.xyz",
                "t.xyz: expected a name that ends in .csv, .parquet, .txt, .mp4, .rrd, or --to with a format",
            ),
            ("export t.jsonl t.csv --box 3x3", "--box: does not apply to csv of t.jsonl"),
            ("export t.jsonl t.csv --sequence no", "t.jsonl: no sequence 'no'"),
            ("export two.jsonl t.txt", "two.jsonl: 2 sequences (a, b); one file holds one, name it with --sequence"),
            ("export t.jsonl t.jsonl --to csv", "t.jsonl: expected a name that ends in .csv"),
            ("export nowhere.jsonl t.csv", "nowhere.jsonl: No such file"),
            ("export broken.jsonl t.csv", "broken.jsonl:1: "),
        ],
    )
    def test_wrong_inputs_are_one_clear_line_and_exit_code_2(self, command, message, results, tmp_path):
        jsonl.write(tmp_path / "two.jsonl", [tracks(0, {1: (1.0, 1.0)}, name) for name in "ab"])
        (tmp_path / "broken.jsonl").write_text("no\n")
        code, _, err = results(command)
        assert code == 2
        assert message in err
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("score found.jsonl broken.csv", "broken.csv:2: expected x and y, or neither"),
        (
            "score found.jsonl broken.bin",
            "broken.bin: not a kind of truth that can be read. Expected JSON lines (.jsonl), ",
        ),
        ("score broken.csv flight.boxes.csv", "broken.csv:2: expected columns frame, x, y, score, got no score"),
        ("score far.jsonl flight.txt", "far.jsonl: sequence 'flight' index 3 is not in the truth"),
        ("score found.jsonl flight.txt --radius 0", "expected a number from"),
        ("baseline flight.txt out.jsonl", "sequence 'flight' index 0: the truth has no amplitudes, which labels need"),
        ("score found.jsonl flight.csv --maps maps.npy", "--maps: the truth has no amplitudes"),
    ],
)
def test_wrong_truth_is_one_clear_line_and_exit_code_2(command, message, run, tmp_path, capsys):
    for write in (truth_files.box_table, truth_files.box_lines):
        write(tmp_path, BOXES)
    (tmp_path / "flight.csv").write_text("frame,x,y\n0,1,2\n1,1,2\n2,1,2\n")
    np.save(tmp_path / "maps.npy", np.zeros((3, 33, 33)))
    (tmp_path / "broken.csv").write_text("frame,x,y\n0,1,\n")
    (tmp_path / "broken.bin").write_text("1\n")
    jsonl.write(tmp_path / "found.jsonl", detections(*FOUND))
    jsonl.write(tmp_path / "far.jsonl", detections(*FOUND, []))
    try:
        code, _, err = run(command)
    except SystemExit as stop:  # an option that the parser refuses
        code, err = stop.code, capsys.readouterr().err
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
