"""Recordings as tables, films and recordings for Rerun."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from page_scene import PERIOD_NS, scene_frame, scene_results

from irst_stream import Tracks
from irst_stream.cli import main
from irst_stream.io.csv_results import read_csv
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """film.mcap in the current folder: ten frames of one sensor with detections and tracks."""
    monkeypatch.chdir(tmp_path)
    return recorded("film.mcap")


def recorded(path, sensors=("cam",), results=True):
    recorder = Recorder(RecordSettings(path, keep_free_mb=0))
    for index in range(10):
        for sensor in sensors:
            recorder.write(scene_frame(index, sensor), index * PERIOD_NS)
            for record in scene_results(index, sensor) if results else ():
                recorder.write(record, index * PERIOD_NS)
    recorder.close()
    return path


def run(capsys, words):
    code = main(words.split())
    out, err = capsys.readouterr()
    return code, out.strip(), err.strip().splitlines()[-1] if err.strip() else ""


def test_a_recording_becomes_a_table(recording, tmp_path, capsys):
    assert run(capsys, f"export {recording} --to csv")[:2] == (0, "film.csv: 40 lines of 10 frames")
    read = list(read_csv(tmp_path / "film.csv", Tracks))
    assert np.array_equal(read[3].state, scene_results(3)[1].state)
    assert run(capsys, f"export {recording} found.csv --what detections")[0] == 0
    assert "amplitude_sd" in (tmp_path / "found.csv").read_text().partition("\n")[0]


def test_a_table_becomes_parquet_with_its_types(recording, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run(capsys, f"export {recording} t.parquet")[0] == 0
    table = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert table["sequence"] == ["cam"] * 40
    assert table["id"][:4] == [7, 8, 9, 12]
    assert table["x"][:4] == scene_results(0)[1].state[:, 0].tolist()
    assert table["time_ns"][-1] == 9 * PERIOD_NS


def test_a_film_shows_targets_tracks_and_ids(recording, tmp_path, capsys):
    assert run(capsys, f"export {recording} --to video")[1] == "film.mp4: 10 frames of cam"
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    pictures = []
    while (read := film.read())[0]:
        pictures.append(read[1].astype(int))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(50)
    film.release()
    assert len(pictures) == 10
    assert pictures[0].shape == (480, 640, 3)
    x, y = 10 * (50.9 + 0.5), 10 * (30 + 0.5)  # of the single target at frame 9
    blue, green, red = np.moveaxis(pictures[9], 2, 0)
    amber = np.argwhere((red > 170) & (blue < 120) & (green > 90))
    near = amber[np.abs(amber - (y, x)).max(axis=1) < 12]
    assert near.mean(axis=0) == pytest.approx((y, x), abs=4)
    assert pictures[9][301:309, 511:519].min(axis=2).max() > 200  # the target's pixel, within its circle


def test_a_recording_for_rerun_can_be_read_back(recording, tmp_path, capsys):
    pytest.importorskip("rerun")
    assert run(capsys, f"export {recording} --to rerun")[1] == "film.rrd: 10 frames of cam"
    command = [sys.executable, "-m", "rerun", "rrd", "print", "-v", tmp_path / "film.rrd"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for entity in ("/cam/image", "/cam/image/detections", "/cam/image/tracks"):
        assert f"{entity}" in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("export film.mcap", "export: expected OUT, or --to with a format"),
        ("export . x.csv", ".: is a folder; expected a recording, or JSON lines of detections or tracks"),
        ("export film.mcap --to csv --rate 3", "--rate: does not apply to csv of film.mcap"),
        ("export film.mcap --to video --what tracks", "--what: does not apply to video of film.mcap"),
        ("export film.mcap x.csv --sequence no", "film.mcap: no sequence 'no'; there are: cam"),
        ("export film.mcap x.mp4 --to rerun", "x.mp4: expected a name that ends in .rrd"),
        ("export two.mcap --to video", "two.mcap: 2 sequences (a, b); a video shows one, name it with --sequence"),
        ("export bare.mcap --to csv", "bare.mcap: holds no tracks; --what detections takes the others"),
        ("export text.mcap --to video", "text.mcap: not a recording: expected an MCAP file"),
        ("export t.jsonl --to video", "--to video: shows frames; expected a recording (.mcap), got t.jsonl"),
        ("export nowhere.mcap --to video", "nowhere.mcap: No such file or directory"),
    ],
)
@pytest.mark.usefixtures("recording")
def test_what_cannot_be_exported_gets_one_line(tmp_path, capsys, words, says):
    recorded("two.mcap", ("a", "b"))
    recorded("bare.mcap", results=False)
    (tmp_path / "text.mcap").write_text("text, and more of it than a header has")
    before = sorted(tmp_path.iterdir())
    code, _, err = run(capsys, words)
    assert (code, err) == (2, f"irst-stream: {says}")
    assert sorted(tmp_path.iterdir()) == before


def test_a_package_that_is_missing_names_its_extra(recording, capsys, monkeypatch):
    for name, fmt, extra in (("rerun", "rerun", "rerun"), ("pyarrow", "parquet", "parquet")):
        monkeypatch.setitem(sys.modules, name, None)
        code, _, err = run(capsys, f"export {recording} --to {fmt}")
        assert code == 2
        assert f"pip install 'irst-stream[{extra}]'" in err


def test_a_cut_recording_gives_the_frames_it_holds(recording, tmp_path, capsys):
    data = (tmp_path / recording).read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) * 2 // 3])
    code, out, err = run(capsys, "export cut.mcap --to video")
    assert code in (0, 2)
    assert out.startswith("cut.mp4: ") or err.startswith("irst-stream: cut.mcap: ")
