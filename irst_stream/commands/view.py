"""What a person sees of a running pipeline: a view that is refreshed in place, log lines, and a summary at the end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table

from irst_stream.commands.console import error_console, noun, print_line, print_table
from irst_stream.live.runner import Runner
from irst_stream.live.status import Status
from irst_stream.system.latency import PERCENTILES, Summary

__all__ = ["attend", "latency_rows"]

REFRESH_S = 0.5
CLOSING_S = 5.0  # how long the sinks may take to close, once nothing else is waited for
LOG_EVERY = 10  # refreshes between two log lines where there is no terminal
SENSORS_SHOWN = 12
RESULTS = ("answered", "detections", "tracks")
UNRECORDED = ("sensors",)  # why a frame that came is not in a recording


def attend(
    runner: Runner,
    seconds: float | None = None,
    reload: Callable[[], None] | None = None,
    *,
    over: Callable[[Status], bool] = lambda _: False,
    answers: bool = True,
) -> None:
    """Runs it, with a view, until it ends, or for so long, or until Ctrl-C or SIGTERM; then finishes what has come.

    Prints a summary at the end, whatever that was. A second Ctrl-C leaves uncomputed what has come, and closes all files.
    reload: called when SIGHUP asks for it; over: whether there is nothing left to do; answers: whether it gives any, or
    only records.
    """
    wanted: list[bool] = []
    if reload is not None and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: wanted.append(True))
    try:
        runner.start()
        with _view(answers) as show:
            try:
                while not runner.wait(REFRESH_S):
                    status = runner.status()
                    show(status)
                    if wanted and reload is not None:
                        wanted.clear()
                        reload()
                    if over(status) or (seconds is not None and status.seconds >= seconds):
                        break
            except KeyboardInterrupt:
                pass
            runner.stop()
            while not runner.wait(REFRESH_S):
                show(runner.status())
    except KeyboardInterrupt:
        _abandon(runner)
        raise
    finally:
        _print_summary(runner.status(), answers)


def _abandon(runner: Runner) -> None:
    """Closes all files without waiting for anything else; says which could not be closed."""
    left = list(runner.status().sinks)
    try:
        left = runner.abandon(CLOSING_S)
    finally:
        for name in left:
            how = "; irst-stream recover saves what it holds" if name.endswith(".mcap") else ""
            error_console.print(f"{name}: not closed in good order{how}", markup=False)


def _print_summary(status: Status, answers: bool) -> None:
    """What was done, what was not, and how long it took."""
    sensors = noun(len(status.sensors), "sensor")
    told = f"{noun(status.frames, 'frame')} of {sensors} in {status.seconds:.1f} s"
    if answers:
        answered, found, followed = (sum(getattr(s, name) for s in status.sensors.values()) for name in RESULTS)
        told += f", {answered} answered, {noun(found, 'detection')}, {noun(followed, 'track')} at the end"
    print_line(told)
    print_line(_losses(status, answers))
    events = status.events if answers else _noted(status)
    if status.alarm:
        print_line(status.alarm)
    for title, counts in (("events", events), ("messages passed over", status.rejected), ("links", status.links)):
        if text := _counts(counts):
            print_line(f"{title}: {text}")
    for name, sink in status.sinks.items():
        alarm = f"; {sink.alarm}" if sink.alarm else ""
        print_line(f"{name}: {noun(sink.written, 'record')} written, {sink.lost} lost{alarm}")
    if status.stages:
        print_table(["latency, ms", "p50", "p90", "p99", "p99.9", "max", "samples"], latency_rows(status.stages))


def latency_rows(stages: dict[str, Summary]) -> list[list[str]]:
    """A row for each stage."""
    return [
        [stage, *(f"{value:.2f}" for value in (*s.percentiles, s.longest)), str(s.samples)] for stage, s in stages.items()
    ]


def _losses(status: Status, answers: bool) -> str:
    """The frames that came, or should have, and are in no answer; or that a recording lacks because they were not taken."""
    if answers:
        return f"frames not used: {_counts(status.unused) or 'none'}"
    lost = {name: n for name, n in status.unused.items() if name in UNRECORDED}
    return f"frames not recorded: {_counts(lost) or 'none'}"


def _noted(status: Status) -> dict[str, int]:
    """What happened to frames that were recorded all the same."""
    return {name: n for name, n in status.dropped.items() if name not in (*UNRECORDED, "overrun", "unanswered")}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n)


@contextmanager
def _view(answers: bool) -> Iterator[Callable[[Status], None]]:
    """Gives a function that shows a status: a table in place on a terminal, else a log line now and then."""
    if not (sys.stderr.isatty() and error_console.is_terminal):
        yield _Lines(answers)
        return
    with Live(console=error_console, auto_refresh=False, transient=True) as live:
        rates = _Rates()
        yield lambda status: live.update(_table(status, rates(status), answers), refresh=True)


class _Rates:
    """Frames a second of each sensor since the last look."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._when = 0.0

    def __call__(self, status: Status) -> dict[str, float]:
        frames = {name: sensor.frames for name, sensor in status.sensors.items()}
        passed = max(status.seconds - self._when, 1e-3)
        rates = {name: (n - self._before.get(name, 0)) / passed for name, n in frames.items()}
        self._before, self._when = frames, status.seconds
        return rates


