"""Sensors of one moving target each, fed without loss, and what a fleet wrote of them."""

import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import zmq
from local_feeds import free_port, lines, send, sender

from irst_stream import Frame, Stamp
from irst_stream.io.recording.recorder import open_recording
from irst_stream.io.recording.recovery import recover

BASE = """
policy = "lossless"
readout = "fit"
[fit]
sigma_px = 0.5
amplitude_dn = 235.0
amplitude_sd_dn = 30.0
[track]
false_tracks_h = 1e6
[[write]]
path = "{sensor}.jsonl"
what = "tracks"
[[record]]
path = "{sensor}.mcap"
keep_free_mb = 1.0
"""
RATE_HZ = 50


def target(sensor, index):
    """A frame of 11 x 11 pixels with one target."""
    y, x = np.indices((11, 11))
    light = 235 * np.exp(-2 * ((x - 5 - index % 100 / 200) ** 2 + (y - 5.3) ** 2)) / 1.57
    noise = np.random.default_rng(index).normal(20, 2, (11, 11))
    return Frame(Stamp(sensor, 1, index, index * 10**7), (light + noise).round().astype(np.uint16), 4095.0)


def _feed(socket, sensor, sent, stop):
    """Send frames at RATE_HZ, or at the receiver's pace if that is slower, until told to stop."""
    while not stop.wait(1 / RATE_HZ):
        try:
            send(socket, target(sensor, sent[sensor]))
        except zmq.Again:
            continue
        sent[sensor] += 1


@contextmanager
def feeding(endpoints):
    """The number of frames sent so far by sensor, while a thread for each sends more until the block ends."""
    sent, stop = dict.fromkeys(endpoints, 0), threading.Event()
    with ExitStack() as opened:
        threads = []
        for name, endpoint in endpoints.items():
            socket = opened.enter_context(sender(endpoint, sndhwm=8, linger=0, sndtimeo=100))
            threads.append(threading.Thread(target=_feed, args=(socket, name, sent, stop), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield sent
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)


def new_endpoints(*names):
    return {name: free_port() for name in names}


def write_fleet(folder, endpoints, head="workers = 2", more=""):
    """Write fleet.toml and base.toml into a folder; return the former."""
    (folder / "base.toml").write_text(BASE)
    text = f'[fleet]\nconfig = "base.toml"\n{head}\n{more}\n'
    for name, endpoint in endpoints.items():
        text += f'[[sensor]]\nname = "{name}"\nreceive = {{ endpoint = "{endpoint}", bind = true, high_water = 8 }}\n'
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def series(folder, sensor, suffix=".jsonl"):
    """The files of a sensor, in the order in which they were begun: a move begins a new one."""
    return sorted(folder.glob(f"{sensor}*{suffix}"), key=lambda path: (len(path.name), path.name))


def answered(folder, sensor):
    """The indices of the frames with results, of each start of a sensor."""
    return [[line["index"] for line in lines(path)] for path in series(folder, sensor)]


def total(folder, sensor):
    """How many frames of a sensor have results so far."""
    return sum(path.read_bytes().count(b"\n") for path in series(folder, sensor))


def track_ids(folder, sensor):
    """The ids of the tracks of each start of a sensor."""
    return [{row["id"] for line in lines(path) for row in line["tracks"]} for path in series(folder, sensor)]


def recorded(folder, sensor):
    """The indices of all recorded frames of a sensor."""
    indices = []
    for path in series(folder, sensor, ".mcap"):
        whole = folder / "whole.mcap"
        recover(path, whole)
        indices += [frame.stamp.index for frame in open_recording(whole)]
        whole.unlink()
    return indices
