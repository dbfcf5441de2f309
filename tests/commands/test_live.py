"""The live commands, each in its own process, over real sockets on this machine."""

import json
import re
import signal
import time

import numpy as np
import pytest
import zmq
from local_feeds import (
    collecting,
    free_port,
    lines,
    send,
    sender,
    small_frame,
    started,
    until,
    wait_for_exit,
    write_recording,
)
from recordings import STEP_NS, record
from recordings import frame as recorded_frame

from irst_stream import Detections, Tracks
from irst_stream.cli import main
from irst_stream.commands import replay
from irst_stream.commands.feed import relabelled, scheduled
from irst_stream.commands.replay import at_speed
from irst_stream.io.recording.recorder import open_recording
from irst_stream.io.zeromq import wire

CONFIG = """
policy = "{policy}"
{reading}
[[receive]]
endpoint = "{source}"
bind = true
[[publish]]
endpoint = "{out}"
[[write]]
path = "found.jsonl"
[[write]]
path = "tracks.jsonl"
what = "tracks"
[[record]]
path = "all.mcap"
keep_free_mb = 1.0
"""


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data(here):
    assert main(["simulate", "seqcsist", "data", "--trajectories", "3", "--split", "test", "--workers", "1"]) == 0
    return here


def config(here, policy="lossless", reading='readout = "fit"'):
    endpoints = {"source": free_port(), "out": free_port()}
    (here / "live.toml").write_text(CONFIG.format(policy=policy, reading=reading, **endpoints))
    return endpoints


def test_a_lossless_run_answers_every_frame_and_its_recording_replays_to_the_same_bytes(data, capsys):
    endpoints = config(data)
    with started("run", "live.toml") as running:
        with sender(endpoints["out"], zmq.PULL, rcvtimeo=20_000) as listener:
            feed = ("feed", "data/test", "--to", endpoints["source"], "--max", "--policy", "lossless")
            with started(*feed) as feeding:
                published = [wire.decode(listener.recv_multipart()) for _ in range(96)]
                wait_for_exit(feeding)
        assert "60 frames sent" in feeding.output
        until(lambda: len(lines(data / "found.jsonl")) == 48)
        running.send_signal(signal.SIGTERM)
        wait_for_exit(running)
    assert "60 frames of 1 sensor" in running.output
    assert "48 answered" in running.output
    assert "frames not used: none" in running.output
    assert "end to end found.jsonl" in running.output
    for kind, answers in ((Detections, published[::2]), (Tracks, published[1::2])):
        assert all(isinstance(p.record, kind) for p in answers)
        assert [p.record.stamp.index for p in answers] == [*range(2, 18)] * 3
    assert all(p.published_ns > p.record.stamp.time_ns for p in published)
    assert main(["replay", "all.mcap", "--detections", "again.jsonl", "--tracks", "followed.jsonl"]) == 0
    assert "60 frames, 48 answered" in capsys.readouterr().out
    assert (data / "again.jsonl").read_bytes() == (data / "found.jsonl").read_bytes()
    assert (data / "followed.jsonl").read_bytes() == (data / "tracks.jsonl").read_bytes()
    assert any(row["confirmed"] for line in lines(data / "tracks.jsonl") for row in line["tracks"])


def test_network_detections_replay_to_the_same_bytes(data):
    endpoints = config(data, reading='readout = "best"\nengine = "seqcsist"')
    with started("run", "live.toml") as running:
        with started("feed", "data/test", "--to", endpoints["source"], "--max", "--policy", "lossless") as feeding:
            wait_for_exit(feeding)
        until(lambda: len(lines(data / "found.jsonl")) == 48)
        running.send_signal(signal.SIGINT)
        wait_for_exit(running, 3)
    assert f"{endpoints['out']}: 0 records written, 96 lost" in running.output, "nobody listened"
    assert f"irst-stream: {endpoints['out']}: 96 of 96 records lost\n" in running.output
    assert main(["replay", "all.mcap", "--detections", "again.jsonl"]) == 0
    assert (data / "again.jsonl").read_bytes() == (data / "found.jsonl").read_bytes()


