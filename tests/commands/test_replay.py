"""irst-stream replay: what it answers, keeps and says."""

import json

import media_files as media
import numpy as np
import pytest

from irst_stream import Detections
from irst_stream.io import jsonl


@pytest.mark.usefixtures("small")
def test_replay_beats_the_ceiling_of_cell_centres(run, tmp_path):
    code, out, _ = run("replay", "data/test", "--detections", "found.jsonl")
    assert code == 0
    assert "100 frames, 80 answered" in out
    found = list(jsonl.read(tmp_path / "found.jsonl", Detections))
    assert [d.stamp.index for d in found] == list(range(2, 18)) * 5
    assert found[0].stamp.source == "image_2.png"
    assert np.isfinite(found[0].cov).all()
    run("score", "found.jsonl", "data/test", "--json", "ours.json")
    run("score", "cells.jsonl", "data/test", "--json", "cells.json")
    ours, cells = (json.loads((tmp_path / f"{name}.json").read_text())["scores"]["cso_map"] for name in ("ours", "cells"))
    assert ours > 0.9 > 0.6 > cells
    assert run("inspect", "data/test", "--png", "ours.png", "--detections", "found.jsonl")[0] == 0


def test_replay_gives_detections_for_each_single_image(run):
    run("simulate", "csist100k", "data", "--images", 30, "--split", "val")
    assert "30 frames, 30 answered" in run("replay", "data/val", "--detections", "found.jsonl")[1]


@pytest.mark.usefixtures("small")
def test_replay_keeps_the_detections_before_an_unreadable_frame(run, tmp_path):
    (tmp_path / "data" / "test" / "image" / "image_47.png").write_bytes(b"x")
    code, out, err = run("replay", "data/test", "--detections", "found.jsonl")
    assert code == 2
    assert "47 frames, 35 answered" in out
    assert "image_47.png" in err
    assert len(list(jsonl.read(tmp_path / "found.jsonl.partial", Detections))) == 35


def test_replay_says_that_it_guesses_where_there_is_no_configuration(run, tmp_path, caplog):
    media.png_folder(tmp_path / "bare", np.zeros((6, 11, 11), np.uint8))
    assert "6 frames, 2 answered" in run("replay", "bare")[1]
    media.png_folder(tmp_path / "wide", np.full((6, 70, 90), 100, np.uint8))
    assert "6 frames, 2 answered, 0 detections" in run("replay", "wide")[1]
    for_patches, for_frames = (record.getMessage() for record in caplog.records if "guessing" in record.getMessage())
    assert for_patches.startswith("bare: no configuration; guessing, by general, which was not made for this sensor.")
    assert "wide: no configuration; guessing, by camera" in for_frames
    assert "irst-stream calibrate wide --output C.toml" in for_frames
    assert for_frames.endswith("; or --calibrate does both")
    assert "\n" not in for_frames
    caplog.clear()
    assert run("archive", "wide", "--out", "out", "--workers", 1)[0] == 0
    assert "irst-stream calibrate wide --output C.toml" in caplog.text
    assert "--calibrate does" not in caplog.text, "archive has no such option"
    assert "6 frames, 2 answered, 0 detections" in run("replay", "bare", "--config", "seqcsist")[1]
    media.png_folder(tmp_path / "small", np.zeros((6, 5, 5), np.uint8))
    assert "6 frames, 0 answered, 0 detections\nevents: 6 small" in run("replay", "small", "--config", "seqcsist")[1]


@pytest.mark.parametrize("setting", ["fit.psf_table", "propose.mask"])
def test_a_configuration_without_a_file_that_it_names_says_which(setting, refused, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((6, 11, 11), np.uint8))
    (tmp_path / "lone").mkdir()
    section, name = setting.split(".")
    (tmp_path / "lone" / "cam.toml").write_text(f'readout = "fit"\n[{section}]\n{name} = "cam.npz"\n')
    said = f"lone/cam.toml: {setting}: lone/cam.npz: no such file; it goes wherever the configuration goes"
    for command in (["replay", "a.npy", "--config"], ["archive", "a.npy", "--out", "o", "--config"], ["profile"]):
        assert said in refused(*command, "lone/cam.toml")


def test_replay_finds_the_groups_in_full_frames(run, tmp_path):
    scene = ("simulate", "scene", "scene", "--frames", 12, "--size", "160x120", "--groups", 2, "--singles", 0)
    assert run(*scene, "--seed", 1, "--workers", 1)[0] == 0
    code, out, _ = run("replay", "scene", "--detections", "found.jsonl")
    assert code == 0
    assert "12 frames, 8 answered" in out
    assert run("score", "found.jsonl", "scene", "--frames", "2:-2", "--json", "s.json")[0] == 0
    assert json.loads((tmp_path / "s.json").read_text())["scores"]["errors"]["recall"] > 0.5
