"""Recordings whose writer is killed, or whose file cannot grow: what was kept is read again."""

import random
import signal
import subprocess
import sys

import pytest
from local_feeds import until
from recordings import COMPRESSIONS, all_same, frame, read

from irst_stream import SourceError
from irst_stream.io.recording.recorder import open_recording
from irst_stream.io.recording.recovery import recover

CHILD = """
import os, resource, signal, sys, threading
import numpy as np
from irst_stream import Frame, OutputError, Stamp
from irst_stream.live.outlets import SinkWriter
from irst_stream.live.queues import QueuedRecord
from irst_stream.system.latency import Clocks
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings

def frame(index):
    pixels = np.random.default_rng(index).integers(0, 4096, (8, 10), dtype=np.uint16)
    return Frame(Stamp("cam", 1, index, 10**18 + index * 10**8), pixels, 4095.0)

def killed(path, compression):
    recorder, kept = Recorder(RecordSettings(path, compression=compression)), 0
    for k in range(100_000):
        recorder.write(frame(k), k * 10**8)
        if recorder.kept > kept:
            kept = recorder.kept
            os.write(1, b"%d\\n" % kept)

def silent(folder, count):
    children = []
    for k in range(int(count)):
        if not (pid := os.fork()):
            recorder = Recorder(RecordSettings(f"{folder}/{k}.mcap"))
            writer = SinkWriter("record", recorder, "lossless", Clocks())
            threading.Thread(target=writer.run).start()
            for index in range(4):
                writer.put(QueuedRecord(frame(index), 0))
            signal.pause()
        children.append(pid)
    print(*children, flush=True)

def limited(path, limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        recorder = Recorder(RecordSettings(path))
    except OutputError:
        print("refused", flush=True)
        return
    for k in range(100):
        recorder.write(frame(k), k * 10**8)
    recorder.close()
    print(recorder.kept, recorder.lost, recorder.alarm, flush=True)

for line in sys.stdin:
    what, path, option = line.split()
    if what == "limited":
        limited(path, int(option))
    elif what == "silent":
        silent(path, option)
    elif what == "reap":
        for _ in range(int(option)):
            os.wait()
        print("over", flush=True)
    elif pid := os.fork():
        os.waitpid(pid, 0)
        print("over", flush=True)
    else:
        os.write(1, b"%d\\n" % os.getpid())
        killed(path, option)
        os._exit(0)
"""


@pytest.fixture(scope="module")
def child():
    """A process that records on request; a request returns its output stream, to read the answer line by line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", CHILD], text=True, bufsize=1, **pipes) as process:

        def ask(*words):
            process.stdin.write(" ".join(map(str, words)) + "\n")
            return process.stdout

        yield ask
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("seed", range(20))
def test_flushed_records_survive_a_kill(seed, child, tmp_path):
    compression = COMPRESSIONS[seed % 3 if seed > 10 else 0]
    answer = child("killed", tmp_path / "a.mcap", compression)
    pid = int(answer.readline())
    for _ in range(random.Random(seed).randint(1, 60)):
        flushed = int(answer.readline())
    subprocess.os.kill(pid, signal.SIGKILL)
    while (said := answer.readline().strip()) != "over":
        flushed = int(said)
    result = recover(tmp_path / "a.mcap", tmp_path / "b.mcap")
    assert result.frames >= flushed
    assert not result.intact
    all_same(open_recording(tmp_path / "b.mcap"), map(frame, range(result.frames)))
    taken, fault = read(tmp_path / "a.mcap")
    assert len(taken) >= flushed
    assert "irst-stream recover" in fault


def test_nothing_is_lost_by_a_kill_once_the_feed_has_been_silent(child, tmp_path):
    pids = child("silent", tmp_path, 20).readline().split()

    def recorded(k):
        try:
            return len(read(tmp_path / f"{k}.mcap")[0])
        except SourceError:
            return 0

    until(lambda: all(recorded(k) == 4 for k in range(20)), "all frames in all files, while nothing more comes")
    for pid in pids:
        subprocess.os.kill(int(pid), signal.SIGKILL)
    assert child("reap", "-", 20).readline() == "over\n"
    for k in range(20):
        assert recover(tmp_path / f"{k}.mcap", tmp_path / "b.mcap").frames == 4
        all_same(open_recording(tmp_path / "b.mcap"), map(frame, range(4)))


def test_a_file_that_cannot_grow_raises_the_alarm(child, tmp_path):
    for limit in (100, 5000, 7000, 8000, 8300, 8400, 9000, 12_345):
        path = tmp_path / f"{limit}.mcap"
        kept, *rest = child("limited", path, limit).readline().split(maxsplit=2)
        if kept == "refused":
            assert limit == 100
            continue
        assert int(rest[0]) == 100 - int(kept)
        assert f"{path}: recording stopped: File too large" in rest[1]
        assert path.stat().st_size <= limit
        result = recover(path, tmp_path / "b.mcap")
        assert result.frames == int(kept) > 0
        assert result.lost_bytes == 0
        all_same(open_recording(tmp_path / "b.mcap"), map(frame, range(result.frames)))
