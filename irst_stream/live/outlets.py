"""Writing results: each sink has its own queue and thread.

A sink that raises costs the record. Further records count as lost until the sink is tried again, after RETRY_S and then
after twice as long each time; the pipeline continues, and the log says when the sink works again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from irst_stream.errors import IrstError
from irst_stream.live.queues import Outbox, QueuedRecord
from irst_stream.live.status import SinkStatus, Status
from irst_stream.protocols import Record, Sink
from irst_stream.system.latency import Clocks
from irst_stream.types import Policy

__all__ = ["SinkWriter"]

IDLE_S = 0.05  # without a record, after which a sink may write what waits in its buffers
RETRY_S, LONGEST_RETRY_S = 1.0, 60.0  # until a sink that failed is tried again
log = logging.getLogger(__name__)


class SinkWriter:
    """A sink with its queue; run() is the body of its thread."""

    def __init__(
        self, name: str, sink: Sink, policy: Policy, clocks: Clocks, done: Callable[[str, Record], None] | None = None
    ) -> None:
        """clocks: receive the latencies "publish NAME" and "end to end NAME"; done: see runner.Runner."""
        self.name, self.sink, self.clocks, self._done = name, sink, clocks, done
        self.queue, self.ended = Outbox(policy), threading.Event()
        self._accepted, self._lost_by_sink, self._lost, self._error = 0, 0, 0, ""
        self._retry_s, self._retry_at_s, self._lost_since_error = RETRY_S, 0.0, 0

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
        alarm = self._error or self.sink.alarm
        return SinkStatus(written, len(self.queue), lost, alarm, getattr(self.sink, "overflows", 0))

    def run(self) -> None:
        """Write records until the queue is closed and empty, then close the sink."""
        try:
            while not self.queue.ended:
                if (item := self.queue.take(IDLE_S)) is not None:
                    self._write(item)
                    if self._done is not None:
                        self._done(self.name, item.record)
                elif not self._error:
                    self._try(self.sink.idle)
        finally:
            self._try(self.sink.close)
            self._lost_by_sink = self.sink.lost  # includes accepted records: a recording that stops loses its buffer
            self.ended.set()

    def _write(self, item: QueuedRecord) -> None:
        """Write one record, or count it as lost; time it if it was written."""
        now, lost_before = time.time_ns(), self._lost_by_sink
        waits = self._error and time.monotonic() < self._retry_at_s
        if waits or not self._try(lambda: self.sink.write(item.record, item.time_ns or now)):
            self._lost, self._lost_since_error = self._lost + 1, self._lost_since_error + 1
            return
        if self._error:
            log.warning("%s: works again; %d records were lost", self.name, self._lost_since_error)
            self._error, self._retry_s, self._lost_since_error = "", RETRY_S, 0
        self._accepted, self._lost_by_sink = self._accepted + 1, self.sink.lost
        if self._lost_by_sink != lost_before:
            return
        if item.ready_ns:
            self.clocks.add(f"publish {self.name}", time.monotonic_ns() - item.ready_ns)
            if item.since_ns:
                self.clocks.add(f"end to end {self.name}", time.time_ns() - item.since_ns)

    def _try(self, action: Callable[[], None]) -> bool:
        """Call the sink; if it raises, keep the error, put the next try off, and return False."""
        try:
            action()
        except Exception as error:
            reason = str(error) if isinstance(error, OSError | IrstError) else f"{type(error).__name__}: {error}"
            reason = reason.removeprefix(f"{self.name}: ") or type(error).__name__
            if not self._error:
                log.error("%s: failed: %s; further records count as lost until it works again", self.name, reason)
            self._error = reason
            self._retry_at_s = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
            return False
        return True
