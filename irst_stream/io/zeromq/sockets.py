"""ZeroMQ sockets that receive frames and send results; PROTOCOL.md describes the messages.

Each socket is used by a single thread. Policy "live" uses PUB and SUB, which drop messages rather than wait; "lossless"
uses PUSH and PULL, where a full queue makes the sender wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from irst_stream.errors import OutputError, SourceError, UsageError, WireError
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.curve_keys import DOMAIN, ClientAuthenticator, read_keys, read_secret_keys
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings, link_fault
from irst_stream.protocols import Record
from irst_stream.system.machine import keep_freed_memory
from irst_stream.types import Detections, Frame, Policy, Tracks

__all__ = ["ZmqSink", "ZmqSource", "open_socket"]

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]
HEARTBEAT_MS, DEAD_PEER_MS = 1000, 3000  # a peer that is silent for DEAD_PEER_MS is disconnected
POLL_MS = 50  # receive timeout, which bounds the time to notice a stop
MONITOR_S = 0.05  # interval between checks of the connections
LINGER_MS = 1000  # a closing socket waits this long for unsent messages
SEND_TIMEOUT_MS = 1000  # an unsent message is lost after this time
DRAIN_POLL_MS = 50  # after a stop, the queue counts as empty when nothing arrives in this time
DRAIN_S, DRAIN_WAIT_S = 5.0, 1.0  # longest time to drain the queue after a stop, and to wait for messages meanwhile
BACKPRESSURE_KINDS = (zmq.PUSH, zmq.PULL)
FAILED_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)
LINK_EVENTS = {zmq.EVENT_CONNECTED: "connected", zmq.EVENT_ACCEPTED: "connected", zmq.EVENT_DISCONNECTED: "disconnected"}
log = logging.getLogger(__name__)


def open_socket(context: Context, kind: int, link: Link, *, subscribe: tuple[str, ...] = (), largest: int = -1) -> Socket:
    """Open a socket with all options set, bound or connected.

    kind: zmq.PUB, SUB, PUSH or PULL; subscribe: sensors to subscribe to, for SUB, empty for all; largest: maximum size of a
    message part, bytes, -1 for no limit. Raise a UsageError for an invalid link, a SourceError if it cannot be opened.
    """
    field, fault = link_fault(link)
    if fault:
        raise UsageError(f"{field}: {fault}")
    with ExitStack() as opened:  # closes the socket if anything fails
        socket = opened.enter_context(closing(context.socket(kind)))
        _set_options(socket, kind, link, largest)
        if kind == zmq.SUB:
            for sensor in subscribe or ("",):
                socket.subscribe(wire.topic("frame", sensor))
        try:
            (socket.bind if link.bind else socket.connect)(link.endpoint)
        except zmq.ZMQError as error:
            verb = "bound" if link.bind else "connected to"
            reason = str(error.strerror).partition(" (addr=")[0]  # where libzmq names the address again
            raise SourceError(f"{link.endpoint}: cannot be {verb}: {reason}") from error
        opened.pop_all()
    return socket


def _authenticator(context: Context, link: Link) -> ClientAuthenticator | None:
    """The authenticator of a link's clients; None without an allow-list."""
    return ClientAuthenticator(context, Path(link.allow)) if link.allow else None


def _endpoint(socket: Socket, link: Link) -> str:
    """The endpoint of a socket, with the actual port if it was bound to port *."""
    return bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode() if link.bind else link.endpoint


def _set_options(socket: Socket, kind: int, link: Link, largest: int) -> None:
    options: dict[int, Any] = {zmq.SNDHWM: link.high_water, zmq.RCVHWM: link.high_water, zmq.LINGER: LINGER_MS}
    if kind in BACKPRESSURE_KINDS:  # a waiting peer may be silent, so only TCP keep-alive can detect a dead link
        options |= {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 3}
    else:
        options |= {zmq.HEARTBEAT_IVL: HEARTBEAT_MS, zmq.HEARTBEAT_TIMEOUT: DEAD_PEER_MS, zmq.HEARTBEAT_TTL: DEAD_PEER_MS}
    options |= {zmq.MAXMSGSIZE: largest, zmq.IPV6: int("[" in link.endpoint), zmq.RECONNECT_IVL_MAX: 2000}
    options |= {zmq.SNDTIMEO: SEND_TIMEOUT_MS, zmq.RCVTIMEO: POLL_MS}
    if link.keys:
        own_keys = read_secret_keys(Path(link.keys))
        options |= {zmq.CURVE_PUBLICKEY: own_keys.public, zmq.CURVE_SECRETKEY: own_keys.secret}
        options[zmq.ZAP_DOMAIN] = DOMAIN.encode()
        if link.bind:
            options[zmq.CURVE_SERVER] = 1
        else:
            options[zmq.CURVE_SERVERKEY] = read_keys(Path(link.server_key)).public
    for option, value in options.items():
        socket.set(option, value)


