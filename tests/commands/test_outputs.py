"""Outputs never change an input, stand under their name once whole, and leave nothing in the way when they fail."""

import json
import shutil

import numpy as np
import pytest

from irst_stream import Stamp
from irst_stream.cli import main
from irst_stream.commands import outputs
from irst_stream.commands.outputs import LinesOutput, atomic_folder
from irst_stream.errors import OutputError
from irst_stream.system.shipped import find_engine
from irst_stream.types import Detections

TRUTH = '{"sequence":"s","index":0,"time_ns":0,"source":"","truth":[]}\n'


def detection(index):
    return Detections.bare(Stamp("cam", 1, index, index), np.ones((1, 2)), np.ones(1), np.ones(1))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an input of every kind."""
    monkeypatch.chdir(tmp_path)
    np.save("film.npy", np.full((6, 11, 11), 100, np.uint16))
    (tmp_path / "film.npy.toml").write_text("rate_hz = 50.0\n")
    (tmp_path / "my.toml").write_text('readout = "fit"\n')
    (tmp_path / "linked.toml").symlink_to("my.toml")
    (tmp_path / "hard.toml").hardlink_to("my.toml")
    (tmp_path / "truth.jsonl").write_text(TRUTH)
    (tmp_path / "found.jsonl").write_text(TRUTH.replace("truth", "detections"))
    np.savez("my.psf.npz", film=np.zeros((6, 11, 11), np.uint16))
    (tmp_path / "film.jsonl.partial").write_bytes(b"precious")
    shutil.copytree(find_engine("seqcsist"), tmp_path / "engine")
    return tmp_path


COMMANDS = {
    "the configuration": "replay film.npy --config my.toml --detections my.toml",
    "by another spelling": "replay film.npy --config my.toml --detections ./engine/../my.toml",
    "by a link": "replay film.npy --config my.toml --tracks linked.toml",
    "by a hard link": "replay film.npy --config my.toml --tracks hard.toml",
    "frames": "replay film.npy --config my.toml --detections film.npy",
    "what a sidecar would be": "baseline truth.jsonl truth.jsonl.toml",
    "a sidecar by a calibration": "calibrate film.npy --output film.npy.toml",
    "a sidecar": "replay film.npy --config my.toml --detections film.npy.toml",
    "an engine's file": "replay film.npy --config my.toml --engine engine --detections engine/manifest.toml",
    "what is written before": "score film.jsonl.partial truth.jsonl --json film.jsonl",
    "truth": "score found.jsonl truth.jsonl --json truth.jsonl",
    "detections": "export found.jsonl found.jsonl",
    "truth of a baseline": "baseline truth.jsonl truth.jsonl",
    "a profiled configuration": "profile film.npy --config my.toml --json film.npy",
    "an engine's weights": "engine run engine film.npy engine/weights.safetensors",
    "frames by the name of a PSF's table": "calibrate my.psf.npz --output my.toml",
    "calibrated frames' sidecar": "calibrate film.npy --output film.npy.toml",
}


@pytest.mark.parametrize("case", COMMANDS)
def test_an_output_is_never_an_input(case, here, capsys):
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert main(COMMANDS[case].split()) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "would change the input" in said or "would be read as" in said or "expected a name that ends in" in said
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_two_outputs_of_one_name_are_refused(here, capsys):
    assert main(["replay", "film.npy", "--config", "my.toml", "--detections", "a.jsonl", "--tracks", "./a.jsonl"]) == 2
    assert "--tracks, --detections: a.jsonl is named twice" in capsys.readouterr().err
    assert not (here / "a.jsonl").exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("replay film.npy --config my.toml --detections e.txt", "in .jsonl; .txt"),
        ("replay film.npy --config my.toml --tracks t.csv", "in .jsonl; .csv"),
        ("score found.jsonl truth.jsonl --json a.txt", "in .json; .txt"),
        ("baseline truth.jsonl b.json.gz", "in .jsonl; .gz"),
    ],
)
def test_a_suffix_that_promises_another_format_is_refused(command, expected, here, capsys):
    out = command.split()[-1]
    assert main(command.split()) == 2
    said = f"irst-stream: {out}: expected a name that ends {expected} promises another format\n"
    assert capsys.readouterr().err == said
    assert not (here / out).exists()


def test_a_suffix_that_promises_nothing_is_taken(here):
    for name in ("lines", "lines.ndjson", "lines.2"):
        assert main(["baseline", "truth.jsonl", name]) == 0
        assert (here / name).is_file()


def test_a_configuration_writes_what_its_suffixes_promise(here, capsys):
    (here / "c.toml").write_text(f'{RUN}[[write]]\npath = "x.csv"\n[[record]]\npath = "r-{{start}}.jsonl"\n')
    assert main(["config", "check", "c.toml"]) == 2
    said = capsys.readouterr().err
    assert "write[0].path: expected a name that ends in .jsonl; .csv promises another format" in said
    assert "record[0].path: expected a name that ends in .mcap; .jsonl promises another format" in said


RUN = 'readout = "fit"\n[[receive]]\nendpoint = "tcp://127.0.0.1:1"\n'


@pytest.mark.parametrize("table", ["write", "record"])
@pytest.mark.parametrize("path", ["c.toml", "./c.toml", "sub/../c.toml", "link.toml"])
def test_a_configuration_never_names_itself_as_an_output(table, path, here, capsys):
    text = f'{RUN}[[{table}]]\npath = "{path}"\n'
    (here / "c.toml").write_text(text)
    (here / "link.toml").symlink_to("c.toml")
    for command in (["run", "c.toml"], ["config", "check", "c.toml"]):
        assert main(command) == 2
        assert f"{table}[0].path: {path} is the configuration itself" in capsys.readouterr().err
    assert (here / "c.toml").read_text() == text
    assert not list(here.glob("*-0002*"))


def test_lines_have_their_name_once_they_are_whole(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"of yesterday\n")
    lines = LinesOutput(tmp_path / "a.jsonl")
    lines.write(detection(0))
    lines.close()
    assert (tmp_path / "a.jsonl").read_bytes() == b"of yesterday\n"
    assert json.loads((tmp_path / "a.jsonl.partial").read_text())["index"] == 0
    lines = LinesOutput(tmp_path / "a.jsonl")
    lines.write(detection(1))
    lines.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
    assert json.loads((tmp_path / "a.jsonl").read_text())["index"] == 1


def test_a_replay_that_loses_lines_exits_with_3_and_says_what_is_left(here, monkeypatch, capsys):
    class Full(outputs.JsonLines):
        def write(self, record):
            if record.stamp.index == 3:
                raise OutputError(f"{self._path}: cannot be written: No space left on device")
            super().write(record)

    monkeypatch.setattr(outputs, "JsonLines", Full)
    assert main(["replay", "film.npy", "--config", "my.toml", "--detections", "a.jsonl"]) == 3
    *_, last = capsys.readouterr().err.splitlines()
    assert last == (
        "irst-stream: a.jsonl: cannot be written: No space left on device; a.jsonl.partial holds what was written before"
    )
    assert not (here / "a.jsonl").exists()
    assert (here / "a.jsonl.partial").read_text().count("\n") == 1


def test_a_replay_up_to_a_fault_is_clearly_partial(here, capsys):
    data = (here / "film.npy").read_bytes()
    (here / "film.npy").write_bytes(data[:-10])
    assert main(["replay", "film.npy", "--config", "my.toml", "--detections", "a.jsonl"]) == 2
    out, err = capsys.readouterr()
    assert "detections: a.jsonl.partial, up to the fault" in out
    assert "truncated: 5 of 6 frames" in err
    assert not (here / "a.jsonl").exists()


def test_a_folder_that_fails_leaves_nothing_in_the_way(tmp_path):
    out = tmp_path / "engine"
    out.mkdir()

    def fill(folder):
        (folder / "half").touch()
        (folder / "nowhere" / "other").touch()

    with pytest.raises(OutputError, match="engine: cannot be written: No such file"), atomic_folder(out) as part:
        fill(part)
    assert list(tmp_path.rglob("*")) == [out]
    (tmp_path / "engine.part").mkdir()  # of a run that was killed
    with atomic_folder(out) as part:
        (part / "whole").touch()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["engine", "whole"]
