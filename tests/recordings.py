"""Records for tests of recordings, and what is in a recording."""

import numpy as np
from mcap.records import Chunk
from mcap.stream_reader import StreamReader
from strategies import same

from irst_stream import Detections, Frame, SourceError, Stamp, Tracks
from irst_stream.io import jsonl
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.settings import RecordSettings

STEP_NS = 100_000_000
COMPRESSIONS = ("none", "lz4", "zstd")


def frame(index, sensor="cam", shape=(8, 10), clock="sensor"):
    pixels = np.random.default_rng(index).integers(0, 4096, shape, dtype=np.uint16)
    return Frame(Stamp(sensor, 1, index, 10**18 + index * STEP_NS, "", clock), pixels, 4095.0)


def detection(index, sensor="cam"):
    stamp = Stamp(sensor, 1, index, index * STEP_NS)
    return Detections.bare(stamp, np.array([[index + 0.1, 2.0]]), np.array([5.0]), np.array([1.0]))


def track(index, sensor="cam"):
    one = np.ones(1)
    cov = np.eye(4)[None]
    return Tracks(Stamp(sensor, 1, index, index), one, np.ones((1, 4)), cov, one, one, one, np.zeros(1))


def record(path, items, config="", free=lambda _: 10**12, step_ns=STEP_NS, **options):
    """Write records, step_ns apart, to a recording; return the closed recorder."""
    recorder = Recorder(RecordSettings(str(path), **options), config, free)
    for k, item in enumerate(items):
        recorder.write(item, k * step_ns)
    recorder.close()
    return recorder


def line(item):
    return ("detections" if isinstance(item, Detections) else "tracks"), jsonl.encode(item).removesuffix(b"\n")


def chunks(path):
    with path.open("rb") as file:
        return [r for r in StreamReader(file, emit_chunks=True).records if isinstance(r, Chunk)]


def read(path):
    """The frames of a recording, and the fault after them, "" if there is none."""
    taken, fault = [], ""
    try:
        taken.extend(open_recording(path))
    except SourceError as error:
        fault = str(error)
    assert fault.startswith(str(path)) or not fault
    assert "\n" not in fault
    return taken, fault


def all_same(left, right):
    for a, b in zip(left, right, strict=True):
        same(a, b)
