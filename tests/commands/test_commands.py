"""The command line: what it prints, what it writes, how it fails."""

import json
import logging
import os
import subprocess
import sys

import media_files as media
import numpy as np
import pytest
from matplotlib.image import imread

from irst_stream import Detections, __version__
from irst_stream.commands.console import show_log
from irst_stream.io import jsonl
from irst_stream.optics import FineGrid


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
    assert "truth       880 targets in 300 frames" in out
    code, out, _ = run("baseline", "data/test", "cells.jsonl")
    assert "in 300 frames" in out
    code, out, _ = run("score", "cells.jsonl", "data/test", "--plot", "pr.png", "--json", "score.json", "--mode", "legacy")
    assert code == 0
    assert "240 images, 701 detections, 704 truths, frames 2:-2, legacy matching" in out
    scores = json.loads((tmp_path / "score.json").read_text())
    assert (scores["truth"], scores["frames"], scores["irst_stream"]) == ("data/test", "2:-2", __version__)
    cso_map = scores["scores"]["cso_map"]
    assert 0.45 < cso_map < 0.6
    assert f"{100 * cso_map:.2f}" in out
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
def test_inspect_summarises_readable_frames_before_the_error(run, tmp_path):
    (tmp_path / "data" / "test" / "image" / "image_27.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    code, out, err = run("inspect", "data/test", "--png", "a.png")
    assert code == 2
    assert "frames      27 in 2 sequences" in out
    assert err.splitlines()[-1].startswith("irst-stream: ")
    assert "image_27.png: truncated" in err
    assert (tmp_path / "a.png").exists()


def test_inspect_counts_pixels_that_are_not_finite(run, tmp_path):
    frames = np.zeros((3, 20, 20), np.float32)
    frames[1, 2, 3], frames[2, 0, :2] = np.nan, np.inf
    np.save(tmp_path / "a.npy", frames)
    code, out, _ = run("inspect", "a.npy", "--png", "a.png", "--rate", 30)
    assert code == 0
    assert "not finite  3 of 1200 pixels are NaN or infinite" in out
    assert "rate        30 frames/s (from --rate)" in out


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
    assert "100 images, " in lines


@pytest.mark.usefixtures("small")
def test_frames_without_a_line_are_counted_and_reported(run, tmp_path):
    kept = [d for d in jsonl.read(tmp_path / "cells.jsonl", Detections) if d.stamp.index != 5]
    jsonl.write(tmp_path / "some.jsonl", kept)
    code, out, _ = run("score", "some.jsonl", "data/test")
    assert code == 0
    assert "note: 5 of 80 frames have no line of detections and count as empty" in out


@pytest.mark.usefixtures("small")
def test_fine_maps_are_scored_too(run, tmp_path):
    from irst_stream import open_source

    truths = [t for t in open_source(tmp_path / "data" / "test").truths() if 2 <= t.stamp.index < 18]
    np.save(tmp_path / "maps.npy", [FineGrid().label(t.xy, t.amplitude) + 1 for t in truths])
    code, out, _ = run("score", "cells.jsonl", "data/test", "--maps", "maps.npy")
    assert code == 0
    assert "48.13 dB" in out  # 20 log10(255 / 1)


def test_the_schema_is_json(run):
    assert "DetectionLine" in json.loads(run("schema")[1])["$defs"]


def test_the_doctor_works_without_a_gpu(run):
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
        "generate, read, record and score",
    ):
        assert word in out
    report = json.loads(run("doctor", "--json")[1])
    assert dict(report["packages"])["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("simulte", "invalid choice: 'simulte'"),
        ("simulate seqcsist out --trajectories 0", "--trajectories: expected a whole number of 1 or more"),
        ("simulate seqcsist out --trajectories 3 --depth 12", "argument --depth: invalid choice"),
        ("simulate seqcsist out --trajectories 3 --noise 5:1", "LOW no higher than HIGH"),
        ("simulate seqcsist out --trajectories 3 --noise loud", "expected a number or LOW:HIGH, got 'loud'"),
        ("simulate seqcsist out --trajectories 3 --noise -2", "noise: expected 0 <= lowest <= highest"),
        ("simulate seqcsist out --trajectories 3 --noise inf", "expected a number or LOW:HIGH, got 'inf'"),
        ("simulate seqcsist out --trajectories ٣", "expected a whole number"),
        ("simulate scene out --frames 3 --drift nan,0", "expected X,Y, got 'nan,0'"),
        ("simulate scene out --frames 3 --snr -5:3", "snr: expected 0 <= low <= high, got (-5.0, 3.0)"),
        ("simulate scene out --frames 3 --read-noise -4", "noise: expected 0 to"),
        ("simulate scene out --frames 3 --jitter -1", "jitter: expected 0 or more"),
        ("simulate scene out --frames 3 --speed inf", "expected a number or LOW:HIGH"),
        ("simulate scene out --frames 3 --spacing 1e-300", "spacing: expected 0.01"),
        ("simulate scene out --frames 3 --sigma 1e5", "sigma: expected 0.1 to 10 px"),
        ("simulate scene out --frames 3 --axis-ratio 20", "axis_ratio: expected 1 to 10, got 20"),
        ("simulate scene out --frames 3 --psf none.psf.npz", "none.psf.npz: No such file or directory"),
        ("simulate scene out --frames 3 --size 99999999x99999999", "size: expected 16x16 to"),
        (
            "simulate scene out --frames 3 --background cloud --bits 8",
            "background: expected a level of 0 to 255 DN at 8 bits, got 1500",
        ),
        ("simulate scene out --frames 3 --snr 5 --amplitude 200", "give one of them"),
        ("simulate scene data/test --frames 3", "data/test: holds a different set"),
        ("simulate csist100k data --images 3 --split val", "data/test: is a split of a different set"),
        ("simulate seqcsist out --trajectories 3 --seed -1", "seed: expected 0 or more"),
        ("simulate scene out --frames 3 --size 640", "expected WIDTHxHEIGHT in px such as 640x512, got '640'"),
        (
            "score cells.jsonl data/test --frame-size 0x5",
            "expected WIDTHxHEIGHT in px such as 640x512, got '0x5'",
        ),
        ("simulate scene out --frames 3 --members 1.5:2", "expected whole numbers"),
        ("simulate scene out --frames 3 --bits 40", "bits: expected 8 to 16, got 40"),
        (
            "simulate scene out --frames 3 --config nonsense",
            "there are: scene-cloud",
        ),
        ("simulate scene out --frames 3 --drift 4", "expected X,Y, got '4'"),
        ("inspect nowhere", "nowhere: no such file or folder"),
        ("inspect data/test --detections cells.jsonl", "--detections: needs a picture to mark; add --png OUT"),
        ("inspect data/test --rate 0", "--rate: expected a number from 0.000001"),
        ("inspect data/test --png no/such/folder.png", "no/such/folder.png: cannot be written"),
        ("replay nowhere", "nowhere: no such file or folder"),
        ("replay data/test --detections data/test/image/image_0.png", "would change the input"),
        ("replay data/test --config scene-sky", "background: no such key"),
        ("replay data/test --config nothing", "nothing: no such file, and no bundled configuration of that name"),
        ("baseline nowhere out.jsonl", "nowhere: no such file or folder"),
        ("baseline data/test no/such/folder.jsonl", "no/such/folder.jsonl: cannot be written"),
        ("baseline cells.jsonl cells.jsonl", "cells.jsonl: would change the input cells.jsonl"),
        ("baseline data/test data", "data: cannot be written: is a folder"),
        ("baseline data/test out.jsonl --division 99", "--division: expected 1 to 31"),
        ("inspect data/test --png data/test/image/image_0.png", "would change the input"),
        ("inspect data/test --png data/test/new.png", "would change the input"),
        ("inspect data/test --png picture.jpg", "picture.jpg: expected a name that ends in .png"),
        ("score cells.jsonl data/test --json cells.jsonl", "would change the input"),
        ("baseline data/test out.jsonl --division 0", "--division: expected a whole number"),
        ("score nothing.jsonl data/test", "nothing.jsonl: No such file"),
        ("score cells.jsonl nothing", "nothing: no such file or folder"),
        ("score cells.jsonl data/test --frames 5", "frames: expected FIRST:LAST, for example 2:-2, or all, got '5'"),
        ("score cells.jsonl data/test --frames 90:99", "no frame lies within --frames 90:99"),
        ("score data/test/manifest.json data/test", "manifest.json:1: "),
        ("score . cells.jsonl", ".: a folder; expected a file of JSON lines"),
        ("score cells.jsonl cells.jsonl", "cells.jsonl:1: not a line of truth: Object contains unknown field `detections`"),
        ("score cells.jsonl data/test --maps cells.jsonl", "cells.jsonl: not a .npy array"),
        ("score cells.jsonl data/test --frames -99:-98", "no frame lies within"),
        ("score cells.jsonl data/test --json no/such/folder.json", "cannot be written"),
    ],
)
@pytest.mark.usefixtures("small")
def test_wrong_inputs_are_one_clear_line_and_exit_code_2(command, message, refused):
    assert message in refused(*command.split())


