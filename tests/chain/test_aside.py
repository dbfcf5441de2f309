"""The network may work in threads of its own while more frames wait: the same results, one step later."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from irst_stream import UsageError
from irst_stream.build import build_pipeline
from irst_stream.chain.pace import FramePace
from irst_stream.config import read_config
from irst_stream.sim import Groups, Scene, SceneSettings, Sensor, seqcsist
from irst_stream.system.shipped import find_config
from irst_stream.types import Detections, Frame, Stamp
from irst_stream.unmix.stream import WindowUnmixer

CONFIG = replace(read_config(find_config("seqcsist")), readout="best")


@pytest.fixture(scope="module")
def frames():
    """Two sensors in turns; one starts again after 14 frames, the other has a gap and is soon forgotten."""
    clips = seqcsist(2, noise=(2.0, 2.0), depth=16).frames
    given = []
    for t in range(20):
        epoch, index = divmod(t, 14)
        given.append(Frame(Stamp("a", epoch, index, t * 10**7), clips[0, t], 65535.0))
        given.append(Frame(Stamp("b", 0, t + 3 * (t > 10), t * 10**7), clips[1, t], 65535.0))
    return given


def run(pipeline, frames, more):
    results = []
    for k, frame in enumerate(frames):
        results += pipeline.step([frame], more=more(k))
        if k == 34:
            results += pipeline.forget("b")
    return results + pipeline.finish()


def differ(one, other):
    names = ("xy", "cov", "score") if isinstance(one, Detections) else ("state", "cov", "id")
    return one.stamp != other.stamp or any(not np.array_equal(getattr(one, n), getattr(other, n)) for n in names)


def test_the_results_do_not_depend_on_it(frames):
    waited = run(build_pipeline(CONFIG, tracks=True), frames, lambda _: False)
    assert sum(isinstance(result, Detections) for result in waited) == 21
    for more in (lambda _: True, lambda k: k % 3 > 0):
        aside = run(build_pipeline(CONFIG, tracks=True), frames, more)
        assert [type(result) for result in aside] == [type(result) for result in waited]
        assert not any(differ(*pair) for pair in zip(aside, waited, strict=True))


def threads_of(monkeypatch, pipeline, frames):
    """The names of the threads that do the network's parts."""
    seen = set()

    def noting(part):
        work = getattr(WindowUnmixer, part)

        def noted(self, given):
            seen.add((part, threading.current_thread().name.partition("_")[0]))
            return work(self, given)

        return noted

    for part in ("unfold", "fuse"):
        monkeypatch.setattr(WindowUnmixer, part, noting(part))
    run(pipeline, frames, lambda _: True)
    return seen


def test_it_is_for_patches_that_have_the_time(frames, monkeypatch):
    here = threading.current_thread().name.partition("_")[0]
    both_here = {("unfold", here), ("fuse", here)}
    assert threads_of(monkeypatch, build_pipeline(CONFIG), frames) == {("unfold", "unfold"), ("fuse", "fuse")}
    assert threads_of(monkeypatch, build_pipeline(CONFIG, pace=FramePace()), frames) == both_here
    groups = Groups(groups=1, singles=0, snr=(20, 60))
    searched = [frame for frame, _, _ in Scene(SceneSettings(Sensor(96, 80), groups=groups), 8, 3)]
    assert threads_of(monkeypatch, build_pipeline(CONFIG), searched) == both_here


def test_a_failure_is_raised_by_the_next_step(frames, monkeypatch):
    def fail(*_):
        raise UsageError("the engine does not like it")

    monkeypatch.setattr(WindowUnmixer, "unfold", fail)
    pipeline = build_pipeline(CONFIG)
    for frame in frames[:9]:
        assert pipeline.step([frame], more=True) == []
    with pytest.raises(UsageError, match="does not like it"):
        pipeline.step([frames[9]], more=True)
    assert pipeline.finish() == [], "it is raised once"
