"""What the commands share: option types that explain themselves, a progress bar, tables."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["count", "pair", "print_line", "print_table", "progress", "size", "split_range"]

Number = TypeVar("Number", int, float)
LOG_EVERY_S = 5.0

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def count(text: str) -> int:
    """An option that is a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


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


def size(text: str) -> tuple[int, int]:
    """An option that is WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 640x512, got {text!r}")
    return int(width), int(height)


def print_line(text: str = "") -> None:
    """One line of a command's answer."""
    _out.print(text, markup=False)


def print_table(headings: Iterable[str], rows: Iterable[Iterable[str]], title: str | None = None) -> None:
    """A table of a command's answer; all but the first column are numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="left" if k == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _out.print(table, markup=False)


@contextmanager
def progress(label: str, total: int | None, unit: str = "frames") -> Iterator[Callable[[int], None]]:
    """Gives a function that counts work done: a bar on a terminal, else a log line every few seconds and at the end."""
    if _err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=_err) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.advance(task, n)
    else:
        yield _Log(label, total, unit)


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
            _err.print(f"{self.label}: {self.done}{of} {self.unit}", markup=False)
            self.said = now


def _numbers(text: str, separator: str, wanted: str) -> tuple[float, float]:
    first, _, second = text.partition(separator)
    try:
        return float(first), float(second)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {wanted}") from None
