"""Where results leave a running pipeline: a sink with a queue and a thread of its own.

A sink that fails is out of order from then on; its losses are counted, and all else goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from irst_stream.errors import IrstError
from irst_stream.live.queues import Item, Outbox
from irst_stream.live.status import SinkStatus
from irst_stream.protocols import Sink
from irst_stream.system.latency import Clocks
from irst_stream.types import Policy

__all__ = ["Outlet"]

log = logging.getLogger(__name__)


class Outlet:
    """One sink, its queue and its thread."""

    def __init__(self, name: str, sink: Sink, policy: Policy, clocks: Clocks) -> None:
        """clocks: that are told how long records have waited for it, and been under way."""
        self.name, self.sink, self.clocks = name, sink, clocks
        self.box, self.ended = Outbox(policy), threading.Event()
        self.given, self.let_go, self.lost, self.broken = 0, 0, 0, ""

    def put(self, item: Item) -> None:
        """Takes a record that the sink wants; others are let go by."""
        if isinstance(item.record, self.sink.takes):
            self.box.put(item)

    def status(self) -> SinkStatus:
        """What it has done so far."""
        written, lost = self.given - self.let_go, self.lost + self.box.lost + self.let_go
        return SinkStatus(written, len(self.box), lost, self.broken or self.sink.alarm)

    def run(self) -> None:
        """Writes until the queue is closed and empty."""
        try:
            while (item := self.box.take()) is not None:
                self._write(item)
        finally:
            self._guarded(self.sink.close)
            self.let_go = self.sink.lost  # also of what it had taken: a recording that stops loses what it held
            self.ended.set()

    def _write(self, item: Item) -> None:
        if self.broken:
            self.lost += 1
            return
        now, before = time.time_ns(), self.let_go
        if not self._guarded(lambda: self.sink.write(item.record, item.time_ns or now)):
            self.lost += 1
            return
        self.given, self.let_go = self.given + 1, self.sink.lost
        if self.let_go != before:
            return
        if item.ready_ns:
            self.clocks.add(f"publish {self.name}", time.monotonic_ns() - item.ready_ns)
            if item.since_ns:
                self.clocks.add(f"end to end {self.name}", time.time_ns() - item.since_ns)

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Does what the sink is asked for; whether that went well. What it may raise puts it out of order."""
        try:
            work()
        except Exception as error:
            why = str(error) if isinstance(error, OSError | IrstError) else f"{type(error).__name__}: {error}"
            if not self.broken:
                log.error("%s: out of order: %s; its losses are counted, all else goes on", self.name, why)
            self.broken = why or type(error).__name__
            return False
        return True