def test_a_live_feed_at_a_rate_is_answered(data):
    endpoints = config(data, "live", 'readout = "fit"\nqueue = 1000')
    with started("run", "live.toml") as running:
        with started("feed", "data/test", "--to", endpoints["source"], "--rate", "60", "--sensor", "cam") as feeding:
            wait_for_exit(feeding)
        until(lambda: len(lines(data / "found.jsonl")) == 48)
        running.send_signal(signal.SIGTERM)
        wait_for_exit(running)
    found = lines(data / "found.jsonl")
    assert {line["sequence"] for line in found} == {"cam"}
    assert len({line["epoch"] for line in found}) == 3
    assert all(line["clock"] == "unix" for line in found)


def test_sources_are_opened_and_closed_when_the_configuration_is_read_again(data):
    endpoints = config(data)
    with started("run", "live.toml") as running:
        with started("feed", "data/test", "--to", endpoints["source"], "--max", "--policy", "lossless") as feeding:
            wait_for_exit(feeding)
        text, other = (data / "live.toml").read_text(), free_port()
        (data / "live.toml").write_text("nonsense")
        running.send_signal(signal.SIGHUP)
        until(lambda: "not reloaded" in running.output)
        (data / "live.toml").write_text(text.replace(endpoints["source"], other))
        running.send_signal(signal.SIGHUP)
        until(lambda: f"{endpoints['source']}: closed" in running.output)
        assert f"{other}: opened" in running.output
        feed = ("feed", "data/test", "--to", other, "--max", "--policy", "lossless", "--sensor", "second")
        with started(*feed) as feeding:
            wait_for_exit(feeding)
        until(lambda: len(lines(data / "found.jsonl")) == 96, "all answers")
        running.send_signal(signal.SIGTERM)
        wait_for_exit(running, 3)  # nobody takes what is published
    assert "120 frames of 2 sensors" in running.output


def test_record_and_replay_without_a_pipeline_beside_the_sensor(data, caplog):
    endpoint = free_port()
    with started(
        "record", "raw.mcap", "--from", endpoint, "--bind", "--policy", "lossless", "--keep-free-mb", "1"
    ) as taking:
        with started("feed", "data/test", "--to", endpoint, "--max", "--policy", "lossless") as feeding:
            wait_for_exit(feeding)
        until(lambda: taking.poll() is not None or (data / "raw.mcap").exists())
        taking.send_signal(signal.SIGTERM)
        wait_for_exit(taking)
    assert "60 frames of 1 sensor" in taking.output
    assert "raw.mcap: 60 records written, 0 lost" in taking.output
    assert main(["replay", "raw.mcap", "--config", "seqcsist", "--readout", "fit", "--detections", "a.jsonl"]) == 0
    assert len(lines(data / "a.jsonl")) == 48
    caplog.clear()
    assert main(["replay", "raw.mcap"]) == 0
    assert "raw.mcap: no configuration; guessing, by general" in caplog.text


@pytest.fixture
def large(here):
    """Forty frames, more than the buffers between the two ends of a link hold."""
    np.save(here / "large.npy", np.arange(40, dtype=np.uint16)[:, None, None] * np.ones((512, 512), np.uint16))
    return "large.npy"


def test_a_lossless_feed_waits_until_all_frames_are_delivered(large):
    endpoint = free_port()
    feed = ("feed", large, "--to", endpoint, "--bind", "--max", "--policy", "lossless")
    with started(*feed) as feeding, sender(endpoint, zmq.PULL, rcvhwm=1, rcvtimeo=20_000) as listener:
        until(lambda: "waiting for the last frames to be delivered" in feeding.output)
        taken = [wire.decode(listener.recv_multipart()).record for _ in range(40)]
        wait_for_exit(feeding)
    assert [frame.stamp.index for frame in taken] == list(range(40))
    assert "40 frames sent" in feeding.output
    assert "lost" not in feeding.output


