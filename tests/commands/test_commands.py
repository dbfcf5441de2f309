"""The command line as a person meets it: what it prints, what it writes, how it fails."""

import json
import os
import pty
import signal
import subprocess
import sys

import media
import numpy as np
import pytest
from matplotlib.image import imread

from irst_stream import Detections, __version__
from irst_stream.cli import main
from irst_stream.io import jsonl
from irst_stream.optics import FineGrid


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder: exit code, what it answered, what it said on the side."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(run):
    """Runs a command that must fail, with one line that is no traceback, and returns that line."""

    def refused(*words):
        code, _, err = run(*words)
        lines = [line for line in err.splitlines() if not line.startswith(("inspect: ", "simulate: "))]
        assert code == 2, err
        assert len(lines) == 1, err
        assert "Traceback" not in err
        return lines[0]

    return refused


@pytest.fixture
def small(run):
    """A small SeqCSIST test split in data/test, and perfect cell-centre detections of it in cells.jsonl."""
    assert run("simulate", "seqcsist", "data", "--trajectories", 5, "--split", "test", "--workers", 1)[0] == 0
    assert run("baseline", "data/test", "cells.jsonl")[0] == 0


def test_help_names_every_command_and_a_first_round(run):
    code, out, _ = run("--help")
    assert code == 0
    for word in ("simulate", "inspect", "baseline", "score", "schema", "doctor", "a first round", "Exit codes"):
        assert word in out
    assert run("--version")[1].strip() == f"irst-stream {__version__}"


@pytest.mark.parametrize(
    "command", ["simulate", "simulate seqcsist", "simulate csist100k", "simulate scene", "inspect", "score"]
)
def test_every_command_explains_itself(command, run):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "usage: irst-stream" in out


def test_the_first_round_of_the_help_works(run, tmp_path):
    code, out, _ = run("simulate", "seqcsist", "data", "--trajectories", 100, "--workers", 1)
    assert code == 0
    assert "2000 frames, 2000 made" in out
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"train", "val", "test"}
    assert len(list((tmp_path / "data" / "val" / "image").iterdir())) == 15 * 20
    code, out, _ = run("inspect", "data/test", "--png", "test.png")
    assert code == 0
    assert "300 in 15 sequences" in out
    assert "11 x 11 px, uint16" in out
    assert "truth       yes" in out
    code, out, _ = run("baseline", "data/test", "cells.jsonl")
    assert "in 300 frames" in out
    code, out, _ = run("score", "cells.jsonl", "data/test", "--plot", "pr.png", "--json", "score.json", "--mode", "legacy")
    assert code == 0
    assert "240 images (frames 2:-2)" in out
    scores = json.loads((tmp_path / "score.json").read_text())
    assert 0.45 < scores["cso_map"] < 0.6
    assert f"{100 * scores['cso_map']:.2f}" in out
    for picture in ("test.png", "pr.png"):
        assert imread(tmp_path / picture).std() > 0.05


@pytest.mark.usefixtures("small")
def test_a_second_run_has_nothing_to_do_and_another_seed_is_refused(run, refused):
    command = ("simulate", "seqcsist", "data", "--trajectories", 5, "--split", "test")
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert out == "data: complete, 100 frames; nothing to do\n"
    assert "data/test: holds a different set (seed is 0, not 1); choose another" in refused(*command, "--seed", 1)


@pytest.mark.usefixtures("small")
def test_a_lost_file_is_made_again(run, tmp_path):
    path = tmp_path / "data" / "test" / "image" / "image_3.png"
    before = path.read_bytes()
    path.unlink()
    assert run("simulate", "seqcsist", "data", "--trajectories", 5, "--split", "test")[0] == 0
    assert path.read_bytes() == before


def test_scenes_take_their_settings_from_a_file_and_from_options(run, tmp_path):
    code, _, _ = run(
        "simulate", "scene", "sky", "--frames", 3, "--config", "scene-cloud", "--size", "96x80", "--groups", 3,
        "--members", "2:3", "--snr", "7:9", "--drift", "4,-2", "--background", "dark", "--rate", 50, "--bits", 12,
    )  # fmt: skip
    assert code == 0
    parameters = json.loads((tmp_path / "sky" / "manifest.json").read_text())["parameters"]
    assert parameters["sensor"]["width"] == 96
    assert parameters["groups"]["members"] == [2, 3]
    assert parameters["groups"]["crossing"] == 0.5, "from the file"
    assert parameters["groups"]["snr"] == [7, 9]
    assert parameters["platform"] == {"drift_x_px_s": 4, "drift_y_px_s": -2, "jitter_px": 0.2, "roll_jitter_mrad": 0.1}
    assert parameters["background"]["level_dn"] == 100
    code, out, _ = run("inspect", "sky", "--png", "sky.png")
    assert code == 0
    assert "generated scene" in out
    assert "50 frames/s" in out
    assert imread(tmp_path / "sky.png").std() > 0.05


