"""Console display of a running pipeline: a table refreshed in place or log lines, and a summary at the end."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.live import Live
from rich.table import Table
from rich.text import Text

from irst_stream.commands.console import error_console, pluralise, print_line, print_note, print_table
from irst_stream.errors import LossError
from irst_stream.live.log_lines import STATUS_LOGGER
from irst_stream.live.status import Status
from irst_stream.system.latency import PERCENTILES, Summary
from irst_stream.system.printable import printable

__all__ = ["STOP_S", "latency_rows", "raise_losses", "run_with_view"]

REFRESH_S = 0.5
STOP_S = 30.0  # for the frames received before a stop
CLOSE_TIMEOUT_S = 5.0  # for the sinks, after a second interrupt
LOG_EVERY_S, LOG_LATER_S = 5.0, 60.0  # between lines of the log, in the first minute and later
SENSORS_SHOWN = 12
SLOW_SHARE = 0.01  # of the frames: with as many dropped, or as many regions left out, a machine is too slow
log = logging.getLogger(STATUS_LOGGER)
RESULTS = ("answered", "detections", "tracks")
UNRECORDED = ("sensors",)  # reasons why a received frame is not in a recording


class Runs(Protocol):
    """What run_with_view runs: a live.runner.Runner, or a fleet of them; see there."""

    def start(self) -> None:
        """Start, and return."""

    def stop(self) -> None:
        """Stop receiving; returns immediately."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; return whether it has come."""

    def abandon(self, seconds: float) -> list[str]:
        """End at once; return the names of sinks that are not closed."""

    def status(self) -> Status:
        """Count everything done so far."""


def run_with_view(
    runner: Runs,
    seconds: float | None = None,
    reload: Callable[[], None] | None = None,
    *,
    is_done: Callable[[Status], bool] = lambda _: False,
    with_results: bool = True,
    stop_s: float = STOP_S,
) -> None:
    """Run a pipeline with a console view until it ends, `seconds` pass, or Ctrl-C or SIGTERM; then process queued frames.

    Always prints a summary at the end. A second Ctrl-C, or stop_s after the first, drops the queued frames and closes all
    files; the latter raises a LossError. reload: called on SIGHUP; is_done: asked at each refresh whether to stop;
    with_results: False if the pipeline only records frames.
    """
    reload_requests: list[bool] = []
    if reload is not None and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reload_requests.append(True))
    try:
        runner.start()
        with _view(with_results) as show:
            try:
                while not runner.wait(REFRESH_S):
                    status = runner.status()
                    show(status)
                    if reload_requests and reload is not None:
                        reload_requests.clear()
                        reload()
                    if is_done(status) or (seconds is not None and status.seconds >= seconds):
                        break
            except KeyboardInterrupt:
                pass
            runner.stop()
            deadline_s = time.monotonic() + stop_s
            while not runner.wait(REFRESH_S):
                show(runner.status())
                if time.monotonic() >= deadline_s:
                    _abandon(runner)
                    unanswered = pluralise(runner.status().dropped.get("unanswered", 0), "frame")
                    raise LossError(f"stopped {stop_s:g} s after it was told to, with {unanswered} not processed")
    except KeyboardInterrupt:
        _abandon(runner)
        raise
    finally:
        _print_summary(runner.status(), with_results)


def raise_losses(status: Status) -> None:
    """Raise a LossError that says what each sink lost, or why it takes nothing at the end; nothing if all is well."""
    faults = []
    for name, sink in status.sinks.items():
        if sink.lost or sink.alarm:
            alarm = f" ({sink.alarm.removeprefix(f'{name}: ')})" if sink.alarm else ""
            faults.append(f"{name}: {sink.lost} of {pluralise(sink.written + sink.lost, 'record')} lost{alarm}")
    if faults:
        raise LossError("; ".join(faults))