class _Lines:
    """A status as a plain log line, every few looks."""

    def __init__(self, answers: bool) -> None:
        self._looks = 0
        self._rates, self._answers = _Rates(), answers

    def __call__(self, status: Status) -> None:
        self._looks += 1
        if self._looks % LOG_EVERY == 0:
            rate = sum(self._rates(status).values())
            told = f"{status.frames} frames, {rate:.1f}/s, {status.waiting} waiting, {_losses(status, self._answers)}"
            if self._answers:
                stages = status.stages.items()
                slowest = max((s.percentiles[2] for n, s in stages if n.startswith("end to end")), default=0.0)
                tracks = noun(sum(s.tracks for s in status.sensors.values()), "track")
                told = f"run: {told}, {tracks}, end to end p99 {slowest:.1f} ms"
            else:
                written = sum(sink.written for sink in status.sinks.values())
                told = f"record: {told}, {noun(written, 'record')} written"
            error_console.print(told, markup=False)


def _table(status: Status, rates: dict[str, float], answers: bool) -> Table:
    """All there is to see of a running pipeline."""
    sensors = _columns("sensor", "frames/s", "frames", *(RESULTS if answers else ()), "silent, s")
    for name, s in list(status.sensors.items())[:SENSORS_SHOWN]:
        given = [str(getattr(s, name)) for name in RESULTS] if answers else []
        sensors.add_row(name, f"{rates[name]:.1f}", str(s.frames), *given, f"{s.silent_s:.1f}")
    sinks = _columns("sink", "written", "waiting", "lost")
    sinks.add_column()
    for name, sink in status.sinks.items():
        sinks.add_row(name, str(sink.written), str(sink.waiting), str(sink.lost), sink.alarm)
    stages = _columns("latency, ms", *(f"p{p:g}" for p in PERCENTILES), "max", "samples")
    for row in latency_rows(status.stages):
        stages.add_row(*row)
    verb = "running" if answers else "recording"
    lines = [f"{verb} {status.seconds:.0f} s, {status.waiting} frames waiting; {_losses(status, answers)}"]
    lines += [status.alarm] if status.alarm else []
    for title, counts in (("events", status.events if answers else _noted(status)), ("passed over", status.rejected)):
        if text := _counts(counts):
            lines.append(f"{title}: {text}")
    grid = Table.grid()
    grid.add_row("\n".join(lines) + "\n")
    for table in (sensors, sinks, stages):
        if table.row_count:
            grid.add_row(table)
            grid.add_row("")
    return grid


def _columns(first: str, *numbers: str) -> Table:
    """An empty table: words on the left, numbers to the right of them."""
    table = Table(first, box=None, pad_edge=False)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
