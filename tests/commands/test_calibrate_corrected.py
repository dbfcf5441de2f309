"""irst-stream calibrate --correct: a sensor whose pattern is known, measured as a pipeline sees its frames."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_sensor import FULL_SCALE, SHAPE, Sensor

from irst_stream import Detections, Pose
from irst_stream.calibrate.frame_rate import FrameRate
from irst_stream.calibrate.settings_file import Origin, Tables, write_settings
from irst_stream.cli import main
from irst_stream.commands.calibrate import calibrate_footage
from irst_stream.commands.conditioning import condition, conditioning_of
from irst_stream.commands.footage import Footage
from irst_stream.conditioning.settings import CorrectSettings
from irst_stream.config import Config, parse_config, read_config
from irst_stream.io import jsonl

SENSOR = Sensor(pattern=0.0, targets=6)  # its pattern is drawn here
FRAMES, LEVELS = 40, {"cold": 500.0, "hot": 2500.0}
GAIN_SD, OFFSET_SD, PEDESTAL, DEAD = 0.04, 40.0, 300.0, (60, 50)  # DN; x, y
RATE = FrameRate(40.0, 0.1, "--rate")


class Array:
    """A detector array in front of which light becomes DN, each pixel with its own gain and offset."""

    def __init__(self):
        rng = np.random.default_rng(2)
        self.gain, self.offset = 1 + GAIN_SD * rng.standard_normal(SHAPE), OFFSET_SD * rng.standard_normal(SHAPE)
        self.gain[DEAD[::-1]] = self.offset[DEAD[::-1]] = 0.0

    def read_out(self, light):
        return np.clip(np.rint(self.gain * light + PEDESTAL + self.offset), 0, FULL_SCALE).astype(np.uint16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with frames cam.npy, those without the pattern clean.npy, a table T.npz, and one for other frames."""
    folder, array, rng = tmp_path_factory.mktemp("corrected"), Array(), np.random.default_rng(3)
    clean = SENSOR.stack(FRAMES)
    np.save(folder / "clean.npy", clean)
    np.save(folder / "cam.npy", np.stack([array.read_out(image.astype(float)) for image in clean]))
    for name, light in LEVELS.items():
        level = np.stack([array.read_out(light + SENSOR.read * rng.standard_normal(SHAPE)) for _ in range(50)])
        np.save(folder / f"{name}.npy", level)
        np.save(folder / f"small_{name}.npy", level[:, :100, :100])
    for name, part in (("T", ""), ("S", "small_")):
        words = "--cold", folder / f"{part}cold.npy", "--hot", folder / f"{part}hot.npy", "--output", folder / f"{name}.npz"
        assert main(["correct", *map(str, words)]) == 0
    return folder


