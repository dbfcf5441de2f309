"""What a run learns is there for the next one, and no track id is used twice however a run ends."""

import json

import numpy as np
import pytest

from irst_stream import Detections, Frame, OutputError, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.chain.sensor import SensorMemory
from irst_stream.config import parse_config
from irst_stream.live import memory_file
from irst_stream.live.memory_file import RESERVED_IDS, SAVE_EVERY_S, MemoryFile

NO_PIXELS = np.zeros((0, 2), np.int64)


def tracks(*ids, sensor="cam"):
    n = len(ids)
    cov = np.broadcast_to(np.eye(4), (n, 4, 4))
    return Tracks(
        Stamp(sensor, 1, 1, 1), np.array(ids), np.zeros((n, 4)), cov, np.ones(n), np.ones(n), np.ones(n), np.zeros(n)
    )


def memories(next_id, sensor="cam"):
    return {sensor: SensorMemory(next_id, (80, 96), np.array([[3, 4], [95, 79]]))}


def test_ids_are_reserved_on_the_disk_before_a_track_is_published(opened, tmp_path):
    path = tmp_path / "state.json"
    kept = opened(path)
    for largest in (1, 2, 500, 1000, 1001, 5000):
        kept.before_publishing(tracks(largest), lambda largest=largest: memories(largest + 1))
        assert first_id_of_the_next_run(path) > largest, "what a run after a kill begins with"
    kept.save(memories(6001), final=True)
    assert first_id_of_the_next_run(path) == 6001, "nothing is reserved after a proper end"


def first_id_of_the_next_run(path):
    return json.loads(path.read_bytes())["sensors"]["cam"]["next_id"]


@pytest.fixture
def opened():
    """Opens memories; one that is opened again was let go of before, as by a process that ended."""
    latest = []

    def open_one(path):
        for memory in latest:
            memory.close()
        latest.append(MemoryFile(path))
        return latest[-1]

    yield open_one
    for memory in latest:
        memory.close()


def test_two_runs_do_not_share_a_file(tmp_path):
    first = MemoryFile(tmp_path / "s")
    with pytest.raises(OutputError, match=r"s: another run keeps it$"):
        MemoryFile(tmp_path / "s")
    first.close()
    MemoryFile(tmp_path / "s").close()


def test_the_file_is_written_once_for_many_tracks(opened, tmp_path, monkeypatch):
    kept, writes, now = opened(tmp_path / "s"), [], [0.0]
    monkeypatch.setattr(memory_file.time, "monotonic", lambda: now[0])
    real = kept._write
    monkeypatch.setattr(kept, "_write", lambda reserved: (writes.append(reserved), real(reserved)))
    for largest in range(1, 3 * RESERVED_IDS):
        kept.before_publishing(tracks(largest), lambda largest=largest: memories(largest + 1))
    assert len(writes) == 3
    kept.before_publishing(Detections.bare(Stamp("other", 0, 0, 0), np.ones((1, 2)), np.ones(1), np.ones(1)), memories)
    assert len(writes) == 3
    now[0] = SAVE_EVERY_S * 2
    kept.save_if_due(lambda: memories(3000))
    kept.save_if_due(lambda: memories(3000))
    assert len(writes) == 4


def test_static_clutter_is_known_from_the_first_frame_on(opened, tmp_path):
    config = parse_config('readout = "fit"\n[fit]\nsigma_px = 0.5\n[propose]\nclutter_frames = 60\n', "here")
    rng = np.random.default_rng(5)
    scene = 100 + 40 * rng.random((80, 96))

    def run(first, count):
        kept = opened(tmp_path / "state.json")
        pipeline = build_pipeline(config, tracks=True, memory=kept)
        for k in range(first, first + count):
            pixels = (scene + rng.normal(0, 2, scene.shape)).astype(np.float32)
            pipeline.step([Frame(Stamp("cam", first, k, k * 10**7), pixels)])
        kept.save(pipeline.memories(), final=True)
        return pipeline.memories()["cam"].clutter

    learnt = run(0, 40)
    assert learnt.frames == 40
    assert learnt.mean.std() > 3
    again = run(40, 5)
    assert again.frames == 45
    assert np.abs(again.mean - learnt.mean).max() < 0.3 * np.abs(learnt.mean).max()
    (tmp_path / "state.json.cam.npz").write_bytes(b"damaged")
    assert run(45, 6).frames == 6, "learnt again"


def test_a_damaged_file_is_set_aside_and_ids_go_on_from_the_time(opened, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(memory_file.time, "time", lambda: 1.8e9)
    for damage in (b"", b"{", b"\xff\xfe", b'{"version":2,"sensors":{}}', b'{"version":1,"sensors":{"a":{"next_id":"x"}}}'):
        path = tmp_path / "state.json"
        path.write_bytes(damage)
        kept = opened(path)
        assert (kept.memories, kept.first_id) == ({}, 1_800_000_000)
        assert (tmp_path / "state.json.damaged").read_bytes() == damage
        assert opened(path).first_id == 1_800_000_000, "for sensors that come later, too"
    assert caplog.text.count("track ids begin at 1800000000") == 5


def test_a_file_that_cannot_be_written_is_one_line_at_the_start_and_no_end_later(opened, tmp_path, caplog):
    with pytest.raises(OutputError, match=r"nowhere/s: cannot be written: No such file or directory"):
        opened(tmp_path / "nowhere" / "s")
    folder = tmp_path / "there"
    folder.mkdir()
    kept = opened(folder / "s")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    kept.before_publishing(tracks(5), lambda: memories(6))
    assert "after a crash track ids may be used again" in caplog.text


def test_a_pipeline_begins_with_the_ids_and_bad_pixels_of_the_run_before(opened, tmp_path):
    config = parse_config('readout = "fit"\n[fit]\nsigma_px = 0.5\namplitude_dn = 470.0\namplitude_sd_dn = 100.0\n', "here")
    rng = np.random.default_rng(2)
    pixels = rng.normal(100, 3, (40, 80, 96))
    y, x = np.indices((80, 96))
    pixels += 300 * np.exp(-2 * ((x - 30.3) ** 2 + (y - 40.8) ** 2))
    pixels[:, 20, 60] = 900

    def run(first, count):
        kept = opened(tmp_path / "state.json")
        pipeline = build_pipeline(config, tracks=True, memory=kept)
        found, bad = [], []
        for k in range(first, first + count):
            frame = Frame(Stamp("cam", first, k, k * 10**7), pixels[k % 40].astype(np.float32))
            for result in pipeline.step([frame]):
                kept.before_publishing(result, pipeline.memories)
                found += result.id.tolist() if isinstance(result, Tracks) else []
            bad.append(pipeline.memories()["cam"].bad_pixels.tolist())
        return set(found), bad, pipeline, kept

    first, bad, pipeline, kept = run(0, 12)
    assert first
    assert bad[-1] == [[60, 20]]
    assert bad[0] == []
    second, bad, pipeline, kept = run(12, 12)  # after a kill: nothing was saved at the end
    assert second
    assert not first & second
    kept.save(pipeline.memories(), final=True)
    third, bad, _, _ = run(24, 12)
    assert not (first | second) & third
    assert max(second) < min(third) < max(second) + RESERVED_IDS, "none is reserved in vain after a proper end"
    assert bad[0] == [[60, 20]], "known from the first frame on"
