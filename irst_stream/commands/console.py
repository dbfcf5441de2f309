"""Shared by the commands: option types with clear error messages, progress displays, tables, log output."""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from irst_stream.system.printable import printable

__all__ = [
    "error_console",
    "finite_float",
    "image_size",
    "low_high",
    "non_negative_int",
    "phase_progress",
    "pluralise",
    "positive_float",
    "positive_int",
    "print_line",
    "print_note",
    "print_table",
    "print_text",
    "progress",
    "show_log",
    "tcp_port",
    "working",
    "xy_pair",
]

Number = TypeVar("Number", int, float)
LOG_EVERY_S = 5.0
MAX_COUNT = 10**8


class _Console(Console):
    """A console that raises BrokenPipeError, which the command line handles, instead of exiting."""

    def on_broken_pipe(self) -> None:
        """Raise instead of exiting; rich calls this when the reader closes the pipe."""
        raise BrokenPipeError


_out = _Console(highlight=False, soft_wrap=True, emoji=False)
error_console = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def positive_int(text: str) -> int:
    """Parse a whole number from 1 to MAX_COUNT."""
    if not _is_whole(text) or not 1 <= int(text) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, at most {MAX_COUNT:,}, got {text!r}")
    return int(text)


def non_negative_int(text: str) -> int:
    """Parse a whole number of 0 or more."""
    if not _is_whole(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def tcp_port(text: str) -> int:
    """Parse a TCP port."""
    if not _is_whole(text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)


def finite_float(text: str) -> float:
    """Parse a finite number."""
    return _parse_numbers(text, "", f"a number, got {text!r}")[0]


def positive_float(text: str) -> float:
    """Parse a number from 1e-6 to 1e9."""
    value = finite_float(text)
    if not 1e-6 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"expected a number from 0.000001 to 1,000,000,000, got {text!r}")
    return value


def low_high(text: str) -> tuple[float, float]:
    """Parse LOW:HIGH, or one number that stands for both."""
    low, high = _parse_numbers(text if ":" in text else f"{text}:{text}", ":", f"a number or LOW:HIGH, got {text!r}")
    if high < low:
        raise argparse.ArgumentTypeError(f"expected LOW:HIGH with LOW no higher than HIGH, got {text!r}")
    return low, high


def xy_pair(text: str) -> tuple[float, float]:
    """Parse X,Y."""
    x, y = _parse_numbers(text, ",", f"X,Y, got {text!r}")
    return x, y


def pluralise(count: int, singular: str) -> str:
    """Return a count with its noun: 1 frame, 2 frames."""
    return f"{count} {singular}" if count == 1 else f"{count} {singular}s"


def image_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT into (width, height)."""
    width, _, height = text.lower().partition("x")
    if not (_is_whole(width) and _is_whole(height)) or 0 in (int(width), int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in px such as 640x512, got {text!r}")
    return int(width), int(height)


def print_line(text: str = "") -> None:
    """Print one line to standard output; control characters are escaped."""
    _out.print(printable(text), markup=False)


def print_text(text: str) -> None:
    """Print text of our own, which may have several lines, to standard output."""
    _out.print(text, markup=False)


def print_note(text: str) -> None:
    """Print one line to standard error; control characters are escaped."""
    error_console.print(printable(text), markup=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard output, never truncated: first column left-aligned, the others right-aligned."""
    lines = [[printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        print_line("  ".join(cells).rstrip())


def show_log(*, as_json: bool = False) -> None:
    """Print the package's log messages from level INFO on to standard error, those of others from WARNING on.

    as_json: one object each.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_JsonHandler() if as_json else _ConsoleHandler()])
    logging.getLogger("irst_stream").setLevel(logging.INFO)


class _ConsoleHandler(logging.Handler):
    """Log handler that prints through rich, so that lines appear above a live display."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log record as one line."""
        print_note(f"{record.levelname.lower()}: {record.getMessage()}")


class _JsonHandler(logging.Handler):
    """Log handler that prints one JSON object a line: time (UTC), level, logger, message, and the traceback if any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log record as one line."""
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        error_console.print(json.dumps(line), markup=False)


@contextmanager
def progress(label: str, total: int | None, unit: str = "frames") -> Iterator[Callable[[int], None]]:
    """Yield a function that adds to the work done: a bar on a terminal, else a line every LOG_EVERY_S and at the end."""
    if error_console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=error_console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.advance(task, n)
    else:
        yield _ProgressLines(label, total, unit)


@contextmanager
def phase_progress(label: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function report(phase, step, total): updated in place on a terminal, else a line every LOG_EVERY_S."""
    if error_console.is_terminal:
        with error_console.status(label) as status:
            yield lambda phase, step, total: status.update(f"{label}: {phase}, {step} of {total}")
        return
    last_logged = time.monotonic()

    def report(phase: str, step: int, total: int) -> None:
        nonlocal last_logged
        if time.monotonic() - last_logged >= LOG_EVERY_S:
            print_note(f"{label}: {phase}, {step} of {total}")
            last_logged = time.monotonic()

    yield report


@contextmanager
def working(label: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that says which step is under way: in place on a terminal, else a line after LOG_EVERY_S."""
    if error_console.is_terminal:
        with error_console.status(label) as status:
            yield lambda step: status.update(f"{label}: {step}")
        return
    last_logged = time.monotonic()

    def report(step: str) -> None:
        nonlocal last_logged
        if time.monotonic() - last_logged >= LOG_EVERY_S:
            error_console.print(f"{label}: {step}", markup=False)
            last_logged = time.monotonic()

    yield report


class _ProgressLines:
    """Progress as plain lines on standard error."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.last_logged = 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last_logged >= LOG_EVERY_S or self.done == self.total:
            total = "" if self.total is None else f" of {self.total}"
            print_note(f"{self.label}: {self.done}{total} {self.unit}")
            self.last_logged = now


def _is_whole(text: str) -> bool:
    """Whether text is a whole number of fewer than 20 ASCII digits."""
    return text.isascii() and text.isdecimal() and len(text) < 20


def _parse_numbers(text: str, separator: str, expected: str) -> tuple[float, ...]:
    parts = text.split(separator, 1) if separator else [text]
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        values = (math.nan,)
    if len(values) != (2 if separator else 1) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected {expected}")
    return values