@pytest.mark.usefixtures("small")
def test_inspect_says_what_it_could_read_before_it_says_what_it_could_not(run, tmp_path):
    (tmp_path / "data" / "test" / "image" / "image_27.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    code, out, err = run("inspect", "data/test", "--png", "a.png")
    assert code == 2
    assert "frames      27 in 2 sequences" in out
    assert err.splitlines()[-1].startswith("irst-stream: ")
    assert "image_27.png: truncated" in err
    assert (tmp_path / "a.png").exists()


def test_inspect_counts_what_is_not_finite(run, tmp_path):
    frames = np.zeros((3, 20, 20), np.float32)
    frames[1, 2, 3], frames[2, 0, :2] = np.nan, np.inf
    np.save(tmp_path / "a.npy", frames)
    code, out, _ = run("inspect", "a.npy", "--png", "a.png", "--rate", 30)
    assert code == 0
    assert "not finite  3 of 1200 pixels are NaN or infinite" in out
    assert "rate        30 frames/s (as you say)" in out


@pytest.mark.usefixtures("small")
def test_inspect_draws_full_frames_and_marks_detections(run, tmp_path):
    media.png_folder(tmp_path / "wide", np.random.default_rng(0).integers(0, 999, (3, 100, 120)).astype(np.uint16))
    assert run("inspect", "wide", "--png", "wide.png")[0] == 0
    assert run("inspect", "data/test", "--png", "marked.png", "--detections", "cells.jsonl")[0] == 0
    assert run("inspect", "data/test", "--png", "plain.png")[0] == 0
    assert not np.array_equal(imread(tmp_path / "marked.png"), imread(tmp_path / "plain.png"))


@pytest.mark.usefixtures("small")
def test_scoring_reads_truth_from_json_lines_as_well(run, tmp_path):
    from irst_stream import open_source

    jsonl.write(tmp_path / "truth.jsonl", open_source(tmp_path / "data" / "test").truths())
    folder = run("score", "cells.jsonl", "data/test", "--frames", "all")[1]
    lines = run("score", "cells.jsonl", "truth.jsonl")[1]
    assert folder == lines
    assert "100 images (frames all)" in lines


@pytest.mark.usefixtures("small")
def test_unanswered_frames_are_counted_and_said(run, tmp_path):
    kept = [d for d in jsonl.read(tmp_path / "cells.jsonl", Detections) if d.stamp.index != 5]
    jsonl.write(tmp_path / "some.jsonl", kept)
    code, out, _ = run("score", "some.jsonl", "data/test")
    assert code == 0
    assert "note: 5 of 80 frames have no line of detections and count as empty" in out


@pytest.mark.usefixtures("small")
def test_fine_maps_are_scored_beside(run, tmp_path):
    from irst_stream import open_source

    truths = [t for t in open_source(tmp_path / "data" / "test").truths() if 2 <= t.stamp.index < 18]
    np.save(tmp_path / "maps.npy", [FineGrid().label(t.xy, t.amplitude) + 1 for t in truths])
    code, out, _ = run("score", "cells.jsonl", "data/test", "--maps", "maps.npy")
    assert code == 0
    assert "48.13 dB" in out  # 20 log10(255 / 1)


def test_the_schema_is_json(run):
    assert "DetectionLine" in json.loads(run("schema")[1])["$defs"]


def test_the_doctor_answers_without_a_gpu_and_without_crashing(run):
    code, out, _ = run("doctor")
    assert code == 0
    for word in (
        "processor",
        "cores",
        "GPU",
        "NVIDIA driver",
        "ONNX Runtime",
        "TensorRT",
        "packages",
        "generate, read and score",
    ):
        assert word in out
    told = json.loads(run("doctor", "--json")[1])
    assert dict(told["packages"])["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("simulte", "invalid choice: 'simulte'"),
        ("simulate seqcsist out --trajectories 0", "--trajectories: expected a whole number of 1 or more, got '0'"),
        ("simulate seqcsist out --trajectories 3 --depth 12", "argument --depth: invalid choice"),
        ("simulate seqcsist out --trajectories 3 --noise 5:1", "LOW no higher than HIGH"),
        ("simulate seqcsist out --trajectories 3 --noise loud", "expected a number or LOW:HIGH, got 'loud'"),
        ("simulate seqcsist out --trajectories 3 --noise -2", "expected"),
        ("simulate seqcsist out --trajectories 3 --seed -1", "seed: expected 0 or more"),
        ("simulate scene out --frames 3 --size 640", "expected WIDTHxHEIGHT such as 640x512, got '640'"),
        ("simulate scene out --frames 3 --members 1.5:2", "expected whole numbers"),
        ("simulate scene out --frames 3 --bits 40", "bits: expected 8 to 16, got 40"),
        ("simulate scene out --frames 3 --config nonsense", "there are: scene-cloud, scene-sky"),
        ("simulate scene out --frames 3 --drift 4", "expected X,Y, got '4'"),
        ("inspect nowhere", "nowhere: no such file or folder"),
        ("inspect data/test --detections cells.jsonl", "--detections: marks a picture; say where to draw it"),
        ("inspect data/test --rate 0", "--rate: expected more than 0"),
        ("inspect data/test --png no/such/folder.png", "no/such/folder.png: cannot be written"),
        ("baseline nowhere out.jsonl", "nowhere: no such file or folder"),
        ("baseline data/test no/such/folder.jsonl", "no/such/folder.jsonl: cannot be written"),
        ("baseline data/test out.jsonl --division 0", "--division: expected a whole number"),
        ("score nothing.jsonl data/test", "nothing.jsonl: No such file"),
        ("score cells.jsonl nothing", "nothing: no such file or folder"),
        ("score cells.jsonl data/test --frames 5", "frames: expected FIRST:LAST such as 2:-2, or all, got '5'"),
        ("score cells.jsonl data/test --frames 90:99", "no frame of it is within --frames 90:99"),
        ("score data/test/manifest.json data/test", "manifest.json:1: "),
        ("score cells.jsonl cells.jsonl", "cells.jsonl:1: Object contains unknown field `detections`"),
        ("score cells.jsonl data/test --maps cells.jsonl", "cells.jsonl: not a .npy array"),
        ("score cells.jsonl data/test --json no/such/folder.json", "cannot be written"),
    ],
)
@pytest.mark.usefixtures("small")
def test_wrong_inputs_are_one_clear_line_and_exit_code_2(command, message, refused):
    assert message in refused(*command.split())


