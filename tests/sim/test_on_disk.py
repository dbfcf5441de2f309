"""Generated sets on disk: reproducible bytes, resumable after interruption, never mixed with another set."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irst_stream import OutputError, Truth, UsageError, __version__, open_source
from irst_stream.io import jsonl
from irst_stream.sim import Groups, Platform, Scene, SceneSettings, Sensor
from irst_stream.sim.on_disk import patch_set, scene_set

SMALL = SceneSettings(sensor=Sensor(width=64, height=48), groups=Groups(groups=2))


def fill(made, workers=1):
    made.claim()
    jobs = made.missing()
    done = []
    made.fill(jobs, workers, done.append)
    assert sum(done) == sum(job.frames for job in jobs)
    return sum(done)


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("dataset", ["seqcsist", "csist100k"])
def test_any_number_of_workers_makes_the_same_bytes(dataset, tmp_path):
    count = 130 if dataset == "seqcsist" else 2600
    for workers in (1, 3):
        fill(patch_set(tmp_path / str(workers), dataset, count, noise=(0.0, 5.0)), workers)
    made = digest(tmp_path / "1")
    assert made == digest(tmp_path / "3")
    assert len(made) == 2 * 2600 + 1


def test_an_interrupted_set_is_resumed_with_the_same_bytes(tmp_path):
    whole, broken = patch_set(tmp_path / "a", "csist100k", 2500), patch_set(tmp_path / "b", "csist100k", 2500)
    fill(whole)
    broken.claim()

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fill(broken.missing(), 1, stop)
    (tmp_path / "b" / "image" / "image_999.png").unlink()
    (tmp_path / "b" / "image" / "image_1500.png.part").write_bytes(b"half an im")
    assert fill(broken) == 2500, "the first block lost a file, so it is generated again, too"
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert fill(broken) == 0


def test_a_folder_with_a_different_set_is_refused(tmp_path):
    folder = tmp_path / "a"
    fill(patch_set(folder, "csist100k", 10, seed=1))
    before = digest(folder)
    for other, message in (
        (patch_set(folder, "csist100k", 10, seed=2), "seed is 1, not 2"),
        (patch_set(folder, "csist100k", 11, seed=1), "count is 10, not 11"),
        (patch_set(folder, "seqcsist", 10, seed=1), "csist100k by irst-stream .*, not seqcsist"),
        (patch_set(folder, "csist100k", 10, seed=1, saturate=True), "ceiling_dn is 65535, not 255"),
        (scene_set(folder, SMALL, 3), "not scene"),
    ):
        with pytest.raises(OutputError, match=message):
            other.claim()
    assert digest(folder) == before


def test_of_two_scenes_only_what_differs_is_named(tmp_path):
    scene_set(tmp_path, SMALL, 3).claim()
    other = replace(SMALL, sensor=replace(SMALL.sensor, rate_hz=2 * SMALL.sensor.rate_hz))
    rates = f"sensor.rate_hz is {SMALL.sensor.rate_hz}, not {other.sensor.rate_hz}"
    with pytest.raises(OutputError) as told:
        scene_set(tmp_path, other, 4).claim()
    assert str(told.value).endswith(f"holds a different set (3 frames, not 4; {rates}); choose another folder")
    many = replace(other, platform=Platform(1.0, 2.0, 3.0, 4.0))
    with pytest.raises(OutputError, match=r"platform.drift_y_px_s is 0.0, not 2.0; .*; and 1 more\)"):
        scene_set(tmp_path, many, 3).claim()


def test_a_folder_with_other_files_is_refused_unchanged(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="files that do not belong to a generated set"):
        patch_set(tmp_path, "csist100k", 10).claim()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    made = patch_set(tmp_path / "a", "csist100k", 5)
    made.claim()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"image_0\.png: cannot be written: No space left on device"):
        made.fill(made.missing(), 1, lambda _: None)


def test_the_manifest_states_every_parameter_and_the_version(tmp_path):
    fill(patch_set(tmp_path / "a", "seqcsist", 2, seed=9, split="val", noise=(1.0, 2.0), depth=8))
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["dataset"] == "seqcsist"
    assert manifest["irst_stream"] == __version__
    assert manifest["frames"] == 40
    wanted = {
        "seed": 9,
        "split": "val",
        "noise_dn": [1.0, 2.0],
        "depth_bits": 8,
        "ceiling_dn": 255,
        "count": 2,
        "arm_px": [0.3, 0.3],
        "start": "anywhere",
        "paths": ["line", "parabola", "circle"],
    }
    assert {key: manifest["parameters"].get(key) for key in wanted} == wanted


def test_the_reader_knows_the_saturation_level(tmp_path):
    fill(patch_set(tmp_path / "a", "seqcsist", 30, saturate=True))
    source = open_source(tmp_path / "a")
    pixels = np.stack([frame.pixels for frame in source])
    assert source.full_scale == 255
    assert pixels.dtype == np.uint16
    assert pixels.max() == 255


def test_a_scene_on_disk_is_the_scene_in_memory(tmp_path):
    fill(scene_set(tmp_path / "a", SMALL, 70, seed=3, name="night"), workers=2)
    scene = Scene(SMALL, 70, seed=3, name="night")
    source = open_source(tmp_path / "a")
    assert (source.dataset, source.frames, source.rate_hz, source.full_scale) == ("scene", 70, 100, 16383)
    for frame, (drawn, _, _) in zip(source, scene, strict=True):
        np.testing.assert_array_equal(frame.pixels, drawn.pixels)
        assert (frame.stamp.sensor, frame.stamp.index, frame.stamp.time_ns) == ("night", *_index_and_time(drawn))
    truths = list(source.truths())
    assert len(truths) == len(list(jsonl.read(tmp_path / "a" / "truth.jsonl", Truth))) == 70
    for truth, drawn in zip(truths, scene, strict=True):
        np.testing.assert_array_equal(truth.xy, drawn[1].xy)


def _index_and_time(frame):
    return frame.stamp.index, frame.stamp.time_ns


def test_invalid_arguments_are_refused_before_writing(tmp_path):
    with pytest.raises(UsageError, match="depth"):
        patch_set(tmp_path / "a", "seqcsist", 3, depth=12)
    with pytest.raises(UsageError, match="at least one trajectory"):
        patch_set(tmp_path / "a", "seqcsist", 0)
    with pytest.raises(UsageError, match="frames"):
        scene_set(tmp_path / "a", SMALL, 0)
    assert not list(tmp_path.iterdir())
