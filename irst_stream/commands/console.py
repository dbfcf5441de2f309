"""What the commands share: option types that explain themselves, a progress bar, tables."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = [
    "count",
    "error_console",
    "noun",
    "number",
    "pair",
    "phases",
    "positive",
    "print_line",
    "print_table",
    "progress",
    "show_log",
    "size",
    "split_range",
    "whole",
]

Number = TypeVar("Number", int, float)
LOG_EVERY_S = 5.0
MOST = 10**8


class _Console(Console):
    """Leaves a closed pipe to the command line's own handling."""

    def on_broken_pipe(self) -> None:
        """Called in place of raising."""
        raise BrokenPipeError


_out = _Console(highlight=False, soft_wrap=True, emoji=False)
error_console = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def count(text: str) -> int:
    """An option that is a whole number, 1 or more."""
    if not _whole(text) or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, at most {MOST:,}, got {text!r}")
    return int(text)


def whole(text: str) -> int:
    """An option that is a whole number, 0 or more."""
    if not _whole(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """An option that is a finite number."""
    return _numbers(text, "", f"a number, got {text!r}")[0]


def positive(text: str) -> float:
    """An option that is a number above 0, neither absurdly small nor large."""
    value = number(text)
    if not 1e-6 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"expected a number from 0.000001 to 1,000,000,000, got {text!r}")
    return value


def split_range(text: str) -> tuple[float, float]:
    """An option that is LOW:HIGH, or one number for both."""
    low, high = _numbers(text if ":" in text else f"{text}:{text}", ":", f"a number or LOW:HIGH, got {text!r}")
    if high < low:
        raise argparse.ArgumentTypeError(f"expected LOW:HIGH with LOW no higher than HIGH, got {text!r}")
    return low, high


def pair(text: str) -> tuple[float, float]:
    """An option that is X,Y."""
    x, y = _numbers(text, ",", f"X,Y, got {text!r}")
    return x, y


def noun(count: int, one: str) -> str:
    """A count with its noun: 1 frame, 2 frames."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def size(text: str) -> tuple[int, int]:
    """An option that is WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (_whole(width) and _whole(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 640x512, got {text!r}")
    return int(width), int(height)


def print_line(text: str = "") -> None:
    """One line of a command's answer."""
    _out.print(text, markup=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of a command's answer, never cut; all but the first column are numbers."""
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        print_line("  ".join(cells).rstrip())


def show_log() -> None:
    """Prints what the package says while it works."""
    logging.basicConfig(level=logging.INFO, handlers=[_LogLines()])


class _LogLines(logging.Handler):
    """What happens while a command runs, a line each, above a view that is refreshed in place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one line."""
        error_console.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False)


@contextmanager
def progress(label: str, total: int | None, unit: str = "frames") -> Iterator[Callable[[int], None]]:
    """Gives a function that counts work done: a bar on a terminal, else a log line every few seconds and at the end."""
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
        yield _Log(label, total, unit)


@contextmanager
def phases(label: str) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function that says what is being done, and how many steps of how many: in place, or a line now and then."""
    if error_console.is_terminal:
        with error_console.status(label) as status:
            yield lambda phase, step, of: status.update(f"{label}: {phase}, {step} of {of}")
        return
    said = [time.monotonic()]

    def tell(phase: str, step: int, of: int) -> None:
        if time.monotonic() - said[0] >= LOG_EVERY_S:
            error_console.print(f"{label}: {phase}, {step} of {of}", markup=False)
            said[0] = time.monotonic()

    yield tell


class _Log:
    """Progress as plain lines."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.said = 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.said >= LOG_EVERY_S or self.done == self.total:
            of = "" if self.total is None else f" of {self.total}"
            error_console.print(f"{self.label}: {self.done}{of} {self.unit}", markup=False)
            self.said = now


def _whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def _numbers(text: str, separator: str, wanted: str) -> tuple[float, ...]:
    parts = text.split(separator, 1) if separator else [text]
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        values = (math.nan,)
    if len(values) != (2 if separator else 1) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected {wanted}")
    return values
