"""What goes wrong with the machine: a full disk, a killed process, an engine changed under a run; with real processes."""

import resource
import shutil
import signal

import pytest
import zmq
from feeds import ended, free_port, lines, sender, started, until

from irst_stream import Tracks
from irst_stream.cli import main
from irst_stream.io.recording.recorder import open_recording
from irst_stream.io.zeromq import wire
from irst_stream.system.shipped import find_engine

CONFIG = """
policy = "lossless"
{reading}
[fit]
sigma_px = 0.5
amplitude_dn = 235.0
amplitude_sd_dn = 8.7
speed_px = 0.05
[[receive]]
endpoint = "{source}"
bind = true
[[publish]]
endpoint = "{out}"
[[write]]
path = "found.jsonl"
"""
RECORD = '[[record]]\npath = "all.mcap"\nkeep_free_mb = 1.0\n'
ROUND, ANSWERED = 40, 32  # frames sent in each round, in two sequences, and how many of them have a whole window


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "seqcsist", "data", "--trajectories", "2", "--split", "test", "--workers", "1"]) == 0
    return tmp_path


def configure(here, reading='readout = "fit"', more=""):
    endpoints = {"source": free_port(), "out": free_port()}
    (here / "live.toml").write_text(CONFIG.format(reading=reading, **endpoints) + more)
    return endpoints


def feed(endpoint, *more):
    return started("feed", "data/test", "--to", endpoint, "--policy", "lossless", "--sensor", "cam", *more)


def send_round(endpoint):
    with feed(endpoint, "--max") as feeding:
        ended(feeding)


def answered(listener):
    """The detections that a round is answered with, each followed by tracks."""
    records = [wire.decode(listener.recv_multipart()).record for _ in range(2 * ANSWERED)]
    assert all(isinstance(record, Tracks) for record in records[1::2])
    return records[::2]


def said(*words, code=0):
    """What a command has said when it has ended."""
    with started(*words) as child:
        ended(child, code)
    return child.said


def test_a_disk_that_is_full_ends_the_files_and_nothing_else(here):
    endpoints = configure(here, more=RECORD)
    with started("run", "live.toml") as running, sender(endpoints["out"], zmq.PULL, rcvtimeo=20_000) as listener:
        send_round(endpoints["source"])
        published = answered(listener)
        until(lambda: len(lines(here / "found.jsonl")) == ANSWERED)
        full = (here / "found.jsonl").stat().st_size + 100
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (full, full))
        for _ in range(2):
            send_round(endpoints["source"])
            published += answered(listener)
        until(lambda: "found.jsonl: out of order: " in running.said)
        until(lambda: "all.mcap: recording stopped: " in running.said)
        running.send_signal(signal.SIGTERM)
        ended(running)
    assert [record.stamp.index for record in published] == [*range(2, 18)] * 6
    assert f"{3 * ROUND} frames of 1 sensor" in running.said
    assert f"{3 * ANSWERED} answered" in running.said
    assert f"{endpoints['out']}: {6 * ANSWERED} records written, 0 lost\n" in running.said
    kept = len(lines(here / "found.jsonl"))
    assert kept in (ANSWERED, ANSWERED + 1)
    assert (
        f"found.jsonl: {kept} records written, {3 * ANSWERED - kept} lost; found.jsonl: cannot be written: File too"
        in running.said
    )
    [told] = [line for line in running.said.splitlines() if line.startswith("all.mcap: ") and "records written" in line]
    assert told.endswith("lost; all.mcap: recording stopped: File too large")
    written, lost = int(told.split()[1]), int(told.split()[4])
    assert lost > 0
    assert written + lost == 3 * (ROUND + 2 * ANSWERED)
    assert running.said.count("recording stopped") == 2, "the alarm as it happens, and in the summary"
    assert "Traceback" not in running.said


def test_a_run_that_is_killed_while_it_records_leaves_what_recovers_and_replays(here):
    endpoints = configure(here, more=RECORD)
    with started("run", "live.toml") as running, feed(endpoints["source"], "--rate", "60", "--loop", "50") as feeding:
        until(lambda: (here / "all.mcap").exists() and (here / "all.mcap").stat().st_size > 60_000, "some chunks")
        running.kill()
        running.wait()
        feeding.send_signal(signal.SIGINT)
        ended(feeding)
    assert "irst-stream recover saves what can be read" in said("replay", "all.mcap", code=2)
    assert "frames " in said("recover", "all.mcap", "saved.mcap")
    said("replay", "saved.mcap", "--detections", "again.jsonl")
    recorded = [line for kind, line in open_recording("saved.mcap").results() if kind == "detections"]
    again = (here / "again.jsonl").read_bytes().splitlines()
    assert len(recorded) > 20
    assert recorded == again[: len(recorded)]
    live = (here / "found.jsonl").read_bytes().splitlines()
    assert again[: len(live)] == live[: len(again)], "what the run had written before it was killed"


def test_an_engine_changed_under_a_run_does_it_no_harm_and_stops_the_next_one(here):
    shutil.copytree(find_engine("seqcsist"), here / "engine")
    endpoints = configure(here, 'readout = "network"\nengine = "engine"')
    answers = []
    with started("run", "live.toml") as running, sender(endpoints["out"], zmq.PULL, rcvtimeo=20_000) as listener:
        for change in (None, "swapped", "gone"):
            if change == "swapped":
                weights = here / "engine/weights.safetensors"
                weights.write_bytes(bytes(reversed(weights.read_bytes())))
            elif change == "gone":
                shutil.move("engine", "elsewhere")
            send_round(endpoints["source"])
            answers.append(answered(listener))
        running.send_signal(signal.SIGTERM)
        ended(running)
    assert sum(map(len, answers[0])) > ANSWERED
    for after in answers[1:]:
        for one, other in zip(answers[0], after, strict=True):
            assert one.stamp.index == other.stamp.index
            assert one.xy.tobytes() == other.xy.tobytes()
            assert one.score.tobytes() == other.score.tobytes()
    shutil.move("elsewhere", "engine")
    again = said("run", "live.toml", code=2)
    assert again.count("\n") == 1
    assert again.startswith("irst-stream: ")
    assert "engine/weights.safetensors: its hash is not the manifest's" in again