@pytest.mark.usefixtures("small")
def test_a_folder_without_truth_is_refused(refused, tmp_path):
    media.png_folder(tmp_path / "bare", np.arange(1200, dtype=np.uint16).reshape(3, 20, 20))
    assert "frame_8.png: expected a mask of 0 and one other value" in refused("score", "cells.jsonl", "bare")
    (tmp_path / "data" / "test" / "annotation").rename(tmp_path / "elsewhere")
    assert "SeqCSIST, test, without truth; expected JSON lines" in refused("score", "cells.jsonl", "data/test")


@pytest.mark.usefixtures("small")
def test_pictures_without_matplotlib_say_how_to_install_it(tmp_path):
    block = "import sys; sys.modules['matplotlib'] = None; from irst_stream.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, "inspect", "data/test", "--png", "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == "irst-stream: a picture needs matplotlib: pip install 'irst-stream[plot]'\n"


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_one_clear_line(run, tmp_path):
    for expected, command in (
        (2, "baseline data/test /dev/full"),
        (2, "score cells.jsonl data/test --json /dev/full"),
        (3, "replay data/test --readout fit --detections /dev/full"),
    ):
        code, _, err = run(*command.split())
        assert code == expected
        assert "irst-stream: /dev/full: cannot be written: No space left on device" in err
        assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), reason="root may read everything")  # noqa: PTH110
