"""irst-stream correct, and what its table does in a pipeline, a recording and a replay."""

from pathlib import Path

import numpy as np
import pytest

from irst_stream import Frame, Stamp
from irst_stream.build import build_pipeline, build_runner
from irst_stream.cli import main
from irst_stream.config import read_config
from irst_stream.io.recording.recorder import open_recording
from irst_stream.io.recording.recovery import recover
from irst_stream.optics import render
from irst_stream.types import Detections

SHAPE = (96, 120)
CONFIG = """\
policy = "lossless"
[correct]
table = "uniform.npz"
[propose]
false_alarms = 0.01
[fit]
amplitude_dn = 800
amplitude_sd_dn = 300
[[receive]]
endpoint = "test://frames"
[[record]]
path = "{record}"
keep_free_mb = 0
"""


@pytest.fixture(scope="module")
def sensor():
    """A sensor with a strong pattern and a bad pixel, in the module's random stream."""
    rng = np.random.default_rng(1)
    gain, offset = 1 + 0.05 * rng.standard_normal(SHAPE), 60 * rng.standard_normal(SHAPE)
    gain[20, 30] = 0.0

    def expose(light):
        return np.clip(np.rint(gain * light + 300 + offset + 4 * rng.standard_normal(SHAPE)), 0, 16383).astype(np.uint16)

    return expose


@pytest.fixture(scope="module")
def levels(sensor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    for name, light in (("cold", 800.0), ("hot", 3000.0)):
        np.save(folder / f"{name}.npy", np.stack([sensor(np.full(SHAPE, light)) for _ in range(40)]))
    return folder


@pytest.fixture(scope="module")
def frames(sensor):
    places = [np.array([[40.0 + 0.2 * k, 30.2], [90.3, 70.0 - 0.1 * k]]) for k in range(9)]
    return [
        Frame(Stamp("cam", 1, k, k * 10**7), sensor(1500 + render(xy, np.full(2, 800.0), SHAPE)), 16383.0)
        for k, xy in enumerate(places)
    ]


def said(capsys, *words):
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_measures_a_sensor_and_says_what_is_left(levels, tmp_path, capsys):
    table = tmp_path / "t.npz"
    code, out, _ = said(capsys, "correct", "--cold", levels / "cold.npy", "--hot", levels / "hot.npy", "--output", table)
    assert code == 0
    assert "120 x 96, 1 bad" in out
    assert "gain     5" in out
    assert "left     0.4" in out, "4 DN, from 40 frames at two levels each"
    assert f'table    {table}; [correct] table = "{table}"' in out
    code, out, _ = said(capsys, "correct", "--cold", levels / "cold.npy", "--output", table)
    assert code == 0
    assert "gain" not in out
    assert f"warning  {levels / 'cold.npy'}: 40 frames only; 100 or more leave less pattern" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cold", "{levels}/cold.npy", "--hot", "{levels}/cold.npy", "--output", "{tmp}/t.npz"], "is the same as --cold"),
        (
            ["--cold", "{levels}/hot.npy", "--hot", "{levels}/cold.npy", "--output", "{tmp}/t.npz"],
            "expected a much brighter",
        ),
        (["--cold", "{levels}/none.npy", "--output", "{tmp}/t.npz"], "none.npy"),
        (["--cold", "{levels}/cold.npy", "--output", "{tmp}/t.png"], "expected a name that ends in .npz"),
        (["--cold", "{levels}/cold.npy", "--output", "{tmp}/nowhere/t.npz"], "no folder"),
        (["--hot", "{levels}/cold.npy", "--output", "{tmp}/t.npz"], "--cold"),
    ],
)
def test_wrong_input_is_said_in_one_line(words, expected, levels, tmp_path, capsys):
    try:
        code = main(["correct", *(word.format(levels=levels, tmp=tmp_path) for word in words)])
    except SystemExit as ended:
        code = ended.code
    err = capsys.readouterr().err
    assert code == 2
    assert expected in err
    assert len([line for line in err.splitlines() if line.startswith("irst-stream")]) == 1
    assert not list(tmp_path.iterdir())


class Frames:
    """A source of given frames."""

    def __init__(self, frames):
        self.frames, self.rejected = frames, {}

    def __iter__(self):
        return iter(self.frames)

    def stop(self):
        pass

    def close(self):
        pass


def test_a_recording_keeps_the_table_and_a_replay_gives_the_same_bytes(levels, frames, tmp_path, capsys, monkeypatch):
    from irst_stream.io import registry

    monkeypatch.setitem(registry.SOURCES, "test", lambda *_: Frames(frames))
    folder = tmp_path / "first"
    folder.mkdir()
    cold, hot = levels / "cold.npy", levels / "hot.npy"
    assert main(["correct", "--cold", str(cold), "--hot", str(hot), "--output", str(folder / "uniform.npz")]) == 0
    text = CONFIG.format(record=tmp_path / "run.mcap")
    (folder / "c.toml").write_text(text)
    build_runner(read_config(folder / "c.toml", here=True), text).run()
    (folder / "uniform.npz").unlink()
    for path in (tmp_path / "run.mcap", tmp_path / "saved.mcap"):
        if path.name == "saved.mcap":
            assert recover(tmp_path / "run.mcap", path).intact
        recording = open_recording(path)
        live = [line for kind, line in recording.results() if kind == "detections"]
        assert list(recording.files) == ["correct.table"]
        out = tmp_path / "again.jsonl"
        assert main(["replay", str(path), "--detections", str(out)]) == 0
        assert out.read_bytes().splitlines() == live
        assert len(live) == 5
    for line in live:
        assert line.count(b'"score"') == 2, "the targets, and nothing of a pattern of 100 DN"
    capsys.readouterr()


def test_without_the_table_the_pattern_hides_the_targets(frames):
    config = read_config(Path(__file__).parents[2] / "configs" / "camera.toml")
    found = [r for r in build_pipeline(config).run(frames) if isinstance(r, Detections)]
    assert all(len(r) != 2 for r in found)


def test_config_check_names_a_table_that_is_missing_or_damaged(tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text('[correct]\ntable = "uniform.npz"\nlines = "diagonals"\n')
    code, _, err = said(capsys, "config", "check", path)
    assert code == 2
    assert "correct.lines: expected off, rows, columns or both, got 'diagonals'" in err
    path.write_text('[correct]\ntable = "uniform.npz"\n')
    code, _, err = said(capsys, "config", "check", path)
    assert code == 2
    assert "correct.table: " in err
    assert "no such file" in err
    (tmp_path / "uniform.npz").write_bytes(b"PK\x03\x04 damaged")
    code, _, err = said(capsys, "config", "check", path)
    assert code == 2
    assert "not a correction table" in err
