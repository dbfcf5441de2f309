"""irst-stream recover at the command line."""

import re

import numpy as np
import pytest

from irst_stream import Detections, Frame, Stamp
from irst_stream.cli import main
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.settings import RecordSettings


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def recording(tmp_path):
    recorder = Recorder(RecordSettings(str(tmp_path / "a.mcap")))
    for k in range(30):
        stamp = Stamp("cam", 1, k, k)
        recorder.write(Frame(stamp, np.full((9, 9), k, np.uint16)), k * 10**8)
        recorder.write(Detections.bare(stamp, np.zeros((1, 2)), np.ones(1), np.ones(1)), k * 10**8)
    recorder.close()
    return tmp_path / "a.mcap"


def test_it_reports_what_it_recovered(run, recording, tmp_path):
    whole = recording.read_bytes()
    recording.write_bytes(whole[: len(whole) // 2])
    code, out, err = run("recover", "a.mcap", "b.mcap")
    assert (code, err) == (0, "")
    saved = open_recording(tmp_path / "b.mcap").frames
    assert 10 < saved < 30
    first, second = out.splitlines()
    assert re.match(rf"frames {saved}, detections ({saved}|{saved - 1}), tracks 0; \d+ bytes could not be read$", first)
    assert second == "recording: b.mcap"
    assert recording.read_bytes() == whole[: len(whole) // 2]


def test_an_intact_recording_is_copied(run, recording):
    assert run("recover", recording, "b.mcap")[:2] == (
        0,
        "frames 30, detections 30, tracks 0; the recording is whole\nrecording: b.mcap\n",
    )


@pytest.mark.usefixtures("recording")
def test_errors_are_one_line_and_leave_nothing_behind(run, tmp_path):
    (tmp_path / "noise.mcap").write_bytes(b"noise" * 100)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for words, fault in (
        (("noise.mcap", "b.mcap"), "noise.mcap: not a recording"),
        (("nowhere.mcap", "b.mcap"), "nowhere.mcap: No such file"),
        (("a.mcap", "a.mcap"), "a.mcap: would change the input"),
        (("a.mcap", "nowhere/b.mcap"), "nowhere/b.mcap: cannot be written"),
        (("noise.mcap", "a.mcap"), "a.mcap: exists; choose another name or add --replace"),
        (("a.mcap", "b.txt"), "b.txt: expected a name that ends in .mcap"),
    ):
        code, out, err = run("recover", *words)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert fault in err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_replace_overwrites_an_existing_file(run, recording, tmp_path):
    (tmp_path / "b.mcap").write_bytes(b"old")
    assert run("recover", recording, "b.mcap", "--replace")[0] == 0
    assert open_recording(tmp_path / "b.mcap").frames == 30


def test_a_full_device_is_named(run, recording, tmp_path):
    (tmp_path / "full.mcap").symlink_to("/dev/full")
    fault = "irst-stream: full.mcap: cannot be written: No space left on device\n"
    assert run("recover", recording, "full.mcap") == (2, "", fault)
