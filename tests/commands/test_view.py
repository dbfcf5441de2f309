"""Console output and files of a pipeline that is interrupted or fails."""

import threading

import pytest
from local_feeds import PATIENCE_S, until, write_recording

from irst_stream.commands.view import run_with_view
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.live.runner import Runner, SequenceMonitor


class Stuck(SequenceMonitor):
    """Blocks in step() until `go` is set."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def step(self, frames):
        assert self.go.wait(PATIENCE_S)
        return super().step(frames)


class Failing(SequenceMonitor):
    """Fails at its third frame."""

    def step(self, frames):
        if frames[0].stamp.index == 2:
            raise ZeroDivisionError("a bug")
        return super().step(frames)


def runner_of(steps, folder):
    """A runner that copies a recording of ten frames to again.mcap."""
    source = open_recording(write_recording(folder / "film.mcap", 10, 100))
    recorder = Recorder(RecordSettings(str(folder / "again.mcap"), keep_free_mb=0))
    return Runner(steps, {"film": source}, {"again.mcap": recorder}, "lossless")


def test_a_second_interrupt_still_closes_the_recording(tmp_path, monkeypatch, capsys):
    steps, interrupts = Stuck(), []
    runner = runner_of(steps, tmp_path)

    def wait(_):
        until(lambda: runner.status().frames == 10)
        interrupts.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runner, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            run_with_view(runner)
    assert len(interrupts) == 2
    assert open_recording(tmp_path / "again.mcap").frames == 10
    said, aside = capsys.readouterr()
    assert "10 frames of 1 sensor" in said
    assert aside == ""
    steps.go.set()
    assert runner.wait(PATIENCE_S)


def test_files_that_could_not_be_closed_are_named(tmp_path, monkeypatch, capsys):
    steps = Stuck()
    runner = runner_of(steps, tmp_path)

    def interrupted(_=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runner, "wait", interrupted)
        patched.setattr(runner, "abandon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_with_view(runner)
    assert "again.mcap: not closed properly; irst-stream recover reads what it holds" in capsys.readouterr().err
    steps.go.set()
    assert runner.wait(PATIENCE_S)


def test_a_run_that_fails_prints_its_summary(tmp_path, capsys):
    runner = runner_of(Failing(), tmp_path)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_with_view(runner)
    said = capsys.readouterr().out
    assert "of 1 sensor" in said
    assert "again.mcap: " in said
