"""Writing results: each sink has its own queue and thread.

A sink that raises is disabled: its further records count as lost, and the pipeline continues.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from irst_stream.errors import IrstError
from irst_stream.live.queues import Outbox, QueuedRecord
from irst_stream.live.status import SinkStatus, Status
from irst_stream.protocols import Sink
from irst_stream.system.latency import Clocks
from irst_stream.types import Policy

__all__ = ["SinkWriter"]

log = logging.getLogger(__name__)


class SinkWriter:
    """A sink with its queue; run() is the body of its thread."""

    def __init__(self, name: str, sink: Sink, policy: Policy, clocks: Clocks) -> None:
        """clocks: receive the latencies "publish NAME" and "end to end NAME"."""
        self.name, self.sink, self.clocks = name, sink, clocks
        self.queue, self.ended = Outbox(policy), threading.Event()
        self._accepted, self._lost_by_sink, self._lost, self._error = 0, 0, 0, ""

    def put(self, item: QueuedRecord) -> None:
        """Queue a record if the sink takes its kind; ignore it otherwise."""
        if isinstance(item.record, self.sink.takes):
            self.queue.put(item)

    def start(self, status: Callable[[], Status]) -> None:
        """Start the sink; `status` returns the pipeline's current status."""
        self._try(lambda: self.sink.start(status))

    def status(self) -> SinkStatus:
        """Count the records written, waiting and lost so far."""
        written, lost = self._accepted - self._lost_by_sink, self._lost + self.queue.lost + self._lost_by_sink
        return SinkStatus(written, len(self.queue), lost, self._error or self.sink.alarm)

    def run(self) -> None:
        """Write records until the queue is closed and empty, then close the sink."""
        try:
            while (item := self.queue.take()) is not None:
                self._write(item)
        finally:
            self._try(self.sink.close)
            self._lost_by_sink = self.sink.lost  # includes accepted records: a recording that stops loses its buffer
            self.ended.set()

    def _write(self, item: QueuedRecord) -> None:
        """Write one record, or count it as lost; time it if it was written."""
        if self._error:
            self._lost += 1
            return
        now, lost_before = time.time_ns(), self._lost_by_sink
        if not self._try(lambda: self.sink.write(item.record, item.time_ns or now)):
            self._lost += 1
            return
        self._accepted, self._lost_by_sink = self._accepted + 1, self.sink.lost
        if self._lost_by_sink != lost_before:
            return
        if item.ready_ns:
            self.clocks.add(f"publish {self.name}", time.monotonic_ns() - item.ready_ns)
            if item.since_ns:
                self.clocks.add(f"end to end {self.name}", time.time_ns() - item.since_ns)

    def _try(self, action: Callable[[], None]) -> bool:
        """Call the sink; if it raises, disable it and return False."""
        try:
            action()
        except Exception as error:
            reason = str(error) if isinstance(error, OSError | IrstError) else f"{type(error).__name__}: {error}"
            if not self._error:
                consequence = "its further records count as lost, the pipeline continues"
                log.error("%s: sink disabled after error: %s; %s", self.name, reason, consequence)
            self._error = reason or type(error).__name__
            return False
        return True
