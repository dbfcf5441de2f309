"""A pipeline, a source and a sink of little content, whose course a test decides."""

import threading
from collections import Counter

import numpy as np
from local_feeds import small_frame

from irst_stream import Detections
from irst_stream.system.latency import Clocks


class EchoPipeline:
    """Returns one detection per frame; waits for `gate` before each step."""

    def __init__(self, fails_at=None):
        self.clocks, self.events, self.gate = Clocks(), Counter(), threading.Event()
        self.seen, self.forgotten, self.fails_at, self.steps = [], [], fails_at, []
        self.gate.set()
        self.alarm, self.psf_watches, self.spent_ns = "", {}, {}

    def get_ready(self, _seconds):
        return True

    def step(self, frames, **_):
        assert self.gate.wait(20)
        self.steps.append(len(frames))
        self.seen += [f.stamp for f in frames]
        if self.fails_at is not None and self.fails_at in [f.stamp.index for f in frames]:
            raise ZeroDivisionError("a bug")
        return [Detections.bare(f.stamp, np.ones((1, 2)), np.ones(1), np.ones(1)) for f in frames]

    def get_ahead(self):
        pass

    def finish(self):
        return []

    def forget(self, sensor):
        self.forgotten.append(sensor)
        return []


class ListSource:
    """Yields frames, then raises `failure`, ends, or (endless) waits until stopped."""

    def __init__(self, frames, failure=None, endless=False):
        self.frames, self.failure, self.endless = frames, failure, endless
        self.rejected, self.closed, self.given, self.stopped = Counter(), False, 0, threading.Event()

    def __iter__(self):
        for frame in self.frames:
            self.given += 1
            yield frame
        if self.failure:
            raise self.failure
        if self.endless:
            assert self.stopped.wait(20)

    def stop(self):
        self.stopped.set()

    def close(self):
        self.closed = True


class ListSink:
    """Keeps records in a list; waits for `gate`; raises `failure` after `fails_after` records."""

    alarm, lost = "", 0

    def __init__(self, takes=(Detections,), fails_after=None, failure=None):
        self.takes, self.records, self.closed, self.gate = takes, [], 0, threading.Event()
        self.fails_after, self.failure = fails_after, failure
        self.gate.set()

    def start(self, status):
        pass

    def write(self, record, published_ns):
        assert self.gate.wait(20)
        if self.fails_after is not None and len(self.records) >= self.fails_after:
            raise self.failure
        self.records.append((record, published_ns))

    def idle(self):
        pass

    def close(self):
        self.closed += 1


def feed(n, sensor="cam", **options):
    return [small_frame(i, sensor, **options) for i in range(n)]


def one_detection():
    return Detections.bare(small_frame(0).stamp, np.ones((1, 2)), np.ones(1), np.ones(1))


def indices(sink):
    return [record.stamp.index for record, _ in sink.records]
