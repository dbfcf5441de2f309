"""A GPU's memory, streams and events on the host, so that what runs on a GPU by lanes can be tested without one."""

import ctypes

import numpy as np

from irst_stream.unmix import gpu_lanes
from irst_stream.unmix.gpu_lanes import GpuUnmixer
from irst_stream.unmix.onnx import cpu_session
from irst_stream.unmix.rtx import OnnxProgram
from irst_stream.unmix.tensorrt_build import STRONGLY_TYPED, graphs_to_build, recipe_for

BATCHES = (1, 4)


class Device:
    def use(self):
        pass


class Event:
    def wait(self):
        pass


class Buffer:
    """Memory and Pinned in one: an array, initially zero."""

    def __init__(self, shape, dtype=np.uint8):
        self.array = np.zeros(shape, dtype)
        self.address, self.bytes = self.array.ctypes.data, self.array.nbytes


class Stream:
    """Work that is done when it is queued."""

    number = 0

    def upload(self, source, target, size):
        ctypes.memmove(target.address, source.address, size)

    download = upload

    def copy(self, source, target, size):
        ctypes.memmove(target, source, size)

    def mark(self, event):
        pass

    follow = mark

    def synchronize(self):
        pass


class CapturedGraph:
    def __init__(self, _, work):
        self.start = lambda _: work()


def on_the_host(monkeypatch):
    """Make gpu_lanes use the host's memory."""
    for name, stand_in in (("Event", Event), ("Memory", Buffer), ("Pinned", Buffer), ("CapturedGraph", CapturedGraph)):
        monkeypatch.setattr(gpu_lanes, name, stand_in)
    monkeypatch.setattr(gpu_lanes, "WARM_UP_RUNS", 0)
    monkeypatch.setattr(gpu_lanes, "TIMED_RUNS", 1)


def host_lanes(engine, streams=1, *, captured=False, with_map=True):
    """The graphs for GPUs in single precision, by lanes and by ONNX Runtime's binding to addresses, on the host."""
    programs = {}
    for build in graphs_to_build(engine, recipe_for(STRONGLY_TYPED, "fp32"), BATCHES):
        programs[build.part] = OnnxProgram(build.graph, lambda graph, *_: cpu_session(graph, 1), "cpu")
        programs[build.part].captured = captured
    lanes = [Stream() for _ in range(streams)]
    return GpuUnmixer(Device(), engine.manifest, programs, BATCHES, lanes, with_map=with_map)