@pytest.mark.usefixtures("small")
def test_truth_that_a_folder_does_not_have_is_asked_for(refused, tmp_path):
    media.png_folder(tmp_path / "bare", np.zeros((3, 20, 20), np.uint8))
    assert "bare: folder of PNG images, without truth; expected JSON lines" in refused("score", "cells.jsonl", "bare")


@pytest.mark.usefixtures("small")
def test_pictures_without_matplotlib_say_how_to_install_it(tmp_path):
    block = "import sys; sys.modules['matplotlib'] = None; from irst_stream.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, "inspect", "data/test", "--png", "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == "irst-stream: a picture needs matplotlib: pip install 'irst-stream[plot]'\n"


def test_an_interrupt_ends_with_130_and_the_next_run_goes_on(tmp_path):
    """A first frame done means workers are busy; Ctrl-C then must leave no worker and no half file."""
    command = [
        sys.executable,
        "-m",
        "irst_stream.cli",
        "simulate",
        "csist100k",
        "a",
        "--images",
        "20000",
        "--split",
        "test",
    ]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    images = tmp_path / "a" / "test" / "image"
    while child.poll() is None and not (images.is_dir() and any(p.suffix == ".png" for p in images.iterdir())):
        pass
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines()[-1] == "irst-stream: interrupted"
    assert "Traceback" not in err
    assert not list((tmp_path / "a").rglob("*.part"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "frames are there; going on" in done.stdout
    assert len(list(images.iterdir())) == 20_000


def test_a_terminal_gets_a_bar(tmp_path):
    shown, terminal = pty.openpty()
    command = [sys.executable, "-m", "irst_stream.cli", "simulate", "csist100k", "a", "--images", "1500", "--split", "val"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    said = os.read(shown, 100_000).decode()
    os.close(shown)
    assert "1500/1500" in said


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m irst_stream.cli schema | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
