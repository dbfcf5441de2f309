"""A small HTTP server next to a pipeline, which no client can make grow: time-outs, a cap on connections, bounded headers.

One connection carries one GET or HEAD request. The whole request must arrive within REQUEST_S and the whole answer must be
taken within ANSWER_S, however slowly a client trickles. Above MAX_CONNECTIONS, the connection that has waited longest
without a complete request makes room for the new one, so that half-sent requests do not keep others out.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from irst_stream.errors import UsageError
from irst_stream.system.machine import is_loopback

__all__ = ["MAX_CONNECTIONS", "Answer", "HttpServer", "Request"]

MAX_CONNECTIONS = 32
MAX_REQUEST_BYTES = 16 << 10  # request line and headers
REQUEST_S = 5.0  # for the whole request
ANSWER_S = 10.0  # for the whole answer
END_OF_HEADERS = (b"\r\n\r\n", b"\n\n")
log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What a handler is asked: the parameters of the query, the last value of each name."""

    path: str
    query: dict[str, str]


class Answer(NamedTuple):
    """What a handler answers."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Handler = Callable[[Request], Answer]


class HttpServer:
    """Answers requests from its own threads until closed; a context manager.

    name: what errors and the log call it. handlers: by path, for example "/metrics"; they run on the connection's thread,
    several at once, and may raise: the client gets 500 and the log one line. Port 0 picks a free port; `port` is the one in
    use. Raise a UsageError if the address cannot be bound.
    """

    def __init__(self, name: str, handlers: Mapping[str, Handler], host: str, port: int) -> None:
        try:
            self._server = _Server(name, dict(handlers), host, port)
        except OSError as error:
            raise UsageError(_unbound(name, host, port, error)) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name=name, daemon=True)
        self._thread.start()

    @staticmethod
    def check(name: str, host: str, port: int) -> None:
        """Raise a UsageError if the address cannot be bound, so that this shows before any file is opened."""
        try:
            _Server(name, {}, host, port).server_close()
        except OSError as error:
            raise UsageError(_unbound(name, host, port, error)) from error

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.open)

    def close(self) -> None:
        """Stop listening and cut all connections; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Server(ThreadingMixIn, TCPServer):
    """Accepts connections, one thread each, up to MAX_CONNECTIONS."""

    daemon_threads, block_on_close, allow_reuse_address, request_queue_size = True, False, True, 1024

    def __init__(self, name: str, handlers: dict[str, Handler], host: str, port: int) -> None:
        self.name, self.handlers, self.local = name, handlers, is_loopback(host)
        self.open: dict[socket.socket, bool] = {}  # in order of arrival; whether its request is complete
        self.lock, self._failed = threading.Lock(), set[str]()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - see socketserver
        """Admit a connection, if need be in the place of the one that has waited longest for its request."""
        with self.lock:
            if len(self.open) >= MAX_CONNECTIONS:
                waiting = next((known for known, complete in self.open.items() if not complete), None)
                if waiting is None:
                    return False
                del self.open[waiting]
                _cut(waiting)  # its thread wakes up and ends
            self.open[request] = False
        return True

    def close_request(self, request: Any) -> None:
        """Close a connection; socketserver calls this at its end, and for those not admitted."""
        with self.lock:
            self.open.pop(request, None)
        request.close()

    def server_close(self) -> None:
        """Stop listening and cut all connections."""
        super().server_close()
        with self.lock:
            for request in self.open:
                _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - see socketserver
        """Log what a client cannot cause; one that goes away or stops reading is no matter for the log."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.log_once("a connection", error)

    def log_once(self, what: str, error: BaseException | None) -> None:
        """Log the first failure of a kind."""
        if what not in self._failed:
            self._failed.add(what)
            reason = f"{type(error).__name__}: {error}"
            log.error("%s: %s failed: %s; further failures are not logged", self.name, what, reason)

    def answer(self, request: Request) -> Answer:
        """Call the handler of a path; log its first failure."""
        handler = self.handlers.get(request.path)
        if handler is None:
            return Answer(
                f"not found; there are: {', '.join(sorted(self.handlers))}\n".encode(), status=HTTPStatus.NOT_FOUND
            )
        try:
            return handler(request)
        except Exception as error:
            self.log_once(request.path, error)
            return Answer(b"failed; see the log\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)


class _Connection(BaseHTTPRequestHandler):
    """Reads one request from a connection and answers it."""

    server: _Server

    def version_string(self) -> str:
        """Name the server, without the version of Python."""
        return "irst-stream"

    def handle(self) -> None:
        """Read the request within its time and size, and answer it."""
        head = self._head()
        with self.server.lock:
            if self.connection not in self.server.open or not head:
                return
            self.server.open[self.connection] = True
        self.connection.settimeout(ANSWER_S)
        self.rfile, self.close_connection = BytesIO(head), True
        if any(end in head for end in END_OF_HEADERS):
            self.handle_one_request()
        else:
            self.command, self.requestline, self.request_version = "GET", "", "HTTP/1.0"
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if len(head) >= MAX_REQUEST_BYTES else 400)
        self._discard_rest()

    def _head(self) -> bytes:
        """Receive the request line and headers; all bytes if they end early or are too long, empty after REQUEST_S."""
        head, deadline = b"", time.monotonic() + REQUEST_S
        while not any(end in head for end in END_OF_HEADERS) and len(head) < MAX_REQUEST_BYTES:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return b""
            self.connection.settimeout(remaining_s)
            received = self.connection.recv(4096)  # OSError, TimeoutError too, ends the connection
            if not received:
                break
            head += received
        return head

    def _discard_rest(self) -> None:
        """Take what was sent beyond the headers: closing with unread bytes would reset the connection before the answer."""
        self.connection.settimeout(0)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.recv(1 << 16)

    def do_GET(self) -> None:
        """Answer a request."""
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        """Answer a request with headers only."""
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        try:
            parts = urlsplit(self.path)
            request = Request(parts.path, dict(parse_qsl(parts.query, max_num_fields=64)))
        except ValueError:
            answer = Answer(b"invalid request\n", status=HTTPStatus.BAD_REQUEST)
        else:
            answer = self._refusal() or self.server.answer(request)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def _refusal(self) -> Answer | None:
        """Refuse a local server to a page from elsewhere whose name a browser was led to resolve to this machine."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', 'localhost')}").hostname or ""
        except ValueError:
            host = ""
        if not self.server.local or is_loopback(host):
            return None
        return Answer(b"expected 127.0.0.1 or localhost as the host\n", status=HTTPStatus.MISDIRECTED_REQUEST)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - see BaseHTTPRequestHandler
        """Log nothing of requests: a log that every client can fill is not bounded."""


def _cut(connection: socket.socket) -> None:
    """End a connection at once, whatever its thread waits for."""
    with suppress(OSError):  # the client may have been faster
        connection.shutdown(socket.SHUT_RDWR)


def _unbound(name: str, host: str, port: int, error: OSError) -> str:
    return f"{name}: {host}:{port} cannot be bound: {error.strerror or error}"