@pytest.fixture
def calibrate(files, tmp_path, capsys, monkeypatch):
    """Runs irst-stream calibrate on a file of the folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def calibrate(name, *words):
        code = main([str(word) for word in ("calibrate", files / name, "--rate", 40, "--output", "C.toml", *words)])
        out, err = capsys.readouterr()
        return code, out, err

    return calibrate


def test_noise_psf_and_pattern_are_those_of_corrected_frames(calibrate, files):
    code, out, err = calibrate("cam.npy", "--correct", files / "T.npz", "--report", "C.html")
    assert code == 0, err
    before, after, share = map(
        float, re.search(r"1 bad pixels?; (\S+) DN of pattern to (\S+) DN, (\d+)% of it", out).groups()
    )
    assert before == pytest.approx(np.hypot(OFFSET_SD, GAIN_SD * 1400), rel=0.15)  # the middle of the sky
    assert after < 6  # 27 DN over 40 frames leave 4
    assert share == pytest.approx(100 * after / before, abs=1)
    config = read_config(Path("C.toml"), here=True)
    assert Path(config.correct.table).name == "C.correct.npz"
    assert config.fit.sigma_px == pytest.approx(SENSOR.sigma, rel=0.02)
    assert config.fit.shot_dn == pytest.approx(SENSOR.gain, rel=0.15)
    assert 0.3 < config.fit.fixed_dn < 2  # noise of 6 DN in 50 frames of each level
    noise = float(re.search(r"noise +(\S+) DN over time", out)[1])
    calibrate("clean.npy")
    assert config.fit.sigma_px == pytest.approx(read_config(Path("C.toml")).fit.sigma_px, rel=0.01)
    assert noise == pytest.approx(np.sqrt(SENSOR.read**2 + SENSOR.gain * 1400), rel=0.05)


def test_one_file_is_complete_and_replays(calibrate, files, capsys):
    assert calibrate("cam.npy", "--correct", files / "T.npz")[0] == 0
    first = Path("C.toml").read_text()
    assert main(["replay", str(files / "cam.npy"), "--config", "C.toml", "--detections", "D.jsonl"]) == 0
    found = list(jsonl.read(Path("D.jsonl"), Detections))
    assert np.mean([len(line) for line in found]) == pytest.approx(SENSOR.targets, rel=0.2)
    Path("again").mkdir()
    words = "calibrate", files / "cam.npy", "--rate", 40, "--correct", "C.toml", "--output", "again/C.toml"
    assert main([str(word) for word in words]) == 0
    capsys.readouterr()
    assert Path("again/C.toml").read_text() == first, "a calibration's own file corrects the next one"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--correct {files}/S.npz", "S.npz: is for frames of 100 x 100 px; the source's have 160 x 128 px"),
        ("--correct none.npz", "none.npz: no such file"),
        ("--correct none.toml", "none.toml: "),
        ("--correct cut.npz", "cut.npz: not a correction table that irst-stream correct wrote"),
        ("--correct {files}/cold.npy", "cold.npy: not a correction table (.npz) or a configuration (.toml)"),
        ("--correct {files}/cam.npy", "cam.npy"),
        ("--correct plain.toml", "--correct: plain.toml: neither [correct] nor [register] says anything"),
        ("--correct wrong.toml", "correct.lines: expected off, rows, columns or both"),
        ("--correct C.correct.npz", "C.correct.npz: would change the input C.correct.npz"),
    ],
)
def test_wrong_corrections_give_one_clear_line(words, told, calibrate, files):
    Path("cut.npz").write_bytes((files / "T.npz").read_bytes()[:500])
    Path("C.correct.npz").write_bytes((files / "T.npz").read_bytes())
    Path("plain.toml").write_text("window = 5\n")
    Path("wrong.toml").write_text('[correct]\nlines = "all"\n')
    code, _, err = calibrate("cam.npy", *words.format(files=files).split())
    assert code == 2
    said = [line for line in err.splitlines() if not re.match(r"(read|correct|calibrate): \d", line)]
    assert len(said) == 1, err
    assert told in said[0]
    assert not Path("C.toml").exists()


def footage(move=0.0, poses=False, count=60):
    """Frames of the sensor behind the array, of a sky of its own that moves by so many px a frame along x."""
    array, rng = Array(), np.random.default_rng(4)
    rows, columns = np.indices((SHAPE[0], 4 * SHAPE[1]))
    scene = 1500 + 60 * np.sin(columns / 23) + 60 * np.sin(rows / 17 + columns / 31)
    frames = []
    for k, frame in enumerate(SENSOR.frames(count)):
        first = round(move * k)
        light = scene[:, first : first + SHAPE[1]] + SENSOR.read * rng.standard_normal(SHAPE)
        pose = Pose(frame.stamp, 100.0 - first, 5.0, 0.0) if poses else None
        frames.append(replace(frame, pixels=array.read_out(light), pose=pose))
    return Footage(frames, RATE, ())


def test_offsets_learnt_from_the_scene_are_known_before_anything_is_measured():
    known = Config(correct=CorrectSettings(scene_frames=60, scene_when="always"))
    seen, done = condition(footage(move=4.0), known)
    assert done.raw_pattern > 50
    first = seen.frames[0].pixels
    rough = first - np.median(first, axis=1, keepdims=True)
    assert np.std(np.diff(rough, axis=1)) < 0.5 * np.std(np.diff(footage().frames[0].pixels.astype(float), axis=1))


def test_poses_that_come_with_the_frames_say_how_the_platform_moves():
    found = calibrate_footage(footage(move=2.0, poses=True))
    assert found.platform.drift[0] == pytest.approx(-2, abs=0.01)
    assert not found.platform.still
    text = write_settings(found, Origin("x", RATE), Tables(), "0")
    assert "by the poses sent" in text
    assert "[register]" not in text
    assert parse_config(text, "C.toml").correct == CorrectSettings()
    assert "frames are registered" not in text


def test_no_option_means_no_correction():
    given = footage(count=10)
    seen, done = condition(given, conditioning_of(None))
    assert seen is given
    assert not done.corrects
    assert not list(done.settings_lines(""))
