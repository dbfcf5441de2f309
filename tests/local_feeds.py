"""Local senders, receivers and child processes for tests of live runs. Every loop is bounded and nothing sleeps."""

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
from irst_stream.chain.front_end import FrontEnd
from irst_stream.chain.pipeline import Pipeline
from irst_stream.chain.platform import PoseHistory
from irst_stream.chain.sensor import NoNetwork, SensorChain
from irst_stream.chain.window import WindowBuilder
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.runner import Runner

LOCAL = "tcp://127.0.0.1:*"
PATIENCE_S = 60.0


def small_frame(index, sensor="cam", epoch=1, level=10, shape=(11, 11), clock="sensor", time_ns=None):
    pixels = np.full(shape, level, np.uint16)
    return Frame(Stamp(sensor, epoch, index, index * 10**7 if time_ns is None else time_ns, "", clock), pixels, 4095.0)


def write_recording(path, frames, rate_hz, sensors=("cam",)):
    """Write a recording of this many frames per sensor at a rate; return its path."""
    recorder = Recorder(RecordSettings(str(path), keep_free_mb=0))
    for k in range(frames):
        for sensor in sensors:
            recorder.write(small_frame(k, sensor), k * 10**9 // rate_hz)
    recorder.close()
    return path


def until(condition, what="the condition"):
    """Wait until a condition holds that another thread brings about; fail after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not reached within {PATIENCE_S:g} s")
        threading.Event().wait(0.002)


@contextmanager
def sender(endpoint, kind=zmq.PUSH, **options):
    """A socket connected to an endpoint; it is closed with its context when the block ends."""
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


class Collector(threading.Thread):
    """Collect the frames of a source in a thread."""

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
    """A bound source whose frames are collected until the block ends: .frames, .source."""
    source = ZmqSource(ReceiveSettings(**{"endpoint": LOCAL, "bind": True, **settings}), policy)
    collector = Collector(source)
    try:
        yield collector
    finally:
        source.stop()
        collector.join(PATIENCE_S)
        source.close()
    assert collector.failure is None
    assert not collector.is_alive()


def one_target(window, _):
    """Resolve every window to one target."""
    return Detections.bare(window.stamp, np.ones((1, 2)), np.ones(1), np.ones(1))


class StatelessReader:
    """A reader of windows without state, from a function."""

    alarm, watch, budget = "", None, None

    def __init__(self, read):
        self._read = read

    def __call__(self, window, answers):
        return self._read(window, answers)


class StampSink:
    """A sink that keeps the stamps of published detections."""

    takes, alarm, lost = (Detections,), "", 0

    def __init__(self):
        self.stamps = []

    def start(self, status):
        pass

    def write(self, record, _):
        self.stamps.append(record.stamp)

    def idle(self):
        pass

    def close(self):
        pass

    def indices(self, sensor="cam", epoch=1):
        """Frame indices with published detections, in order, for one epoch of a sensor."""
        return [s.index for s in self.stamps if (s.sensor, s.epoch) == (sensor, epoch)]


def _chain(windows, reader):
    front_end = FrontEnd(CorrectSettings(), None, RegisterSettings(), None, windows.count)
    return SensorChain(front_end, windows, PoseHistory(5), None, reader, None)


@contextmanager
def running(policy="lossless", sinks=(), read=one_target, most_sensors=64, **receive):
    """A runner with windows of five frames behind a bound socket, .source; .published is a StampSink."""
    source = ZmqSource(ReceiveSettings(**{"endpoint": LOCAL, "bind": True, **receive}), policy)
    published = StampSink()
    reader = StatelessReader(read)
    pipeline = Pipeline(NoNetwork(), lambda events, _: _chain(WindowBuilder(5, events=events), reader))
    runner = Runner(pipeline, {"in": source}, {"published": published, **dict(sinks)}, policy, most_sensors=most_sensors)
    runner.source, runner.published, runner.events = source, published, pipeline.events
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()
        assert runner.wait(PATIENCE_S)


def free_port():
    """A TCP endpoint with an unused port."""
    context = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.bind(LOCAL)
    endpoint = socket.last_endpoint.decode()
    context.destroy(0)
    return endpoint


@contextmanager
def started(*words):
    """A command as a child process, killed when the block ends; its output so far is in .output."""
    child = subprocess.Popen(
        [sys.executable, "-m", "irst_stream.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    child.output = ""

    def collect():
        for line in child.stdout:
            child.output += line

    child.collector = threading.Thread(target=collect, daemon=True)
    child.collector.start()
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        child.collector.join(PATIENCE_S)
        child.stdout.close()


def wait_for_exit(child, code=0):
    """Wait for a child to exit with this code, and for all of its output."""
    until(lambda: child.poll() is not None, f"exit; the output is {child.output}")
    child.collector.join(PATIENCE_S)
    assert child.returncode == code, child.output


def lines(path):
    """The complete lines of a JSON lines file that may still grow."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