@pytest.mark.usefixtures("small")
def test_places_that_may_not_be_read_are_one_clear_line(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "a.png").write_bytes(b"x")
    (tmp_path / "locked").chmod(0)
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = [*drop, sys.executable, "-m", "irst_stream.cli"]
    for words in (
        "inspect locked/a.png",
        "inspect locked",
        "score locked/a.jsonl data/test",
        "simulate csist100k locked --images 3",
    ):
        done = subprocess.run([*program, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "Permission denied" in done.stderr
        assert done.stderr.count("\n") == 1
    (tmp_path / "locked").chmod(0o755)


@pytest.mark.usefixtures("small")
def test_the_current_folder_is_a_folder_like_any_other(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "data" / "test")
    code, out, _ = run("inspect", ".")
    assert code == 0
    assert "100 in 5 sequences" in out


@pytest.mark.usefixtures("small")
def test_negative_values_are_values(run):
    assert run("simulate", "scene", "s", "--frames", 1, "--size", "32x32", "--drift", "-4,-2")[0] == 0
    assert "40 images" in run("score", "cells.jsonl", "data/test", "--frames", "-8:")[1]


def test_an_amplitude_replaces_the_snr_of_the_configuration(run, tmp_path):
    run("simulate", "scene", "s", "--frames", 1, "--config", "scene-sky", "--amplitude", "500:600", "--size", "64x64")
    groups = json.loads((tmp_path / "s" / "manifest.json").read_text())["parameters"]["groups"]
    assert (groups["snr"], groups["amplitude_dn"]) == (None, [500, 600])


def test_a_scene_is_the_same_under_any_name_and_says_which_pixels_are_bad(run, tmp_path):
    for folder in ("a", "b"):
        run("simulate", "scene", folder, "--frames", 2, "--size", "200x200", "--workers", 1)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    bad = json.loads((tmp_path / "a" / "bad_pixels.json").read_text())
    assert set(bad) == {"dead", "hot"}


def test_rejected_options_leave_no_trace(run, tmp_path):
    assert run("simulate", "seqcsist", "data", "--trajectories", 1, "--noise", "-1")[0] == 2
    assert not list(tmp_path.iterdir())


def test_baseline_refuses_frames_larger_than_a_patch(run, tmp_path):
    run("simulate", "scene", "s", "--frames", 2, "--size", "64x64")
    code, _, err = run("baseline", "s", "cells.jsonl")
    assert code == 2
    assert "lies outside the 11 x 11 patch that baseline reads" in err
    assert not list(tmp_path.glob("cells*"))


@pytest.mark.usefixtures("small")
def test_detections_of_other_frames_are_pointed_out(run, tmp_path):
    lines = (tmp_path / "cells.jsonl").read_text().replace("test/", "other/")
    (tmp_path / "other.jsonl").write_text(lines)
    out = run("inspect", "data/test", "--png", "a.png", "--detections", "other.jsonl")[1]
    assert "other.jsonl has no detections for the frames shown" in out


@pytest.mark.usefixtures("small")
def test_bad_truth_is_reported_after_everything_else(run, tmp_path):
    (tmp_path / "data" / "test" / "annotation" / "COS30.xml").write_text("<foo/>")
    code, out, err = run("inspect", "data/test", "--png", "a.png")
    assert code == 2
    assert "frames      100 in 5 sequences" in out
    assert "in 30 frames" in out
    assert "COS30.xml: expected the root element <annotation>, got <foo>" in err
    assert (tmp_path / "a.png").exists()


def test_the_doctor_works_where_other_commands_cannot_even_be_imported(tmp_path):
    block = "import sys; sys.modules['cv2'] = None; from irst_stream.cli import main; sys.exit(main(['doctor']))"
    (tmp_path / "json.py").write_text("raise SystemExit(9)")  # a stray module in the current folder must not be imported
    done = subprocess.run([sys.executable, "-I", "-c", block], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "processor" in done.stdout
    assert "crashed" not in done.stdout


@pytest.mark.usefixtures("small")
def test_inspect_compares_methods_side_by_side(run):
    assert run("replay", "data/test", "--readout", "fit", "--detections", "found.jsonl")[0] == 0
    code, out, _ = run("inspect", "data/test", "--png", "compared.png", "--detections", "cells.jsonl", "found.jsonl")
    assert code == 0
    assert out.endswith("picture     compared.png\n")


def test_of_other_packages_only_warnings_are_told(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    show_log()
    for name in ("irst_stream.io", "a_store"):
        logging.getLogger(name).info("found a key")
        logging.getLogger(name).warning("found no key")
    assert capsys.readouterr().err == "info: found a key\nwarning: found no key\nwarning: found no key\n"
