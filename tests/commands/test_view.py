"""What a person sees of a pipeline that ends otherwise than it should, and what stays of its files."""

import threading

import pytest
from feeds import PATIENCE_S, film, until

from irst_stream.commands.view import attend
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.live.runner import Runner, Watch


class Stuck(Watch):
    """Computes for as long as it likes."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def step(self, frames):
        assert self.go.wait(PATIENCE_S)
        return super().step(frames)


class Failing(Watch):
    """Fails at its third frame."""

    def step(self, frames):
        if frames[0].stamp.index == 2:
            raise ZeroDivisionError("a bug")
        return super().step(frames)


def runner_of(steps, folder):
    """A runner that records ten frames anew."""
    source = open_recording(film(folder / "film.mcap", 10, 100))
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
            attend(runner)
    assert len(interrupts) == 2
    assert open_recording(tmp_path / "again.mcap").frames == 10
    said, aside = capsys.readouterr()
    assert "10 frames of 1 sensor" in said
    assert aside == ""
    steps.go.set()
    assert runner.wait(PATIENCE_S)


def test_what_could_not_be_closed_is_said(tmp_path, monkeypatch, capsys):
    steps = Stuck()
    runner = runner_of(steps, tmp_path)

    def interrupted(_=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runner, "wait", interrupted)
        patched.setattr(runner, "abandon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attend(runner)
    assert "again.mcap: not closed in good order; irst-stream recover saves what it holds" in capsys.readouterr().err
    steps.go.set()
    assert runner.wait(PATIENCE_S)


def test_a_run_that_fails_says_what_it_did(tmp_path, capsys):
    runner = runner_of(Failing(), tmp_path)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        attend(runner)
    said = capsys.readouterr().out
    assert "of 1 sensor" in said
    assert "again.mcap: " in said
