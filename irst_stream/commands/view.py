"""What a person sees of a running pipeline: a view that is refreshed in place, log lines, and a summary at the end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table

from irst_stream.clocks import PERCENTILES, Summary
from irst_stream.commands.console import error_console, noun, print_line, print_table
from irst_stream.runner import Runner, Status

__all__ = ["attend", "latency_rows", "print_summary"]

REFRESH_S = 0.5
LOG_EVERY = 10  # refreshes between two log lines where there is no terminal
SENSORS_SHOWN = 12


def attend(runner: Runner, seconds: float | None = None, reload: Callable[[], None] | None = None) -> None:
    """Runs it, with a view, until it ends, or for so long, or until Ctrl-C or SIGTERM; then finishes what has come.

    reload: called when SIGHUP asks for it. A second Ctrl-C ends at once.
    """
    wanted: list[bool] = []
    if reload is not None and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: wanted.append(True))
    runner.start()
    with _view() as show:
        try:
            while not runner.wait(REFRESH_S):
                status = runner.status()
                show(status)
                if wanted and reload is not None:
                    wanted.clear()
                    reload()
                if seconds is not None and status.seconds >= seconds:
                    break
        except KeyboardInterrupt:
            pass
        runner.stop()
        while not runner.wait(REFRESH_S):
            show(runner.status())


def print_summary(status: Status) -> None:
    """What was done, what was not, and how long it took."""
    kinds = ("answered", "detections", "tracks")
    answered, found, followed = (sum(getattr(s, name) for s in status.sensors.values()) for name in kinds)
    sensors = noun(len(status.sensors), "sensor")
    print_line(
        f"{noun(status.frames, 'frame')} of {sensors} in {status.seconds:.1f} s, {answered} answered, "
        f"{noun(found, 'detection')}, {noun(followed, 'track')} at the end"
    )
    print_line(f"frames not used: {_counts(status.unused) or 'none'}")
    for title, counts in (("events", status.events), ("messages passed over", status.rejected), ("links", status.links)):
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


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n)


@contextmanager
def _view() -> Iterator[Callable[[Status], None]]:
    """Gives a function that shows a status: a table in place on a terminal, else a log line now and then."""
    if not (sys.stderr.isatty() and error_console.is_terminal):
        yield _Lines()
        return
    with Live(console=error_console, auto_refresh=False, transient=True) as live:
        rates = _Rates()
        yield lambda status: live.update(_table(status, rates(status)), refresh=True)


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

    def __init__(self) -> None:
        self._looks = 0
        self._rates = _Rates()

    def __call__(self, status: Status) -> None:
        self._looks += 1
        if self._looks % LOG_EVERY == 0:
            rate = sum(self._rates(status).values())
            slowest = max((s.percentiles[2] for n, s in status.stages.items() if n.startswith("end to end")), default=0.0)
            unused = _counts(status.unused) or "none"
            tracks = noun(sum(s.tracks for s in status.sensors.values()), "track")
            error_console.print(
                f"run: {status.frames} frames, {rate:.1f}/s, {tracks}, {status.waiting} waiting, not used: {unused}, "
                f"end to end p99 {slowest:.1f} ms",
                markup=False,
            )


def _table(status: Status, rates: dict[str, float]) -> Table:
    """All there is to see of a running pipeline."""
    sensors = _columns("sensor", "frames/s", "frames", "answered", "detections", "tracks", "silent, s")
    for name, s in list(status.sensors.items())[:SENSORS_SHOWN]:
        figures = (str(n) for n in (s.frames, s.answered, s.detections, s.tracks))
        sensors.add_row(name, f"{rates[name]:.1f}", *figures, f"{s.silent_s:.1f}")
    sinks = _columns("sink", "written", "waiting", "lost")
    sinks.add_column()
    for name, sink in status.sinks.items():
        sinks.add_row(name, str(sink.written), str(sink.waiting), str(sink.lost), sink.alarm)
    stages = _columns("latency, ms", *(f"p{p:g}" for p in PERCENTILES), "max", "samples")
    for row in latency_rows(status.stages):
        stages.add_row(*row)
    unused = _counts(status.unused) or "none"
    lines = [f"running {status.seconds:.0f} s, {status.waiting} frames waiting; not used: {unused}"]
    for title, counts in (("events", status.events), ("passed over", status.rejected)):
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