def _abandon(runner: Runs) -> None:
    """Drop the queued frames and close all sinks; print the names of sinks that are not closed."""
    unclosed = list(runner.status().sinks)
    try:
        unclosed = runner.abandon(CLOSE_TIMEOUT_S)
    finally:
        for name in unclosed:
            hint = "; irst-stream recover reads what it holds" if name.endswith(".mcap") else ""
            print_note(f"{name}: not closed properly{hint}")


def _print_summary(status: Status, with_results: bool) -> None:
    """Print frames, results, losses, events, sinks and latencies of the whole run."""
    sensors = pluralise(len(status.sensors), "sensor")
    summary = f"{pluralise(status.frames, 'frame')} of {sensors} in {status.seconds:.1f} s"
    if with_results:
        answered, detections, tracks = (sum(getattr(s, name) for s in status.sensors.values()) for name in RESULTS)
        summary += f", {answered} answered, {pluralise(detections, 'detection')}, {pluralise(tracks, 'track')} at the end"
    print_line(summary)
    print_line(_losses(status, with_results))
    if with_results and (text := _too_slow(status)):
        print_line(text)
    events = status.events if with_results else _recorded_events(status)
    if status.alarm:
        print_line(status.alarm)
    for text in advice(status):
        print_line(text)
    for title, counts in (("events", events), ("messages rejected", status.rejected), ("links", status.links)):
        if text := _counts(counts):
            print_line(f"{title}: {text}")
    for name, sink in status.sinks.items():
        full = (
            f", a subscriber did not keep up {pluralise(sink.overflows, 'time')} and missed some" if sink.overflows else ""
        )
        alarm = f"; {sink.alarm}" if sink.alarm else ""
        print_line(f"{name}: {pluralise(sink.written, 'record')} written, {sink.lost} lost{full}{alarm}")
    if status.stages:
        print_table(["latency, ms", "p50", "p90", "p99", "p99.9", "max", "samples"], latency_rows(status.stages))


def advice(status: Status) -> list[str]:
    """What the sensors' own targets advise, a line for each sensor."""
    return [
        f"{printable(name) or 'the sensor'}: {sensor.advice}" for name, sensor in status.sensors.items() if sensor.advice
    ]


def latency_rows(stages: dict[str, Summary]) -> list[list[str]]:
    """Table rows: stage, percentiles and maximum in ms, number of samples."""
    return [
        [stage, *(f"{value:.2f}" for value in (*s.percentiles, s.longest)), str(s.samples)] for stage, s in stages.items()
    ]


def _losses(status: Status, with_results: bool) -> str:
    """Frames without results, missing ones included; or, if the pipeline only records, frames that were not recorded."""
    if with_results:
        return f"frames not used: {_counts(status.unused) or 'none'}"
    lost = {name: n for name, n in status.unused.items() if name in UNRECORDED}
    return f"frames not recorded: {_counts(lost) or 'none'}"


def _too_slow(status: Status) -> str:
    """Say what was left out for want of time, "" for no more than a frame and a region in a hundred frames."""
    behind = (("overrun", "frame"), ("unserved", "region"))
    counts = [(status.dropped.get(event, 0), event, what) for event, what in behind]
    if max(count for count, _, _ in counts) <= SLOW_SHARE * status.frames:
        return ""
    left_out = " and ".join(f"{pluralise(count, what)} ({event})" for count, event, what in counts if count)
    return f"too slow: this machine did not keep up with the feed, or compiled meanwhile: it left out {left_out}"


def _recorded_events(status: Status) -> dict[str, int]:
    """Events of frames that were recorded nevertheless."""
    return {name: n for name, n in status.dropped.items() if name not in (*UNRECORDED, "overrun", "unanswered")}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n)


@contextmanager
def _view(with_results: bool) -> Iterator[Callable[[Status], None]]:
    """Yield a function that shows a status: a table refreshed in place on a terminal, else a log line at intervals."""
    if not (sys.stderr.isatty() and error_console.is_terminal):
        yield _LogView(with_results)
        return
    with Live(console=error_console, auto_refresh=False, transient=True) as live:
        rates = _FrameRates()
        yield lambda status: live.update(_table(status, rates(status), with_results), refresh=True)


