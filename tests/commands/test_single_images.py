"""Commands on unrelated images: each answered by itself, and reasons where there are no answers."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from irst_stream.calibrate.frame_rate import FrameRate
from irst_stream.calibrate.graphics import Graphic, Graphics
from irst_stream.calibrate.images import calibrate_images
from irst_stream.calibrate.settings_file import Origin
from irst_stream.cli import main
from irst_stream.commands.calibrate import summary
from irst_stream.io.media.images import encode_png
from irst_stream.live.load_test import feed_command
from irst_stream.optics import psf

TARGETS = {"a": ((80, 100), (40.3, 30.6)), "b": ((120, 90), (20.7, 90.2)), "c": ((70, 150), (111.5, 33.1))}
"""Each image's shape, and the place of its target, x and y px."""
CONFIG = """
window = 5
[fit]
amplitude_dn = 400.0
amplitude_sd_dn = 100.0
[propose]
average = 3
"""


def pixels_of(name):
    """An image of 16 bits with one target of 400 DN on a level of 1000 DN, with noise of 3 DN."""
    shape, xy = TARGETS[name]
    noise = np.random.default_rng(ord(name)).normal(0, 3, shape)
    return np.rint(1000 + 400 * psf(np.array(xy), shape) + noise).astype(np.uint16)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder of images of three sizes, and a configuration whose window is longer."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name in TARGETS:
        (tmp_path / "images" / f"{name}.png").write_bytes(encode_png(pixels_of(name)))
    Path("mine.toml").write_text(CONFIG)
    return tmp_path / "images"


def best_of(path):
    """The place of each line's best detection, by sequence and index."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    best = {(line["sequence"], line["index"]): max(line["detections"], key=lambda d: d["score"]) for line in lines}
    return {key: (found["x"], found["y"]) for key, found in best.items()}


@pytest.mark.usefixtures("images")
def test_each_image_is_answered_under_its_name(capsys):
    assert main(["replay", "images", "--single", "--config", "mine.toml", "--detections", "found.jsonl"]) == 0
    assert "3 frames, 3 answered" in capsys.readouterr().out
    found = best_of("found.jsonl")
    assert list(found) == [("a", 0), ("b", 0), ("c", 0)]
    for name, (_, xy) in TARGETS.items():
        np.testing.assert_allclose(found[name, 0], xy, atol=0.1)


@pytest.mark.usefixtures("images")
def test_each_page_of_a_stack_is_answered_under_its_number(capsys):
    np.save("stack.npy", np.stack([pixels_of("b")] * 3))
    assert main(["replay", "stack.npy", "--single", "--config", "mine.toml", "--detections", "found.jsonl"]) == 0
    assert "3 frames, 3 answered" in capsys.readouterr().out
    found = best_of("found.jsonl")
    assert list(found) == [(f"stack_{k:05d}", 0) for k in range(3)]
    for xy in found.values():
        np.testing.assert_allclose(xy, TARGETS["b"][1], atol=0.1)


@pytest.mark.usefixtures("images")
def test_images_of_several_sizes_and_tracks_of_single_images_are_refused(capsys):
    assert main(["replay", "images", "--config", "mine.toml"]) == 2
    assert "unrelated images: --single (in Python single=True) answers each by itself" in capsys.readouterr().err
    assert main(["replay", "images", "--config", "mine.toml", "--single", "--tracks", "t.jsonl"]) == 2
    assert "irst-stream: --tracks: a single image has no tracks" in capsys.readouterr().err


def test_sequences_shorter_than_the_window_are_named_with_the_way_out(images, capsys):
    for name in "bc":
        (images / f"{name}.png").write_bytes((images / "a.png").read_bytes())
    assert main(["replay", "images", "--config", "mine.toml"]) == 0
    out = capsys.readouterr().out
    assert "3 frames, 0 answered" in out
    assert "note: no answers for 1 of 1 sequence, of at most 3 frames: the window needs 5. --single answers" in out
    assert main(["replay", "images", "--config", "seqcsist", "--readout", "fit", "--single"]) == 0
    assert "note: " not in capsys.readouterr().out


@pytest.mark.usefixtures("images")
def test_frames_without_a_window_are_explained(capsys):
    np.save("tiny.npy", np.zeros((6, 5, 5), np.uint8))
    assert main(["replay", "tiny.npy", "--config", "seqcsist"]) == 0
    out = capsys.readouterr().out
    assert "6 frames, 0 answered" in out
    assert "note: no 5 frames in a row make a window; the events above say" in out


@pytest.mark.usefixtures("images")
def test_calibrate_tells_the_smallest_and_the_largest_image(capsys):
    assert main(["calibrate", "images", "--single", "--output", "C.toml"]) == 0
    assert "frames      3 of 100 x 80 to 90 x 120 px" in capsys.readouterr().out


def test_the_masked_places_that_a_summary_leaves_out_are_in_the_report():
    places = tuple(Graphic("text", (10 * k, 0, 8, 8)) for k in range(5))
    found = replace(
        calibrate_images([pixels_of("a")], full_scale=np.inf), graphics=Graphics(np.zeros((80, 100), bool), places)
    )
    origin = Origin("a", FrameRate(None, float("nan"), "not stated"))
    short, whole = (
        [line for line in lines if line.startswith("masked")]
        for lines in (summary(found, origin, "100 x 80 px"), summary(found, origin, "100 x 80 px", 5))
    )
    more = "masked      2 more; 0.0% of the frame in all; calibrate --report names each"
    assert short[2:] == [f"masked      {places[2]}", more]
    assert whole == [f"masked      {place}" for place in places]


@pytest.mark.usefixtures("images")
def test_inspect_reads_images_of_all_sizes(capsys):
    assert main(["inspect", "images", "--single"]) == 0
    out = capsys.readouterr().out
    assert "frames      3 in 3 sequences" in out
    assert "100 x 80 px, uint16; 150 x 70 px, uint16; 90 x 120 px, uint16" in out


def test_colour_is_converted_where_a_command_is_told_to(images, capsys):
    cv2.imwrite(str(images / "a.png"), np.full((9, 9, 3), (0, 0, 200), np.uint8))
    assert main(["inspect", "images/a.png"]) == 2
    assert "a.png: colour, 3 channels; expected gray. --gray" in capsys.readouterr().err
    assert main(["inspect", "images/a.png", "--gray"]) == 0
    assert "range       60 to 60 DN" in capsys.readouterr().out


@pytest.mark.usefixtures("images")
def test_a_profile_sends_single_images(capsys):
    words = ["profile", "images", "--single", "--gray", "--config", "mine.toml", "--seconds", "1", "--warm-up", "0.2"]
    assert main([*words, "--rates", "20", "--json", "p.json"]) == 0
    capsys.readouterr()
    (rung,) = json.loads(Path("p.json").read_text())["rungs"]
    assert rung["unused"] == {}
    assert rung["answered"] == pytest.approx(20, rel=0.2), "each image has a window of its own"
    assert rung["lag_ms"] == 0
    assert feed_command(Path("a"), 1, single=True)("e", 1, 1)[-1] == "--single"
