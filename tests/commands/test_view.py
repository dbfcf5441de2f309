"""Console output and files of a pipeline that is interrupted or fails."""

import io
import threading
from dataclasses import replace

import pytest
from local_feeds import PATIENCE_S, until, write_recording
from rich.console import Console

from irst_stream.commands.view import _LogView, _table, _too_slow, raise_losses, run_with_view
from irst_stream.errors import LossError
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.live.runner import Runner
from irst_stream.live.sequence_monitor import SequenceMonitor
from irst_stream.live.status import SensorStatus, SinkStatus, Status


class Stuck(SequenceMonitor):
    """Blocks in step() until `go` is set."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def step(self, frames, **_):
        assert self.go.wait(PATIENCE_S)
        return super().step(frames)


class Failing(SequenceMonitor):
    """Fails at its third frame."""

    def step(self, frames, **_):
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


def test_no_name_changes_the_live_table_or_the_terminal():
    hostile = "out/[/red]\x1b[31m\n.jsonl"
    sink = SinkStatus(1, 0, 2, "[bold]\x1b]0;x\x07 cannot be written", 3)
    status = Status(1.0, {}, {hostile: sink}, {}, {}, {}, {}, 0, "\x1b[2J failed")
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(_table(status, {}, with_results=True))
    said = console.file.getvalue()
    assert "\x1b" not in said
    for part in ("out/[/red]\\x1b[31m\\n.jsonl", "[bold]\\x1b]0;x\\x07 cannot be written", "\\x1b[2J failed"):
        assert part in said


@pytest.mark.parametrize(
    ("dropped", "left_out"),
    [
        ({"overrun": 208, "unserved": 6889}, "208 frames (overrun) and 6889 regions (unserved)"),
        ({"unserved": 30, "postponed": 900}, "30 regions (unserved)"),
        ({"overrun": 15, "unserved": 15, "late": 300, "postponed": 900}, ""),
    ],
)
def test_a_machine_that_is_too_slow_is_told(dropped, left_out):
    sensors = {"cam": SensorStatus(1500, 1200, 10, 1, 0.0)}
    said = _too_slow(Status(30.0, sensors, {}, dropped, {}, {}, {}, 0))
    assert said == left_out or said.endswith(f"the feed, or compiled meanwhile: it left out {left_out}")


def test_losses_are_told_by_sink():
    sinks = {
        "a": SinkStatus(3, 0, 0, ""),
        "b": SinkStatus(3, 0, 2, "b: full"),
        "c": SinkStatus(0, 0, 0, "gone"),
        "d": SinkStatus(1, 0, 1, ""),
    }
    with pytest.raises(LossError) as caught:
        raise_losses(Status(1.0, {}, sinks, {}, {}, {}, {}, 0))
    assert str(caught.value) == "b: 2 of 5 records lost (full); c: 0 of 0 records lost (gone); d: 1 of 2 records lost"
    raise_losses(Status(1.0, {}, {"a": sinks["a"]}, {}, {}, {}, {}, 0))


def test_a_stop_that_takes_too_long_is_cut_and_told(tmp_path, monkeypatch, capsys):
    steps = Stuck()
    runner = runner_of(steps, tmp_path)
    real = runner.wait

    def wait(seconds):
        if not runner._stopping:
            until(lambda: runner.status().frames == 10)
            raise KeyboardInterrupt
        return real(seconds / 50)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "wait", wait)
        with pytest.raises(LossError, match=r"^stopped 0.1 s after it was told to, with \d+ frames not processed$"):
            run_with_view(runner, stop_s=0.1)
    assert open_recording(tmp_path / "again.mcap").frames == 10
    assert "unanswered" in capsys.readouterr().out
    steps.go.set()


def test_the_log_has_a_line_every_few_seconds_at_first_and_later_one_a_minute(caplog):
    caplog.set_level("INFO")
    show = _LogView(with_results=True)
    status = Status(0.0, {"cam": SensorStatus(40, 36, 9, 2, 0.1)}, {}, {}, {}, {}, {}, 0)
    told = []
    for half in range(600):
        before = len(caplog.messages)
        show(replace(status, seconds=half / 2))
        told += [half / 2] * (len(caplog.messages) - before)
    assert told == [*range(5, 61, 5), 120, 180, 240]
    assert caplog.messages[0] == "run: 40 frames, 8.0/s, 0 waiting, frames not used: none, 2 tracks"