def test_a_lossless_feed_reports_undelivered_frames(large):
    endpoint = free_port()
    feed = ("feed", large, "--to", endpoint, "--bind", "--max", "--policy", "lossless", "--linger", "0.1")
    with started(*feed) as feeding, sender(endpoint, zmq.PULL, rcvhwm=1, linger=0):
        wait_for_exit(feeding, 3)
    *_, last = feeding.output.splitlines()
    assert re.fullmatch(rf"irst-stream: {endpoint}: the last \d+ frames were not delivered and are lost", last)


def test_a_feed_keeps_the_sensors_of_a_recording_apart(here, capsys):
    write_recording(here / "two.mcap", 5, 100, ("left", "right"))
    given = list(relabelled(open_recording("two.mcap"), None, 2, 7))
    for sensor in ("left", "right"):
        assert [(f.stamp.epoch, f.stamp.index) for f in given if f.stamp.sensor == sensor] == [
            (epoch, index) for epoch in (7, 8) for index in range(5)
        ]
    began, *due = [f.stamp.time_ns for f in scheduled(given[:10], 1000.0)]
    assert [when - began for when in due] == [0, *(k * 10**6 for k in (1, 2, 3, 4) for _ in range(2))]
    with collecting() as taken:
        words = ["feed", "two.mcap", "--to", taken.source.endpoint, "--policy", "lossless", "--max"]
        assert main(words) == 0
        until(lambda: len(taken.frames) == 10)
        capsys.readouterr()
        assert main([*words, "--sensor", "cam"]) == 2
        assert "--sensor: the recording holds left and right; leave it out to keep each name" in capsys.readouterr().err


def test_the_time_to_read_the_first_frame_hurries_no_other(here):
    write_recording(here / "one.mcap", 3, 100, ("left",))
    read_ns = []

    def read():
        for frame in open_recording("one.mcap"):
            read_ns.append(time.time_ns())
            yield frame

    due_ns = [frame.stamp.time_ns for frame in scheduled(read(), 1000.0)]
    assert due_ns[0] >= read_ns[0]
    assert np.diff(due_ns).tolist() == [10**6, 10**6]


def test_inspect_reads_recordings(here, capsys):
    write_recording(here / "two.mcap", 5, 100, ("left", "right"))
    assert main(["inspect", "two.mcap", "--png", "two.png"]) == 0
    said = capsys.readouterr().out
    for part in (
        "two.mcap: recording",
        "10 in 2 sequences",
        "11 x 11 px, uint16",
        "full scale 4095 DN",
        "100 frames/s, by stamps of 5 frames",
        "results     none",
        "truth       none",
    ):
        assert part in said
    assert (here / "two.png").stat().st_size > 1000


def test_inspect_tells_a_recordings_rate_by_the_sensors_clock(here, capsys):
    record(here / "late.mcap", map(recorded_frame, range(8)), step_ns=9 * STEP_NS)  # nine times too late
    record(here / "few.mcap", map(recorded_frame, range(3)), step_ns=STEP_NS // 2)
    assert main(["inspect", "late.mcap"]) == 0
    assert "rate        10 frames/s, by stamps of 8 frames" in capsys.readouterr().out
    assert main(["inspect", "few.mcap"]) == 0
    assert "rate        20 frames/s, by their arrival" in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["live", "lossless"])
def test_a_feed_that_nobody_listens_to_has_lost_its_frames(here, policy, capsys):
    np.save(here / "few.npy", np.zeros((3, 11, 11), np.uint16))
    words = ["feed", "few.npy", "--to", free_port(), "--bind", "--max", "--wait", "0.01", "--linger", "0.01"]
    assert main([*words, "--policy", policy]) == 3
    assert re.search(r"no receiver connected, so that all|no receiver within 0.01 s", capsys.readouterr().err)