class ZmqSource:
    """Receive the frames of any number of sensors at one endpoint; a protocols.Source.

    endpoint: as opened, with the actual port. rejected: number of invalid messages by reason, and of rejected clients as
    "client". links: number of connections ("connected"), disconnections ("disconnected"), failed handshakes ("refused") and
    stalls ("stalled"). stalled: no message has arrived for stall_s.
    """

    def __init__(self, settings: ReceiveSettings, policy: Policy = "live") -> None:
        self.settings = settings
        self.rejected: Counter[str] = Counter()
        self.links: Counter[str] = Counter()
        self.stalled = False
        self._last_message_s = 0.0
        self._kind = zmq.SUB if policy == "live" else zmq.PULL
        self._stop, self._stopped_twice = threading.Event(), False
        self._context: Context = zmq.Context()
        keep_freed_memory()
        try:
            self._authenticator = _authenticator(self._context, settings)
            self._socket, self._monitor = self._open()
        except BaseException:
            self.close()
            raise
        self.endpoint = _endpoint(self._socket, settings)

    def __iter__(self) -> Iterator[Frame]:
        self._last_message_s = last_check_s = time.monotonic()
        while not self._stop.is_set():
            frame, now = self._receive(), time.monotonic()
            if frame is not None:
                yield frame
            if now - last_check_s >= MONITOR_S:
                self._check_links()
                last_check_s = now
            if now - self._last_message_s > self.settings.stall_s:
                self._last_message_s = now
                self._handle_stall()
        if self._kind == zmq.PULL:
            yield from self._drain()
            return
        for _ in range(2 * self.settings.high_water):  # the queued frames; bounded, in case more keep arriving
            if (frame := self._receive(zmq.NOBLOCK)) is not None:
                yield frame

    def _drain(self) -> Iterator[Frame]:
        """Yield all frames that arrived before the stop, so that none is lost; bounded, in case more keep arriving."""
        start_s, waited_s = time.monotonic(), 0.0
        while waited_s < DRAIN_WAIT_S and time.monotonic() - start_s < DRAIN_S and not self._stopped_twice:
            poll_start_s = time.monotonic()
            if not self._socket.poll(DRAIN_POLL_MS):
                return
            waited_s += time.monotonic() - poll_start_s
            if (frame := self._receive(zmq.NOBLOCK)) is not None:
                yield frame
        log.warning("%s: frames still arrive after the stop; those on their way now are lost", self.endpoint)

    def stop(self) -> None:
        """End the iteration soon, after the frames that have already arrived, or at once when called again.

        Any thread may call this.
        """
        self._stopped_twice = self._stop.is_set()
        self._stop.set()

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self._stop.set()
        if (authenticator := getattr(self, "_authenticator", None)) is not None:
            authenticator.close()
        self._context.destroy(0)

    def __enter__(self) -> ZmqSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> tuple[Socket, Socket]:
        settings = self.settings
        largest = int(settings.largest_mb * 2**20)
        socket = open_socket(self._context, self._kind, settings, subscribe=settings.sensors, largest=largest)
        events = sum(LINK_EVENTS) | sum(FAILED_HANDSHAKES)
        return socket, socket.get_monitor_socket(events)

    def _receive(self, flags: int = 0) -> Frame | None:
        """Receive the next frame; None at the timeout, or if the message is invalid, which is counted."""
        try:
            parts = [self._socket.recv(flags, copy=False)]
            while parts[-1].more:
                parts.append(self._socket.recv(flags, copy=False))
            # An invalid message also shows that the link is alive.
            self._last_message_s, self.stalled = time.monotonic(), False
            return self._check_frame(wire.decode([part.buffer for part in parts]).record)
        except zmq.Again:
            return None
        except WireError as error:
            self._reject(error)
            return None

    def _check_frame(self, record: Record) -> Frame:
        if not isinstance(record, Frame):
            raise WireError("kind", f"expected a frame, got {type(record).__name__.lower()}")
        if self.settings.sensors and record.stamp.sensor not in self.settings.sensors:
            raise WireError("sensor", f"sensor {record.stamp.sensor} is not in the setting `sensors`")
        return record

    def _reject(self, error: WireError) -> None:
        self.rejected[error.reason] += 1
        if self.rejected[error.reason] == 1:  # log once: a faulty sensor may send thousands
            note = "further ones with this reason are only counted"
            log.warning("%s: invalid message dropped (%s): %s; %s", self.endpoint, error.reason, error, note)

    def _check_links(self) -> None:
        """Count rejected clients and the events of the connections since the last check."""
        if self._authenticator is not None and self._authenticator.rejected:
            self.rejected["client"] = self._authenticator.rejected.total()
        while self._monitor.poll(0):
            self._count_event(int(recv_monitor_message(self._monitor)["event"]))

    def _count_event(self, event: int) -> None:
        if event in FAILED_HANDSHAKES:
            self.links["refused"] += 1
            if self.links["refused"] == 1:
                log.warning("%s: a handshake failed; check that both ends have keys and know each other's", self.endpoint)
        elif event in LINK_EVENTS:
            self.links[LINK_EVENTS[zmq.Event(event)]] += 1

    def _handle_stall(self) -> None:
        """Count and log a stall; reopen the socket if this end connects."""
        if not self.stalled:
            self.links["stalled"] += 1
            log.warning("%s: no message for %g s", self.endpoint, self.settings.stall_s)
        self.stalled = True
        if not self.settings.bind:  # the connection may be dead unnoticed by either end
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            self._socket, self._monitor = self._open()


