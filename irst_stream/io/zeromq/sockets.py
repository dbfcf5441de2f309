"""ZeroMQ: frames in, results out; PROTOCOL.md describes what travels. Every socket is used by one thread.

Policy "live" takes PUB and SUB, which never wait for anybody; "lossless" takes PUSH and PULL, which wait for each other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from irst_stream.errors import OutputError, SourceError, UsageError, WireError
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.curve_keys import DOMAIN, Doorkeeper, read_keys
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings, link_fault
from irst_stream.protocols import Record
from irst_stream.system.machine import keep_memory
from irst_stream.types import Detections, Frame, Policy, Tracks

__all__ = ["ZmqSink", "ZmqSource", "open_socket"]

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]
HEARTBEAT_MS, SILENCE_MS = 1000, 3000  # a peer that answers no heartbeat for so long is gone
POLL_MS = 50  # how soon a source that is to stop does
LOOK_S = 0.05  # how often it looks after its connections
LINGER_MS = 1000  # for what has not been sent when a socket is closed
SEND_TIMEOUT_MS = 1000  # after which a message that nobody takes is lost
GAP_MS = 50  # in which nothing comes: then all that had come has been taken
REST_S, WAITED_S = 30.0, 1.0  # how long what has come before a stop is taken in, and is waited for, at most
WAITING = (zmq.PUSH, zmq.PULL)
REFUSED = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH)
NOTED = {zmq.EVENT_CONNECTED: "connected", zmq.EVENT_ACCEPTED: "connected", zmq.EVENT_DISCONNECTED: "disconnected"}
log = logging.getLogger(__name__)


def open_socket(context: Context, kind: int, link: Link, *, subscribe: tuple[str, ...] = (), largest: int = -1) -> Socket:
    """A socket of a kind, all options set, bound or connected. subscribe: sensors, for SUB; largest: bytes of a message."""
    field, fault = link_fault(link)
    if fault:
        raise UsageError(f"{field}: {fault}")
    with ExitStack() as opened:  # closed again where anything fails
        socket = opened.enter_context(closing(context.socket(kind)))
        _set_options(socket, kind, link, largest)
        if kind == zmq.SUB:
            for sensor in subscribe or ("",):
                socket.subscribe(wire.topic("frame", sensor))
        try:
            (socket.bind if link.bind else socket.connect)(link.endpoint)
        except zmq.ZMQError as error:
            verb = "bound" if link.bind else "connected to"
            raise SourceError(f"{link.endpoint}: cannot be {verb}: {error.strerror}") from error
        opened.pop_all()
    return socket


def _endpoint(socket: Socket, link: Link) -> str:
    """As it was bound, with the port that a * stood for."""
    return bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode() if link.bind else link.endpoint


def _set_options(socket: Socket, kind: int, link: Link, largest: int) -> None:
    options: dict[int, Any] = {zmq.SNDHWM: link.high_water, zmq.RCVHWM: link.high_water, zmq.LINGER: LINGER_MS}
    if kind in WAITING:  # where one end may make the other wait, silence proves nothing: the system looks after the link
        options |= {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 3}
    else:
        options |= {zmq.HEARTBEAT_IVL: HEARTBEAT_MS, zmq.HEARTBEAT_TIMEOUT: SILENCE_MS, zmq.HEARTBEAT_TTL: SILENCE_MS}
    options |= {zmq.MAXMSGSIZE: largest, zmq.IPV6: int("[" in link.endpoint), zmq.RECONNECT_IVL_MAX: 2000}
    options |= {zmq.SNDTIMEO: SEND_TIMEOUT_MS, zmq.RCVTIMEO: POLL_MS}
    if link.keys:
        mine = read_keys(Path(link.keys))
        if not mine.secret:
            raise UsageError(f"{link.keys}: is a public key; expected this end's secret one, *.key_secret")
        options |= {zmq.CURVE_PUBLICKEY: mine.public, zmq.CURVE_SECRETKEY: mine.secret, zmq.ZAP_DOMAIN: DOMAIN.encode()}
        if link.bind:
            options[zmq.CURVE_SERVER] = 1
        else:
            options[zmq.CURVE_SERVERKEY] = read_keys(Path(link.server_key)).public
    for option, value in options.items():
        socket.set(option, value)


class ZmqSource:
    """Frames of any number of sensors that come in at one endpoint; a protocols.Source.

    endpoint: as it was bound. `rejected` counts what was no frame, by reason, and clients turned away as "client"; `links`
    counts connections, disconnections, handshakes that failed, and stalls; `stalled`: nothing has come for stall_s.
    """

    def __init__(self, settings: ReceiveSettings, policy: Policy = "live") -> None:
        self.settings = settings
        self.rejected: Counter[str] = Counter()
        self.links: Counter[str] = Counter()
        self.stalled = False
        self._heard = 0.0
        self._kind = zmq.SUB if policy == "live" else zmq.PULL
        self._stop = threading.Event()
        self._context: Context = zmq.Context()
        keep_memory()
        try:
            self._door = Doorkeeper(self._context, Path(settings.allow)) if settings.allow else None
            self._socket, self._monitor = self._open()
        except BaseException:
            self.close()
            raise
        self.endpoint = _endpoint(self._socket, settings)

    def __iter__(self) -> Iterator[Frame]:
        self._heard = looked = time.monotonic()
        while not self._stop.is_set():
            frame, now = self._take(), time.monotonic()
            if frame is not None:
                yield frame
            if now - looked >= LOOK_S:
                self._look_after_links()
                looked = now
            if now - self._heard > self.settings.stall_s:
                self._heard = now
                self._stalled()
        if self._kind == zmq.PULL:
            yield from self._rest()
            return
        for _ in range(2 * self.settings.high_water):  # what has come before; one that is flooded stops all the same
            if (frame := self._take(zmq.NOBLOCK)) is not None:
                yield frame

    def _rest(self) -> Iterator[Frame]:
        """All that has come before the stop, where nothing may be lost; one that is flooded ends all the same."""
        began, waited = time.monotonic(), 0.0
        while waited < WAITED_S and time.monotonic() - began < REST_S:
            asked = time.monotonic()
            if not self._socket.poll(GAP_MS):
                return
            waited += time.monotonic() - asked
            if (frame := self._take(zmq.NOBLOCK)) is not None:
                yield frame
        log.warning("%s: frames still come after the stop; no more are taken", self.endpoint)

    def stop(self) -> None:
        """Ends the iteration within a moment, after what has come already; any thread may call it."""
        self._stop.set()

    def close(self) -> None:
        """Closes the socket; may be called twice."""
        self._stop.set()
        if (door := getattr(self, "_door", None)) is not None:
            door.close()
        self._context.destroy(0)

    def __enter__(self) -> ZmqSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> tuple[Socket, Socket]:
        settings = self.settings
        largest = int(settings.largest_mb * 2**20)
        socket = open_socket(self._context, self._kind, settings, subscribe=settings.sensors, largest=largest)
        events = sum(NOTED) | sum(REFUSED)
        return socket, socket.get_monitor_socket(events)

    def _take(self, flags: int = 0) -> Frame | None:
        """The next frame; None where nothing comes for a moment, or what comes is no frame, which is counted."""
        try:
            parts = [self._socket.recv(flags, copy=False)]
            while parts[-1].more:
                parts.append(self._socket.recv(flags, copy=False))
            self._heard, self.stalled = time.monotonic(), False  # a link over which nonsense comes has not stalled
            return self._check(wire.decode([part.buffer for part in parts]).record)
        except zmq.Again:
            return None
        except WireError as error:
            self._reject(error)
            return None

    def _check(self, record: Record) -> Frame:
        if not isinstance(record, Frame):
            raise WireError("kind", "expected a frame")
        if self.settings.sensors and record.stamp.sensor not in self.settings.sensors:
            raise WireError("sensor", f"sensor {record.stamp.sensor} is not among those asked for")
        return record

    def _reject(self, error: WireError) -> None:
        self.rejected[error.reason] += 1
        if self.rejected[error.reason] == 1:  # a faulty sensor sends thousands of them
            more = "more of this kind are only counted"
            log.warning("%s: message passed over (%s): %s; %s", self.endpoint, error.reason, error, more)

    def _look_after_links(self) -> None:
        """Takes note of what has happened to the connections."""
        if self._door is not None and self._door.rejected:
            self.rejected["client"] = self._door.rejected.total()
        while self._monitor.poll(0):
            self._note(int(recv_monitor_message(self._monitor)["event"]))

    def _note(self, event: int) -> None:
        if event in REFUSED:
            self.links["refused"] += 1
            if self.links["refused"] == 1:
                log.warning("%s: a handshake failed; do both ends have keys, and know each other's?", self.endpoint)
        elif event in NOTED:
            self.links[NOTED[zmq.Event(event)]] += 1

    def _stalled(self) -> None:
        if not self.stalled:
            self.links["stalled"] += 1
            log.warning("%s: nothing has come for %g s", self.endpoint, self.settings.stall_s)
        self.stalled = True
        if not self.settings.bind:  # a connection may be dead without either end knowing
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            self._socket, self._monitor = self._open()


class ZmqSink:
    """Results out at one endpoint; a protocols.Sink. Under "live" slow subscribers, or none at all, cost nobody else."""

    takes: tuple[type[Record], ...] = (Detections, Tracks)
    alarm = ""

    def __init__(self, settings: PublishSettings, policy: Policy = "live") -> None:
        self.lost = 0
        self._alone = False
        self._context: Context = zmq.Context()
        try:
            self._door = Doorkeeper(self._context, Path(settings.allow)) if settings.allow else None
            self._socket = open_socket(self._context, zmq.PUB if policy == "live" else zmq.PUSH, settings)
        except BaseException:
            self.close()
            raise
        self.endpoint = _endpoint(self._socket, settings)

    def write(self, record: Record, published_ns: int) -> None:
        """Sends one record; one that nobody takes in time is counted in `lost`, and the next ones are not waited for."""
        try:
            self._socket.send_multipart(wire.encode(record, published_ns), zmq.NOBLOCK if self._alone else 0)
            self._alone = False
        except zmq.Again:
            self._alone = True
            self.lost += 1
        except zmq.ZMQError as error:
            raise OutputError(f"{self.endpoint}: {error.strerror}") from error

    def close(self) -> None:
        """Sends what is held, as far as somebody takes it; may be called twice."""
        if (door := getattr(self, "_door", None)) is not None:
            door.close()
        self._context.destroy()
