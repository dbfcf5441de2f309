"""Faults of the machine, with real processes: a full disk, a killed process, an engine changed during a run."""

import re
import resource
import shutil
import signal

import pytest
import zmq
from local_feeds import free_port, lines, sender, started, until, wait_for_exit

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
ROUND, ANSWERED = 40, 32  # frames per round, in two sequences, and how many of them have a complete window


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
        wait_for_exit(feeding)


def receive_detections(listener):
    """Receive the results of one round, detections and tracks in turn; return the detections."""
    records = [wire.decode(listener.recv_multipart()).record for _ in range(2 * ANSWERED)]
    assert all(isinstance(record, Tracks) for record in records[1::2])
    return records[::2]


def run_command(*words, code=0):
    """Run a command until it exits with this code; return its output."""
    with started(*words) as child:
        wait_for_exit(child, code)
    return child.output


def test_a_full_disk_ends_the_files_but_not_the_run(here):
    endpoints = configure(here, more=RECORD)
    with started("run", "live.toml") as running, sender(endpoints["out"], zmq.PULL, rcvtimeo=20_000) as listener:
        send_round(endpoints["source"])
        published = receive_detections(listener)
        until(lambda: len(lines(here / "found.jsonl")) == ANSWERED)
        full = (here / "found.jsonl").stat().st_size + 100
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (full, full))
        for _ in range(2):
            send_round(endpoints["source"])
            published += receive_detections(listener)
        until(lambda: "found.jsonl: failed: " in running.output)
        until(lambda: "all.mcap: recording stopped: " in running.output)
        running.send_signal(signal.SIGTERM)
        wait_for_exit(running, 3)
    assert [record.stamp.index for record in published] == [*range(2, 18)] * 6
    assert f"{3 * ROUND} frames of 1 sensor" in running.output
    assert f"{3 * ANSWERED} answered" in running.output
    assert f"{endpoints['out']}: {6 * ANSWERED} records written, 0 lost\n" in running.output
    kept = len(lines(here / "found.jsonl"))
    assert kept in (ANSWERED, ANSWERED + 1)
    assert f"found.jsonl: {kept} records written, {3 * ANSWERED - kept} lost; cannot be written: File too" in running.output
    [summary] = [
        line for line in running.output.splitlines() if line.startswith("all.mcap: ") and "records written" in line
    ]
    assert re.search(r"lost; all(-0002)?\.mcap: recording stopped: File too large$", summary)
    written, lost = int(summary.split()[1]), int(summary.split()[4])
    assert lost > 0
    assert written + lost == 3 * (ROUND + 2 * ANSWERED)
    assert running.output.count("recording stopped") == 3, "when it happens, in the summary and in the last line"
    assert "Traceback" not in running.output
    *_, last = running.output.splitlines()
    assert last.startswith("irst-stream: all.mcap: ")
    assert (
        f"; found.jsonl: {3 * ANSWERED - kept} of {3 * ANSWERED} records lost (cannot be written: File too large)" in last
    )


def test_the_recording_of_a_killed_run_can_be_recovered_and_replayed(here):
    endpoints = configure(here, more=RECORD)
    with started("run", "live.toml") as running, feed(endpoints["source"], "--rate", "60", "--loop", "50") as feeding:
        until(lambda: (here / "all.mcap").exists() and (here / "all.mcap").stat().st_size > 120_000, "some chunks")
        running.kill()
        running.wait()
        feeding.send_signal(signal.SIGINT)
        wait_for_exit(feeding)
    assert "irst-stream recover saves what can be read" in run_command("replay", "all.mcap", code=2)
    assert "frames " in run_command("recover", "all.mcap", "saved.mcap")
    run_command("replay", "saved.mcap", "--detections", "again.jsonl")
    recorded = [line for kind, line in open_recording("saved.mcap").results() if kind == "detections"]
    again = (here / "again.jsonl").read_bytes().splitlines()
    assert len(recorded) > 20
    assert recorded == again[: len(recorded)]
    live = (here / "found.jsonl").read_bytes().splitlines()
    assert again[: len(live)] == live[: len(again)], "the lines written before the kill"


def test_an_engine_changed_during_a_run_affects_only_the_next_run(here):
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
            answers.append(receive_detections(listener))
        running.send_signal(signal.SIGTERM)
        wait_for_exit(running)
    assert sum(map(len, answers[0])) > ANSWERED
    for after in answers[1:]:
        for one, other in zip(answers[0], after, strict=True):
            assert one.stamp.index == other.stamp.index
            assert one.xy.tobytes() == other.xy.tobytes()
            assert one.score.tobytes() == other.score.tobytes()
    shutil.move("elsewhere", "engine")
    again = run_command("run", "live.toml", code=2)
    assert again.count("\n") == 1
    assert again.startswith("irst-stream: ")
    assert "engine/weights.safetensors: its hash is not the manifest's" in again
