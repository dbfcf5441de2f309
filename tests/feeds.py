"""Feeds and listeners on this machine, for the tests of whatever runs live. Every loop is bounded; nothing sleeps."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import zmq

from irst_stream import Detections, Frame, Stamp
from irst_stream.chain.pipeline import Pipeline
from irst_stream.chain.platform import PoseHistory
from irst_stream.chain.sensor import NoNetwork, SensorChain
from irst_stream.chain.window import WindowBuilder
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.runner import Runner

LOCAL = "tcp://127.0.0.1:*"
PATIENCE_S = 20.0


def patch(index, sensor="cam", epoch=1, level=10, shape=(11, 11), clock="sensor", time_ns=None):
    pixels = np.full(shape, level, np.uint16)
    return Frame(Stamp(sensor, epoch, index, index * 10**7 if time_ns is None else time_ns, "", clock), pixels, 4095.0)


def film(path, frames, rate_hz, sensors=("cam",)):
    """A recording that a feed can send at a rate; frames of each sensor."""
    recorder = Recorder(RecordSettings(str(path), keep_free_mb=0))
    for k in range(frames):
        for sensor in sensors:
            recorder.write(patch(k, sensor), k * 10**9 // rate_hz)
    recorder.close()
    return path


def until(condition, what="what was waited for"):
    """Waits for a condition that another thread brings about."""
    ended = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > ended:
            raise AssertionError(f"{what} did not come about within {PATIENCE_S:g} s")
        threading.Event().wait(0.002)


@contextmanager
def sender(endpoint, kind=zmq.PUSH, **options):
    """A socket that is connected to an endpoint, and closed with all its context."""
    context = zmq.Context()
    socket = context.socket(kind)
    socket.set(zmq.SNDTIMEO, int(PATIENCE_S * 1000))
    socket.set(zmq.LINGER, 2000)
    for name, value in options.items():
        setattr(socket, name, value)
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        context.destroy()


def send(socket, *frames):
    for frame in frames:
        socket.send_multipart(wire.encode(frame))


class Collecting(threading.Thread):
    """Takes a source's frames in a thread of its own."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self.source, self.frames, self.failure = source, [], None
        self.start()

    def run(self):
        try:
            for frame in self.source:
                self.frames.append(frame)
        except BaseException as error:
            self.failure = error


@contextmanager
def collecting(policy="lossless", **settings):
    """A bound source whose frames are collected, until the block ends."""
    source = ZmqSource(ReceiveSettings(**{"endpoint": LOCAL, "bind": True, **settings}), policy)
    taken = Collecting(source)
    try:
        yield taken
    finally:
        source.stop()
        taken.join(PATIENCE_S)
        source.close()
    assert taken.failure is None
    assert not taken.is_alive()


def one_target(window, _):
    """Reads one target out of any window."""
    return Detections.bare(window.stamp, np.ones((1, 2)), np.ones(1), np.ones(1))


class Reading:
    """A way to read windows that holds nothing of any sensor."""

    alarm = ""

    def __init__(self, read):
        self._read = read

    def __call__(self, window, answers):
        return self._read(window, answers)


class Noted:
    """A sink that keeps the stamps of what is published."""

    takes, alarm, lost = (Detections,), "", 0

    def __init__(self):
        self.stamps = []

    def write(self, record, _):
        self.stamps.append(record.stamp)

    def close(self):
        pass

    def of(self, sensor="cam", epoch=1):
        """The indices answered of one epoch of a sensor, in their order."""
        return [s.index for s in self.stamps if (s.sensor, s.epoch) == (sensor, epoch)]


@contextmanager
def running(policy="lossless", sinks=(), read=one_target, most_sensors=64, **receive):
    """A runner behind a bound socket, its .source, that answers windows of five frames; .noted keeps what it published."""
    source = ZmqSource(ReceiveSettings(**{"endpoint": LOCAL, "bind": True, **receive}), policy)
    noted = Noted()
    reader = Reading(read)
    pipeline = Pipeline(
        NoNetwork(), lambda events, _: SensorChain(WindowBuilder(5, events=events), PoseHistory(5), None, reader, None)
    )
    runner = Runner(pipeline, {"in": source}, {"noted": noted, **dict(sinks)}, policy, most_sensors=most_sensors)
    runner.source, runner.noted, runner.events = source, noted, pipeline.events
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()
        assert runner.wait(PATIENCE_S)


def free_port():
    """An endpoint that nobody uses."""
    context = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.bind(LOCAL)
    endpoint = socket.last_endpoint.decode()
    context.destroy(0)
    return endpoint


@contextmanager
def started(*words):
    """A command as a child process; what it has said so far is in .said."""
    child = subprocess.Popen(
        [sys.executable, "-m", "irst_stream.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    child.said = ""

    def listen():
        for line in child.stdout:
            child.said += line

    child.listener = threading.Thread(target=listen, daemon=True)
    child.listener.start()
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        child.listener.join(PATIENCE_S)
        child.stdout.close()


def ended(child, code=0):
    """Waits for a child's end and all it has to say."""
    until(lambda: child.poll() is not None, f"the end; it said {child.said}")
    child.listener.join(PATIENCE_S)
    assert child.returncode == code, child.said


def lines(path):
    """The whole lines of a file that may still grow."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
