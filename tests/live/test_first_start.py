"""The first start on a machine: frames are received while code is compiled, and treated as the policy says."""

import threading
from collections import Counter

import numpy as np
import pytest
from echo_pipeline import ListSource

from irst_stream import Detections, Frame, Stamp, UsageError, build
from irst_stream.build import build_pipeline
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.live.runner import Runner
from irst_stream.system.gpu_probe import CudaReport

DEPTH, FRAMES, WAIT_S = 4, 10, 60.0
pytestmark = pytest.mark.usefixtures("compiled")


class Compiler:
    """Stands for the compiler: it is busy until it is told otherwise."""

    def __init__(self, monkeypatch, failure=None):
        self.begun, self.done, self.failure, self.meanwhile = threading.Event(), threading.Event(), failure, None
        monkeypatch.setattr(build, "is_compiled", lambda *_: False)
        monkeypatch.setattr(build, "compile_in_children", self.compile)

    def compile(self, *_parts, meanwhile):
        self.meanwhile = meanwhile
        self.begun.set()
        assert self.done.wait(WAIT_S)
        if self.failure:
            raise self.failure


class Source:
    """Sends the frames 0 to FRAMES - 1, then does what the test asks."""

    def __init__(self, then):
        self.rejected, self.sent, self.then = Counter(), 0, then

    def __iter__(self):
        for index in range(FRAMES):
            yield Frame(Stamp("cam", 0, index, index * 10_000_000), np.zeros((11, 11), np.uint16), 4095.0)
            self.sent += 1
        self.then()

    def stop(self):
        pass

    def close(self):
        pass


def started(policy, then):
    config = Config(readout="fit", window=1, policy=policy, fit=FitSettings(noise_dn=1.0))
    pipeline = build_pipeline(config, meanwhile="; meanwhile frames come")
    source = Source(then)
    return Runner(pipeline, {"source": source}, {}, policy, depth=DEPTH), source


def test_live_frames_are_received_meanwhile_and_the_newest_are_answered(monkeypatch):
    compiler = Compiler(monkeypatch)
    seen = []

    def all_sent():
        assert compiler.begun.wait(WAIT_S)
        seen.append(runner.status())
        compiler.done.set()

    runner, _ = started("live", all_sent)
    runner.run()
    assert compiler.meanwhile == "; meanwhile frames come"
    before, after = seen[0], runner.status()
    assert before.sensors["cam"].frames == FRAMES
    assert before.sensors["cam"].answered == 0
    answered = after.sensors["cam"].answered
    assert answered + after.dropped["overrun"] == FRAMES, "every frame is answered or counted"
    assert 1 <= answered <= DEPTH, "those that wait in the end"


def test_a_lossless_sender_waits_meanwhile_and_loses_nothing(monkeypatch):
    compiler = Compiler(monkeypatch)
    runner, source = started("lossless", lambda: None)
    results = []
    monkeypatch.setattr(runner, "_publish", results.append)
    runner.start()
    assert compiler.begun.wait(WAIT_S)
    assert not runner.wait(0.2)
    assert source.sent <= DEPTH, "the queue is full"
    compiler.done.set()
    assert runner.wait(WAIT_S)
    found = [result.stamp.index for result in results if isinstance(result, Detections)]
    assert found == list(range(FRAMES))


def test_a_run_that_is_stopped_before_a_frame_came_does_not_wait_for_the_compiler(monkeypatch):
    compiler = Compiler(monkeypatch)
    pipeline = build_pipeline(Config(readout="fit", fit=FitSettings(noise_dn=1.0)), meanwhile="; later")
    runner = Runner(pipeline, {"quiet": ListSource([], endless=True)}, {}, "live")
    runner.start()
    assert compiler.begun.wait(WAIT_S)
    runner.stop()
    assert runner.wait(WAIT_S / 2)
    compiler.done.set()


def test_a_failure_of_what_follows_the_compiler_ends_the_run_as_any_other(monkeypatch):
    compiler = Compiler(monkeypatch, UsageError("fit.psf_table: gone"))
    runner, _ = started("live", compiler.done.set)
    with pytest.raises(UsageError, match=r"fit\.psf_table: gone"):
        runner.run()


def test_a_gpu_that_is_missing_is_told_before_anything_is_compiled(monkeypatch):
    compiler = Compiler(monkeypatch)
    monkeypatch.setattr(build, "ask_cuda_driver", lambda: CudaReport((), "", "no NVIDIA driver is installed"))
    with pytest.raises(UsageError, match="no NVIDIA driver is installed"):
        build_pipeline(Config(readout="fit", fit_on="gpu", fit=FitSettings(sigma_doubt=0.0)), meanwhile="; later")
    assert not compiler.begun.is_set()
