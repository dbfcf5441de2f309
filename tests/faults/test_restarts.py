"""A run under a supervisor: ended again and again while frames come, it comes back by itself and loses nothing it wrote."""

import threading
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import zmq
from local_feeds import free_port, lines, send, sender, started, until, wait_for_exit

from irst_stream import Frame, Stamp
from irst_stream.io.recording.recorder import open_recording
from irst_stream.io.recording.recovery import recover

CONFIG = """
policy = "lossless"
readout = "fit"
memory = "memory.json"
[fit]
sigma_px = 0.5
amplitude_dn = 235.0
amplitude_sd_dn = 30.0
[track]
false_tracks_h = 1e6
[[receive]]
endpoint = "{source}"
bind = true
high_water = 8
[[write]]
path = "tracks.jsonl"
what = "tracks"
[[write]]
path = "found-{{start}}.jsonl"
[[record]]
path = "all.mcap"
keep_free_mb = 1.0
"""
RESTARTS, RATE_HZ = 10, 100
LINES_A_RUN = 15
EDGE = 4  # frames around an end whose window is not complete
IN_FLIGHT = 8 + 8 + 40  # the two high-water marks, and what the sockets' buffers hold of such small frames


def target(index):
    y, x = np.indices((11, 11))
    light = 235 * np.exp(-2 * ((x - 5 - index % 100 / 200) ** 2 + (y - 5.3) ** 2)) / 1.57
    noise = np.random.default_rng(index).normal(20, 2, (11, 11))
    return Frame(Stamp("cam", 1, index, index * 10**7), (light + noise).round().astype(np.uint16), 4095.0)


def fed(socket, sent, stop):
    """Send frames at RATE_HZ, or at the receiver's pace if that is slower, until told to stop."""
    while not stop.wait(1 / RATE_HZ):
        try:
            send(socket, target(len(sent)))
        except zmq.Again:
            continue
        sent.append(1)


def series(folder, name, suffix=".jsonl"):
    """The files of a series, in the order in which they were begun."""
    return sorted(folder.glob(f"{name}*{suffix}"), key=lambda p: (p.stat().st_mtime_ns, p.name))


def written(folder, name):
    """All lines of a series, file by file."""
    return [lines(path) for path in series(folder, name)]


def line_counts(folder, name="tracks"):
    """The number of lines in each file of a series."""
    return [path.read_bytes().count(b"\n") for path in series(folder, name)]


@contextmanager
def feed(endpoint):
    """The frames sent so far, while a thread sends more until the block ends."""
    sent, stop = [], threading.Event()
    with sender(endpoint, sndhwm=8, linger=0, sndtimeo=200) as socket:
        feeding = threading.Thread(target=fed, args=(socket, sent, stop), daemon=True)
        feeding.start()
        try:
            yield sent
        finally:
            stop.set()
            feeding.join(20)


def test_ten_restarts_under_load_use_no_id_twice_and_lose_no_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    endpoint = free_port()
    (tmp_path / "live.toml").write_text(CONFIG.format(source=endpoint))
    before_end = {"tracks": 0, "found": 0}
    with feed(endpoint):
        for k in range(RESTARTS):
            with started("run", "live.toml", "--stop-within", "10") as running:
                until(lambda k=k: len(counts := line_counts(tmp_path)) > k and counts[-1] >= LINES_A_RUN, f"start {k}")
                held = {name: sum(line_counts(tmp_path, name)) for name in before_end}
                assert held["tracks"] >= before_end["tracks"] + LINES_A_RUN, "none of last night is gone"
                assert held["found"] >= before_end["found"], "none of last night is gone"
                before_end = held
                (running.kill if k % 2 else running.terminate)()
                if k % 2:
                    running.wait()
                else:
                    wait_for_exit(running)
    for name, held in before_end.items():
        runs = written(tmp_path, name)
        assert len(runs) == RESTARTS
        indices = [line["index"] for run in runs for line in run]
        assert indices == sorted(set(indices)), "each frame at most once, in order"
        assert len(indices) >= held, "each line that was seen in a file is still in it"
        for run in runs:
            assert run[-1]["index"] - run[0]["index"] == len(run) - 1, "no hole within a run"
        lost = sum(after[0]["index"] - before[-1]["index"] - 1 for before, after in pairwise(runs))
        assert lost <= (RESTARTS - 1) * (EDGE + IN_FLIGHT), "only what was in flight"
    ids = [{row["id"] for line in run for row in line["tracks"]} for run in written(tmp_path, "tracks")]
    assert sum(map(bool, ids)) >= RESTARTS // 2
    assert sum(map(len, ids)) == len(set.union(*ids)), "no id in two runs"
    recorded = []
    for path in series(tmp_path, "all", ".mcap"):
        recover(path, tmp_path / "whole.mcap")
        recorded += [frame.stamp.index for frame in open_recording(tmp_path / "whole.mcap")]
        (tmp_path / "whole.mcap").unlink()
    assert recorded == sorted(set(recorded))
    assert len(recorded) >= RESTARTS * LINES_A_RUN - RESTARTS // 2 * 100
