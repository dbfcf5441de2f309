"""The last lines of the log, for the live page."""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

__all__ = ["STATUS_LOGGER", "LogLine", "LogLines"]

STATUS_LOGGER = "irst_stream.status"  # of counts at intervals, which the page shows anyway
KEPT = 200
MAX_CHARACTERS = 2000


class LogLine(NamedTuple):
    """One line: its number, counted from 1, when it was written, s since 1970 in UTC, its level and its text."""

    number: int
    time_s: float
    level: str
    text: str


class LogLines(logging.Handler):
    """Keeps the last KEPT lines of the log; thread-safe."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[LogLine] = deque(maxlen=KEPT)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; logging holds this handler's lock."""
        if record.name == STATUS_LOGGER:
            return
        self._count += 1
        text = record.getMessage()[:MAX_CHARACTERS]
        self._lines.append(LogLine(self._count, record.created, record.levelname.lower(), text))

    def after(self, number: int) -> list[LogLine]:
        """The lines after this number, oldest first; all that are kept if no line has it yet, as after a restart."""
        lines = list(self._lines)
        return [line for line in lines if line.number > number] if number <= self._count else lines