class ZmqSink:
    """Send results from one endpoint; a protocols.Sink.

    lost: number of records not sent in time. overflows: under policy "live", where a slow subscriber loses messages and
    delays nobody, how often a subscriber's queue was full. libzmq then drops messages for it until half of the queue is
    read, and does not say how many.
    """

    takes: tuple[type[Record], ...] = (Detections, Tracks)
    alarm = ""

    def __init__(self, settings: PublishSettings, policy: Policy = "live") -> None:
        self.lost = self.overflows = 0
        self._last_timed_out = False
        self._context: Context = zmq.Context()
        try:
            self._authenticator = _authenticator(self._context, settings)
            self._socket = open_socket(self._context, zmq.PUB if policy == "live" else zmq.PUSH, settings)
            if policy == "live":
                self._socket.set(zmq.XPUB_NODROP, 1)  # a full queue is an error, which can be counted
        except BaseException:
            self.close()
            raise
        self.endpoint = _endpoint(self._socket, settings)

    def start(self, status: Callable[[], Any]) -> None:
        """Do nothing: this sink does not use the pipeline's status."""

    def write(self, record: Record, published_ns: int) -> None:
        """Send one record; count it as lost if it cannot be sent in time, and then do not wait for the next ones either."""
        parts, waits = wire.encode(record, published_ns), self._socket.type == zmq.PUSH and not self._last_timed_out
        try:
            try:
                self._socket.send_multipart(parts, 0 if waits else zmq.NOBLOCK)
            except zmq.Again:
                if self._socket.type == zmq.PUSH:
                    raise
                self._send_to_those_who_keep_up(parts)
            self._last_timed_out = False
        except zmq.Again:
            self._last_timed_out = True
            self.lost += 1
        except zmq.ZMQError as error:
            raise OutputError(f"{self.endpoint}: {error.strerror}") from error

    def _send_to_those_who_keep_up(self, parts: wire.Message) -> None:
        """Send a message past the subscribers whose queues are full."""
        self.overflows += 1
        self._socket.set(zmq.XPUB_NODROP, 0)
        self._socket.send_multipart(parts, zmq.NOBLOCK)
        self._socket.set(zmq.XPUB_NODROP, 1)

    def idle(self) -> None:
        """Do nothing: nothing waits in this process but in the socket."""

    def close(self) -> None:
        """Send queued records, as far as a receiver takes them within LINGER_MS, and close; may be called twice."""
        if (authenticator := getattr(self, "_authenticator", None)) is not None:
            authenticator.close()
        self._context.destroy()