class _FrameRates:
    """Frame rate of each sensor since the last call, frames/s."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._before_s = 0.0

    def __call__(self, status: Status) -> dict[str, float]:
        frames = {name: sensor.frames for name, sensor in status.sensors.items()}
        elapsed_s = max(status.seconds - self._before_s, 1e-3)
        rates = {name: (n - self._before.get(name, 0)) / elapsed_s for name, n in frames.items()}
        self._before, self._before_s = frames, status.seconds
        return rates


class _LogView:
    """Logs a status as one line, every LOG_EVERY_S at first, and later every LOG_LATER_S: a service runs for months."""

    def __init__(self, with_results: bool) -> None:
        self._due_s = LOG_EVERY_S
        self._rates, self._with_results = _FrameRates(), with_results

    def __call__(self, status: Status) -> None:
        if status.seconds >= self._due_s:
            self._due_s = status.seconds + (LOG_EVERY_S if status.seconds < LOG_LATER_S else LOG_LATER_S)
            rate = sum(self._rates(status).values())
            text = f"{status.frames} frames, {rate:.1f}/s, {status.waiting} waiting, {_losses(status, self._with_results)}"
            if self._with_results:
                latest = [s.percentiles[2] for name, s in status.stages.items() if name.startswith("end to end")]
                tracks = pluralise(sum(s.tracks for s in status.sensors.values()), "track")
                late = f", end to end p99 {max(latest):.1f} ms" if latest else ""
                text = f"run: {text}, {tracks}{late}"
            else:
                written = sum(sink.written for sink in status.sinks.values())
                text = f"record: {text}, {pluralise(written, 'record')} written"
            log.info("%s", text)


def _table(status: Status, rates: dict[str, float], with_results: bool) -> Table:
    """Lay out losses, events, sensors, sinks and latencies of a running pipeline."""
    sensors = _columns("sensor", "frames/s", "frames", *(RESULTS if with_results else ()), "silent, s")
    for name, s in list(status.sensors.items())[:SENSORS_SHOWN]:
        results = [str(getattr(s, name)) for name in RESULTS] if with_results else []
        sensors.add_row(Text(printable(name)), f"{rates[name]:.1f}", str(s.frames), *results, f"{s.silent_s:.1f}")
    sinks = _columns("sink", "written", "waiting", "lost", "overflows")
    sinks.add_column()
    for name, sink in status.sinks.items():
        figures = [str(count) for count in (sink.written, sink.waiting, sink.lost, sink.overflows)]
        sinks.add_row(Text(printable(name)), *figures, Text(printable(sink.alarm)))
    stages = _columns("latency, ms", *(f"p{p:g}" for p in PERCENTILES), "max", "samples")
    for stage, *figures in latency_rows(status.stages):
        stages.add_row(Text(printable(stage)), *figures)
    verb = "running" if with_results else "recording"
    lines = [f"{verb} {status.seconds:.0f} s, {status.waiting} frames waiting; {_losses(status, with_results)}"]
    lines += [printable(status.alarm)] if status.alarm else []
    lines += advice(status)
    for title, counts in (
        ("events", status.events if with_results else _recorded_events(status)),
        ("rejected", status.rejected),
    ):
        if text := _counts(counts):
            lines.append(f"{title}: {text}")
    grid = Table.grid()
    grid.add_row(Text("\n".join(lines) + "\n"))
    for table in (sensors, sinks, stages):
        if table.row_count:
            grid.add_row(table)
            grid.add_row("")
    return grid


def _columns(first: str, *numbers: str) -> Table:
    """Create an empty table: one text column, then right-aligned number columns."""
    table = Table(first, box=None, pad_edge=False)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