def test_record_ends_with_exit_code_3_when_its_recording_has_stopped(here):
    endpoint = free_port()
    words = ("record", "raw.mcap", "--from", endpoint, "--bind", "--policy", "lossless", "--keep-free-mb", "1e9")
    with started(*words) as taking, sender(endpoint) as socket:
        send(socket, *(small_frame(k) for k in range(10)))
        wait_for_exit(taking, 3)
    assert "10 frames of 1 sensor" in taking.output
    assert "frames not recorded: none" in taking.output
    *_, last = taking.output.splitlines()
    assert last.startswith("irst-stream: raw.mcap: 10 of 10 records lost (recording stopped: ")
    assert last.endswith("must stay free)")
    assert open_recording(here / "raw.mcap").frames == 0


def test_encrypted_from_end_to_end(data):
    for name in ("here", "sensor", "stranger"):
        assert main(["keys", "make", name]) == 0
    (data / "known").mkdir()
    (data / "sensor.key").rename(data / "known/sensor.key")
    endpoint = free_port()
    record = ("record", "raw.mcap", "--from", endpoint, "--bind", "--policy", "lossless", "--keep-free-mb", "1")
    with started(*record, "--keys", "here.key_secret", "--allow", "known") as taking:
        feed = ("feed", "data/test", "--to", endpoint, "--max", "--policy", "lossless", "--server-key", "here.key")
        with started(*feed, "--keys", "stranger.key_secret", "--wait", "0.1") as stranger:
            until(lambda: "rejected" in taking.output)
            stranger.kill()
        with started(*feed, "--keys", "sensor.key_secret") as feeding:
            wait_for_exit(feeding)
        until(lambda: ") accepted" in taking.output)
        taking.send_signal(signal.SIGTERM)
        wait_for_exit(taking)
    assert "raw.mcap: 60 records written" in taking.output
    assert "client" in taking.output


def test_frames_are_replayed_at_the_pace_of_the_sensors_clock(monkeypatch):
    now, slept = [0], []
    monkeypatch.setattr(replay.time, "monotonic_ns", lambda: now[0])

    def sleep(seconds):
        slept.append(seconds)
        now[0] += round(seconds * 1e9)

    monkeypatch.setattr(replay.time, "sleep", sleep)
    frames = [small_frame(i, time_ns=t * 10**9) for i, t in enumerate((5, 6, 8, 7, 9))]
    assert len(list(at_speed(frames, 2.0))) == 5
    assert slept == pytest.approx([0.5, 1.0, 0.5])
    slept.clear()
    assert len(list(at_speed(frames, 0.0))) == 5
    assert slept == []


def test_a_profile_finds_where_a_pipeline_falls_behind(data, capsys):
    words = ["profile", "data/test", "--config", "seqcsist", "--seconds", "1.5", "--warm-up", "0.2", "--rates", "40,20000"]
    assert main([*words, "--json", "p.json", "--png", "p.png"]) == 0
    said = capsys.readouterr().out
    assert "Falls behind at" in said
    assert "Stages at" in said
    rungs = json.loads((data / "p.json").read_text())["rungs"]
    assert rungs[0]["kept_up"], "of each 20 frames 16 have a whole window"
    assert rungs[0]["answered"] == pytest.approx(rungs[0]["answerable"], rel=0.1)
    assert rungs[0]["answered"] < 0.9 * rungs[0]["offered"]
    assert not rungs[1]["kept_up"]
    assert len(rungs) == 4
    stages = rungs[0]["stages"]
    assert {"transport", "queue", "window", "unmix", "resolve", "publish published", "end to end published"} <= set(stages)
    assert all(0 <= rung["overhead"] < 0.05 for rung in rungs)
    assert (data / "p.png").stat().st_size > 10_000
